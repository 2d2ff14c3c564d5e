// RUN: flambeau-opt %s --legalise-dtypes | filecheck %s
// RUN: flambeau-opt %s --legalise-dtypes --legalise-dtypes | filecheck %s
// RUN: flambeau-opt %s --legalise-dtypes=native=float16 | filecheck %s --check-prefix=NATIVE

// Every op rounds once: the sum is rounded before it is multiplied. What is read twice is widened once.
// CHECK-LABEL: func.func @each_op_rounds(
// CHECK-NEXT: %[[X:.*]] = "tape.cast"(%0) {dtype = f32}
// CHECK-NEXT: %[[Y:.*]] = "tape.cast"(%1) {dtype = f32}
// CHECK-NEXT: %[[S:.*]] = "tape.add"(%[[X]], %[[Y]]) : (tensor<4xf32>, tensor<4xf32>)
// CHECK-NEXT: %[[R:.*]] = "tape.cast"(%[[S]]) {dtype = f16}
// CHECK-NEXT: %[[W:.*]] = "tape.cast"(%[[R]]) {dtype = f32}
// CHECK-NEXT: %[[M:.*]] = "tape.mul"(%[[W]], %[[Y]])
// CHECK-NEXT: %[[T:.*]] = "tape.cast"(%[[M]]) {dtype = f16}
// CHECK-NEXT: return %[[T]] : tensor<4xf16>
// NATIVE-LABEL: func.func @each_op_rounds(
// NATIVE-NEXT: "tape.add"(%0, %1) : (tensor<4xf16>, tensor<4xf16>)
// NATIVE-NEXT: "tape.mul"
// NATIVE-NEXT: return
func.func @each_op_rounds(%x: tensor<4xf16>, %y: tensor<4xf16>) -> tensor<4xf16> {
  %0 = "tape.add"(%x, %y) : (tensor<4xf16>, tensor<4xf16>) -> tensor<4xf16>
  %1 = "tape.mul"(%0, %y) : (tensor<4xf16>, tensor<4xf16>) -> tensor<4xf16>
  return %1 : tensor<4xf16>
}

// A machine that has the dtype still takes the formulas of a wider one, and adds up there.
// CHECK-LABEL: func.func @folds(
// CHECK: %[[E:.*]] = "tape.exp"({{.*}}) : (tensor<4xf32>)
// CHECK-NEXT: %[[R:.*]] = "tape.cast"(%[[E]]) {dtype = f16}
// CHECK-NEXT: %[[W:.*]] = "tape.cast"(%[[R]]) {dtype = f32}
// CHECK-NEXT: %[[S:.*]] = "tape.sum"(%[[W]]) {axes = [0 : i64]} : (tensor<4xf32>) -> tensor<f32>
// CHECK-NEXT: %[[T:.*]] = "tape.cast"(%[[S]]) {dtype = f16}
// CHECK-NEXT: return %[[T]]
// NATIVE-LABEL: func.func @folds(
// NATIVE: "tape.exp"({{.*}}) : (tensor<4xf32>)
// NATIVE: "tape.sum"({{.*}}) {axes = [0 : i64]} : (tensor<4xf32>)
func.func @folds(%x: tensor<4xf16>) -> tensor<f16> {
  %0 = "tape.exp"(%x) : (tensor<4xf16>) -> tensor<4xf16>
  %1 = "tape.sum"(%0) {axes = [0]} : (tensor<4xf16>) -> tensor<f16>
  return %1 : tensor<f16>
}

// Elements that move stay what they are. Casts go through the dtype that the narrow one accumulates in.
// CHECK-LABEL: func.func @moves(
// CHECK-NEXT: %[[F:.*]] = "tape.flip"(%0) {axes = [0 : i64]} : (tensor<4xbf16>) -> tensor<4xbf16>
// CHECK-NEXT: %[[A:.*]] = "tape.cast"(%1) {dtype = f32} : (tensor<4xf64>) -> tensor<4xf32>
// CHECK-NEXT: %[[B:.*]] = "tape.cast"(%[[A]]) {dtype = bf16}
// CHECK-NEXT: %[[W:.*]] = "tape.cast"(%[[F]]) {dtype = f32}
// CHECK-NEXT: %[[H:.*]] = "tape.cast"(%[[W]]) {dtype = f16}
// CHECK-NEXT: return %[[F]], %[[B]], %[[H]]
func.func @moves(%x: tensor<4xbf16>, %y: tensor<4xf64>) -> (tensor<4xbf16>, tensor<4xbf16>, tensor<4xf16>) {
  %0 = "tape.flip"(%x) {axes = [0]} : (tensor<4xbf16>) -> tensor<4xbf16>
  %1 = "tape.cast"(%y) {dtype = bf16} : (tensor<4xf64>) -> tensor<4xbf16>
  %2 = "tape.cast"(%0) {dtype = f16} : (tensor<4xbf16>) -> tensor<4xf16>
  return %0, %1, %2 : tensor<4xbf16>, tensor<4xbf16>, tensor<4xf16>
}

// What is not narrow is left alone.
// CHECK-LABEL: func.func @wide(
// CHECK-NEXT: "tape.add"(%0, %0) : (tensor<4xf64>, tensor<4xf64>)
// CHECK-NEXT: return
func.func @wide(%x: tensor<4xf64>) -> tensor<4xf64> {
  %0 = "tape.add"(%x, %x) : (tensor<4xf64>, tensor<4xf64>) -> tensor<4xf64>
  return %0 : tensor<4xf64>
}
