// RUN: flambeau-opt %s --simplify --dead-code | filecheck %s
// What holds to the bit is applied. What would change one bit of one value is not: see simplify-not.mlir.

// An op that is left out would have made NaNs canonical: where its operand is an input that leaves the program, that remains.

// ---- neutral elements

// CHECK-LABEL: func.func @add_minus_zero
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%0)
// CHECK-NEXT: return %[[N]]
func.func @add_minus_zero(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.neg"(%0) : (tensor<f32>) -> tensor<f32>
  %2 = "tape.reshape"(%1) {shape = [1]} : (tensor<f32>) -> tensor<1xf32>
  %3 = "tape.broadcast"(%2) {shape = [4]} : (tensor<1xf32>) -> tensor<4xf32>
  %4 = "tape.add"(%x, %3) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %4 : tensor<4xf32>
}

// Nobody sees which NaN it was.
// CHECK-LABEL: func.func @unseen
// CHECK-NEXT: %[[E:.*]] = "tape.exp"(%0)
// CHECK-NEXT: return %[[E]]
func.func @unseen(%x: tensor<f64>) -> tensor<f64> {
  %0 = "tape.neg"(%x) : (tensor<f64>) -> tensor<f64>
  %1 = "tape.neg"(%0) : (tensor<f64>) -> tensor<f64>
  %2 = "tape.exp"(%1) : (tensor<f64>) -> tensor<f64>
  return %2 : tensor<f64>
}

// CHECK-LABEL: func.func @subtract_zero
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%0)
// CHECK-NEXT: return %[[N]]
func.func @subtract_zero(%x: tensor<f64>) -> tensor<f64> {
  %0 = "tape.constant"() {value = 0.0 : f64, dtype = f64} : () -> tensor<f64>
  %1 = "tape.sub"(%x, %0) : (tensor<f64>, tensor<f64>) -> tensor<f64>
  return %1 : tensor<f64>
}

// CHECK-LABEL: func.func @multiply_and_divide_by_one
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%0)
// CHECK-NEXT: return %[[N]]
func.func @multiply_and_divide_by_one(%x: tensor<f32>) -> tensor<f32> {
  %0 = "tape.constant"() {value = 1.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.mul"(%0, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %2 = "tape.div"(%1, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %2 : tensor<f32>
}

// CHECK-LABEL: func.func @integer_neutral_elements
// CHECK-NEXT: return %0
func.func @integer_neutral_elements(%x: tensor<i32>) -> tensor<i32> {
  %0 = "tape.constant"() {value = 0 : i64, dtype = i32} : () -> tensor<i32>
  %1 = "tape.constant"() {value = 1 : i64, dtype = i32} : () -> tensor<i32>
  %2 = "tape.add"(%0, %x) : (tensor<i32>, tensor<i32>) -> tensor<i32>
  %3 = "tape.sub"(%2, %0) : (tensor<i32>, tensor<i32>) -> tensor<i32>
  %4 = "tape.mul"(%3, %1) : (tensor<i32>, tensor<i32>) -> tensor<i32>
  return %4 : tensor<i32>
}

// ---- ops that undo, repeat or absorb

// CHECK-LABEL: func.func @involutions
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%0)
// CHECK-NEXT: return %[[N]], %1
func.func @involutions(%x: tensor<4xf32>, %c: tensor<4xi1>) -> (tensor<4xf32>, tensor<4xi1>) {
  %0 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.neg"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.not_"(%c) : (tensor<4xi1>) -> tensor<4xi1>
  %3 = "tape.not_"(%2) : (tensor<4xi1>) -> tensor<4xi1>
  return %1, %3 : tensor<4xf32>, tensor<4xi1>
}

// CHECK-LABEL: func.func @idempotent
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%0)
// CHECK-NEXT: return %[[N]], %1
func.func @idempotent(%x: tensor<4xf32>, %c: tensor<4xi1>) -> (tensor<4xf32>, tensor<4xi1>) {
  %0 = "tape.maximum"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.minimum"(%0, %0) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.and_"(%c, %c) : (tensor<4xi1>, tensor<4xi1>) -> tensor<4xi1>
  %3 = "tape.or_"(%2, %2) : (tensor<4xi1>, tensor<4xi1>) -> tensor<4xi1>
  return %1, %3 : tensor<4xf32>, tensor<4xi1>
}

// CHECK-LABEL: func.func @absolute_value_absorbs_signs
// CHECK-NEXT: %[[ABS:.*]] = "tape.abs"(%0)
// CHECK-NEXT: return %[[ABS]]
func.func @absolute_value_absorbs_signs(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.abs"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.abs"(%1) : (tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}

// CHECK-LABEL: func.func @select_by_a_constant
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%0)
// CHECK-NEXT: %[[M:.*]] = "tape.canonical_nan"(%1)
// CHECK-NEXT: return %[[N]], %[[M]]
func.func @select_by_a_constant(%x: tensor<f32>, %y: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %true = "tape.constant"() {value = true, dtype = i1} : () -> tensor<i1>
  %false = "tape.not_"(%true) : (tensor<i1>) -> tensor<i1>
  %0 = "tape.select"(%true, %x, %y) : (tensor<i1>, tensor<f32>, tensor<f32>) -> tensor<f32>
  %1 = "tape.select"(%false, %x, %y) : (tensor<i1>, tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}

// CHECK-LABEL: func.func @select_equal_or_negated
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%1)
// CHECK-NEXT: %[[S:.*]] = "tape.select"(%0, %2, %1)
// CHECK-NEXT: return %[[N]], %[[S]]
func.func @select_equal_or_negated(%c: tensor<4xi1>, %x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %0 = "tape.select"(%c, %x, %x) : (tensor<4xi1>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.not_"(%c) : (tensor<4xi1>) -> tensor<4xi1>
  %2 = "tape.select"(%1, %x, %y) : (tensor<4xi1>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0, %2 : tensor<4xf32>, tensor<4xf32>
}

// CHECK-LABEL: func.func @casts_that_lose_nothing
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%0)
// CHECK-NEXT: %[[A:.*]] = "tape.cast"(%1) {dtype = f32} : (tensor<4xi32>) -> tensor<4xf32>
// CHECK-NEXT: return %[[N]], %[[A]], %1
func.func @casts_that_lose_nothing(%x: tensor<4xf32>, %i: tensor<4xi32>) -> (tensor<4xf32>, tensor<4xf32>, tensor<4xi32>) {
  %0 = "tape.cast"(%x) {dtype = f64} : (tensor<4xf32>) -> tensor<4xf64>
  %1 = "tape.cast"(%0) {dtype = f32} : (tensor<4xf64>) -> tensor<4xf32>
  %2 = "tape.cast"(%i) {dtype = i64} : (tensor<4xi32>) -> tensor<4xi64>
  %3 = "tape.cast"(%2) {dtype = f32} : (tensor<4xi64>) -> tensor<4xf32>
  %4 = "tape.cast"(%i) {dtype = f64} : (tensor<4xi32>) -> tensor<4xf64>
  %5 = "tape.cast"(%4) {dtype = i32} : (tensor<4xf64>) -> tensor<4xi32>
  return %1, %3, %5 : tensor<4xf32>, tensor<4xf32>, tensor<4xi32>
}

// ---- constants, in the arithmetic of their dtype

// CHECK-LABEL: func.func @fold_rounds_to_the_dtype
// CHECK-DAG: value = 0.30000001192092896 : f64, dtype = f32
// CHECK-DAG: value = 0.30000000000000004 : f64, dtype = f64
// CHECK-NOT: "tape.add"
func.func @fold_rounds_to_the_dtype() -> (tensor<f32>, tensor<f64>) {
  %0 = "tape.constant"() {value = 0.1 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.constant"() {value = 0.2 : f64, dtype = f32} : () -> tensor<f32>
  %2 = "tape.add"(%0, %1) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %3 = "tape.constant"() {value = 0.1 : f64, dtype = f64} : () -> tensor<f64>
  %4 = "tape.constant"() {value = 0.2 : f64, dtype = f64} : () -> tensor<f64>
  %5 = "tape.add"(%3, %4) : (tensor<f64>, tensor<f64>) -> tensor<f64>
  return %2, %5 : tensor<f32>, tensor<f64>
}

// CHECK-LABEL: func.func @fold_wraps_integers
// CHECK-NEXT: %[[C:.*]] = "tape.constant"() {value = -2147483648 : i64, dtype = i32}
// CHECK-NEXT: return %[[C]]
func.func @fold_wraps_integers() -> tensor<i32> {
  %0 = "tape.constant"() {value = 2147483647 : i64, dtype = i32} : () -> tensor<i32>
  %1 = "tape.constant"() {value = 1 : i64, dtype = i32} : () -> tensor<i32>
  %2 = "tape.add"(%0, %1) : (tensor<i32>, tensor<i32>) -> tensor<i32>
  return %2 : tensor<i32>
}

// A NaN and an infinity are constants like others; a cast of NaN to an integer is 0, one of infinity saturates.
// CHECK-LABEL: func.func @fold_special_values
// CHECK-DAG: %[[NAN:.*]] = "tape.constant"() {value = 0x{{[7F]}}FF8000000000000 : f64, dtype = f32}
// CHECK-DAG: %[[INF:.*]] = "tape.constant"() {value = 0x7FF0000000000000 : f64, dtype = f32}
// CHECK-DAG: %[[ZERO:.*]] = "tape.constant"() {value = 0 : i64, dtype = i32}
// CHECK-DAG: %[[MOST:.*]] = "tape.constant"() {value = 2147483647 : i64, dtype = i32}
// CHECK: return %[[NAN]], %[[INF]], %[[ZERO]], %[[MOST]]
func.func @fold_special_values() -> (tensor<f32>, tensor<f32>, tensor<i32>, tensor<i32>) {
  %0 = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.constant"() {value = 1.0 : f64, dtype = f32} : () -> tensor<f32>
  %2 = "tape.div"(%0, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %3 = "tape.div"(%1, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %4 = "tape.cast"(%2) {dtype = i32} : (tensor<f32>) -> tensor<i32>
  %5 = "tape.cast"(%3) {dtype = i32} : (tensor<f32>) -> tensor<i32>
  return %2, %3, %4, %5 : tensor<f32>, tensor<f32>, tensor<i32>, tensor<i32>
}

// The zero behind a minus is followed through ops: 1 / -0.0 is -inf, and sqrt(-0.0) is -0.0.
// CHECK-LABEL: func.func @fold_minus_zero
// CHECK: %[[Z:.*]] = "tape.constant"() {value = 0.0 : f64, dtype = f32}
// CHECK: %[[MINUS:.*]] = "tape.neg"(%[[Z]])
// CHECK: %[[INF:.*]] = "tape.constant"() {value = 0xFFF0000000000000 : f64, dtype = f32}
// CHECK: return %[[MINUS]], %[[INF]]
func.func @fold_minus_zero() -> (tensor<f32>, tensor<f32>) {
  %0 = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.constant"() {value = 1.0 : f64, dtype = f32} : () -> tensor<f32>
  %2 = "tape.neg"(%0) : (tensor<f32>) -> tensor<f32>
  %3 = "tape.div"(%1, %2) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %2, %3 : tensor<f32>, tensor<f32>
}

// A constant over a shape is one constant, one reshape, one broadcast, however it came to be.
// CHECK-LABEL: func.func @constants_over_shapes
// CHECK-NEXT: %[[C:.*]] = "tape.constant"() {value = 6.0 : f64, dtype = f32}
// CHECK-NEXT: %[[U:.*]] = "tape.reshape"(%[[C]]) {shape = [1 : i64, 1 : i64]}
// CHECK-NEXT: %[[B:.*]] = "tape.broadcast"(%[[U]]) {shape = [3 : i64, 2 : i64]}
// CHECK-NEXT: return %[[B]]
func.func @constants_over_shapes() -> tensor<3x2xf32> {
  %0 = "tape.constant"() {value = 3.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.add"(%0, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %2 = "tape.reshape"(%1) {shape = [1]} : (tensor<f32>) -> tensor<1xf32>
  %3 = "tape.broadcast"(%2) {shape = [6]} : (tensor<1xf32>) -> tensor<6xf32>
  %4 = "tape.reshape"(%3) {shape = [2, 3]} : (tensor<6xf32>) -> tensor<2x3xf32>
  %5 = "tape.permute"(%4) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %6 = "tape.flip"(%5) {axes = [0]} : (tensor<3x2xf32>) -> tensor<3x2xf32>
  return %6 : tensor<3x2xf32>
}

// ---- one element everywhere

// What is done to numbers that are stretched is done once, and the result is stretched; what has one operand of its own elements is left.
// CHECK-LABEL: func.func @stretched_numbers
// CHECK-NEXT: %[[S:.*]] = "tape.mul"(%0, %1) : (tensor<f32>, tensor<f32>)
// CHECK-NEXT: %[[E:.*]] = "tape.exp"(%[[S]]) : (tensor<f32>) -> tensor<f32>
// CHECK-NEXT: %[[U:.*]] = "tape.reshape"(%[[E]]) {shape = [1 : i64, 1 : i64]}
// CHECK-NEXT: %[[B:.*]] = "tape.broadcast"(%[[U]]) {shape = [2 : i64, 3 : i64]}
// CHECK-NEXT: %[[A:.*]] = "tape.add"(%[[B]], %2)
// CHECK-NEXT: return %[[A]]
func.func @stretched_numbers(%s: tensor<f32>, %t: tensor<f32>, %x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = "tape.reshape"(%s) {shape = [1, 1]} : (tensor<f32>) -> tensor<1x1xf32>
  %1 = "tape.broadcast"(%0) {shape = [2, 3]} : (tensor<1x1xf32>) -> tensor<2x3xf32>
  %2 = "tape.reshape"(%t) {shape = [1]} : (tensor<f32>) -> tensor<1xf32>
  %3 = "tape.broadcast"(%2) {shape = [6]} : (tensor<1xf32>) -> tensor<6xf32>
  %4 = "tape.reshape"(%3) {shape = [2, 3]} : (tensor<6xf32>) -> tensor<2x3xf32>
  %5 = "tape.mul"(%1, %4) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %6 = "tape.exp"(%5) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %7 = "tape.add"(%6, %x) : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  return %7 : tensor<2x3xf32>
}

// ---- views of views

// CHECK-LABEL: func.func @views_that_do_nothing
// CHECK-NEXT: return %0, %0, %0, %0, %0
func.func @views_that_do_nothing(%x: tensor<2x3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>) {
  %0 = "tape.reshape"(%x) {shape = [2, 3]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %1 = "tape.permute"(%x) {perm = [0, 1]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %2 = "tape.slice"(%x) {starts = [0, 0], sizes = [2, 3], steps = [1, 1]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %3 = "tape.flip"(%x) {axes = []} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %4 = "tape.broadcast"(%x) {shape = [2, 3]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %0, %1, %2, %3, %4 : tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<2x3xf32>
}

// CHECK-LABEL: func.func @views_of_views
// CHECK-DAG: "tape.reshape"(%0) {shape = [24 : i64]}
// CHECK-DAG: "tape.permute"(%0) {perm = [2 : i64, 1 : i64, 0 : i64]}
// CHECK-DAG: "tape.slice"(%1) {starts = [5 : i64], sizes = [2 : i64], steps = [6 : i64]}
// CHECK-DAG: "tape.flip"(%0) {axes = [0 : i64, 2 : i64]}
func.func @views_of_views(%x: tensor<2x3x4xf32>, %y: tensor<20xf32>) -> (tensor<24xf32>, tensor<4x3x2xf32>, tensor<2xf32>, tensor<2x3x4xf32>) {
  %0 = "tape.reshape"(%x) {shape = [6, 4]} : (tensor<2x3x4xf32>) -> tensor<6x4xf32>
  %1 = "tape.reshape"(%0) {shape = [24]} : (tensor<6x4xf32>) -> tensor<24xf32>
  %2 = "tape.permute"(%x) {perm = [1, 0, 2]} : (tensor<2x3x4xf32>) -> tensor<3x2x4xf32>
  %3 = "tape.permute"(%2) {perm = [2, 0, 1]} : (tensor<3x2x4xf32>) -> tensor<4x3x2xf32>
  %4 = "tape.slice"(%y) {starts = [3], sizes = [8], steps = [2]} : (tensor<20xf32>) -> tensor<8xf32>
  %5 = "tape.slice"(%4) {starts = [1], sizes = [2], steps = [3]} : (tensor<8xf32>) -> tensor<2xf32>
  %6 = "tape.flip"(%x) {axes = [0, 1]} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  %7 = "tape.flip"(%6) {axes = [1, 2]} : (tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  return %1, %3, %5, %7 : tensor<24xf32>, tensor<4x3x2xf32>, tensor<2xf32>, tensor<2x3x4xf32>
}

// CHECK-LABEL: func.func @unit_axes
// CHECK-NEXT: %[[P:.*]] = "tape.reshape"(%0) {shape = [2 : i64, 1 : i64, 3 : i64]}
// CHECK-NEXT: %[[F:.*]] = "tape.flip"(%0) {axes = [1 : i64]}
// CHECK-NEXT: return %[[P]], %[[F]], %0
func.func @unit_axes(%x: tensor<1x2x3xf32>) -> (tensor<2x1x3xf32>, tensor<1x2x3xf32>, tensor<1x2x3xf32>) {
  %0 = "tape.permute"(%x) {perm = [1, 0, 2]} : (tensor<1x2x3xf32>) -> tensor<2x1x3xf32>
  %1 = "tape.flip"(%x) {axes = [0, 1]} : (tensor<1x2x3xf32>) -> tensor<1x2x3xf32>
  %2 = "tape.flip"(%x) {axes = [0]} : (tensor<1x2x3xf32>) -> tensor<1x2x3xf32>
  return %0, %1, %2 : tensor<2x1x3xf32>, tensor<1x2x3xf32>, tensor<1x2x3xf32>
}

// A start that is a constant makes a static slice, moved to where the window fits.
// CHECK-LABEL: func.func @constant_starts
// CHECK-NEXT: "tape.slice"(%0) {starts = [7 : i64], sizes = [3 : i64], steps = [1 : i64]}
// CHECK-NEXT: "tape.slice"(%0) {starts = [0 : i64], sizes = [3 : i64], steps = [1 : i64]}
// CHECK-NEXT: return
func.func @constant_starts(%x: tensor<10xf32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %0 = "tape.constant"() {value = 9 : i64, dtype = i64} : () -> tensor<i64>
  %1 = "tape.constant"() {value = -4 : i64, dtype = i64} : () -> tensor<i64>
  %2 = "tape.dynamic_slice"(%x, %0) {sizes = [3], steps = [1]} : (tensor<10xf32>, tensor<i64>) -> tensor<3xf32>
  %3 = "tape.dynamic_slice"(%x, %1) {sizes = [3], steps = [1]} : (tensor<10xf32>, tensor<i64>) -> tensor<3xf32>
  return %2, %3 : tensor<3xf32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @assembled_from_one
// CHECK-NEXT: return %0, %1
func.func @assembled_from_one(%x: tensor<4xf32>, %y: tensor<4xf32>, %z: tensor<f32>, %start: tensor<i64>) -> (tensor<4xf32>, tensor<4xf32>) {
  %0 = "tape.pad"(%x, %z) {low = [0], high = [0]} : (tensor<4xf32>, tensor<f32>) -> tensor<4xf32>
  %1 = "tape.update_slice"(%x, %y, %start) {steps = [1]} : (tensor<4xf32>, tensor<4xf32>, tensor<i64>) -> tensor<4xf32>
  return %0, %1 : tensor<4xf32>, tensor<4xf32>
}
