// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// Elements picked from a table at indices that may be out of range.

module {
  // CHECK-LABEL: func.func @gather(
  // CHECK: indexing_maps = [affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0, d1)>],
  // CHECK: "flambeau.check"(%b1) {code = 1 : i64} : (i1) -> ()
  // CHECK: %b6 = tensor.extract %v0[%b4, %b5] : tensor<50x8xf32>
  func.func @gather(%v0: tensor<50x8xf32>, %v1: tensor<32xi64>) -> (tensor<32x8xf32>) {
    %e2 = tensor.empty() : tensor<32x8xf32>
    %v2 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v1 : tensor<32xi64>) outs(%e2 : tensor<32x8xf32>) {
    ^bb0(%a0: i64, %a1: f32):
      %b0 = arith.constant 50 : i64
      %b1 = arith.cmpi uge, %a0, %b0 : i64
      "flambeau.check"(%b1) {code = 1 : i64} : (i1) -> ()
      %b2 = arith.constant 0 : i64
      %b3 = arith.select %b1, %b2, %a0 : i64
      %b4 = arith.index_cast %b3 : i64 to index
      %b5 = linalg.index 1 : index
      %b6 = tensor.extract %v0[%b4, %b5] : tensor<50x8xf32>
      linalg.yield %b6 : f32
    } -> tensor<32x8xf32>
    return %v2 : tensor<32x8xf32>
  }
}
