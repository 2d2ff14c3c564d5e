// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// Points: one op per nest, operands read as their maps say, numbers from outside of the nest captured.

module {
  // CHECK-LABEL: func.func @elementwise(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
  func.func @elementwise(%v0: tensor<4x8xf32>, %v1: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>) {
    %v2 = arith.constant 0x40000000 : f32 loc("user.py":3:0)
    %e3 = tensor.empty() : tensor<4x8xf32>
    %v3 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v0, %v1 : tensor<4x8xf32>, tensor<4x8xf32>) outs(%e3 : tensor<4x8xf32>) {
    ^bb0(%a0: f32, %a1: f32, %a2: f32):
      %b0 = arith.mulf %a0, %v2 : f32
      %b1 = arith.constant 0x3F800000 : f32
      %b2 = arith.cmpf ogt, %b0, %b1 : f32
      %b3 = arith.select %b2, %a1, %b0 : f32
      linalg.yield %b3 : f32
    } -> tensor<4x8xf32> loc("user.py":3:0)
    %e4 = tensor.empty() : tensor<4x8xf32>
    %v4 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v3 : tensor<4x8xf32>) outs(%e4 : tensor<4x8xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = math.exp %a0 : f32
      linalg.yield %b0 : f32
    } -> tensor<4x8xf32>
    return %v4, %v3 : tensor<4x8xf32>, tensor<4x8xf32>
  }
  // CHECK-LABEL: func.func @views_as_maps(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d1, d0)>, affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0 * -1 + 3, d1 * 2 + 1)>, affine_map<(d0, d1) -> ()>, affine_map<(d0, d1) -> (d0, d1)>],
  func.func @views_as_maps(%v0: tensor<8x4xf32>, %v1: tensor<8xf32>, %v2: tensor<4x20xf32>) -> (tensor<4x8xf32>) {
    %v3 = arith.constant 0x7FC00001 : f32
    %e4 = tensor.empty() : tensor<4x8xf32>
    %v4 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d1, d0)>, affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0 * -1 + 3, d1 * 2 + 1)>, affine_map<(d0, d1) -> ()>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v0, %v1, %v2, %v3 : tensor<8x4xf32>, tensor<8xf32>, tensor<4x20xf32>, f32) outs(%e4 : tensor<4x8xf32>) {
    ^bb0(%a0: f32, %a1: f32, %a2: f32, %a3: f32, %a4: f32):
      %b0 = arith.addf %a0, %a1 : f32
      %b1 = arith.maximumf %b0, %a2 : f32
      %b2 = math.fma %b1, %a3, %a0 : f32
      linalg.yield %b2 : f32
    } -> tensor<4x8xf32>
    return %v4 : tensor<4x8xf32>
  }
  // CHECK-LABEL: func.func @conversions_several_results(
  // CHECK: indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
  func.func @conversions_several_results(%v0: tensor<5xf64>) -> (tensor<5xf32>, tensor<5xi64>, tensor<5xi1>) {
    %e1 = tensor.empty() : tensor<5xf32>
    %e2 = tensor.empty() : tensor<5xi64>
    %e3 = tensor.empty() : tensor<5xi1>
    %v1:3 = linalg.generic {
        indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
        iterator_types = ["parallel"]
      } ins(%v0 : tensor<5xf64>) outs(%e1, %e2, %e3 : tensor<5xf32>, tensor<5xi64>, tensor<5xi1>) {
    ^bb0(%a0: f64, %a1: f32, %a2: i64, %a3: i1):
      %b0 = arith.truncf %a0 : f64 to f32
      %b1 = llvm.call_intrinsic "llvm.fptosi.sat.i64.f64"(%a0) : (f64) -> i64
      %b2 = arith.bitcast %a0 : f64 to i64
      %b3 = arith.cmpi slt, %b1, %b2 : i64
      %b4 = linalg.index 0 : index
      %b5 = arith.index_cast %b4 : index to i64
      %b6 = arith.addi %b1, %b5 : i64
      linalg.yield %b0, %b6, %b3 : f32, i64, i1
    } -> (tensor<5xf32>, tensor<5xi64>, tensor<5xi1>)
    return %v1#0, %v1#1, %v1#2 : tensor<5xf32>, tensor<5xi64>, tensor<5xi1>
  }
  // CHECK-LABEL: func.func @no_operands(
  // CHECK: indexing_maps = [affine_map<(d0) -> (d0)>],
  // CHECK: indexing_maps = [affine_map<(d0) -> (d0)>],
  func.func @no_operands() -> (tensor<3xf32>, tensor<3xi64>) {
    %v0 = arith.constant 0x3F800000 : f32
    %e1 = tensor.empty() : tensor<3xf32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0) -> (d0)>],
        iterator_types = ["parallel"]
      } outs(%e1 : tensor<3xf32>) {
    ^bb0(%a0: f32):
      linalg.yield %v0 : f32
    } -> tensor<3xf32>
    %e2 = tensor.empty() : tensor<3xi64>
    %v2 = linalg.generic {
        indexing_maps = [affine_map<(d0) -> (d0)>],
        iterator_types = ["parallel"]
      } outs(%e2 : tensor<3xi64>) {
    ^bb0(%a0: i64):
      %b0 = linalg.index 0 : index
      %b1 = arith.index_cast %b0 : index to i64
      linalg.yield %b1 : i64
    } -> tensor<3xi64>
    return %v1, %v2 : tensor<3xf32>, tensor<3xi64>
  }
  // CHECK-LABEL: func.func @rank_0(
  // CHECK: indexing_maps = [affine_map<() -> ()>, affine_map<() -> ()>],
  // CHECK: %v2 = tensor.extract %v0[] : tensor<f32>
  // CHECK: indexing_maps = [affine_map<() -> ()>, affine_map<() -> ()>],
  func.func @rank_0(%v0: tensor<f32>) -> (tensor<f32>) {
    %e1 = tensor.empty() : tensor<f32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<() -> ()>, affine_map<() -> ()>],
        iterator_types = []
      } ins(%v0 : tensor<f32>) outs(%e1 : tensor<f32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = math.sqrt %a0 : f32
      linalg.yield %b0 : f32
    } -> tensor<f32>
    %v2 = tensor.extract %v0[] : tensor<f32>
    %e3 = tensor.empty() : tensor<f32>
    %v3 = linalg.generic {
        indexing_maps = [affine_map<() -> ()>, affine_map<() -> ()>],
        iterator_types = []
      } ins(%v1 : tensor<f32>) outs(%e3 : tensor<f32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.subf %a0, %v2 : f32
      linalg.yield %b0 : f32
    } -> tensor<f32>
    return %v3 : tensor<f32>
  }
}
