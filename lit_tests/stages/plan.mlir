// RUN: flambeau-opt %s --to plan | filecheck %s

// The step that may fail comes first; the unread sum of squares is not computed.
// CHECK: plan.kernels = 2
// CHECK: "plan.output"{{.*}}mode = "new"
// CHECK: "plan.step"{{.*}}fallible = true
// CHECK: "plan.step"{{.*}}fallible = false
// CHECK-NOT: "plan.step"
func.func @main(%x: tensor<4xf32>, %i: tensor<4xi32>, %j: tensor<4xi32>) -> (tensor<4xf32>, tensor<4xi32>) {
  %0 = "tape.mul"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.sum"(%0) {axes = [0 : i64]} : (tensor<4xf32>) -> tensor<f32>
  %2 = "tape.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %3 = "tape.int_div"(%i, %j) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  return %2, %3 : tensor<4xf32>, tensor<4xi32>
}
