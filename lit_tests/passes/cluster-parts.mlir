// RUN: flambeau-opt %s --cluster | filecheck %s

// What only a concat reads is computed where it ends up; views of what is stored are read by the copy. Here the rotated
// halves of rotary embeddings: nothing else is stored.
// CHECK: loops cluster
// CHECK: func.func @rotated(
// CHECK: "tape.slice"
// CHECK: "tape.neg"
// CHECK: "tape.concat"
// CHECK: return
func.func @rotated(%x: tensor<20x64xf32>) -> tensor<20x64xf32> {
  %0 = "tape.slice"(%x) {starts = [0, 0], sizes = [20, 32], steps = [1, 1]} : (tensor<20x64xf32>) -> tensor<20x32xf32>
  %1 = "tape.slice"(%x) {starts = [0, 32], sizes = [20, 32], steps = [1, 1]} : (tensor<20x64xf32>) -> tensor<20x32xf32>
  %2 = "tape.neg"(%1) : (tensor<20x32xf32>) -> tensor<20x32xf32>
  %3 = "tape.concat"(%2, %0) {dim = 1} : (tensor<20x32xf32>, tensor<20x32xf32>) -> tensor<20x64xf32>
  return %3 : tensor<20x64xf32>
}

// A part that lies in one piece is stored there by whatever computes it, so it need not move.
// CHECK: loops cluster
// CHECK: func.func @rows_0(
// CHECK-NEXT: "tape.exp"
// CHECK: loops cluster
// CHECK: func.func @rows_1(
// CHECK-NEXT: "tape.concat"
func.func @rows(%x: tensor<20x64xf32>, %y: tensor<10x64xf32>) -> tensor<30x64xf32> {
  %0 = "tape.exp"(%x) : (tensor<20x64xf32>) -> tensor<20x64xf32>
  %1 = "tape.concat"(%0, %y) {dim = 0} : (tensor<20x64xf32>, tensor<10x64xf32>) -> tensor<30x64xf32>
  return %1 : tensor<30x64xf32>
}

// What others read is computed once, with its reduction, and copied.
// CHECK: loops cluster
// CHECK: func.func @shared_0(
// CHECK-NEXT: "tape.exp"
// CHECK-NEXT: "tape.sum"
// CHECK: loops cluster
// CHECK: func.func @shared_1(
// CHECK-NEXT: "tape.concat"
func.func @shared(%x: tensor<20x64xf32>, %y: tensor<20x8xf32>) -> (tensor<20x72xf32>, tensor<20xf32>) {
  %0 = "tape.exp"(%x) : (tensor<20x64xf32>) -> tensor<20x64xf32>
  %1 = "tape.sum"(%0) {axes = [1]} : (tensor<20x64xf32>) -> tensor<20xf32>
  %2 = "tape.concat"(%0, %y) {dim = 1} : (tensor<20x64xf32>, tensor<20x8xf32>) -> tensor<20x72xf32>
  return %2, %1 : tensor<20x72xf32>, tensor<20xf32>
}
