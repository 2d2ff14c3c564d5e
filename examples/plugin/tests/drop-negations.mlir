// RUN: flambeau-opt %s --drop-negations --dead-code | filecheck %s
// RUN: flambeau-opt %s --to dead-code | filecheck %s
// RUN: flambeau-opt --list-passes | filecheck %s --check-prefix LIST
// LIST: drop-negations flambeau-example 0.1.0

// Two negations cancel in a product, also in the plug-in's own op.
// CHECK-LABEL: func.func @cancel(
// CHECK-NEXT: %[[P:.*]] = "tape.mul"(%0, %1)
// CHECK-NEXT: %[[F:.*]] = "tape.fma"(%0, %1, %[[P]])
// CHECK-NEXT: return %[[F]]
func.func @cancel(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.neg"(%y) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.mul"(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %3 = "tape.fma"(%0, %1, %2) : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %3 : tensor<4xf32>
}

// One negation stays.
// CHECK-LABEL: func.func @stays(
// CHECK-NEXT: %[[N:.*]] = "tape.neg"(%0)
// CHECK-NEXT: "tape.mul"(%[[N]], %1)
func.func @stays(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.mul"(%0, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}
