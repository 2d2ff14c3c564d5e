// RUN: flambeau-opt %s --reference-calls=ops=exp+sum | filecheck %s
// RUN: flambeau-opt %s --reference-calls=ops=exp+sum --reference-calls=ops=exp+sum | filecheck %s
// RUN: flambeau-opt %s --reference-calls | filecheck %s --check-prefix=NONE

// The ops that are named become calls of their references; all others stay.
// CHECK-LABEL: func.func @rows(
// CHECK-NEXT: %[[E:.*]] = "control.reference_call"(%0) {op = "exp", attrs = []}
// CHECK-NEXT: %[[N:.*]] = "tape.neg"(%[[E]])
// CHECK-NEXT: %[[S:.*]] = "control.reference_call"(%[[N]]) {op = "sum", attrs = [[1 : i64]]}
// CHECK-NEXT: return %[[S]]
// NONE-NOT: reference_call
func.func @rows(%x: tensor<4x3xf32>) -> tensor<4xf32> {
  %0 = "tape.exp"(%x) : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %1 = "tape.neg"(%0) : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %2 = "tape.sum"(%1) {axes = [1]} : (tensor<4x3xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}
