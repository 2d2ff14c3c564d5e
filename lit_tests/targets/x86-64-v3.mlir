// RUN: flambeau-opt %S/../stages/Inputs/programs.mlir --to assembly --target x86-64-v3 > %t
// RUN: filecheck %s < %t
// RUN: not grep -E "zmm|call|jmp.*@PLT" %t
// AVX2 and FMA: registers of 32 bytes; a product is fused, two ops are not.

// CHECK-LABEL: kernel 0 of @chain
// CHECK-NOT: vfm
// CHECK: vmulps {{.*}}%ymm
// CHECK-LABEL: kernel 0 of @softmax
// CHECK: vdivps {{.*}}%ymm
// CHECK-LABEL: kernel 0 of @layer
// CHECK: vfmadd{{[0-9]+}}ps {{.*}}%ymm
