// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// Branches and loops that all lanes take together.

module {
  // CHECK-LABEL: func.func @a_branch_and_a_table(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
  // CHECK: %b2 = "flambeau.any_lane"(%b1) : (i1) -> i1
  // CHECK: %b3:2 = scf.if %b2 -> (f64, i64) {
  // CHECK: %b7 = tensor.extract %b5[%b6] : tensor<3xf64>
  // CHECK: %b8 = scf.if %b1 -> (f64) {
  func.func @a_branch_and_a_table(%v0: tensor<4x8xf64>) -> (tensor<4x8xf64>) {
    %e1 = tensor.empty() : tensor<4x8xf64>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v0 : tensor<4x8xf64>) outs(%e1 : tensor<4x8xf64>) {
    ^bb0(%a0: f64, %a1: f64):
      %b0 = arith.constant 0x40F86A0000000000 : f64
      %b1 = arith.cmpf ogt, %a0, %b0 : f64
      %b2 = "flambeau.any_lane"(%b1) : (i1) -> i1
      %b3:2 = scf.if %b2 -> (f64, i64) {
        %b4 = llvm.call_intrinsic "llvm.fptosi.sat.i64.f64"(%a0) : (f64) -> i64
        %b5 = arith.constant dense<[0x3FF0000000000000, 0x4000000000000000, 0x7FF8000000000001]> : tensor<3xf64>
        %b6 = arith.index_cast %b4 : i64 to index
        %b7 = tensor.extract %b5[%b6] : tensor<3xf64>
        %b8 = scf.if %b1 -> (f64) {
          %b9 = math.floor %b7 : f64
          %b10 = arith.addf %b9, %a0 : f64
          scf.yield %b10 : f64
        } else {
          scf.yield %a0 : f64
        }
        %b11 = arith.constant 3 : i64
        scf.yield %b8, %b11 : f64, i64
      } else {
        %b12 = arith.constant 0 : i64
        scf.yield %a0, %b12 : f64, i64
      }
      %b13 = arith.sitofp %b3#1 : i64 to f64
      %b14 = arith.mulf %b3#0, %b13 : f64
      linalg.yield %b14 : f64
    } -> tensor<4x8xf64>
    return %v1 : tensor<4x8xf64>
  }
  // CHECK-LABEL: func.func @a_loop_and_a_check(
  // CHECK: indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
  // CHECK: %b2:2 = scf.while (%b3 = %b0, %b4 = %a0) : (i64, f32) -> (i64, f32) {
  // CHECK: %b8 = "flambeau.any_lane"(%b7) : (i1) -> i1
  // CHECK: scf.if %b15 {
  // CHECK: "flambeau.check"(%b15) {code = 2 : i64} : (i1) -> ()
  func.func @a_loop_and_a_check(%v0: tensor<9xf32>) -> (tensor<9xf32>) {
    %v1 = arith.constant 0x3F000000 : f32
    %e2 = tensor.empty() : tensor<9xf32>
    %v2 = linalg.generic {
        indexing_maps = [affine_map<(d0) -> (d0)>, affine_map<(d0) -> (d0)>],
        iterator_types = ["parallel"]
      } ins(%v0 : tensor<9xf32>) outs(%e2 : tensor<9xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.constant 64 : i64
      %b1 = arith.constant 0x3F800000 : f32
      %b2:2 = scf.while (%b3 = %b0, %b4 = %a0) : (i64, f32) -> (i64, f32) {
        %b5 = arith.constant 0 : i64
        %b6 = arith.cmpi sgt, %b3, %b5 : i64
        %b7 = arith.cmpf oge, %b4, %b1 : f32
        %b8 = "flambeau.any_lane"(%b7) : (i1) -> i1
        %b9 = arith.andi %b6, %b8 : i1
        scf.condition(%b9) %b3, %b4 : i64, f32
      } do {
      ^bb0(%b10: i64, %b11: f32):
        %b12 = arith.constant 1 : i64
        %b13 = arith.subi %b10, %b12 : i64
        %b14 = arith.mulf %b11, %v1 : f32
        scf.yield %b13, %b14 : i64, f32
      }
      %b15 = arith.cmpf oge, %b2#1, %b1 : f32
      scf.if %b15 {
        "flambeau.check"(%b15) {code = 2 : i64} : (i1) -> ()
        scf.yield
      }
      linalg.yield %b2#1 : f32
    } -> tensor<9xf32>
    return %v2 : tensor<9xf32>
  }
}
