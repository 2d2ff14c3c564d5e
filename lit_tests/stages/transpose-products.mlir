// RUN: flambeau-opt %S/Inputs/programs.mlir --to transpose-products | filecheck %s
// The transpose after a product moves before it, where code generators read it for free, and meets another there.

// CHECK-LABEL: func.func @gradient(
// CHECK: %[[G:.*]] = "tape.permute"(%1) {perm = [1 : i64, 0 : i64]}
// CHECK: %[[P:.*]] = "tape.matmul"(%[[G]], %0) : (tensor<48x64xf32>, tensor<64x32xf32>) -> tensor<48x32xf32>
// CHECK-NEXT: return %[[P]]
