// RUN: flambeau-opt %s --divide-once | filecheck %s

// Rows are divided by their sums: the reciprocal does not depend on the innermost loop.
// CHECK-LABEL: func.func @rows(
// CHECK: ^bb0(%[[X:[a-z0-9]+]]: f32, %[[S:[a-z0-9]+]]: f32, %{{.*}}: f32):
// CHECK-NEXT: %[[ONE:.*]] = arith.constant 0x3F800000 : f32
// CHECK-NEXT: %[[R:.*]] = arith.divf %[[ONE]], %[[S]] : f32
// CHECK-NEXT: arith.mulf %[[X]], %[[R]] : f32
func.func @rows(%x: tensor<8x16xf32>, %s: tensor<8xf32>) -> tensor<8x16xf32> {
  %e = tensor.empty() : tensor<8x16xf32>
  %0 = linalg.generic {
      indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0, d1)>],
      iterator_types = ["parallel", "parallel"]
    } ins(%x, %s : tensor<8x16xf32>, tensor<8xf32>) outs(%e : tensor<8x16xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %q = arith.divf %a, %b : f32
    linalg.yield %q : f32
  } -> tensor<8x16xf32>
  return %0 : tensor<8x16xf32>
}

// Columns are not: every element of a row has another divisor.
// CHECK-LABEL: func.func @columns(
// CHECK: arith.divf
// CHECK-NOT: arith.mulf
func.func @columns(%x: tensor<8x16xf32>, %s: tensor<16xf32>) -> tensor<8x16xf32> {
  %e = tensor.empty() : tensor<8x16xf32>
  %0 = linalg.generic {
      indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0, d1)>],
      iterator_types = ["parallel", "parallel"]
    } ins(%x, %s : tensor<8x16xf32>, tensor<16xf32>) outs(%e : tensor<8x16xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %q = arith.divf %a, %b : f32
    linalg.yield %q : f32
  } -> tensor<8x16xf32>
  return %0 : tensor<8x16xf32>
}
