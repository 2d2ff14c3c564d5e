// RUN: flambeau-opt %S/Inputs/programs.mlir --to linalg > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t > %t.read
// RUN: diff %t %t.read
// RUN: flambeau-opt %t --to kernels --target x86-64-v3 > %t.kernels
// RUN: flambeau-opt %S/Inputs/programs.mlir --to kernels --target x86-64-v3 > %t.wanted
// RUN: grep -v "^// kernel" %t.kernels > %t.k
// RUN: grep -v "^// kernel" %t.wanted > %t.w
// RUN: diff %t.k %t.w
// One function per cluster. Read again it is the same text, and what is made of it are the same kernels.

// CHECK-LABEL: func.func @chain(
// CHECK: arith.mulf
// CHECK: iterator_types = ["reduction"
// CHECK: "flambeau.fold"({{.*}}order = "lanes"
// CHECK-LABEL: func.func @softmax(
// CHECK: arith.maximumf
// CHECK: flambeau.name = "exp"
// CHECK: arith.divf
// CHECK-LABEL: func.func @layer(
// CHECK: math.fma
// CHECK: "flambeau.fold"({{.*}}order = "blocks"
// CHECK-LABEL: func.func @gradient(
// CHECK-LABEL: func.func @columns(
// CHECK: "flambeau.fold"({{.*}}order = "chains"
// CHECK-LABEL: func.func @lookup(
// CHECK: "flambeau.check"
// CHECK: tensor.extract
// CHECK-LABEL: func.func @update_0(
// CHECK-LABEL: func.func @update_1(
