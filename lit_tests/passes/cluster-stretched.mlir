// RUN: flambeau-opt %s --cluster | filecheck %s

// A value that is stretched inside the reduced axes is read where it lies: the sum over all axes is one nest.
// CHECK: loops cluster
// CHECK: func.func @stretched_inside(
// CHECK: "tape.broadcast"
// CHECK: "tape.sub"
// CHECK: "tape.mul"
// CHECK: "tape.sum"
// CHECK: return
func.func @stretched_inside(%x: tensor<20x128xf32>, %t: tensor<20x1xf32>) -> tensor<f32> {
  %0 = "tape.broadcast"(%t) {shape = [20, 128]} : (tensor<20x1xf32>) -> tensor<20x128xf32>
  %1 = "tape.sub"(%x, %0) : (tensor<20x128xf32>, tensor<20x128xf32>) -> tensor<20x128xf32>
  %2 = "tape.mul"(%1, %1) : (tensor<20x128xf32>, tensor<20x128xf32>) -> tensor<20x128xf32>
  %3 = "tape.sum"(%2) {axes = [0, 1]} : (tensor<20x128xf32>) -> tensor<f32>
  return %3 : tensor<f32>
}
