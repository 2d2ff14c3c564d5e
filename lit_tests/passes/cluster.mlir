// RUN: flambeau-opt %s --cluster | filecheck %s

// Elementwise ops and the reduction that ends them are one loop nest.
// CHECK: loops cluster
// CHECK: func.func @chain(
// CHECK: "tape.mul"
// CHECK: "tape.exp"
// CHECK: "tape.sum"
// CHECK: return
func.func @chain(%x: tensor<1000xf32>, %y: tensor<1000xf32>) -> tensor<f32> {
  %0 = "tape.mul"(%x, %y) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %1 = "tape.exp"(%0) : (tensor<1000xf32>) -> tensor<1000xf32>
  %2 = "tape.sum"(%1) {axes = [0]} : (tensor<1000xf32>) -> tensor<f32>
  return %2 : tensor<f32>
}

// A softmax reads its row three times while it is in cache: one cluster.
// CHECK: loops cluster
// CHECK: func.func @softmax(
// CHECK: "tape.max"
// CHECK: "tape.exp"
// CHECK: "tape.sum"
// CHECK: "tape.div"
// CHECK: return
func.func @softmax(%x: tensor<32x100xf32>) -> tensor<32x100xf32> {
  %0 = "tape.max"(%x) {axes = [1]} : (tensor<32x100xf32>) -> tensor<32xf32>
  %1 = "tape.reshape"(%0) {shape = [32, 1]} : (tensor<32xf32>) -> tensor<32x1xf32>
  %2 = "tape.broadcast"(%1) {shape = [32, 100]} : (tensor<32x1xf32>) -> tensor<32x100xf32>
  %3 = "tape.sub"(%x, %2) : (tensor<32x100xf32>, tensor<32x100xf32>) -> tensor<32x100xf32>
  %4 = "tape.exp"(%3) : (tensor<32x100xf32>) -> tensor<32x100xf32>
  %5 = "tape.sum"(%4) {axes = [1]} : (tensor<32x100xf32>) -> tensor<32xf32>
  %6 = "tape.reshape"(%5) {shape = [32, 1]} : (tensor<32xf32>) -> tensor<32x1xf32>
  %7 = "tape.broadcast"(%6) {shape = [32, 100]} : (tensor<32x1xf32>) -> tensor<32x100xf32>
  %8 = "tape.div"(%4, %7) : (tensor<32x100xf32>, tensor<32x100xf32>) -> tensor<32x100xf32>
  return %8 : tensor<32x100xf32>
}

// The sums of columns are known only after the last row: what divides by them comes after, in a cluster of its own.
// CHECK: loops cluster
// CHECK: func.func @columns_0(
// CHECK: "tape.sum"
// CHECK: return
// CHECK: loops cluster
// CHECK: func.func @columns_1(
// CHECK: "tape.broadcast"
// CHECK: "tape.div"
func.func @columns(%x: tensor<300x40xf32>) -> tensor<300x40xf32> {
  %0 = "tape.sum"(%x) {axes = [0]} : (tensor<300x40xf32>) -> tensor<40xf32>
  %1 = "tape.reshape"(%0) {shape = [1, 40]} : (tensor<40xf32>) -> tensor<1x40xf32>
  %2 = "tape.broadcast"(%1) {shape = [300, 40]} : (tensor<1x40xf32>) -> tensor<300x40xf32>
  %3 = "tape.div"(%x, %2) : (tensor<300x40xf32>, tensor<300x40xf32>) -> tensor<300x40xf32>
  return %3 : tensor<300x40xf32>
}

// A layer: the product with its bias and its relu; the second product begins a cluster.
// CHECK: contraction cluster
// CHECK: func.func @layers_0(
// CHECK: "tape.matmul"
// CHECK: "tape.add"
// CHECK: "tape.maximum"
// CHECK: return
// CHECK: contraction cluster
// CHECK: func.func @layers_1(
// CHECK-NEXT: "tape.matmul"
// CHECK-NEXT: return
func.func @layers(%x: tensor<64x32xf32>, %w: tensor<32x48xf32>, %b: tensor<48xf32>, %v: tensor<48x10xf32>) -> tensor<64x10xf32> {
  %0 = "tape.matmul"(%x, %w) : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
  %1 = "tape.reshape"(%b) {shape = [1, 48]} : (tensor<48xf32>) -> tensor<1x48xf32>
  %2 = "tape.broadcast"(%1) {shape = [64, 48]} : (tensor<1x48xf32>) -> tensor<64x48xf32>
  %3 = "tape.add"(%0, %2) : (tensor<64x48xf32>, tensor<64x48xf32>) -> tensor<64x48xf32>
  %c = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %4 = "tape.reshape"(%c) {shape = [1, 1]} : (tensor<f32>) -> tensor<1x1xf32>
  %5 = "tape.broadcast"(%4) {shape = [64, 48]} : (tensor<1x1xf32>) -> tensor<64x48xf32>
  %6 = "tape.maximum"(%3, %5) : (tensor<64x48xf32>, tensor<64x48xf32>) -> tensor<64x48xf32>
  %7 = "tape.matmul"(%6, %v) : (tensor<64x48xf32>, tensor<48x10xf32>) -> tensor<64x10xf32>
  return %7 : tensor<64x10xf32>
}

// Two ends of a path through a product cannot meet in one cluster: it would need its own result.
// CHECK: loops cluster
// CHECK: func.func @around_a_product_0(
// CHECK-NEXT: %[[E:.*]] = "tape.exp"
// CHECK-NEXT: return %[[E]]
// CHECK: contraction cluster
// CHECK: func.func @around_a_product_1(
// CHECK: "tape.matmul"
func.func @around_a_product(%x: tensor<64x64xf32>, %w: tensor<64x64xf32>) -> tensor<64x64xf32> {
  %0 = "tape.exp"(%x) : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %1 = "tape.matmul"(%0, %w) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %2 = "tape.add"(%0, %1) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %2 : tensor<64x64xf32>
}

// A view is read by its reader, not computed.
// CHECK: loops cluster
// CHECK: func.func @through_a_view(
// CHECK: "tape.permute"
// CHECK: "tape.add"
func.func @through_a_view(%x: tensor<20x30xf32>, %y: tensor<30x20xf32>) -> tensor<30x20xf32> {
  %0 = "tape.permute"(%x) {perm = [1, 0]} : (tensor<20x30xf32>) -> tensor<30x20xf32>
  %1 = "tape.add"(%0, %y) : (tensor<30x20xf32>, tensor<30x20xf32>) -> tensor<30x20xf32>
  return %1 : tensor<30x20xf32>
}

// Updates of several parameters of one size are one cluster; nothing joins values of different sizes.
// CHECK: loops cluster
// CHECK: func.func @sizes_0(
// CHECK: "tape.sub"
// CHECK: return
// CHECK: loops cluster
// CHECK: func.func @sizes_1(
// CHECK: "tape.sub"
// CHECK: return
// CHECK-NOT: cluster
func.func @sizes(%x: tensor<64xf32>, %y: tensor<64xf32>, %u: tensor<70xf32>, %v: tensor<70xf32>) -> (tensor<64xf32>, tensor<70xf32>) {
  %0 = "tape.sub"(%x, %y) : (tensor<64xf32>, tensor<64xf32>) -> tensor<64xf32>
  %1 = "tape.sub"(%u, %v) : (tensor<70xf32>, tensor<70xf32>) -> tensor<70xf32>
  return %0, %1 : tensor<64xf32>, tensor<70xf32>
}
