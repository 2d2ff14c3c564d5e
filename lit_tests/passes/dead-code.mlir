// RUN: flambeau-opt %s --dead-code | filecheck %s

// What no output depends on goes; inputs stay.
// CHECK-LABEL: func.func @main(%0: tensor<4xf32>, %1: tensor<4xf32>)
// CHECK-NOT: tape.exp
// CHECK: "tape.neg"(%0)
func.func @main(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.exp"(%y) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}

// -----

// An op that may fail stays, with what it reads: its error must not be lost.
// CHECK-LABEL: func.func @main
// CHECK: %[[SUM:.*]] = "tape.add"(%0, %0)
// CHECK: "tape.int_div"(%[[SUM]], %1)
func.func @main(%x: tensor<4xi32>, %y: tensor<4xi32>) -> tensor<4xi32> {
  %0 = "tape.add"(%x, %x) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  %1 = "tape.int_div"(%0, %y) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  return %x : tensor<4xi32>
}
