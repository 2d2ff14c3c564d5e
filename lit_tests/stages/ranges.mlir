// RUN: flambeau-opt %S/Inputs/programs.mlir --to assembly --target x86-64-v3 > %t.assembly
// RUN: flambeau-opt %S/Inputs/programs.mlir --to kernels --target x86-64-v3 > %t.kernels
// RUN: flambeau-opt %t.kernels --from kernels --to llvm | flambeau-opt --from llvm --to ir > %t.ir
// RUN: flambeau-opt %t.ir --from ir --to optimised --target x86-64-v3 > %t.optimised
// RUN: flambeau-opt %t.optimised --from optimised --to assembly --target x86-64-v3 | diff %t.assembly -
// What a stage writes the next one reads, and stage by stage gives what one run gives.

// RUN: flambeau-opt %S/Inputs/programs.mlir --to cluster > %t.clusters
// RUN: flambeau-opt %t.clusters --from cluster | diff %t.clusters -
// RUN: flambeau-opt %t.clusters --from cluster --to kernels --target x86-64-v3 | grep -v "^// kernel" > %t.from-clusters
// RUN: grep -v "^// kernel" %t.kernels | diff %t.from-clusters -
// Clusters as text are lowered to the kernels of the program they are from.

// RUN: filecheck %s < %t.optimised
// A kernel keeps its title on the way, in the comments of each form.
// CHECK: ; kernel 0 of @chain: mul+add+sum
// CHECK: ; -----
// CHECK-NEXT: ; kernel 0 of @softmax

// RUN: flambeau-opt %S/Inputs/programs.mlir --simplify --cse --dead-code --cluster=fuse=false --to kernels > %t.apart
// RUN: filecheck %s --check-prefix APART < %t.apart
// Passes come before the stages, and clusters made by a pass are not made again.
// APART: kernel 0 of @chain: mul
// APART: kernel 1 of @chain: add
// APART: kernel 2 of @chain: sum
