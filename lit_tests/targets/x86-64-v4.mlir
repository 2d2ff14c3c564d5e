// RUN: flambeau-opt %S/../stages/Inputs/programs.mlir --to assembly --target x86-64-v4 > %t
// RUN: filecheck %s < %t
// RUN: not grep -E "call|jmp.*@PLT" %t
// AVX-512: registers of 64 bytes, whole: LLVM's preference for halves is off.

// CHECK-LABEL: kernel 0 of @chain
// CHECK-NOT: vfm
// CHECK: vmulps {{.*}}%zmm
// CHECK-LABEL: kernel 0 of @softmax
// CHECK: vdivps {{.*}}%zmm
// CHECK-LABEL: kernel 0 of @layer
// CHECK: vfmadd{{[0-9]+}}ps {{.*}}%zmm
