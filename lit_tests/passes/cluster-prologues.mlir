// RUN: flambeau-opt %s --cluster | filecheck %s

// What only a product reads is computed where the product packs its operand: here a relu on the left, a masked gradient
// on the right, and the number that all elements share.
// CHECK: contraction cluster
// CHECK: func.func @operands(
// CHECK: "tape.maximum"
// CHECK: "tape.gt"
// CHECK: "tape.select"
// CHECK: "tape.matmul"
// CHECK: return
func.func @operands(%x: tensor<64x32xf32>, %dy: tensor<32x48xf32>, %h: tensor<32x48xf32>) -> tensor<64x48xf32> {
  %c = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %0 = "tape.reshape"(%c) {shape = [1, 1]} : (tensor<f32>) -> tensor<1x1xf32>
  %1 = "tape.broadcast"(%0) {shape = [64, 32]} : (tensor<1x1xf32>) -> tensor<64x32xf32>
  %2 = "tape.maximum"(%x, %1) : (tensor<64x32xf32>, tensor<64x32xf32>) -> tensor<64x32xf32>
  %3 = "tape.broadcast"(%0) {shape = [32, 48]} : (tensor<1x1xf32>) -> tensor<32x48xf32>
  %4 = "tape.gt"(%h, %3) : (tensor<32x48xf32>, tensor<32x48xf32>) -> tensor<32x48xi1>
  %5 = "tape.select"(%4, %dy, %3) : (tensor<32x48xi1>, tensor<32x48xf32>, tensor<32x48xf32>) -> tensor<32x48xf32>
  %6 = "tape.matmul"(%2, %5) : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
  return %6 : tensor<64x48xf32>
}

// Views lie between the op and the product: a scaled key, transposed.
// CHECK: contraction cluster
// CHECK: func.func @keys(
// CHECK: "tape.mul"
// CHECK: "tape.permute"
// CHECK: "tape.matmul"
// CHECK: return
func.func @keys(%q: tensor<4x20x16xf32>, %k: tensor<4x30x16xf32>, %s: tensor<4x30x16xf32>) -> tensor<4x20x30xf32> {
  %0 = "tape.mul"(%k, %s) : (tensor<4x30x16xf32>, tensor<4x30x16xf32>) -> tensor<4x30x16xf32>
  %1 = "tape.permute"(%0) {perm = [0, 2, 1]} : (tensor<4x30x16xf32>) -> tensor<4x16x30xf32>
  %2 = "tape.matmul"(%q, %1) : (tensor<4x20x16xf32>, tensor<4x16x30xf32>) -> tensor<4x20x30xf32>
  return %2 : tensor<4x20x30xf32>
}

// The rows' sums stay a nest; dividing by them moves into the product.
// CHECK: loops cluster
// CHECK: func.func @rows_0(
// CHECK-NEXT: "tape.sum"
// CHECK-NEXT: return
// CHECK: contraction cluster
// CHECK: func.func @rows_1(
// CHECK: "tape.div"
// CHECK: "tape.matmul"
// CHECK: return
func.func @rows(%x: tensor<64x32xf32>, %w: tensor<32x48xf32>) -> tensor<64x48xf32> {
  %0 = "tape.sum"(%x) {axes = [1]} : (tensor<64x32xf32>) -> tensor<64xf32>
  %1 = "tape.reshape"(%0) {shape = [64, 1]} : (tensor<64xf32>) -> tensor<64x1xf32>
  %2 = "tape.broadcast"(%1) {shape = [64, 32]} : (tensor<64x1xf32>) -> tensor<64x32xf32>
  %3 = "tape.div"(%x, %2) : (tensor<64x32xf32>, tensor<64x32xf32>) -> tensor<64x32xf32>
  %4 = "tape.matmul"(%3, %w) : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
  return %4 : tensor<64x48xf32>
}

// Two products read the same value: it is computed once, and stored.
// CHECK: loops cluster
// CHECK: func.func @shared_0(
// CHECK-NEXT: "tape.exp"
// CHECK-NEXT: return
// CHECK: contraction cluster
// CHECK: contraction cluster
func.func @shared(%x: tensor<64x64xf32>, %w: tensor<64x64xf32>) -> (tensor<64x64xf32>, tensor<64x64xf32>) {
  %0 = "tape.exp"(%x) : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %1 = "tape.matmul"(%0, %w) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %2 = "tape.matmul"(%w, %0) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %1, %2 : tensor<64x64xf32>, tensor<64x64xf32>
}

// Many columns share each element on the left: it would be computed for each block of them, or wait outside of the
// arithmetic. Reading it in place is as fast.
// CHECK: loops cluster
// CHECK: func.func @wide_0(
// CHECK-NEXT: "tape.exp"
// CHECK-NEXT: return
// CHECK: contraction cluster
func.func @wide(%x: tensor<64x64xf32>, %w: tensor<64x1000xf32>) -> tensor<64x1000xf32> {
  %0 = "tape.exp"(%x) : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %1 = "tape.matmul"(%0, %w) : (tensor<64x64xf32>, tensor<64x1000xf32>) -> tensor<64x1000xf32>
  return %1 : tensor<64x1000xf32>
}

// A matrix times a vector reads every element of the matrix once: it may be as expensive as it likes. The vector is read
// again for every row, and stays stored.
// CHECK: loops cluster
// CHECK: func.func @vector_0(
// CHECK-NEXT: "tape.exp"
// CHECK-NEXT: return
// CHECK: contraction cluster
// CHECK: func.func @vector_1(
// CHECK-NEXT: "tape.tanh"
// CHECK-NEXT: "tape.matmul"
// CHECK-NEXT: return
func.func @vector(%x: tensor<100x64xf32>, %v: tensor<64x1xf32>) -> tensor<100x1xf32> {
  %0 = "tape.exp"(%v) : (tensor<64x1xf32>) -> tensor<64x1xf32>
  %1 = "tape.tanh"(%x) : (tensor<100x64xf32>) -> tensor<100x64xf32>
  %2 = "tape.matmul"(%1, %0) : (tensor<100x64xf32>, tensor<64x1xf32>) -> tensor<100x1xf32>
  return %2 : tensor<100x1xf32>
}
