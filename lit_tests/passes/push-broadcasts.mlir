// RUN: flambeau-opt %s --push-broadcasts --dead-code | filecheck %s

// A small op whose stretched result is summed moves behind the stretch: the sum's nest computes it.
// CHECK: func.func @small(
// CHECK: %[[R:.*]] = "tape.reshape"(%{{.*}}) {shape = [1 : i64, 50 : i64]}
// CHECK: %[[B:.*]] = "tape.broadcast"(%[[R]])
// CHECK: "tape.exp"(%[[B]]) : (tensor<6x50xf32>) -> tensor<6x50xf32>
// CHECK: "tape.mul"
// CHECK: "tape.sum"
func.func @small(%x: tensor<6x50xf32>, %v: tensor<50xf32>) -> tensor<6xf32> {
  %0 = "tape.exp"(%v) : (tensor<50xf32>) -> tensor<50xf32>
  %1 = "tape.reshape"(%0) {shape = [1, 50]} : (tensor<50xf32>) -> tensor<1x50xf32>
  %2 = "tape.broadcast"(%1) {shape = [6, 50]} : (tensor<1x50xf32>) -> tensor<6x50xf32>
  %3 = "tape.mul"(%x, %2) : (tensor<6x50xf32>, tensor<6x50xf32>) -> tensor<6x50xf32>
  %4 = "tape.sum"(%3) {axes = [1]} : (tensor<6x50xf32>) -> tensor<6xf32>
  return %4 : tensor<6xf32>
}

// Many rows share it: computing it for each would cost more than storing it.
// CHECK: func.func @shared(
// CHECK: "tape.exp"(%{{.*}}) : (tensor<500xf32>) -> tensor<500xf32>
func.func @shared(%x: tensor<600x500xf32>, %v: tensor<500xf32>) -> tensor<600xf32> {
  %0 = "tape.exp"(%v) : (tensor<500xf32>) -> tensor<500xf32>
  %1 = "tape.reshape"(%0) {shape = [1, 500]} : (tensor<500xf32>) -> tensor<1x500xf32>
  %2 = "tape.broadcast"(%1) {shape = [600, 500]} : (tensor<1x500xf32>) -> tensor<600x500xf32>
  %3 = "tape.mul"(%x, %2) : (tensor<600x500xf32>, tensor<600x500xf32>) -> tensor<600x500xf32>
  %4 = "tape.sum"(%3) {axes = [1]} : (tensor<600x500xf32>) -> tensor<600xf32>
  return %4 : tensor<600xf32>
}

// Nothing is reduced: the stretched value may be the operand of a product, which reads the small one as it is.
// CHECK: func.func @kept(
// CHECK: "tape.exp"(%{{.*}}) : (tensor<50xf32>) -> tensor<50xf32>
func.func @kept(%x: tensor<6x50xf32>, %v: tensor<50xf32>) -> tensor<6x50xf32> {
  %0 = "tape.exp"(%v) : (tensor<50xf32>) -> tensor<50xf32>
  %1 = "tape.reshape"(%0) {shape = [1, 50]} : (tensor<50xf32>) -> tensor<1x50xf32>
  %2 = "tape.broadcast"(%1) {shape = [6, 50]} : (tensor<1x50xf32>) -> tensor<6x50xf32>
  %3 = "tape.mul"(%x, %2) : (tensor<6x50xf32>, tensor<6x50xf32>) -> tensor<6x50xf32>
  return %3 : tensor<6x50xf32>
}
