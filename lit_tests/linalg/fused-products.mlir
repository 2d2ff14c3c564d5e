// RUN: flambeau-opt %s --mlir-passes "func.func(linalg-fuse-elementwise-ops,canonicalize)" > %t
// RUN: filecheck %s --check-prefix FUSED < %t
// RUN: flambeau-opt %t --to kernels --target x86-64-v3 | filecheck %s --check-prefix KERNEL
// What passes of MLIR's move into a product stays a product: its kernel adds up in blocks, and computes the factor where it is packed or read.

// FUSED-LABEL: func.func @layer(
// FUSED: iterator_types = ["parallel", "parallel", "reduction"]
// FUSED: %[[X:.*]] = arith.mulf %a0, %a0 : f32
// FUSED: math.fma %[[X]],
// FUSED: order = "blocks"
// FUSED-NOT: linalg.generic
// KERNEL-LABEL: kernel 1 of @layer: generic + matmul f32
// KERNEL: arith.mulf
// KERNEL: math.fma
func.func @layer(%x: tensor<40x70xf32>, %w: tensor<70x30xf32>) -> tensor<40x30xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<40x70xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
    iterator_types = ["parallel", "parallel"]} ins(%x : tensor<40x70xf32>) outs(%e : tensor<40x70xf32>) {
  ^bb0(%a: f32, %out: f32):
    %s = arith.mulf %a, %a : f32
    linalg.yield %s : f32
  } -> tensor<40x70xf32>
  %f = tensor.empty() : tensor<40x30xf32>
  %i = linalg.fill ins(%zero : f32) outs(%f : tensor<40x30xf32>) -> tensor<40x30xf32>
  %1 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>],
    iterator_types = ["parallel", "parallel", "reduction"]} ins(%0, %w : tensor<40x70xf32>, tensor<70x30xf32>) outs(%i : tensor<40x30xf32>) {
  ^bb0(%a: f32, %b: f32, %acc: f32):
    %s = math.fma %a, %b, %acc : f32
    %k = linalg.index 2 : index
    %t = "flambeau.fold"(%s, %k) {identity = 0.0 : f32, order = "blocks"} : (f32, index) -> f32
    linalg.yield %t : f32
  } -> tensor<40x30xf32>
  return %1 : tensor<40x30xf32>
}
