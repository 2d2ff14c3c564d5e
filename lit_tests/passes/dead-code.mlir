// RUN: flambeau-opt %s --dead-code | filecheck %s

// What no output depends on goes, with all that only it read; inputs stay.
// CHECK-LABEL: func.func @unread(
// CHECK-SAME: %0: tensor<4xf32>, %1: tensor<4xf32>)
// CHECK-NEXT: %[[E:.*]] = "tape.exp"(%0)
// CHECK-NEXT: return %[[E]]
func.func @unread(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.log"(%y) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.add"(%1, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// What may fail stays, with all it reads: eager execution would raise here.
// CHECK-LABEL: func.func @fallible(
// CHECK-NEXT: %[[N:.*]] = "tape.neg"(%0)
// CHECK-NEXT: "tape.int_div"(%0, %[[N]])
// CHECK-NEXT: "tape.gather"(%0, %1)
// CHECK-NEXT: return %0
func.func @fallible(%x: tensor<4xi32>, %i: tensor<4xi64>) -> tensor<4xi32> {
  %0 = "tape.neg"(%x) : (tensor<4xi32>) -> tensor<4xi32>
  %1 = "tape.int_div"(%x, %0) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  %2 = "tape.gather"(%x, %i) {axis = 0 : i64} : (tensor<4xi32>, tensor<4xi64>) -> tensor<4xi32>
  %3 = "tape.add"(%2, %x) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  return %x : tensor<4xi32>
}

// A program without outputs computes nothing.
// CHECK-LABEL: func.func @no_outputs(
// CHECK-NEXT: return
func.func @no_outputs(%x: tensor<4xf32>) {
  %0 = "tape.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// Updates still name the same output and input.
// CHECK-LABEL: func.func @updates(
// CHECK-SAME: attributes {tape.updates = {{\[\[}}1 : i64, 0 : i64]]}
// CHECK-NEXT: %[[S:.*]] = "tape.sub"(%0, %1)
// CHECK-NEXT: return %1, %[[S]]
func.func @updates(%w: tensor<4xf32>, %g: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) attributes {tape.updates = [[1, 0]]} {
  %0 = "tape.exp"(%w) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.sub"(%w, %g) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %g, %1 : tensor<4xf32>, tensor<4xf32>
}
