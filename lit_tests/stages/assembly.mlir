// RUN: flambeau-opt %S/Inputs/programs.mlir --to assembly --target x86-64-v3 > %t.v3
// RUN: flambeau-opt %S/Inputs/programs.mlir --to assembly --target x86-64-v4 > %t.v4
// RUN: filecheck %s --check-prefix CHECK < %t.v3
// RUN: filecheck %s --check-prefix CHECK < %t.v4
// RUN: filecheck %s --check-prefix V3 < %t.v3
// RUN: filecheck %s --check-prefix V4 < %t.v4
// RUN: not grep -E "zmm|call|jmp.*@PLT" %t.v3
// RUN: not grep -E "call|jmp.*@PLT" %t.v4
// Machine code that calls nothing, on registers of the target's width. Multiplications and additions of two ops stay
// two instructions; a product is made of fused ones.

// CHECK-LABEL: kernel 0 of @chain
// CHECK: kernel:
// CHECK-NOT: vfm
// CHECK-NOT: vfnm
// CHECK: vmulps
// CHECK: vaddps
// CHECK: ret
// CHECK-LABEL: kernel 0 of @softmax
// CHECK: vfm
// CHECK: vdivps
// CHECK-LABEL: kernel 0 of @layer
// CHECK: vfm
// CHECK-LABEL: kernel 0 of @columns
// CHECK: vaddps
// CHECK-LABEL: kernel 0 of @lookup
// CHECK: lock
// CHECK-LABEL: kernel 1 of @update
// CHECK-NOT: vfm
// CHECK-NOT: vfnm
// CHECK: vmulps
// CHECK: vsubps

// V3-LABEL: kernel 0 of @chain
// V3: vmulps {{.*}}%ymm
// V3-LABEL: kernel 0 of @layer
// V3: vfm{{.*}}%ymm
// V4-LABEL: kernel 0 of @chain
// V4: vmulps {{.*}}%zmm
// V4-LABEL: kernel 0 of @layer
// V4: vfm{{.*}}%zmm
