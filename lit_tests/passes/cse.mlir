// RUN: flambeau-opt %s --cse | filecheck %s

// Equal ops on equal operands become one, in either order of a commutative op's operands.
// CHECK-LABEL: func.func @commutative
// CHECK: %[[SUM:.*]] = "tape.add"
// CHECK-NEXT: "tape.mul"(%[[SUM]], %[[SUM]])
func.func @commutative(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.add"(%x, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.add"(%y, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.mul"(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}

// Chains are equal when their links are.
// CHECK-LABEL: func.func @chains
// CHECK: %[[E:.*]] = "tape.exp"(%0)
// CHECK-NEXT: %[[S:.*]] = "tape.sum"(%[[E]]) {axes = [1 : i64]}
// CHECK-NEXT: return %[[S]], %[[S]]
func.func @chains(%x: tensor<4x4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %0 = "tape.exp"(%x) : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %1 = "tape.exp"(%x) : (tensor<4x4xf32>) -> tensor<4x4xf32>
  %2 = "tape.sum"(%0) {axes = [1]} : (tensor<4x4xf32>) -> tensor<4xf32>
  %3 = "tape.sum"(%1) {axes = [1]} : (tensor<4x4xf32>) -> tensor<4xf32>
  return %2, %3 : tensor<4xf32>, tensor<4xf32>
}

// The order of operands matters to these. (maximum: of -0.0 and 0.0 the order decides.)
// CHECK-LABEL: func.func @ordered_operands
// CHECK-COUNT-2: "tape.sub"
// CHECK-COUNT-2: "tape.maximum"
func.func @ordered_operands(%x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) {
  %0 = "tape.sub"(%x, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.sub"(%y, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.maximum"(%x, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %3 = "tape.maximum"(%y, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0, %1, %2, %3 : tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>
}

// Attributes that differ keep ops apart, also those that Python calls equal: 1, 1.0 and true.
// CHECK-LABEL: func.func @attributes
// CHECK-COUNT-3: "tape.constant"
// CHECK-COUNT-2: "tape.sum"
// CHECK-COUNT-2: "tape.cast"
func.func @attributes(%x: tensor<4x4xf32>) -> (tensor<f32>, tensor<i32>, tensor<i1>, tensor<4xf32>, tensor<4xf32>, tensor<4x4xi32>, tensor<4x4xi64>) {
  %0 = "tape.constant"() {value = 1.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.constant"() {value = 1 : i64, dtype = i32} : () -> tensor<i32>
  %2 = "tape.constant"() {value = true, dtype = i1} : () -> tensor<i1>
  %3 = "tape.sum"(%x) {axes = [0]} : (tensor<4x4xf32>) -> tensor<4xf32>
  %4 = "tape.sum"(%x) {axes = [1]} : (tensor<4x4xf32>) -> tensor<4xf32>
  %5 = "tape.cast"(%x) {dtype = i32} : (tensor<4x4xf32>) -> tensor<4x4xi32>
  %6 = "tape.cast"(%x) {dtype = i64} : (tensor<4x4xf32>) -> tensor<4x4xi64>
  return %0, %1, %2, %3, %4, %5, %6 : tensor<f32>, tensor<i32>, tensor<i1>, tensor<4xf32>, tensor<4xf32>, tensor<4x4xi32>, tensor<4x4xi64>
}

// An op that may fail is merged too: the earlier of two equal ones fails first, and its line is the one to name.
// CHECK-LABEL: func.func @fallible
// CHECK: %[[Q:.*]] = "tape.int_div"(%0, %1) {{.*}} loc("model.py":3:0)
// CHECK-NEXT: return %[[Q]], %[[Q]]
func.func @fallible(%x: tensor<4xi32>, %y: tensor<4xi32>) -> (tensor<4xi32>, tensor<4xi32>) {
  %0 = "tape.int_div"(%x, %y) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32> loc("model.py":3:0)
  %1 = "tape.int_div"(%x, %y) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32> loc("model.py":8:0)
  return %0, %1 : tensor<4xi32>, tensor<4xi32>
}

// The inputs of a program are different even where their types agree, and so is what is made of them.
// CHECK-LABEL: func.func @inputs
// CHECK-COUNT-2: "tape.exp"
func.func @inputs(%x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %0 = "tape.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.exp"(%y) : (tensor<4xf32>) -> tensor<4xf32>
  return %0, %1 : tensor<4xf32>, tensor<4xf32>
}
