// RUN: flambeau-opt %s --mlir-passes transform-interpreter | filecheck %s
// A transform script tiles a parallel loop twice and leaves loops around slices. They are hints of the op, whose form is
// that of before; the script is no part of the group.

// CHECK-LABEL: func.func @sum(
// CHECK-NOT: scf.for
// CHECK-NOT: extract_slice
// CHECK: linalg.generic {
// CHECK: ins(%v0 : tensor<32x100xf32>) outs(%i1 : tensor<32xf32>) attrs = {flambeau.tiled_maps = {{.*}}, flambeau.tiles =
// CHECK-SAME: {{\[\[}}0 : i64, 12 : i64], [0 : i64, 5 : i64{{\]\]}}} {
// CHECK-NOT: transform
module attributes {transform.with_named_sequence} {
  func.func @sum(%x: tensor<32x100xf32>) -> tensor<32xf32> {
    %zero = arith.constant 0.0 : f32
    %e = tensor.empty() : tensor<32xf32>
    %i = linalg.fill ins(%zero : f32) outs(%e : tensor<32xf32>) -> tensor<32xf32>
    %0 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
      iterator_types = ["parallel", "reduction"]} ins(%x : tensor<32x100xf32>) outs(%i : tensor<32xf32>) {
    ^bb0(%a: f32, %acc: f32):
      %s = arith.addf %acc, %a : f32
      %k = linalg.index 1 : index
      %t = "flambeau.fold"(%s, %k) {identity = 0.0 : f32, order = "lanes"} : (f32, index) -> f32
      linalg.yield %t : f32
    } -> tensor<32xf32>
    return %0 : tensor<32xf32>
  }
  transform.named_sequence @__transform_main(%m: !transform.any_op {transform.readonly}) {
    %0 = transform.structured.match ops{["linalg.generic"]} in %m : (!transform.any_op) -> !transform.any_op
    %1, %l1 = transform.structured.tile_using_forall %0 tile_sizes [12] : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    %2, %l2 = transform.structured.tile_using_for %1 tile_sizes [5] : (!transform.any_op) -> (!transform.any_op, !transform.any_op)
    transform.yield
  }
}
