// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -
// RUN: flambeau-opt %t --to kernels --target x86-64-v3 | filecheck %s --check-prefix KERNEL
// Windows of a view are a map, which a fold reads in place; pooling is an op of its own, and so is what its gradient is made of.

module {
  // CHECK-LABEL: func.func @running(
  // CHECK: affine_map<(d0, d1) -> (d0 * 2 + d1)>
  // KERNEL: kernel 0 of @running: generic
  // KERNEL-NOT: of @running
  func.func @running(%v0: tensor<41xf32>) -> (tensor<20x3xf32>) {
    %e1 = tensor.empty() : tensor<20x3xf32>
    %v1 = linalg.generic {
        indexing_maps = [affine_map<(d0, d1) -> (d0 * 2 + d1)>, affine_map<(d0, d1) -> (d0, d1)>],
        iterator_types = ["parallel", "parallel"]
      } ins(%v0 : tensor<41xf32>) outs(%e1 : tensor<20x3xf32>) {
    ^bb0(%a0: f32, %a1: f32):
      %b0 = arith.negf %a0 : f32
      linalg.yield %b0 : f32
    } -> tensor<20x3xf32>
    return %v1 : tensor<20x3xf32>
  }
  // CHECK-LABEL: func.func @pooled(
  // CHECK: "flambeau.window"(%v0) {axis = 1 : i64, dilation = [1 : i64], how = "max", low = [1 : i64], size = [3 : i64], step = [1 : i64]}
  // KERNEL: kernel 0 of @pooled: pool_max
  // KERNEL: arith.cmpf ogt, {{.*}} : vector<8xf32>
  func.func @pooled(%v0: tensor<4x30xf32>) -> (tensor<4x30xf32>) {
    %v1 = "flambeau.window"(%v0) {axis = 1 : i64, dilation = [1 : i64], how = "max", low = [1 : i64], size = [3 : i64], step = [1 : i64]} : (tensor<4x30xf32>) -> tensor<4x30xf32> loc("user.py":3:0)
    return %v1 : tensor<4x30xf32>
  }
}
