// RUN: flambeau-opt %s --to ir --target sm_90 > %t.ir
// RUN: flambeau-opt %s --to optimised --target sm_90 > %t.optimised
// RUN: filecheck %s --check-prefixes CHECK,IR < %t.ir
// RUN: filecheck %s --check-prefixes CHECK,OPT < %t.optimised
// RUN: not grep -E "contract|reassoc|fast |@__nv_" %t.ir %t.optimised
// LLVM IR of a GPU kernel: an entry for threads in blocks of one size, and no flag that lets LLVM contract or reassociate.
// Workgroup memory is known as such, so that no address is a generic one.

// CHECK-LABEL: {{^}}; kernel 0 of @total: mul+sum
// CHECK: @__wg_kernel_1 = internal {{.*}}addrspace(3) global [64 x float] undef, align 16
// CHECK: define ptx_kernel void @kernel(ptr noalias {{.*}}readonly {{.*}}align 16
// CHECK-SAME: #[[KERNEL:[0-9]+]]
// IR: call range(i32 0, 64) i32 @llvm.nvvm.read.ptx.sreg.tid.x()
// OPT: call {{.*}} i32 @llvm.nvvm.read.ptx.sreg.tid.x()
// CHECK: fmul float
// CHECK-NEXT: fadd float
// CHECK: store float %{{.*}}, ptr addrspace(3)
// CHECK: @llvm.nvvm.barrier.cta.sync.aligned.all(i32 0)
// CHECK: load float, ptr addrspace(3)
// CHECK: @llvm.nvvm.shfl.sync.down.f32(i32 -1,
// CHECK: attributes #[[KERNEL]] = { {{.*}}nounwind {{.*}}"no-builtins" "nvvm.reqntid"="64,1,1"
func.func @total(%x: tensor<32x100xf32>) -> tensor<32xf32> {
  %0 = "tape.mul"(%x, %x) : (tensor<32x100xf32>, tensor<32x100xf32>) -> tensor<32x100xf32>
  %1 = "tape.sum"(%0) {axes = [1]} : (tensor<32x100xf32>) -> tensor<32xf32>
  return %1 : tensor<32xf32>
}
