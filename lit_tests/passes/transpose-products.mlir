// RUN: flambeau-opt %s --transpose-products | filecheck %s

// The gradient of x @ w.T: the transpose moves to the operands, which swap places.
// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[Y:.*]] = "tape.permute"(%1) {{.*}} : (tensor<4x3xf32>) -> tensor<3x4xf32>
// CHECK-DAG: %[[X:.*]] = "tape.permute"(%0) {{.*}} : (tensor<2x4xf32>) -> tensor<4x2xf32>
// CHECK: %[[R:.*]] = "tape.matmul"(%[[Y]], %[[X]]) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
// CHECK-NEXT: return %[[R]]
func.func @main(%x: tensor<2x4xf32>, %y: tensor<4x3xf32>) -> tensor<3x2xf32> {
  %0 = "tape.matmul"(%x, %y) : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %1 = "tape.permute"(%0) {perm = [1 : i64, 0 : i64]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %1 : tensor<3x2xf32>
}

// -----

// A product that is read as it is stays.
// CHECK: func.func @main
// CHECK-NEXT: "tape.matmul"(%0, %1)
// CHECK-NEXT: "tape.permute"
func.func @main(%x: tensor<2x4xf32>, %y: tensor<4x3xf32>) -> (tensor<2x3xf32>, tensor<3x2xf32>) {
  %0 = "tape.matmul"(%x, %y) : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %1 = "tape.permute"(%0) {perm = [1 : i64, 0 : i64]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %0, %1 : tensor<2x3xf32>, tensor<3x2xf32>
}
