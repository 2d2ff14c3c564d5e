// RUN: flambeau-opt %S/Inputs/programs.mlir --to simplify | filecheck %s
// Multiplying by one is gone; the constant that nobody reads any more is left for dead-code.

// CHECK-LABEL: func.func @chain(
// CHECK: %[[A:.*]] = "tape.mul"(%0, %1)
// CHECK-NEXT: %[[B:.*]] = "tape.mul"(%1, %0)
// CHECK-NEXT: "tape.add"(%[[A]], %[[B]])
// CHECK-LABEL: func.func @softmax(
// CHECK-LABEL: func.func @update(
// CHECK: %[[LR:.*]] = "tape.cast"(%2)
