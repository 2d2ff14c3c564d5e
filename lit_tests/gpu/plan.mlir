// RUN: flambeau-opt %s --to plan --target sm_90 > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %s --to kernels --target sm_90 | filecheck %s --check-prefix ALONE
// RUN: flambeau-opt %t > %t.again
// RUN: grep -v "^//   kernel\|^// plan" %t | diff - %t.again
// A plan for a GPU: launches on grids of blocks, which are expressions of sizes known at run time only.

// A thread per element, in blocks of 256, whose number is an expression; more blocks than devices take are guarded. Each
// element is read by the thread that writes it: the launch works in place.
// CHECK: plan.symbols = 1
// CHECK: %[[S0:.*]] = "plan.symbol"() {value = 0 : i64} : () -> index
// CHECK: %[[LESS:.*]] = "plan.mul"(%[[S0]], %{{.*}})
// CHECK: %[[THREADS:.*]] = "plan.const"() {value = 256 : i64} : () -> index
// CHECK: %[[ROUNDED:.*]] = "plan.floordiv"(%[[LESS]], %[[THREADS]])
// CHECK: %[[LIMIT:.*]] = "plan.add"(%[[ROUNDED]], %{{.*}})
// CHECK: %[[BLOCKS:.*]] = "plan.mul"(%[[ROUNDED]], %{{.*}})
// CHECK: %[[ONE:.*]] = "plan.const"() {value = 1 : i64} : () -> index
// CHECK: %[[COUNT:.*]] = "plan.mul"(%[[S0]], %{{.*}})
// CHECK: "plan.guard"(%[[LIMIT]]) {relation = ">="}
// CHECK: %[[X:.*]] = "plan.output"(%{{.*}}) {mode = "update", source = 0 : i64}
// CHECK: %[[FROM:.*]] = "plan.view"(%[[X]], %[[ZERO:.*]])
// CHECK-NEXT: %[[TO:.*]] = "plan.view"(%[[X]], %[[ZERO]])
// CHECK-NEXT: %[[DIMS:.*]] = "plan.dims"(%[[COUNT]]) : (index) -> tensor<1xindex>
// CHECK-NEXT: "plan.launch"(%[[BLOCKS]], %[[ONE]], %[[ONE]], %[[THREADS]], %[[ONE]], %[[ONE]], %[[DIMS]], %[[FROM]], %[[TO]])
// CHECK-SAME: {fallible = false, kernel = 0 : i64}

// Kernels are shown as they are where no operands overlap.
// ALONE: gpu.func @kernel(%buf0: !llvm.ptr {llvm.align = 16 : i64, llvm.noalias, llvm.readonly}, %buf1: !llvm.ptr {llvm.align = 16 : i64, llvm.noalias}, %dim0: i64)
func.func @main(%x: tensor<?x100xf32, ["s0"]>) -> tensor<?x100xf32, ["s0"]> attributes {tape.sizes = [40], tape.updates = [[0, 0]]} {
  %1 = "tape.exp"(%x) : (tensor<?x100xf32, ["s0"]>) -> tensor<?x100xf32, ["s0"]>
  %2 = "tape.sub"(%1, %x) : (tensor<?x100xf32, ["s0"]>, tensor<?x100xf32, ["s0"]>) -> tensor<?x100xf32, ["s0"]>
  return %2 : tensor<?x100xf32, ["s0"]>
}
