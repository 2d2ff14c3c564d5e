// RUN: flambeau-opt %s --to kernels --target sm_90 > %t
// RUN: filecheck %s < %t
// RUN: not grep -E "math\.(absf|sqrt|floor|ceil|copysign|roundeven)|nvvm\.([^rm]|m[^i])|scf\.parallel|vector<[^4]" %t
// GPU kernels as their generators write them: gpu.func with ops on scalars of one thread, and workgroup memory as memrefs.

// A thread per element. Operands lie behind pointers: they do not overlap, and are read or written.
// CHECK-LABEL: {{^}}// kernel 0 of @scale: mul+add+sqrt
// CHECK-NEXT: gpu.module @kernels
// CHECK-NEXT: gpu.func @kernel(%{{.*}}: !llvm.ptr {llvm.align = 16 : i64, llvm.noalias, llvm.readonly}
// CHECK-SAME: , %buf2: !llvm.ptr {llvm.align = 16 : i64, llvm.noalias}, %[[N:.*]]: i64) kernel attributes
// CHECK-SAME: nvvm.reqntid = array<i32: 256, 1, 1>
// CHECK: %[[B:.*]] = gpu.block_id x
// CHECK-NEXT: %[[BLOCK:.*]] = arith.index_castui %[[B]] : index to i64
// CHECK-NEXT: %[[T:.*]] = gpu.thread_id x upper_bound 256
// CHECK-NEXT: %[[THREAD:.*]] = arith.index_castui %[[T]] : index to i64
// CHECK-NEXT: %[[START:.*]] = arith.muli %[[BLOCK]], %{{.*}} : i64
// CHECK-NEXT: %[[AT:.*]] = arith.addi %[[START]], %[[THREAD]] : i64
// CHECK-NEXT: %[[IN:.*]] = arith.cmpi slt, %[[AT]], %[[N]] : i64
// CHECK-NEXT: scf.if %[[IN]] {
// CHECK: arith.mulf
// CHECK-NEXT: arith.addf
// CHECK-NEXT: llvm.call_intrinsic "llvm.sqrt.f32"
// CHECK: llvm.store
// CHECK: gpu.return
func.func @scale(%x: tensor<1000xf32>, %y: tensor<1000xf32>) -> tensor<1000xf32> {
  %0 = "tape.mul"(%x, %y) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %1 = "tape.add"(%0, %y) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %2 = "tape.sqrt"(%1) : (tensor<1000xf32>) -> tensor<1000xf32>
  return %2 : tensor<1000xf32>
}

// A block of 64 threads per row: lanes in a loop, halved once through workgroup memory, then by shuffles of any type.
// CHECK-LABEL: {{^}}// kernel 0 of @largest: neg+max
// CHECK: workgroup(%[[PART:.*]]: memref<1xf64, #gpu.address_space<workgroup>> {llvm.align = 16 : i64},
// CHECK-SAME: %[[LANES:.*]]: memref<64xf64, #gpu.address_space<workgroup>> {llvm.align = 16 : i64}) kernel
// CHECK: %[[LANE:.*]]:1 = scf.for
// CHECK: memref.store %[[LANE]]#0, %[[LANES]][
// CHECK-NEXT: gpu.barrier
// CHECK: %[[OTHER:.*]] = memref.load %[[LANES]][
// CHECK-NEXT: %[[X:.*]] = arith.maximumf %[[LANE]]#0, %[[OTHER]] : f64
// CHECK-NEXT: %[[Y:.*]]:2 = gpu.shuffle down %[[X]], %{{.*}}, %[[W:.*]] : f64
// CHECK-NEXT: arith.maximumf %[[X]], %[[Y]]#0 : f64
// CHECK-NEXT: gpu.shuffle down %{{.*}}, %{{.*}}, %[[W]] : f64
// CHECK: gpu.shuffle down %{{.*}}, %{{.*}}, %[[W]] : f64
// CHECK: gpu.shuffle down %{{.*}}, %{{.*}}, %[[W]] : f64
// CHECK: gpu.shuffle down %{{.*}}, %{{.*}}, %[[W]] : f64
// CHECK: scf.if
// CHECK: memref.store %{{.*}}, %[[PART]][
// CHECK: gpu.barrier
// CHECK: memref.load %[[PART]][
func.func @largest(%x: tensor<32x100xf64>) -> tensor<32xf64> {
  %0 = "tape.neg"(%x) : (tensor<32x100xf64>) -> tensor<32x100xf64>
  %1 = "tape.max"(%0) {axes = [1]} : (tensor<32x100xf64>) -> tensor<32xf64>
  return %1 : tensor<32xf64>
}

// Bools are bytes in workgroup memory and words in shuffles.
// CHECK-LABEL: {{^}}// kernel 0 of @some: lt+any
// CHECK: memref<64xi8, #gpu.address_space<workgroup>>
// CHECK: arith.extui %{{.*}} : i1 to i8
// CHECK: memref.store
// CHECK: arith.extui %{{.*}} : i1 to i32
// CHECK-NEXT: gpu.shuffle down {{.*}} : i32
func.func @some(%x: tensor<32x100xf32>, %y: tensor<32x100xf32>) -> tensor<32xi1> {
  %0 = "tape.lt"(%x, %y) : (tensor<32x100xf32>, tensor<32x100xf32>) -> tensor<32x100xi1>
  %1 = "tape.any"(%0) {axes = [1]} : (tensor<32x100xi1>) -> tensor<32xi1>
  return %1 : tensor<32xi1>
}

// Columns: chains of 64 rows are folded by eight threads each, and combined by the first of them.
// CHECK-LABEL: {{^}}// kernel 0 of @columns: sum
// CHECK: workgroup(%[[CHAINS:.*]]: memref<64xf32, #gpu.address_space<workgroup>>
// CHECK-DAG: gpu.block_id x
// CHECK-DAG: gpu.block_id y
// CHECK: scf.for
// CHECK: scf.for
// CHECK: memref.store %{{.*}}, %[[CHAINS]][
// CHECK: gpu.barrier
// CHECK: memref.load %[[CHAINS]][
func.func @columns(%x: tensor<100x70xf32>) -> tensor<70xf32> {
  %0 = "tape.sum"(%x) {axes = [0]} : (tensor<100x70xf32>) -> tensor<70xf32>
  return %0 : tensor<70xf32>
}

// 32 x 32 tiles in rows of 33 elements.
// CHECK-LABEL: {{^}}// kernel 0 of @transpose: neg+canonical_nan transposed
// CHECK: workgroup(%[[TILE:.*]]: memref<1056xf32, #gpu.address_space<workgroup>>
// CHECK-COUNT-4: memref.store %{{.*}}, %[[TILE]][
// CHECK: gpu.barrier
// CHECK-COUNT-4: memref.load %[[TILE]][
func.func @transpose(%x: tensor<64x100xf32>) -> tensor<100x64xf32> {
  %0 = "tape.permute"(%x) {perm = [1, 0]} : (tensor<64x100xf32>) -> tensor<100x64xf32>
  %1 = "tape.neg"(%0) : (tensor<100x64xf32>) -> tensor<100x64xf32>
  return %1 : tensor<100x64xf32>
}

// 64 x 64 tiles, 16 steps at a time, read four at once.
// CHECK-LABEL: {{^}}// kernel 0 of @product: matmul
// CHECK: workgroup(%[[A:.*]]: memref<1088xf32, #gpu.address_space<workgroup>> {{.*}}, %[[B:.*]]: memref<1088xf32,
// CHECK: memref.store %{{.*}}, %[[A]][
// CHECK: memref.store %{{.*}}, %[[B]][
// CHECK: gpu.barrier
// CHECK: vector.load %[[A]][%{{.*}}] {alignment = 16 : i64} : {{.*}}, vector<4xf32>
// CHECK: vector.load %[[B]][%{{.*}}] {alignment = 16 : i64} : {{.*}}, vector<4xf32>
// CHECK-COUNT-16: math.fma {{.*}} : f32
// CHECK: gpu.barrier
func.func @product(%x: tensor<64x32xf32>, %w: tensor<32x48xf32>) -> tensor<64x48xf32> {
  %0 = "tape.matmul"(%x, %w) : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
  return %0 : tensor<64x48xf32>
}
