// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// RUN: flambeau-opt %t --to kernels --target x86-64-v3 | filecheck %s --check-prefix KERNEL
// A long line is sorted by blocks, digit after digit; the first of a line and places in one are found by a call each.

module {
  // CHECK-LABEL: func.func @sorted(
  // CHECK: "flambeau.argsort"(%v0) {axis = 0 : i64, descending = 1 : i64}
  // KERNEL: kernel 0 of @sorted: counts of argsort
  // KERNEL: kernel 1 of @sorted: sums of argsort
  // KERNEL: kernel 2 of @sorted: entries of argsort
  func.func @sorted(%v0: tensor<100000xf32>) -> (tensor<100000xi64>) {
    %v1 = "flambeau.argsort"(%v0) {axis = 0 : i64, descending = 1 : i64} : (tensor<100000xf32>) -> tensor<100000xi64> loc("user.py":3:0)
    return %v1 : tensor<100000xi64>
  }
  // CHECK-LABEL: func.func @first(
  // CHECK: "flambeau.topk"(%v0) {axis = 1 : i64, k = 5 : i64, largest = 1 : i64}
  // KERNEL: kernel 0 of @first: topk
  // KERNEL: arith.cmpi slt, {{.*}} : vector<8xi32>
  func.func @first(%v0: tensor<4x3000xf32>) -> (tensor<4x5xi64>) {
    %v1 = "flambeau.topk"(%v0) {axis = 1 : i64, k = 5 : i64, largest = 1 : i64} : (tensor<4x3000xf32>) -> tensor<4x5xi64> loc("user.py":4:0)
    return %v1 : tensor<4x5xi64>
  }
  // CHECK-LABEL: func.func @places(
  // CHECK: "flambeau.searchsorted"(%v0, %v1) {axis = 0 : i64, right = 1 : i64}
  // KERNEL: kernel 0 of @places: searchsorted
  func.func @places(%v0: tensor<300xf32>, %v1: tensor<17xf32>) -> (tensor<17xi64>) {
    %v2 = "flambeau.searchsorted"(%v0, %v1) {axis = 0 : i64, right = 1 : i64} : (tensor<300xf32>, tensor<17xf32>) -> tensor<17xi64> loc("user.py":5:0)
    return %v2 : tensor<17xi64>
  }
}
