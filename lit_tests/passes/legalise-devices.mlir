// RUN: flambeau-opt %s "--legalise-devices=targets=cuda:0=sm_90" | filecheck %s
// RUN: flambeau-opt %s "--legalise-devices=targets=cuda:0=sm_90" "--legalise-devices=targets=cuda:0=sm_90" | filecheck %s
// RUN: flambeau-opt %s --legalise-devices | filecheck %s --check-prefix=UNKNOWN
// What a GPU has no kernels for is computed on the CPU. Each value is moved once, and only where it is read.

// UNKNOWN-NOT: to_device

// CHECK-LABEL: func.func @indexing(
// CHECK-NEXT: %2 = "tape.neg"(%0) : (tensor<4x3xf32, {device = "cuda:0"}>) -> tensor<4x3xf32, {device = "cuda:0"}>
// CHECK-NEXT: %3 = "tape.to_device"(%2) {device = "cpu"} : (tensor<4x3xf32, {device = "cuda:0"}>) -> tensor<4x3xf32>
// CHECK-NEXT: %4 = "tape.to_device"(%1) {device = "cpu"}
// CHECK-NEXT: %5 = "tape.gather"(%3, %4) {axis = 0 : i64} : (tensor<4x3xf32>, tensor<2x3xi64>) -> tensor<2x3xf32>
// CHECK-NEXT: %6 = "tape.concat"(%5, %5) {dim = 0 : i64} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<4x3xf32>
// CHECK-NEXT: %7 = "tape.to_device"(%6) {device = "cuda:0"} : (tensor<4x3xf32>) -> tensor<4x3xf32, {device = "cuda:0"}>
// CHECK-NEXT: %8 = "tape.exp"(%7) : (tensor<4x3xf32, {device = "cuda:0"}>)
// CHECK-NEXT: return %8
func.func @indexing(%x: tensor<4x3xf32, {device = "cuda:0"}>, %i: tensor<2x3xi64, {device = "cuda:0"}>)
    -> tensor<4x3xf32, {device = "cuda:0"}> {
  %0 = "tape.neg"(%x) : (tensor<4x3xf32, {device = "cuda:0"}>) -> tensor<4x3xf32, {device = "cuda:0"}>
  %1 = "tape.gather"(%0, %i) {axis = 0} : (tensor<4x3xf32, {device = "cuda:0"}>, tensor<2x3xi64, {device = "cuda:0"}>) -> tensor<2x3xf32, {device = "cuda:0"}>
  %2 = "tape.concat"(%1, %1) {dim = 0} : (tensor<2x3xf32, {device = "cuda:0"}>, tensor<2x3xf32, {device = "cuda:0"}>) -> tensor<4x3xf32, {device = "cuda:0"}>
  %3 = "tape.exp"(%2) : (tensor<4x3xf32, {device = "cuda:0"}>) -> tensor<4x3xf32, {device = "cuda:0"}>
  return %3 : tensor<4x3xf32, {device = "cuda:0"}>
}

// Products of integers, too; what is on the CPU stays there.
// CHECK-LABEL: func.func @products(
// CHECK: "tape.matmul"({{.*}}) : (tensor<2x2xi64>, tensor<2x2xi64>) -> tensor<2x2xi64>
// CHECK-NEXT: "tape.gather"({{.*}}) {axis = 0 : i64} : (tensor<4xf32>, tensor<2xi64>) -> tensor<2xf32>
// CHECK-NEXT: "tape.to_device"({{.*}}) {device = "cuda:0"}
// CHECK-NEXT: return
func.func @products(%x: tensor<2x2xi64, {device = "cuda:0"}>, %y: tensor<4xf32>, %i: tensor<2xi64>)
    -> (tensor<2x2xi64, {device = "cuda:0"}>, tensor<2xf32>) {
  %0 = "tape.matmul"(%x, %x) : (tensor<2x2xi64, {device = "cuda:0"}>, tensor<2x2xi64, {device = "cuda:0"}>) -> tensor<2x2xi64, {device = "cuda:0"}>
  %1 = "tape.gather"(%y, %i) {axis = 0} : (tensor<4xf32>, tensor<2xi64>) -> tensor<2xf32>
  return %0, %1 : tensor<2x2xi64, {device = "cuda:0"}>, tensor<2xf32>
}
