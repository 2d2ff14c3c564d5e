// RUN: flambeau-opt %S/Inputs/programs.mlir --to cse | filecheck %s
// x * y and y * x are one product.

// CHECK-LABEL: func.func @chain(
// CHECK: %[[P:.*]] = "tape.mul"(%0, %1)
// CHECK-NEXT: "tape.add"(%[[P]], %[[P]])
// CHECK: "tape.exp"
// CHECK-LABEL: func.func @softmax(
