// RUN: flambeau-opt %s --to legalise-devices --device cuda:0=sm_90 | filecheck %s
// RUN: flambeau-opt %s --to cluster --device cuda:0=sm_90 | filecheck %s --check-prefix=CLUSTER
// RUN: flambeau-opt %s --to plan --device cuda:0=sm_90 --target x86-64-v3 > %t
// RUN: filecheck %s --check-prefix=PLAN < %t
// A program on two devices: sums and exponentials on the GPU, indexing on the CPU. Clusters join on one device only.

// CHECK: "tape.exp"({{.*}}) -> tensor<5x3xf32, {device = "cuda:0"}>
// CHECK: "tape.to_device"
// CHECK: "tape.gather"({{.*}}) -> tensor<2x3xf32>

// CLUSTER: // transfer cluster
// CLUSTER: // loops cluster
// CLUSTER: "tape.add"
// CLUSTER: "tape.exp"
// CLUSTER: // transfer cluster
// CLUSTER: // loops cluster
// CLUSTER: "tape.gather"
// CLUSTER: "tape.mul"

// PLAN: %[[X:.*]] = "plan.input"(%{{.*}}) : (index) -> memref<?xi8>
// PLAN: %arena = "plan.arena"(%{{.*}}) : (index) -> memref<?xi8>
// PLAN-NEXT: %arena1 = "plan.arena"(%{{.*}}) {device = "cuda:0"} : (index) -> memref<?xi8>
// PLAN: %[[TO:.*]] = "plan.view"(%arena1, %{{.*}})
// PLAN: %[[FROM:.*]] = "plan.view"(%[[X]], %{{.*}})
// PLAN: "plan.step"(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}, %[[TO]], %[[FROM]]) {fallible = true, kernel = -6 : i64}
// PLAN: "plan.launch"({{.*}}) {device = "cuda:0", fallible = true, kernel = 0 : i64}
// PLAN: {fallible = true, kernel = -6 : i64}
// PLAN: "plan.step"({{.*}}) {fallible = true, kernel = 1 : i64}
func.func @main(%x: tensor<5x3xf32>, %i: tensor<2x3xi64>) -> tensor<2x3xf32> {
  %0 = "tape.to_device"(%x) {device = "cuda:0"} : (tensor<5x3xf32>) -> tensor<5x3xf32, {device = "cuda:0"}>
  %1 = "tape.add"(%0, %0) : (tensor<5x3xf32, {device = "cuda:0"}>, tensor<5x3xf32, {device = "cuda:0"}>) -> tensor<5x3xf32, {device = "cuda:0"}>
  %2 = "tape.exp"(%1) : (tensor<5x3xf32, {device = "cuda:0"}>) -> tensor<5x3xf32, {device = "cuda:0"}>
  %3 = "tape.to_device"(%2) {device = "cpu"} : (tensor<5x3xf32, {device = "cuda:0"}>) -> tensor<5x3xf32>
  %4 = "tape.gather"(%3, %i) {axis = 0} : (tensor<5x3xf32>, tensor<2x3xi64>) -> tensor<2x3xf32>
  %5 = "tape.mul"(%4, %4) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  return %5 : tensor<2x3xf32>
}
