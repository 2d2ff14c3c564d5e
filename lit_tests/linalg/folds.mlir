// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// Reductions: the order and the places of elements stand in the body.

module {
  // CHECK-LABEL: func.func @sum_in_lanes(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
  // CHECK: %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
  func.func @sum_in_lanes(%v0: tensor<7x100xf32>) -> (tensor<7xf32>) {
    %c0 = arith.constant 0x00000000 : f32
    %e1 = tensor.empty() : tensor<7xf32>
    %i1 = linalg.fill ins(%c0 : f32) outs(%e1 : tensor<7xf32>) -> tensor<7xf32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
        iterator_types = ["parallel", "reduction"]
      } ins(%v0 : tensor<7x100xf32>) outs(%i1 : tensor<7xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.addf %a1, %a0 : f32
      %b1 = linalg.index 1 : index
      %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
      linalg.yield %b2 : f32
    } -> tensor<7xf32> loc("user.py":3:0)
    return %v1 : tensor<7xf32>
  }
  // CHECK-LABEL: func.func @sum_in_chains(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>],
  // CHECK: %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "chains"} : (f32, index) -> f32
  func.func @sum_in_chains(%v0: tensor<100x7xf32>) -> (tensor<7xf32>) {
    %c0 = arith.constant 0x00000000 : f32
    %e1 = tensor.empty() : tensor<7xf32>
    %i1 = linalg.fill ins(%c0 : f32) outs(%e1 : tensor<7xf32>) -> tensor<7xf32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>],
        iterator_types = ["reduction", "parallel"]
      } ins(%v0 : tensor<100x7xf32>) outs(%i1 : tensor<7xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.addf %a1, %a0 : f32
      %b1 = linalg.index 0 : index
      %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "chains"} : (f32, index) -> f32
      linalg.yield %b2 : f32
    } -> tensor<7xf32> loc("user.py":3:0)
    return %v1 : tensor<7xf32>
  }
  // CHECK-LABEL: func.func @sum_in_order(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
  // CHECK: %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "sequential"} : (f32, index) -> f32
  func.func @sum_in_order(%v0: tensor<7x100xf32>) -> (tensor<7xf32>) {
    %c0 = arith.constant 0x00000000 : f32
    %e1 = tensor.empty() : tensor<7xf32>
    %i1 = linalg.fill ins(%c0 : f32) outs(%e1 : tensor<7xf32>) -> tensor<7xf32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
        iterator_types = ["parallel", "reduction"]
      } ins(%v0 : tensor<7x100xf32>) outs(%i1 : tensor<7xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.addf %a1, %a0 : f32
      %b1 = linalg.index 1 : index
      %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "sequential"} : (f32, index) -> f32
      linalg.yield %b2 : f32
    } -> tensor<7xf32> loc("user.py":3:0)
    return %v1 : tensor<7xf32>
  }
  // CHECK-LABEL: func.func @maximum_in_any_order(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> ()>],
  // CHECK: %b3 = "flambeau.fold"(%b0, %b1, %b2) {identity = 0xFF800000 : f32, order = "any"} : (f32, index, index) -> f32
  func.func @maximum_in_any_order(%v0: tensor<9x3xf32>) -> (tensor<f32>) {
    %c0 = arith.constant 0xFF800000 : f32
    %e1 = tensor.empty() : tensor<f32>
    %i1 = linalg.fill ins(%c0 : f32) outs(%e1 : tensor<f32>) -> tensor<f32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> ()>],
        iterator_types = ["reduction", "reduction"]
      } ins(%v0 : tensor<9x3xf32>) outs(%i1 : tensor<f32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.maximumf %a1, %a0 : f32
      %b1 = linalg.index 0 : index
      %b2 = linalg.index 1 : index
      %b3 = "flambeau.fold"(%b0, %b1, %b2) {identity = 0xFF800000 : f32, order = "any"} : (f32, index, index) -> f32
      linalg.yield %b3 : f32
    } -> tensor<f32> loc("user.py":3:0)
    return %v1 : tensor<f32>
  }
  // CHECK-LABEL: func.func @sum_of_squares(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
  // CHECK: %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
  func.func @sum_of_squares(%v0: tensor<7x100xf32>) -> (tensor<7xf32>) {
    %c0 = arith.constant 0x00000000 : f32
    %e1 = tensor.empty() : tensor<7x100xf32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v0 : tensor<7x100xf32>) outs(%e1 : tensor<7x100xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.mulf %a0, %a0 : f32
      linalg.yield %b0 : f32
    } -> tensor<7x100xf32>
    %e2 = tensor.empty() : tensor<7xf32>
    %i2 = linalg.fill ins(%c0 : f32) outs(%e2 : tensor<7xf32>) -> tensor<7xf32>
    %v2 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
        iterator_types = ["parallel", "reduction"]
      } ins(%v1 : tensor<7x100xf32>) outs(%i2 : tensor<7xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.addf %a1, %a0 : f32
      %b1 = linalg.index 1 : index
      %b2 = "flambeau.fold"(%b0, %b1) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
      linalg.yield %b2 : f32
    } -> tensor<7xf32>
    return %v2 : tensor<7xf32>
  }
  // CHECK-LABEL: func.func @argmax(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0)>],
  // CHECK: %b5 = "flambeau.fold"(%b3, %b0) {identity = 0xFF800000 : f32, order = "any"} : (f32, index) -> f32
  // CHECK: %b6 = "flambeau.fold"(%b4, %b0) {identity = 0 : i64, order = "any"} : (i64, index) -> i64
  func.func @argmax(%v0: tensor<4x10xf32>) -> (tensor<4xi64>) {
    %c0 = arith.constant 0xFF800000 : f32
    %c1 = arith.constant 0 : i64
    %e1 = tensor.empty() : tensor<4xf32>
    %i1 = linalg.fill ins(%c0 : f32) outs(%e1 : tensor<4xf32>) -> tensor<4xf32>
    %e2 = tensor.empty() : tensor<4xi64>
    %i2 = linalg.fill ins(%c1 : i64) outs(%e2 : tensor<4xi64>) -> tensor<4xi64>
    %v1:2 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0)>],
        iterator_types = ["parallel", "reduction"]
      } ins(%v0 : tensor<4x10xf32>) outs(%i1, %i2 : tensor<4xf32>, tensor<4xi64>) {
    ^bb0(%a0: f32, %a1: f32, %a2: i64):
      %b0 = linalg.index 1 : index
      %b1 = arith.index_cast %b0 : index to i64
      %b2 = arith.cmpf ogt, %a0, %a1 : f32
      %b3 = arith.select %b2, %a0, %a1 : f32
      %b4 = arith.select %b2, %b1, %a2 : i64
      %b5 = "flambeau.fold"(%b3, %b0) {identity = 0xFF800000 : f32, order = "any"} : (f32, index) -> f32
      %b6 = "flambeau.fold"(%b4, %b0) {identity = 0 : i64, order = "any"} : (i64, index) -> i64
      linalg.yield %b5, %b6 : f32, i64
    } -> (tensor<4xf32>, tensor<4xi64>)
    return %v1#1 : tensor<4xi64>
  }
  // CHECK-LABEL: func.func @one_place_for_two_loops(
  // CHECK: indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0)>],
  // CHECK: %b4 = "flambeau.fold"(%b0, %b3) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
  func.func @one_place_for_two_loops(%v0: tensor<3x4x5xf32>) -> (tensor<3xf32>) {
    %c0 = arith.constant 0x00000000 : f32
    %e1 = tensor.empty() : tensor<3xf32>
    %i1 = linalg.fill ins(%c0 : f32) outs(%e1 : tensor<3xf32>) -> tensor<3xf32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0)>],
        iterator_types = ["parallel", "reduction", "reduction"]
      } ins(%v0 : tensor<3x4x5xf32>) outs(%i1 : tensor<3xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.addf %a1, %a0 : f32
      %b1 = linalg.index 1 : index
      %b2 = linalg.index 2 : index
      %b3 = affine.apply affine_map<(d0, d1) -> (d0 * 5 + d1)>(%b1, %b2)
      %b4 = "flambeau.fold"(%b0, %b3) {identity = 0x00000000 : f32, order = "lanes"} : (f32, index) -> f32
      linalg.yield %b4 : f32
    } -> tensor<3xf32>
    return %v1 : tensor<3xf32>
  }
}
