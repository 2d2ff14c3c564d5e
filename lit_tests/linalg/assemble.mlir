// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// Tensors padded, joined and regrouped.

module {
  // CHECK-LABEL: func.func @pad_concat_and_reshape(
  // CHECK: %v3 = tensor.pad %v0 low[1, 0] high[1, 2] {
  // CHECK: %v4 = tensor.concat dim(0) %v3, %v1 : (tensor<5x6xf32>, tensor<2x6xf32>) -> tensor<7x6xf32>
  // CHECK: %v5 = tensor.collapse_shape %v4
  // CHECK: %v6 = tensor.expand_shape %v5
  // CHECK: %v7 = tensor.expand_shape %v1
  // CHECK: %v8 = tensor.collapse_shape %v1
  func.func @pad_concat_and_reshape(%v0: tensor<3x4xf32>, %v1: tensor<2x6xf32>) -> (tensor<6x7xf32>, tensor<2x2x3xf32>, tensor<12xf32>) {
    %v2 = arith.constant 0x00000000 : f32
    %v3 = tensor.pad %v0 low[1, 0] high[1, 2] {
    ^bb0(%p0: index, %p1: index):
      tensor.yield %v2 : f32
    } : tensor<3x4xf32> to tensor<5x6xf32>
    %v4 = tensor.concat dim(0) %v3, %v1 : (tensor<5x6xf32>, tensor<2x6xf32>) -> tensor<7x6xf32>
    %v5 = tensor.collapse_shape %v4 [[0, 1]] : tensor<7x6xf32> into tensor<42xf32>
    %v6 = tensor.expand_shape %v5 [[0, 1]] output_shape [6, 7] : tensor<42xf32> into tensor<6x7xf32>
    %v7 = tensor.expand_shape %v1 [[0], [1, 2]] output_shape [2, 2, 3] : tensor<2x6xf32> into tensor<2x2x3xf32>
    %v8 = tensor.collapse_shape %v1 [[0, 1]] : tensor<2x6xf32> into tensor<12xf32>
    return %v6, %v7, %v8 : tensor<6x7xf32>, tensor<2x2x3xf32>, tensor<12xf32>
  }
}
