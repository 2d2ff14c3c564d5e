// RUN: flambeau-opt %S/Inputs/programs.mlir --to ir --target x86-64-v3 > %t
// RUN: filecheck %s < %t
// RUN: not grep -wE "fast|contract|reassoc|nnan|ninf|nsz|arcp|afn|f0x[0-9A-F]+" %t
// LLVM IR as LLVM itself reads it: literals in hexadecimal where decimals would not be exact, no fast-math flag.

// CHECK-LABEL: kernel 0 of @chain
// CHECK: define void @kernel(ptr %0, ptr %1, i64 %2, i64 %3, ptr %4)
// CHECK-NOT: fma
// CHECK: %[[P:.*]] = fmul <8 x float>
// CHECK: fadd <8 x float> %[[P]], %[[P]]
// CHECK: ret void
// CHECK-LABEL: kernel 0 of @softmax
// CHECK: call <8 x i32> @llvm.smax.v8i32
// CHECK: float 0x3FF7154760000000
// CHECK: call <8 x float> @llvm.fma.v8f32
// CHECK-LABEL: kernel 0 of @layer
// CHECK: call <8 x float> @llvm.fma.v8f32
// CHECK-LABEL: kernel 0 of @lookup
// CHECK: atomicrmw min ptr
// CHECK-LABEL: kernel 1 of @update
// CHECK-NOT: fma
// CHECK: %[[M:.*]] = fmul <8 x float>
// CHECK: fsub <8 x float> %{{.*}}, %[[M]]
