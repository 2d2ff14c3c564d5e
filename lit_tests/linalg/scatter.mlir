// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// Elements added, in order, at indices that may be out of range.

module {
  // CHECK-LABEL: func.func @scatter(
  // CHECK: %v3 = "flambeau.scatter"(%v0, %v1, %v2) ({
  // CHECK: "flambeau.yield"(%b0) : (f32) -> ()
  func.func @scatter(%v0: tensor<50x8xf32>, %v1: tensor<32x8xi64>, %v2: tensor<32x8xf32>) -> (tensor<50x8xf32>) {
    %v3 = "flambeau.scatter"(%v0, %v1, %v2) ({
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.addf %a0, %a1 : f32
      "flambeau.yield"(%b0) : (f32) -> ()
    }) {axis = 0 : i64, code = 1 : i64, order = "sequential"} : (tensor<50x8xf32>, tensor<32x8xi64>, tensor<32x8xf32>) -> tensor<50x8xf32> loc("user.py":3:0)
    return %v3 : tensor<50x8xf32>
  }
}
