// RUN: flambeau-opt %S/Inputs/programs.mlir --to llvm --target x86-64-v3 > %t
// RUN: filecheck %s < %t
// RUN: not grep -E "= (arith|scf|math|vector|cf)\.|fastmath|unrealized" %t
// Only the llvm dialect is left, and no flag lets LLVM contract or reassociate.

// CHECK-LABEL: kernel 0 of @chain
// CHECK: llvm.func @kernel(
// CHECK-NOT: fma
// CHECK: %[[P:.*]] = llvm.fmul %{{.*}}, %{{.*}} : vector<8xf32>
// CHECK: llvm.fadd %[[P]], %[[P]] : vector<8xf32>
// CHECK-LABEL: kernel 0 of @softmax
// CHECK: llvm.intr.smax({{.*}}) : (vector<8xi32>, vector<8xi32>)
// CHECK: llvm.intr.fma
// CHECK: llvm.fdiv
// CHECK-LABEL: kernel 0 of @layer
// CHECK: llvm.intr.fma
// CHECK: llvm.intr.maximum
// CHECK-LABEL: kernel 0 of @lookup
// CHECK: llvm.atomicrmw min
// CHECK: llvm.intr.masked.gather
// CHECK-LABEL: kernel 1 of @update
// CHECK-NOT: fma
// CHECK: llvm.fmul
// CHECK: llvm.fsub
