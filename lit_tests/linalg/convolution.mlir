// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// RUN: flambeau-opt %t --to kernels --target x86-64-v3 | filecheck %s --check-prefix KERNEL
// A convolution with what is computed of it, and the gradients of a strided one.

module {
  // CHECK-LABEL: func.func @forward(
  // CHECK: %v2 = "flambeau.convolution"(%v0, %v1) {dilation = [1 : i64, 1 : i64], groups = 1 : i64, padding = [1 : i64, 1 : i64], stride = [1 : i64, 1 : i64]}
  // KERNEL: kernel 0 of @forward: convolution f32
  // KERNEL: math.fma {{.*}} : vector<8xf32>
  func.func @forward(%v0: tensor<2x3x8x9xf32>, %v1: tensor<4x3x3x3xf32>) -> (tensor<2x4x8x9xf32>) {
    %v2 = "flambeau.convolution"(%v0, %v1) {dilation = [1 : i64, 1 : i64], groups = 1 : i64, padding = [1 : i64, 1 : i64], stride = [1 : i64, 1 : i64]} : (tensor<2x3x8x9xf32>, tensor<4x3x3x3xf32>) -> tensor<2x4x8x9xf32> loc("user.py":3:0)
    return %v2 : tensor<2x4x8x9xf32>
  }
  // CHECK-LABEL: func.func @input(
  // CHECK: "flambeau.convolution_input"(%v0, %v1)
  // KERNEL: kernel 0 of @input: convolution by input f32
  func.func @input(%v0: tensor<2x4x4x5xf32>, %v1: tensor<4x3x3x3xf32>) -> (tensor<2x3x8x9xf32>) {
    %v2 = "flambeau.convolution_input"(%v0, %v1) {dilation = [1 : i64, 1 : i64], groups = 1 : i64, padding = [1 : i64, 1 : i64], stride = [2 : i64, 2 : i64]} : (tensor<2x4x4x5xf32>, tensor<4x3x3x3xf32>) -> tensor<2x3x8x9xf32>
    return %v2 : tensor<2x3x8x9xf32>
  }
  // CHECK-LABEL: func.func @weight(
  // CHECK: "flambeau.convolution_weight"(%v0, %v1)
  // KERNEL: kernel 0 of @weight: convolution by weight f32
  func.func @weight(%v0: tensor<2x3x8x9xf32>, %v1: tensor<2x4x4x5xf32>) -> (tensor<4x3x3x3xf32>) {
    %v2 = "flambeau.convolution_weight"(%v0, %v1) {dilation = [1 : i64, 1 : i64], groups = 1 : i64, padding = [1 : i64, 1 : i64], stride = [2 : i64, 2 : i64]} : (tensor<2x3x8x9xf32>, tensor<2x4x4x5xf32>) -> tensor<4x3x3x3xf32>
    return %v2 : tensor<4x3x3x3xf32>
  }
}
