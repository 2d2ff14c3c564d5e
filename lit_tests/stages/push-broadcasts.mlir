// RUN: flambeau-opt %s --to push-broadcasts | filecheck %s
// RUN: flambeau-opt %s --to dead-code | filecheck %s --check-prefix=BEFORE
// What a small reduction stretches is computed by its nest: the op moves behind the stretch and leaves nothing behind.

// CHECK-LABEL: func.func @weights(
// CHECK-NEXT: "tape.reshape"
// CHECK-NEXT: %[[B:.*]] = "tape.broadcast"
// CHECK-NEXT: %[[W:.*]] = "tape.tanh"(%[[B]]) : (tensor<8x64xf32>) -> tensor<8x64xf32>
// CHECK-NEXT: "tape.mul"(%0, %[[W]])
// CHECK-NEXT: "tape.sum"
// CHECK-NEXT: return
// BEFORE: "tape.tanh"(%1) : (tensor<64xf32>) -> tensor<64xf32>
func.func @weights(%x: tensor<8x64xf32>, %w: tensor<64xf32>) -> tensor<8xf32> {
  %0 = "tape.tanh"(%w) : (tensor<64xf32>) -> tensor<64xf32>
  %1 = "tape.reshape"(%0) {shape = [1, 64]} : (tensor<64xf32>) -> tensor<1x64xf32>
  %2 = "tape.broadcast"(%1) {shape = [8, 64]} : (tensor<1x64xf32>) -> tensor<8x64xf32>
  %3 = "tape.mul"(%x, %2) : (tensor<8x64xf32>, tensor<8x64xf32>) -> tensor<8x64xf32>
  %4 = "tape.sum"(%3) {axes = [1]} : (tensor<8x64xf32>) -> tensor<8xf32>
  return %4 : tensor<8xf32>
}
