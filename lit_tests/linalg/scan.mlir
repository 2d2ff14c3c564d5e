// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// RUN: flambeau-opt %t --to kernels --target x86-64-v3 | filecheck %s --check-prefix KERNEL
// Running sums of long lines, by blocks and their prefixes; and a recurrence from the last element on.

module {
  // CHECK-LABEL: func.func @sums(
  // CHECK: %v1 = "flambeau.scan"(%v0) ({
  // CHECK: %b0 = arith.addf %a0, %a1 : f32
  // CHECK: {axis = 1 : i64, order = "prefixes", reverse = 0 : i64}
  // KERNEL: kernel 0 of @sums: scan
  // KERNEL: kernel 1 of @sums: prefixes of scan
  // KERNEL: kernel 2 of @sums: blocks after the first of scan
  // KERNEL: arith.addf {{.*}} : vector<8xf32>
  func.func @sums(%v0: tensor<4x3000xf32>) -> (tensor<4x3000xf32>) {
    %v1 = "flambeau.scan"(%v0) ({
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.addf %a0, %a1 : f32
      "flambeau.yield"(%b0) : (f32) -> ()
    }) {axis = 1 : i64, order = "prefixes", reverse = 0 : i64} : (tensor<4x3000xf32>) -> tensor<4x3000xf32> loc("user.py":3:0)
    return %v1 : tensor<4x3000xf32>
  }
  // CHECK-LABEL: func.func @recurrence(
  // CHECK: %v2 = "flambeau.recurrence"(%v0, %v1) ({
  // CHECK: {axis = 0 : i64, order = "sequential", reverse = 1 : i64}
  func.func @recurrence(%v0: tensor<30x9xf32>, %v1: tensor<30x9xf32>) -> (tensor<30x9xf32>) {
    %v2 = "flambeau.recurrence"(%v0, %v1) ({
    ^bb0(%a0: f32, %a1: f32, %a2: f32):
      %b0 = arith.mulf %a1, %a0 : f32
      %b1 = arith.addf %b0, %a2 : f32
      "flambeau.yield"(%b1) : (f32) -> ()
    }) {axis = 0 : i64, order = "sequential", reverse = 1 : i64} : (tensor<30x9xf32>, tensor<30x9xf32>) -> tensor<30x9xf32> loc("user.py":4:0)
    return %v2 : tensor<30x9xf32>
  }
}
