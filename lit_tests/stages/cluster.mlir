// RUN: flambeau-opt %S/Inputs/programs.mlir --to cluster | filecheck %s
// One cluster per program, but for the update: the learning rate is cast once, not once per element.

// CHECK: loops cluster
// CHECK-LABEL: func.func @chain(
// CHECK: "tape.sum"
// CHECK: loops cluster
// CHECK-LABEL: func.func @softmax(
// CHECK: "tape.div"
// CHECK: contraction cluster
// CHECK-LABEL: func.func @layer(
// CHECK: "tape.matmul"
// CHECK: "tape.add"
// CHECK: "tape.maximum"
// CHECK: contraction cluster
// CHECK-LABEL: func.func @gradient(
// CHECK: "tape.permute"
// CHECK: "tape.matmul"
// CHECK: loops cluster
// CHECK-LABEL: func.func @columns(
// CHECK: loops cluster
// CHECK-LABEL: func.func @lookup(
// CHECK: "tape.gather"
// CHECK: "tape.add"
// CHECK: loops cluster
// CHECK-LABEL: func.func @update_0(
// CHECK: "tape.cast"
// CHECK: loops cluster
// CHECK-LABEL: func.func @update_1(
// CHECK-NOT: "tape.cast"
// CHECK: "tape.mul"
// CHECK: "tape.sub"
// CHECK-NOT: cluster
