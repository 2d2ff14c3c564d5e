// RUN: not flambeau-opt %s --from kernels --to nvvm --target sm_90 2>&1 | filecheck %s --check-prefix NVVM
// RUN: not flambeau-opt %s --from kernels --to assembly --target sm_90 2>&1 | filecheck %s --check-prefixes CHECK,PTX
// RUN: not flambeau-opt %s --from kernels --to llvm --target sm_90 2>&1 | filecheck %s --check-prefix STAGE
// RUN: not flambeau-opt %s --from kernels --to nvvm --target x86-64-v3 2>&1 | filecheck %s --check-prefix CPU
// RUN: not flambeau-opt %s --from kernels --to assembly --target x86-64-v3 2>&1 | filecheck %s --check-prefix HOST
// GPU kernels are refused by MLIR's verifier and passes, and where they do not belong; each part is refused by itself.

// STAGE: [stages] kernels for sm_90 have no stage 'llvm'. Theirs are nvvm, ir, optimised, assembly.
// CPU: [stages] kernels for x86-64-v3 have no stage 'nvvm'. Theirs are llvm, ir, optimised, assembly.
// HOST: ops not lowered to the llvm dialect: gpu.func, gpu.return

// NVVM: 'gpu.return' op expected 0 result operands
// CHECK: 'gpu.return' op expected 0 result operands
gpu.module @kernels {
  gpu.func @kernel(%n: i64) kernel {
    gpu.return %n : i64
  }
}

// -----

// Nothing is linked: functions without a lowering of ours are refused, by MLIR or where machine code is made.
// NVVM: failed to legalize operation 'llvm.intr.sin'
// CHECK: failed to legalize operation 'llvm.intr.sin'
gpu.module @kernels {
  gpu.func @kernel(%x: f32, %to: !llvm.ptr) kernel {
    %y = math.sin %x : f32
    llvm.store %y, %to : f32, !llvm.ptr
    gpu.return
  }
}

// -----

// PTX: the code calls __nv_erff, and kernels may call nothing
gpu.module @kernels {
  gpu.func @kernel(%x: f32, %to: !llvm.ptr) kernel {
    %y = math.erf %x : f32
    llvm.store %y, %to : f32, !llvm.ptr
    gpu.return
  }
}

// -----

// PTX: a gpu.module beside 1 other ops
gpu.module @kernels {
  gpu.func @kernel() kernel {
    gpu.return
  }
}
gpu.module @others {
  gpu.func @kernel() kernel {
    gpu.return
  }
}
