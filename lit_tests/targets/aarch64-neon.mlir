// RUN: flambeau-opt %S/../stages/Inputs/programs.mlir --to assembly --target aarch64-neon > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %S/../stages/Inputs/programs.mlir --to ir --target aarch64-neon | filecheck %s --check-prefix IR
// RUN: not grep -wE "bl|blr|whilelo|x86_64" %t
// RUN: not flambeau-opt %S/../stages/Inputs/programs.mlir --to plan --target vax 2>&1 | filecheck %s --check-prefix UNKNOWN
// NEON: registers of 16 bytes; a product is fused, two ops are not; errors are reported by a loop of exclusive loads
// and stores, which every 64-bit Arm machine has, and nothing is called.

// CHECK-LABEL: kernel 0 of @chain
// CHECK-NOT: fmla
// CHECK: fmul v{{[0-9]+}}.4s
// CHECK: fadd v{{[0-9]+}}.4s
// CHECK-LABEL: kernel 0 of @softmax
// CHECK: fmla v{{[0-9]+}}.4s
// CHECK: fdiv v{{[0-9]+}}.4s
// CHECK-LABEL: kernel 0 of @layer
// CHECK: fmla v{{[0-9]+}}.4s
// CHECK-LABEL: kernel 0 of @lookup
// CHECK: ldxr
// CHECK: stxr

// IR-LABEL: kernel 0 of @chain
// IR: fmul <4 x float>
// IR-LABEL: kernel 0 of @layer
// IR: call <4 x float> @llvm.fma.v4f32

// UNKNOWN: [target] unknown target 'vax'. Choose one of aarch64-neon, host,
