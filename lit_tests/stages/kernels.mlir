// RUN: flambeau-opt %S/Inputs/programs.mlir --to kernels --target x86-64-v3 > %t.v3
// RUN: flambeau-opt %S/Inputs/programs.mlir --to kernels --target x86-64-v4 > %t.v4
// RUN: filecheck %s --check-prefix CHECK < %t.v3
// RUN: filecheck %s --check-prefix CHECK < %t.v4
// RUN: filecheck %s --check-prefix V3 < %t.v3
// RUN: filecheck %s --check-prefix V4 < %t.v4
// Explicit vectors of the target's width. What a reduction adds to what is the same on every target.

// One kernel: a product, a sum, one element of each of 64 lanes, which are halved pairwise. Nothing is contracted.
// CHECK-LABEL: kernel 0 of @chain: mul+add+sum
// CHECK: llvm.func @kernel(%bufs: !llvm.ptr, %dims: !llvm.ptr, %lo: i64, %hi: i64, %scratch: !llvm.ptr)
// CHECK-NOT: fma
// CHECK: scf.for
// CHECK: scf.for {{.*}} iter_args
// CHECK: %[[P:.*]] = arith.mulf %[[X:.*]], %[[Y:.*]] : vector
// CHECK: %[[S:.*]] = arith.addf %[[P]], %[[P]] : vector
// CHECK: arith.addf %{{.*}}, %[[S]] : vector
// CHECK: vector.shuffle
// CHECK: arith.addf {{.*}} : vector<4xf32>
// CHECK: arith.addf {{.*}} : vector<2xf32>
// CHECK: llvm.store {{.*}} : f32
// CHECK-NOT: kernel 1 of @chain
// V3-LABEL: kernel 0 of @chain
// V3: iter_args{{.*}} -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>)
// V3-NOT: vector<16xf32>
// V4-LABEL: kernel 0 of @chain
// V4: iter_args{{.*}} -> (vector<16xf32>, vector<16xf32>, vector<16xf32>, vector<16xf32>)
// V4: arith.addf {{.*}} : vector<8xf32>

// A row at a time: the largest element, as an integer key in whose order a NaN is largest (the least key is that of -inf),
// exp of the differences, their sum, the quotients.
// CHECK-LABEL: kernel 0 of @softmax: max+sub+exp+sum+div
// CHECK-DAG: dense<-2139095041>
// CHECK-NOT: maxnumf
// CHECK: arith.maxsi {{.*}} : vector
// CHECK: arith.subf
// CHECK: math.fma
// CHECK: arith.divf
// CHECK: llvm.return
// CHECK-NOT: kernel 1 of @softmax

// A register tile of the product; bias and relu are applied to it before it is stored. Rows are fma chains of 256.
// Its weights are packed apart, so that the panels can be kept while they stay the same.
// CHECK-LABEL: kernel 0 of @layer: panels of a matrix f32
// CHECK-NOT: math.fma
// CHECK-LABEL: kernel 1 of @layer: matmul f32 + add + maximum
// CHECK: arith.constant 256 : i64
// CHECK: math.fma
// CHECK: arith.addf
// CHECK: arith.maximumf
// CHECK: llvm.return
// CHECK-NOT: kernel 2 of @layer
// V3-LABEL: kernel 1 of @layer
// V3: math.fma {{.*}} : vector<8xf32>
// V3-NOT: vector<16xf32>
// V3-LABEL: kernel 1 of @gradient
// V3: math.fma {{.*}} : vector<8xf32>
// V4-LABEL: kernel 1 of @layer
// V4: math.fma {{.*}} : vector<16xf32>

// The same product without the epilogue: the transposes are read, not made.
// CHECK-LABEL: kernel 1 of @gradient: matmul f32
// CHECK: math.fma
// CHECK-NOT: arith.maximumf

// Chains of 64 rows, columns side by side, so that no vector is folded into one number; then the chains pairwise.
// CHECK-LABEL: kernel 0 of @columns: sum
// CHECK: arith.constant 64 : i64
// CHECK-NOT: vector.shuffle
// CHECK: scf.for {{.*}} iter_args
// CHECK: arith.addf {{.*}} : vector
// CHECK-LABEL: kernel 1 of @columns: combine
// CHECK-NOT: vector.shuffle
// CHECK: arith.addf {{.*}} : vector
// CHECK-LABEL: kernel 0 of @lookup: gather+add

// An index out of range lowers the status word; the element at 0 is read in its place.
// CHECK: %[[LOW:.*]] = arith.cmpi slt, %[[I:.*]], %{{.*}} : vector
// CHECK: %[[HIGH:.*]] = arith.cmpi sge, %[[I]], %{{.*}} : vector
// CHECK: %[[BAD:.*]] = arith.ori %[[LOW]], %[[HIGH]]
// CHECK: llvm.atomicrmw min
// CHECK: %[[SAFE:.*]] = arith.select %[[BAD]], %{{.*}}, %[[I]]
// CHECK: llvm.getelementptr inbounds %{{.*}}[%[[SAFE]]]
// CHECK: llvm.intr.masked.gather
// CHECK: llvm.return

// The cast of the learning rate is done once, on one element. lr * g is rounded before it is subtracted.
// CHECK-LABEL: kernel 0 of @update: cast
// CHECK: arith.truncf %{{.*}} : f64 to f32
// CHECK-LABEL: kernel 1 of @update: mul+sub
// CHECK-NOT: fma
// CHECK: %[[M:.*]] = arith.mulf
// CHECK: arith.subf %{{.*}}, %[[M]]
// CHECK-NOT: fma
