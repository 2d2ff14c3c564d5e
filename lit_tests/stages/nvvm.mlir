// RUN: flambeau-opt %s --from kernels --to nvvm --target sm_90 > %t
// RUN: filecheck %s < %t
// RUN: not grep -E "= (gpu|arith|scf|math|memref|vector|cf)\.|fastmath|unrealized|__nv_" %t
// What `convert-gpu-to-nvvm` makes of the gpu dialect, from a kernel written by hand. Only llvm and nvvm are left; nothing is
// a call of CUDA's library; functions with correct rounding stay intrinsics.

// CHECK: gpu.module @kernels {
// CHECK: llvm.mlir.global internal @[[SHARED:.*]]() {addr_space = 3 : i32, alignment = 16 : i64} : !llvm.array<64 x f64>
// CHECK: llvm.func @kernel(%[[X:.*]]: !llvm.ptr {llvm.align = 16 : i64, llvm.noalias}, %[[N:.*]]: i64)
// CHECK-SAME: nvvm.kernel, nvvm.reqntid = array<i32: 64, 1, 1>
gpu.module @kernels {
  gpu.func @kernel(%x: !llvm.ptr {llvm.noalias, llvm.align = 16 : i64}, %n: i64) workgroup(%shared: memref<64xf64, #gpu.address_space<workgroup>> {llvm.align = 16 : i64}) kernel attributes {nvvm.reqntid = array<i32: 64, 1, 1>} {
    %one = arith.constant 1 : i32
    %warp = arith.constant 32 : i32
    %c0 = arith.constant 0 : i64
    // CHECK: llvm.mlir.addressof @[[SHARED]] : !llvm.ptr<3>
    // CHECK: nvvm.read.ptx.sreg.ctaid.x : i32
    %block = gpu.block_id x
    // CHECK: nvvm.read.ptx.sreg.tid.x range <i32, 0, 64> : i32
    %thread = gpu.thread_id x upper_bound 64
    %at = arith.index_castui %thread : index to i64
    %row = arith.index_castui %block : index to i64
    %from = llvm.getelementptr inbounds %x[%at] : (!llvm.ptr, i64) -> !llvm.ptr, f64
    // CHECK: %[[LOADED:.*]] = llvm.load %{{.*}} : !llvm.ptr -> f64
    %loaded = llvm.load %from {alignment = 8 : i64} : !llvm.ptr -> f64
    // CHECK: llvm.store %[[LOADED]], %{{.*}} : f64, !llvm.ptr<3>
    memref.store %loaded, %shared[%thread] : memref<64xf64, #gpu.address_space<workgroup>>
    // CHECK-NEXT: nvvm.barrier
    gpu.barrier
    // CHECK: %[[Y:.*]] = llvm.load %{{.*}} : !llvm.ptr<3> -> f64
    %y = memref.load %shared[%block] : memref<64xf64, #gpu.address_space<workgroup>>
    // A word of 64 bits is exchanged in halves.
    // CHECK: llvm.bitcast %[[Y]] : f64 to i64
    // CHECK-COUNT-2: nvvm.shfl.sync down {{.*}} : i32 -> i32
    %z:2 = gpu.shuffle down %y, %one, %warp : f64
    // CHECK: llvm.intr.fma(
    %sum = math.fma %z#0, %y, %y : f64
    // CHECK: llvm.call_intrinsic "llvm.sqrt.f64"
    %root = llvm.call_intrinsic "llvm.sqrt.f64"(%sum) : (f64) -> f64
    // CHECK: llvm.intr.maximum(
    %most = arith.maximumf %root, %y : f64
    // CHECK: llvm.icmp "slt"
    // CHECK: llvm.cond_br
    %inside = arith.cmpi slt, %row, %n : i64
    scf.if %inside {
      llvm.store %most, %from {alignment = 8 : i64} : f64, !llvm.ptr
    }
    // CHECK: llvm.return
    gpu.return
  }
}
