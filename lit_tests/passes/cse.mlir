// RUN: flambeau-opt %s --cse | filecheck %s

// Equal ops on equal operands become one, in either order of a commutative op's operands.
// CHECK-LABEL: func.func @main
// CHECK: %[[SUM:.*]] = "tape.add"
// CHECK-NOT: "tape.add"
// CHECK: "tape.mul"(%[[SUM]], %[[SUM]])
func.func @main(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.add"(%x, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.add"(%y, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.mul"(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}
