// RUN: flambeau-opt %s --mlir-passes "func.func(linalg-fuse-elementwise-ops,canonicalize,cse)" | filecheck %s
// Passes of MLIR's own: the square is computed where it is summed, and the order stays with the sum.

// CHECK-LABEL: func.func @squares(
// CHECK: iterator_types = ["parallel", "reduction"]
// CHECK: arith.mulf %a0, %a0 : f32
// CHECK: arith.addf %a1,
// CHECK: "flambeau.fold"({{.*}}) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
// CHECK-NOT: linalg.generic
func.func @squares(%x: tensor<7x100xf32>) -> tensor<7xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<7x100xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
    iterator_types = ["parallel", "parallel"]} ins(%x : tensor<7x100xf32>) outs(%e : tensor<7x100xf32>) {
  ^bb0(%a: f32, %out: f32):
    %s = arith.mulf %a, %a : f32
    linalg.yield %s : f32
  } -> tensor<7x100xf32>
  %f = tensor.empty() : tensor<7xf32>
  %i = linalg.fill ins(%zero : f32) outs(%f : tensor<7xf32>) -> tensor<7xf32>
  %1 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
    iterator_types = ["parallel", "reduction"]} ins(%0 : tensor<7x100xf32>) outs(%i : tensor<7xf32>) {
  ^bb0(%a: f32, %acc: f32):
    %s = arith.addf %acc, %a : f32
    %k = linalg.index 1 : index
    %t = "flambeau.fold"(%s, %k) {identity = 0.0 : f32, order = "lanes"} : (f32, index) -> f32
    linalg.yield %t : f32
  } -> tensor<7xf32>
  return %1 : tensor<7xf32>
}
