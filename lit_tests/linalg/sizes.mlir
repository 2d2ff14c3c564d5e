// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// Extents known when the group runs: their expressions stand in the types.

module {
  // CHECK-LABEL: func.func @sum_over_an_unknown_extent(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
  // CHECK: %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
  func.func @sum_over_an_unknown_extent(%v0: tensor<7x?xf32, ["s0"]>) -> (tensor<7xf32>) attributes {flambeau.sizes = [40 : i64]} {
    %c0 = arith.constant 0x00000000 : f32
    %e1 = tensor.empty() : tensor<7xf32>
    %i1 = linalg.fill ins(%c0 : f32) outs(%e1 : tensor<7xf32>) -> tensor<7xf32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
        iterator_types = ["parallel", "reduction"]
      } ins(%v0 : tensor<7x?xf32, ["s0"]>) outs(%i1 : tensor<7xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.addf %a1, %a0 : f32
      %b1 = linalg.index 1 : index
      %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
      linalg.yield %b2 : f32
    } -> tensor<7xf32> loc("user.py":3:0)
    return %v1 : tensor<7xf32>
  }
  // CHECK-LABEL: func.func @sum_of_a_middle_axis(
  // CHECK: indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d2)>],
  // CHECK: %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "chains"} : (f32, index) -> f32
  func.func @sum_of_a_middle_axis(%v0: tensor<3x?x4xf32, ["s0"]>) -> (tensor<3x4xf32>) attributes {flambeau.sizes = [40 : i64]} {
    %c0 = arith.constant 0x00000000 : f32
    %e1 = tensor.empty() : tensor<3x4xf32>
    %i1 = linalg.fill ins(%c0 : f32) outs(%e1 : tensor<3x4xf32>) -> tensor<3x4xf32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d2)>],
        iterator_types = ["parallel", "reduction", "parallel"]
      } ins(%v0 : tensor<3x?x4xf32, ["s0"]>) outs(%i1 : tensor<3x4xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.addf %a1, %a0 : f32
      %b1 = linalg.index 1 : index
      %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "chains"} : (f32, index) -> f32
      linalg.yield %b2 : f32
    } -> tensor<3x4xf32> loc("user.py":3:0)
    return %v1 : tensor<3x4xf32>
  }
  // CHECK-LABEL: func.func @unknown_extents(
  // CHECK: %n0 = "flambeau.size"() {size = "s0 - 3"} : () -> index
  // CHECK: %n1 = "flambeau.size"() {size = "s0 - 1"} : () -> index
  // CHECK: %v1 = tensor.extract_slice %v0[0, 3] [7, %n0] [1, 1] : tensor<7x?xf32, ["s0"]> to tensor<7x?xf32, ["s0 - 3"]>
  // CHECK: %v2 = tensor.extract_slice %v0[0, %n1] [7, 1] [1, 1] : tensor<7x?xf32, ["s0"]> to tensor<7x1xf32>
  // CHECK: %v3 = "flambeau.size"() {size = "7*s0"} : () -> i64
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
  // CHECK: %b0 = "flambeau.size"() {size = "s0"} : () -> i64
  // CHECK: %v5 = tensor.collapse_shape %v0
  func.func @unknown_extents(%v0: tensor<7x?xf32, ["s0"]>) -> (tensor<7x?xf32, ["s0 - 3"]>, tensor<7x1xf32>, tensor<?xf32, ["7*s0"]>) attributes {flambeau.sizes = [40 : i64]} {
    %n0 = "flambeau.size"() {size = "s0 - 3"} : () -> index
    %n1 = "flambeau.size"() {size = "s0 - 1"} : () -> index
    %v1 = tensor.extract_slice %v0[0, 3] [7, %n0] [1, 1] : tensor<7x?xf32, ["s0"]> to tensor<7x?xf32, ["s0 - 3"]>
    %v2 = tensor.extract_slice %v0[0, %n1] [7, 1] [1, 1] : tensor<7x?xf32, ["s0"]> to tensor<7x1xf32>
    %v3 = "flambeau.size"() {size = "7*s0"} : () -> i64
    %e4 = tensor.empty(%n0) : tensor<7x?xf32, ["s0 - 3"]>
    %v4 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v1 : tensor<7x?xf32, ["s0 - 3"]>) outs(%e4 : tensor<7x?xf32, ["s0 - 3"]>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = "flambeau.size"() {size = "s0"} : () -> i64
      %b1 = arith.subi %v3, %b0 : i64
      %b2 = arith.sitofp %b1 : i64 to f32
      %b3 = arith.addf %a0, %b2 : f32
      linalg.yield %b3 : f32
    } -> tensor<7x?xf32, ["s0 - 3"]>
    %v5 = tensor.collapse_shape %v0 [[0, 1]] : tensor<7x?xf32, ["s0"]> into tensor<?xf32, ["7*s0"]>
    return %v4, %v2, %v5 : tensor<7x?xf32, ["s0 - 3"]>, tensor<7x1xf32>, tensor<?xf32, ["7*s0"]>
  }
}
