// RUN: flambeau-opt %s --transpose-products | filecheck %s

// The gradient of x @ w.T: the transpose moves to the operands, which swap places.
// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[Y:.*]] = "tape.permute"(%1) {{.*}} : (tensor<4x3xf32>) -> tensor<3x4xf32>
// CHECK-DAG: %[[X:.*]] = "tape.permute"(%0) {{.*}} : (tensor<2x4xf32>) -> tensor<4x2xf32>
// CHECK: %[[R:.*]] = "tape.matmul"(%[[Y]], %[[X]]) : (tensor<3x4xf32>, tensor<4x2xf32>) -> tensor<3x2xf32>
// CHECK-NEXT: return %[[R]]
func.func @main(%x: tensor<2x4xf32>, %y: tensor<4x3xf32>) -> tensor<3x2xf32> {
  %0 = "tape.matmul"(%x, %y) : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %1 = "tape.permute"(%0) {perm = [1 : i64, 0 : i64]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %1 : tensor<3x2xf32>
}

// -----

// A product that is read as it is stays.
// CHECK: func.func @main
// CHECK-NEXT: "tape.matmul"(%0, %1)
// CHECK-NEXT: "tape.permute"
func.func @main(%x: tensor<2x4xf32>, %y: tensor<4x3xf32>) -> (tensor<2x3xf32>, tensor<3x2xf32>) {
  %0 = "tape.matmul"(%x, %y) : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %1 = "tape.permute"(%0) {perm = [1 : i64, 0 : i64]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %0, %1 : tensor<2x3xf32>, tensor<3x2xf32>
}

// -----

// In a batch the last two axes may change places; a permutation that moves the batch is another matter.
// CHECK-LABEL: func.func @batch
// CHECK-DAG: %[[Y:.*]] = "tape.permute"(%1) {perm = [0 : i64, 2 : i64, 1 : i64]}
// CHECK-DAG: %[[X:.*]] = "tape.permute"(%0) {perm = [0 : i64, 2 : i64, 1 : i64]}
// CHECK: "tape.matmul"(%[[Y]], %[[X]])
// CHECK-NEXT: return
func.func @batch(%x: tensor<7x2x4xf32>, %y: tensor<7x4x3xf32>) -> tensor<7x3x2xf32> {
  %0 = "tape.matmul"(%x, %y) : (tensor<7x2x4xf32>, tensor<7x4x3xf32>) -> tensor<7x2x3xf32>
  %1 = "tape.permute"(%0) {perm = [0, 2, 1]} : (tensor<7x2x3xf32>) -> tensor<7x3x2xf32>
  return %1 : tensor<7x3x2xf32>
}

// CHECK-LABEL: func.func @moved_batch
// CHECK-NEXT: %[[P:.*]] = "tape.matmul"(%0, %1)
// CHECK-NEXT: "tape.permute"(%[[P]])
func.func @moved_batch(%x: tensor<7x2x4xf32>, %y: tensor<7x4x3xf32>) -> tensor<2x7x3xf32> {
  %0 = "tape.matmul"(%x, %y) : (tensor<7x2x4xf32>, tensor<7x4x3xf32>) -> tensor<7x2x3xf32>
  %1 = "tape.permute"(%0) {perm = [1, 0, 2]} : (tensor<7x2x3xf32>) -> tensor<2x7x3xf32>
  return %1 : tensor<2x7x3xf32>
}

// A product that an op reads as it is stays where it is, and so does the transpose of anything else.
// CHECK-LABEL: func.func @read_twice
// CHECK-NEXT: %[[P:.*]] = "tape.matmul"(%0, %1)
// CHECK-NEXT: "tape.permute"(%[[P]])
// CHECK-NEXT: "tape.exp"(%[[P]])
// CHECK-NEXT: "tape.permute"(%0)
func.func @read_twice(%x: tensor<2x4xf32>, %y: tensor<4x3xf32>) -> (tensor<3x2xf32>, tensor<2x3xf32>, tensor<4x2xf32>) {
  %0 = "tape.matmul"(%x, %y) : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %1 = "tape.permute"(%0) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %2 = "tape.exp"(%0) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %3 = "tape.permute"(%x) {perm = [1, 0]} : (tensor<2x4xf32>) -> tensor<4x2xf32>
  return %1, %2, %3 : tensor<3x2xf32>, tensor<2x3xf32>, tensor<4x2xf32>
}

// -----

// What is permuted already is read from before; a transpose that takes part in two products is written once.
// CHECK-LABEL: func.func @turned_twice
// CHECK-NEXT: %[[T:.*]] = "tape.permute"(%1) {perm = [1 : i64, 0 : i64]}
// CHECK-NEXT: %[[U:.*]] = "tape.permute"(%0) {perm = [1 : i64, 0 : i64]}
// CHECK-NEXT: %[[P:.*]] = "tape.matmul"(%1, %[[U]])
// CHECK-NEXT: %[[W:.*]] = "tape.permute"(%2) {perm = [1 : i64, 0 : i64]}
// CHECK-NEXT: %[[Q:.*]] = "tape.matmul"(%[[W]], %[[U]])
// CHECK-NEXT: return %[[P]], %[[Q]]
func.func @turned_twice(%x: tensor<2x4xf32>, %y: tensor<3x4xf32>, %z: tensor<4x3xf32>) -> (tensor<3x2xf32>, tensor<3x2xf32>) {
  %0 = "tape.permute"(%y) {perm = [1, 0]} : (tensor<3x4xf32>) -> tensor<4x3xf32>
  %1 = "tape.matmul"(%x, %0) : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %2 = "tape.permute"(%1) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %3 = "tape.matmul"(%x, %z) : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %4 = "tape.permute"(%3) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %2, %4 : tensor<3x2xf32>, tensor<3x2xf32>
}

// A product of a product that was swapped.
// CHECK-LABEL: func.func @chained
// CHECK: %[[P:.*]] = "tape.matmul"
// CHECK-NEXT: %[[T:.*]] = "tape.permute"(%[[P]])
// CHECK: "tape.matmul"({{.*}}, %[[T]])
func.func @chained(%x: tensor<4x4xf32>, %y: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %0 = "tape.matmul"(%x, %y) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %1 = "tape.permute"(%0) {perm = [1, 0]} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %2 = "tape.matmul"(%1, %y) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %3 = "tape.permute"(%2) {perm = [1, 0]} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  return %3 : tensor<4x4xf32>
}
