// RUN: flambeau-opt %S/Inputs/programs.mlir --to dead-code > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %S/Inputs/programs.mlir --simplify --transpose-products --simplify --cse --dead-code | diff %t -
// RUN: flambeau-opt %t --from dead-code | diff %t -
// RUN: flambeau-opt %t --to dead-code | diff %t -
// What is left is computed for an output. The stages are the passes, and going through them twice changes nothing.

// CHECK-LABEL: func.func @chain(
// CHECK-NEXT: %[[P:.*]] = "tape.mul"(%0, %1)
// CHECK-NEXT: %[[A:.*]] = "tape.add"(%[[P]], %[[P]])
// CHECK-NEXT: %[[S:.*]] = "tape.sum"(%[[A]])
// CHECK-NEXT: return %[[S]]
// CHECK-LABEL: func.func @lookup(
// CHECK-NEXT: "tape.gather"
// CHECK-LABEL: func.func @update(
// CHECK-SAME: attributes {tape.updates = {{\[\[}}0 : i64, 0 : i64]]}
