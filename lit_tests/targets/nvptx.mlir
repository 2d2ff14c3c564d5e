// RUN: flambeau-opt %s --to assembly --target sm_75 > %t.75
// RUN: flambeau-opt %s --to assembly --target sm_90 > %t.90
// RUN: flambeau-opt %s --to assembly --target sm_120 > %t.120
// RUN: filecheck %s --check-prefixes CHECK,SM75 < %t.75
// RUN: filecheck %s --check-prefixes CHECK,SM90 < %t.90
// RUN: filecheck %s --check-prefixes CHECK,SM120 < %t.120
// One kernel of each kind as PTX: rounded operations only, nothing contracted, nothing called.

// A thread per element, in blocks of 256.
// CHECK-LABEL: {{^}}// kernel 0 of @scale: mul+add+sqrt
// SM75: .version 6.3
// SM75-NEXT: .target sm_75
// SM90: .version 7.8
// SM90-NEXT: .target sm_90
// SM120: .version 8.7
// SM120-NEXT: .target sm_120
// CHECK-NEXT: .address_size 64
// CHECK: .visible .entry kernel(
// CHECK: .reqntid 256
// CHECK: ld.global.nc.b32
// CHECK: ld.global.nc.b32
// CHECK: mul.rn.f32
// CHECK-NEXT: add.rn.f32
// CHECK-NEXT: sqrt.rn.f32
// CHECK: st.global.b32
// CHECK-NOT: call
func.func @scale(%x: tensor<1000xf32>, %y: tensor<1000xf32>) -> tensor<1000xf32> {
  %0 = "tape.mul"(%x, %y) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %1 = "tape.add"(%0, %y) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %2 = "tape.sqrt"(%1) : (tensor<1000xf32>) -> tensor<1000xf32>
  return %2 : tensor<1000xf32>
}

// A block of 64 threads per row: lanes in a loop, halved once through shared memory and then by shuffles.
// CHECK-LABEL: {{^}}// kernel 0 of @largest: neg+max
// CHECK: .reqntid 64
// CHECK: .shared .align 16 .b8 __wg_kernel_1[256];
// CHECK: neg.f32
// SM75: max.f32
// SM90: max.NaN.f32
// SM120: max.NaN.f32
// CHECK: st.shared.b32
// CHECK: bar.sync
// CHECK: ld.shared.b32
// CHECK: shfl.sync.down.b32 {{.*}}, 16, 31, -1;
// CHECK: shfl.sync.down.b32 {{.*}}, 8, 31, -1;
// CHECK: shfl.sync.down.b32 {{.*}}, 4, 31, -1;
// CHECK: shfl.sync.down.b32 {{.*}}, 2, 31, -1;
// CHECK: shfl.sync.down.b32 {{.*}}, 1, 31, -1;
// CHECK: st.shared.b32
// CHECK: bar.sync
// CHECK: st.global.b32
func.func @largest(%x: tensor<32x100xf32>) -> tensor<32xf32> {
  %0 = "tape.neg"(%x) : (tensor<32x100xf32>) -> tensor<32x100xf32>
  %1 = "tape.max"(%0) {axes = [1]} : (tensor<32x100xf32>) -> tensor<32xf32>
  return %1 : tensor<32xf32>
}

// 32 x 32 tiles in rows of 33 elements, so that neither way through them meets one bank twice.
// CHECK-LABEL: {{^}}// kernel 0 of @transpose: neg+canonical_nan transposed
// CHECK: .reqntid 256
// CHECK: .shared .align 16 .b8 __wg_kernel_0[4224];
// CHECK: ld.global.nc.b32
// CHECK: st.shared.b32
// CHECK: bar.sync
// CHECK: ld.shared.b32
// CHECK: neg.f32
// CHECK: st.global.b32
func.func @transpose(%x: tensor<64x100xf32>) -> tensor<100x64xf32> {
  %0 = "tape.permute"(%x) {perm = [1, 0]} : (tensor<64x100xf32>) -> tensor<100x64xf32>
  %1 = "tape.neg"(%0) : (tensor<100x64xf32>) -> tensor<100x64xf32>
  return %1 : tensor<100x64xf32>
}

// 64 x 64 tiles, 16 steps at a time: operands come in, all threads meet, 16 results each take 16 multiply-adds.
// CHECK-LABEL: {{^}}// kernel 0 of @product: matmul
// CHECK: .reqntid 256
// CHECK: .shared .align 16 .b8 __wg_kernel_0[4352];
// CHECK: .shared .align 16 .b8 __wg_kernel_1[4352];
// CHECK: bar.sync
// CHECK: ld.shared.v4.b32
// CHECK: ld.shared.v4.b32
// CHECK: fma.rn.f32
// CHECK-NOT: mul.rn.f32
// CHECK: bar.sync
// CHECK: st.global.b32
func.func @product(%x: tensor<64x32xf32>, %w: tensor<32x48xf32>) -> tensor<64x48xf32> {
  %0 = "tape.matmul"(%x, %w) : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
  return %0 : tensor<64x48xf32>
}
