// RUN: flambeau-opt %s --to reference-calls | filecheck %s
// RUN: flambeau-opt %s --to plan | filecheck %s --check-prefix=PLAN
// Nothing is called where all ops compile. A call that stands in a program is a step of its plan that may fail, before all
// that cannot be undone; it is told the shapes of its operands and results.

// CHECK-LABEL: func.func @around(
// CHECK-NEXT: %[[E:.*]] = "tape.exp"(%0)
// CHECK-NEXT: %[[C:.*]] = "control.reference_call"(%[[E]]) {op = "neg", attrs = []}
// CHECK-NEXT: %[[A:.*]] = "tape.add"(%[[C]], %0)
// PLAN: kernel 1: neg on the host
func.func @around(%x: tensor<4x3xf32>) -> tensor<4x3xf32> {
  %0 = "tape.exp"(%x) : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %1 = "control.reference_call"(%0) {op = "neg", attrs = []} : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %2 = "tape.add"(%1, %x) : (tensor<4x3xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>
  return %2 : tensor<4x3xf32>
}
