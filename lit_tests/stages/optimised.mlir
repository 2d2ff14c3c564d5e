// RUN: flambeau-opt %S/Inputs/programs.mlir --to optimised --target x86-64-v3 > %t
// RUN: filecheck %s < %t
// RUN: not grep -wE "fast|contract|reassoc|nnan|ninf|nsz|arcp|afn|fmuladd" %t
// RUN: not grep -E "(call|declare) .*@[^l]" %t
// Optimised for the target, with the operations that the kernel says and calls of nothing but intrinsics.

// CHECK-LABEL: kernel 0 of @chain
// CHECK: target triple = "x86_64-unknown-linux-gnu"
// CHECK: define void @kernel(
// CHECK-NOT: llvm.fma
// CHECK: %[[P:.*]] = fmul <8 x float>
// CHECK: fadd <8 x float> %[[P]], %[[P]]
// CHECK: ret void
// CHECK-LABEL: kernel 0 of @softmax
// CHECK: @llvm.maximum.v8f32
// CHECK: @llvm.fma.v8f32
// CHECK-LABEL: kernel 1 of @update
// CHECK-NOT: llvm.fma
// CHECK: %[[M:.*]] = fmul <8 x float>
// CHECK: fsub <8 x float> %{{.*}}, %[[M]]
