// RUN: flambeau-opt %S/Inputs/programs.mlir --to tape | filecheck %s
// The program as it was recorded: every op, numbered in order.

// CHECK-LABEL: func.func @chain(
// CHECK-SAME: %0: tensor<1000xf32>, %1: tensor<1000xf32>) -> (tensor<f32>)
// CHECK-NEXT: %2 = "tape.constant"
// CHECK-NEXT: %3 = "tape.reshape"(%2)
// CHECK-NEXT: %4 = "tape.broadcast"(%3)
// CHECK-NEXT: %5 = "tape.mul"(%0, %4)
// CHECK-NEXT: %6 = "tape.mul"(%5, %1)
// CHECK-NEXT: %7 = "tape.mul"(%1, %0)
// CHECK-NEXT: %8 = "tape.add"(%6, %7)
// CHECK-NEXT: %9 = "tape.sum"(%8)
// CHECK-NEXT: %10 = "tape.exp"(%8)
// CHECK-NEXT: return %9
// CHECK-LABEL: func.func @softmax(
// CHECK-LABEL: func.func @layer(
// CHECK-LABEL: func.func @gradient(
// CHECK-LABEL: func.func @columns(
// CHECK-LABEL: func.func @lookup(
// CHECK-LABEL: func.func @update(
// CHECK-SAME: attributes {tape.updates = {{\[\[}}0 : i64, 0 : i64]]}
