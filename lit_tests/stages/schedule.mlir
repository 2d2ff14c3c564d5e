// RUN: flambeau-opt %S/Inputs/programs.mlir --to schedule --target x86-64-v3 > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t --target x86-64-v3 > %t.read
// RUN: diff %t %t.read
// RUN: flambeau-opt %t --to kernels --target x86-64-v3 > %t.kernels
// RUN: flambeau-opt %S/Inputs/programs.mlir --to kernels --target x86-64-v3 > %t.wanted
// RUN: grep -v "^// kernel" %t.kernels > %t.k
// RUN: grep -v "^// kernel" %t.wanted > %t.w
// RUN: diff %t.k %t.w
// RUN: sed "s/rows = 4, vectors = 3/rows = 2, vectors = 3/" %t > %t.edited
// RUN: flambeau-opt %t.edited --to kernels --target x86-64-v3 > %t.other
// RUN: not diff -q %t.kernels %t.other
// RUN: sed "s/rows = 4, vectors = 3/rows = 32, vectors = 3/" %t > %t.wrong
// RUN: not flambeau-opt %t.wrong --to kernels --target x86-64-v3 2>&1 | filecheck %s --check-prefix WRONG
// Every group says how its nests are looped. Read again it is the same text, and what is made of it are the same kernels; one that
// was edited gives others, and one that does not fit is refused with its nest.

// CHECK-LABEL: func.func @chain(
// CHECK-SAME: attributes {flambeau.schedules = [
// CHECK-LABEL: func.func @softmax(
// CHECK: "rows(lanes = 8, unroll = {{[0-9]+}}, interleave = 8, recompute = 6, resident = {{true|false}}, chunks = false, streamed = [], grain =
// CHECK-LABEL: func.func @layer(
// CHECK: "product(lanes = 8, rows = 4, vectors = 3, steps = 2, m_block =
// CHECK-LABEL: func.func @columns(
// CHECK: "columns(lanes = 8, unroll =

// WRONG: product(lanes = 8, rows = 32, vectors = 3
// WRONG-SAME: vector registers
// WRONG: The nest{{.*}}product nest of
