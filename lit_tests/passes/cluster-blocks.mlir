// RUN: flambeau-opt %s --cluster=blocks=true | filecheck %s
// RUN: flambeau-opt %s --cluster | filecheck %s --check-prefix=APART

// A product, a softmax of its rows and a product with that share their rows: one cluster, and no matrix of scores between
// clusters.
// CHECK: blocks cluster
// CHECK: func.func @attention(
// CHECK: "tape.matmul"
// CHECK: "tape.exp"
// CHECK: "tape.sum"
// CHECK: "tape.div"
// CHECK: "tape.matmul"
// CHECK: return
// APART: contraction cluster
// APART: loops cluster
// APART: contraction cluster
func.func @attention(%q: tensor<8x256x64xf32>, %k: tensor<8x64x256xf32>, %v: tensor<8x256x64xf32>) -> tensor<8x256x64xf32> {
  %0 = "tape.matmul"(%q, %k) : (tensor<8x256x64xf32>, tensor<8x64x256xf32>) -> tensor<8x256x256xf32>
  %1 = "tape.exp"(%0) : (tensor<8x256x256xf32>) -> tensor<8x256x256xf32>
  %2 = "tape.sum"(%1) {axes = [2]} : (tensor<8x256x256xf32>) -> tensor<8x256xf32>
  %3 = "tape.reshape"(%2) {shape = [8, 256, 1]} : (tensor<8x256xf32>) -> tensor<8x256x1xf32>
  %4 = "tape.broadcast"(%3) {shape = [8, 256, 256]} : (tensor<8x256x1xf32>) -> tensor<8x256x256xf32>
  %5 = "tape.div"(%1, %4) : (tensor<8x256x256xf32>, tensor<8x256x256xf32>) -> tensor<8x256x256xf32>
  %6 = "tape.matmul"(%5, %v) : (tensor<8x256x256xf32>, tensor<8x256x64xf32>) -> tensor<8x256x64xf32>
  return %6 : tensor<8x256x64xf32>
}

// -----

// The weights leave the program: they are in memory as a whole.
// CHECK: contraction cluster
// CHECK: loops cluster
// CHECK: contraction cluster
func.func @weights(%q: tensor<8x256x64xf32>, %k: tensor<8x64x256xf32>, %v: tensor<8x256x64xf32>) -> (tensor<8x256x64xf32>, tensor<8x256x256xf32>) {
  %0 = "tape.matmul"(%q, %k) : (tensor<8x256x64xf32>, tensor<8x64x256xf32>) -> tensor<8x256x256xf32>
  %1 = "tape.exp"(%0) : (tensor<8x256x256xf32>) -> tensor<8x256x256xf32>
  %2 = "tape.sum"(%1) {axes = [2]} : (tensor<8x256x256xf32>) -> tensor<8x256xf32>
  %3 = "tape.reshape"(%2) {shape = [8, 256, 1]} : (tensor<8x256xf32>) -> tensor<8x256x1xf32>
  %4 = "tape.broadcast"(%3) {shape = [8, 256, 256]} : (tensor<8x256x1xf32>) -> tensor<8x256x256xf32>
  %5 = "tape.div"(%1, %4) : (tensor<8x256x256xf32>, tensor<8x256x256xf32>) -> tensor<8x256x256xf32>
  %6 = "tape.matmul"(%5, %v) : (tensor<8x256x256xf32>, tensor<8x256x64xf32>) -> tensor<8x256x64xf32>
  return %6, %5 : tensor<8x256x64xf32>, tensor<8x256x256xf32>
}
