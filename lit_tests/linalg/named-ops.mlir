// RUN: not flambeau-opt %s 2>&1 | filecheck %s
// Named ops are generalized. One that folds has no order, and is refused until `assign-orders` gives it one.

// CHECK-LABEL: func.func @sum(
// CHECK: linalg.generic {
// CHECK: arith.addf %a0, %a1 : f32
func.func @sum(%x: tensor<4x5xf32>, %y: tensor<4x5xf32>) -> tensor<4x5xf32> {
  %e = tensor.empty() : tensor<4x5xf32>
  %0 = linalg.add ins(%x, %y : tensor<4x5xf32>, tensor<4x5xf32>) outs(%e : tensor<4x5xf32>) -> tensor<4x5xf32>
  return %0 : tensor<4x5xf32>
}

// -----

// CHECK: [linalg.generic] value 2: result 0 is reduced without an order. Yield flambeau.fold, which names one: lanes,
func.func @product(%x: tensor<4x5xf32>, %y: tensor<5x6xf32>) -> tensor<4x6xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<4x6xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<4x6xf32>) -> tensor<4x6xf32>
  %0 = linalg.matmul ins(%x, %y : tensor<4x5xf32>, tensor<5x6xf32>) outs(%i : tensor<4x6xf32>) -> tensor<4x6xf32>
  return %0 : tensor<4x6xf32>
}
