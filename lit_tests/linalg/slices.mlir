// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// Windows at starts known when the group runs; they are moved to where the window fits.

module {
  // CHECK-LABEL: func.func @slices(
  // CHECK: %s3_0 = "flambeau.start"(%v2) {limit = "3"} : (tensor<i64>) -> index
  // CHECK: %v3 = tensor.extract_slice %v0[%s3_0, 1] [5, 2] [3, 2] : tensor<16x4xf32> to tensor<5x2xf32>
  // CHECK: %s4_0 = "flambeau.start"(%v2) {limit = "13"} : (tensor<i64>) -> index
  // CHECK: %v4 = tensor.insert_slice %v1 into %v0[%s4_0, 0] [3, 4] [1, 1] : tensor<3x4xf32> into tensor<16x4xf32>
  func.func @slices(%v0: tensor<16x4xf32>, %v1: tensor<3x4xf32>, %v2: tensor<i64>) -> (tensor<5x2xf32>, tensor<16x4xf32>) {
    %s3_0 = "flambeau.start"(%v2) {limit = "3"} : (tensor<i64>) -> index
    %v3 = tensor.extract_slice %v0[%s3_0, 1] [5, 2] [3, 2] : tensor<16x4xf32> to tensor<5x2xf32>
    %s4_0 = "flambeau.start"(%v2) {limit = "13"} : (tensor<i64>) -> index
    %v4 = tensor.insert_slice %v1 into %v0[%s4_0, 0] [3, 4] [1, 1] : tensor<3x4xf32> into tensor<16x4xf32>
    return %v3, %v4 : tensor<5x2xf32>, tensor<16x4xf32>
  }
}
