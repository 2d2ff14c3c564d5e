// RUN: not flambeau-opt %s 2>&1 | filecheck %s
// Every part is refused by itself, with the line it is on, by MLIR's verifier or by the rules of groups.

// The place of a parallel loop.
// CHECK: invalid.mlir":15:10): [flambeau.fold] the places count loops [0], and the op reduces [1].
func.func @f(%x: tensor<32x100xf32>) -> tensor<32xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<32xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<32xf32>) -> tensor<32xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
    iterator_types = ["parallel", "reduction"]} ins(%x : tensor<32x100xf32>) outs(%i : tensor<32xf32>) {
  ^bb0(%a: f32, %acc: f32):
    %s = arith.addf %acc, %a : f32
    %k = linalg.index 0 : index
    %t = "flambeau.fold"(%s, %k) {identity = 0.0 : f32, order = "lanes"} : (f32, index) -> f32
    linalg.yield %t : f32
  } -> tensor<32xf32>
  return %0 : tensor<32xf32>
}

// -----

// A start that would count once per lane.
// CHECK: [linalg.generic] value 1: partial results of arith.addf start from 0x40A00000, which would count once
func.func @f(%x: tensor<32x100xf32>) -> tensor<32xf32> {
  %five = arith.constant 5.0 : f32
  %e = tensor.empty() : tensor<32xf32>
  %i = linalg.fill ins(%five : f32) outs(%e : tensor<32xf32>) -> tensor<32xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
    iterator_types = ["parallel", "reduction"]} ins(%x : tensor<32x100xf32>) outs(%i : tensor<32xf32>) {
  ^bb0(%a: f32, %acc: f32):
    %s = arith.addf %acc, %a : f32
    %k = linalg.index 1 : index
    %t = "flambeau.fold"(%s, %k) {identity = 5.0 : f32, order = "lanes"} : (f32, index) -> f32
    linalg.yield %t : f32
  } -> tensor<32xf32>
  return %0 : tensor<32xf32>
}

// -----

// An op that no generator follows.
// CHECK: [tensor.cast] at loc("{{.*}}invalid.mlir":{{[0-9]+}}:8): it is no op of a group.
func.func @f(%x: tensor<8xf32>) -> tensor<?xf32> {
  %0 = tensor.cast %x : tensor<8xf32> to tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// An unknown extent without an expression.
// CHECK: tensor<?xf32> has unknown extents. Give an expression for each, as in tensor<?xf32, ["s0"]>.
func.func @f(%x: tensor<?xf32>) -> tensor<?xf32> {
  %0 = tensor.concat dim(0) %x : (tensor<?xf32>) -> tensor<?xf32>
  return %0 : tensor<?xf32>
}
