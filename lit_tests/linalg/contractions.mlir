// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// Products and windows: what is multiplied is fused with the sum; a tensor without elements says how large a window is.

module {
  // CHECK-LABEL: func.func @product_in_blocks(
  // CHECK: indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>],
  // CHECK: } ins(%v0, %v1 : tensor<6x5xf32>, tensor<5x7xf32>) outs(%i2 : tensor<6x7xf32>) attrs = {flambeau.tiled_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>], flambeau.tiles =
  // CHECK: %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "blocks"} : (f32, index) -> f32
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
  func.func @product_in_blocks(%v0: tensor<6x5xf32>, %v1: tensor<5x7xf32>) -> (tensor<6x7xf32>) {
    %c0 = arith.constant 0x00000000 : f32
    %e2 = tensor.empty() : tensor<6x7xf32>
    %i2 = linalg.fill ins(%c0 : f32) outs(%e2 : tensor<6x7xf32>) -> tensor<6x7xf32>
    %v2 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel", "reduction"]
      } ins(%v0, %v1 : tensor<6x5xf32>, tensor<5x7xf32>) outs(%i2 : tensor<6x7xf32>) attrs = {flambeau.tiled_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>], flambeau.tiles = [[1 : i64, 4 : i64], [0 : i64, 2 : i64]]} {
    ^bb0(%a0: f32, %a1: f32, %a2: f32):
      %b0 = math.fma %a0, %a1, %a2 : f32
      %b1 = linalg.index 2 : index
      %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "blocks"} : (f32, index) -> f32
      linalg.yield %b2 : f32
    } -> tensor<6x7xf32>
    %e3 = tensor.empty() : tensor<6x7xf32>
    %v3 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v2 : tensor<6x7xf32>) outs(%e3 : tensor<6x7xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = math.tanh %a0 : f32
      linalg.yield %b0 : f32
    } -> tensor<6x7xf32>
    return %v3 : tensor<6x7xf32>
  }
  // CHECK-LABEL: func.func @product_in_lanes(
  // CHECK: indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>],
  // CHECK: } ins(%v0, %v1 : tensor<6x5xf32>, tensor<5x7xf32>) outs(%i2 : tensor<6x7xf32>) attrs = {flambeau.tiled_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>], flambeau.tiles =
  // CHECK: %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
  func.func @product_in_lanes(%v0: tensor<6x5xf32>, %v1: tensor<5x7xf32>) -> (tensor<6x7xf32>) {
    %c0 = arith.constant 0x00000000 : f32
    %e2 = tensor.empty() : tensor<6x7xf32>
    %i2 = linalg.fill ins(%c0 : f32) outs(%e2 : tensor<6x7xf32>) -> tensor<6x7xf32>
    %v2 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel", "reduction"]
      } ins(%v0, %v1 : tensor<6x5xf32>, tensor<5x7xf32>) outs(%i2 : tensor<6x7xf32>) attrs = {flambeau.tiled_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d2, d1)>, affine_map<(d0, d1, d2) -> (d0, d1)>], flambeau.tiles = [[1 : i64, 4 : i64], [0 : i64, 2 : i64]]} {
    ^bb0(%a0: f32, %a1: f32, %a2: f32):
      %b0 = math.fma %a0, %a1, %a2 : f32
      %b1 = linalg.index 2 : index
      %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
      linalg.yield %b2 : f32
    } -> tensor<6x7xf32>
    %e3 = tensor.empty() : tensor<6x7xf32>
    %v3 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v2 : tensor<6x7xf32>) outs(%e3 : tensor<6x7xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = math.tanh %a0 : f32
      linalg.yield %b0 : f32
    } -> tensor<6x7xf32>
    return %v3 : tensor<6x7xf32>
  }
  // CHECK-LABEL: func.func @a_window(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0 * 2 + d1)>, affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0)>],
  // CHECK: %b2 = "flambeau.fold"(%b0, %b1) {identity = 0xFF800000 : f32, order = "any"} : (f32, index) -> f32
  func.func @a_window(%v0: tensor<17xf32>) -> (tensor<8xf32>) {
    %c0 = arith.constant 0xFF800000 : f32
    %v1 = tensor.empty() : tensor<3xf32>
    %e2 = tensor.empty() : tensor<8xf32>
    %i2 = linalg.fill ins(%c0 : f32) outs(%e2 : tensor<8xf32>) -> tensor<8xf32>
    %v2 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0 * 2 + d1)>, affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0)>],
        iterator_types = ["parallel", "reduction"]
      } ins(%v0, %v1 : tensor<17xf32>, tensor<3xf32>) outs(%i2 : tensor<8xf32>) {
    ^bb0(%a0: f32, %a1: f32, %a2: f32):
      %b0 = arith.maximumf %a2, %a0 : f32
      %b1 = linalg.index 1 : index
      %b2 = "flambeau.fold"(%b0, %b1) {identity = 0xFF800000 : f32, order = "any"} : (f32, index) -> f32
      linalg.yield %b2 : f32
    } -> tensor<8xf32>
    return %v2 : tensor<8xf32>
  }
}
