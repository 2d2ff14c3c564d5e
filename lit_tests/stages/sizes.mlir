// RUN: flambeau-opt %s --to plan --target x86-64-v3 | filecheck %s
// RUN: flambeau-opt %s --to cluster | flambeau-opt --from cluster --to cluster | filecheck %s --check-prefix=CLUSTER
// A program whose rows have a length that is known at run time only. Rows of at most 64 elements have a kernel of their
// own: lanes of the sum take one element each. The plan is for these.

// CLUSTER: loops cluster
// CLUSTER: func.func @main(%0: tensor<7x?xf32, ["s0"]>) -> (tensor<7xf32>) attributes {tape.sizes = [40 : i64]}

// CHECK: plan.symbols = 1
// CHECK-NEXT: %x0 = "plan.symbol"() {value = 0 : i64} : () -> index
// CHECK-NEXT: %x1 = "plan.const"() {value = -1 : i64} : () -> index
// CHECK-NEXT: %x2 = "plan.mul"(%x0, %x1) : (index, index) -> index
// CHECK-NEXT: %x3 = "plan.const"() {value = 64 : i64} : () -> index
// CHECK-NEXT: %x4 = "plan.add"(%x2, %x3) : (index, index) -> index
// CHECK: %[[BYTES:.*]] = "plan.mul"(%x0, {{.*}})
// CHECK-NEXT: "plan.guard"(%x4) {relation = ">="} : (index) -> ()
// CHECK-NEXT: "plan.input"(%[[BYTES]])
// CHECK: "plan.dims"(%x0)
// CHECK: "plan.step"
  func.func @main(%0: tensor<7x?xf32, ["s0"]>) -> (tensor<7xf32>) attributes {tape.sizes = [40 : i64]} {
    %1 = "tape.sum"(%0) {axes = [1 : i64]} : (tensor<7x?xf32, ["s0"]>) -> tensor<7xf32>
    return %1 : tensor<7xf32>
  }
