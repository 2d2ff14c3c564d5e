// RUN: flambeau-opt %s --simplify --dead-code | filecheck %s
// Identities of the real numbers that are not identities of floating-point ones (or not of every integer): all stay.

// -0.0 + 0.0 is 0.0, so adding 0.0 is no identity; neither is subtracting -0.0.
// CHECK-LABEL: func.func @add_zero
// CHECK: %[[Z:.*]] = "tape.constant"
// CHECK: %[[N:.*]] = "tape.neg"(%[[Z]])
// CHECK: %[[A:.*]] = "tape.add"(%0, %[[Z]])
// CHECK: %[[B:.*]] = "tape.sub"(%0, %[[N]])
// CHECK: return %[[A]], %[[B]]
func.func @add_zero(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.neg"(%0) : (tensor<f32>) -> tensor<f32>
  %2 = "tape.add"(%x, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %3 = "tape.sub"(%x, %1) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %2, %3 : tensor<f32>, tensor<f32>
}

// 0.0 - 0.0 is 0.0, but -(0.0) is not.
// CHECK-LABEL: func.func @subtract_from_zero
// CHECK: "tape.sub"
func.func @subtract_from_zero(%x: tensor<f32>) -> tensor<f32> {
  %0 = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.sub"(%0, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %1 : tensor<f32>
}

// NaN and infinity times 0.0 are NaN, -1.0 * 0.0 is -0.0.
// CHECK-LABEL: func.func @multiply_by_zero
// CHECK: "tape.mul"
func.func @multiply_by_zero(%x: tensor<f32>) -> tensor<f32> {
  %0 = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.mul"(%x, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %1 : tensor<f32>
}

// The same of a NaN or an infinity is neither 0, nor 1, nor equal to itself.
// CHECK-LABEL: func.func @same_operands
// CHECK: "tape.sub"
// CHECK: "tape.div"
// CHECK: "tape.eq"
func.func @same_operands(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<i1>) {
  %0 = "tape.sub"(%x, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %1 = "tape.div"(%x, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %2 = "tape.eq"(%x, %x) : (tensor<f32>, tensor<f32>) -> tensor<i1>
  return %0, %1, %2 : tensor<f32>, tensor<f32>, tensor<i1>
}

// Division is not multiplication by the inverse: 1/3 is rounded once more.
// CHECK-LABEL: func.func @divide_by_three
// CHECK: "tape.div"
func.func @divide_by_three(%x: tensor<f32>) -> tensor<f32> {
  %0 = "tape.constant"() {value = 3.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.div"(%x, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %1 : tensor<f32>
}

// (x + 1) + 1, (x + y) - y and 2 x + 2 y each round where they are written.
// CHECK-LABEL: func.func @no_reassociation
// CHECK: %[[A:.*]] = "tape.add"(%0, %[[ONE:.*]])
// CHECK: %[[B:.*]] = "tape.add"(%[[A]], %[[ONE]])
// CHECK: %[[C:.*]] = "tape.add"(%0, %1)
// CHECK: %[[D:.*]] = "tape.sub"(%[[C]], %1)
// CHECK: "tape.mul"
// CHECK: "tape.mul"
// CHECK: "tape.add"
func.func @no_reassociation(%x: tensor<f32>, %y: tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>) {
  %0 = "tape.constant"() {value = 1.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.add"(%x, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %2 = "tape.add"(%1, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %3 = "tape.add"(%x, %y) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %4 = "tape.sub"(%3, %y) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %two = "tape.constant"() {value = 2.0 : f64, dtype = f32} : () -> tensor<f32>
  %5 = "tape.mul"(%x, %two) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %6 = "tape.mul"(%y, %two) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %7 = "tape.add"(%5, %6) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %2, %4, %7 : tensor<f32>, tensor<f32>, tensor<f32>
}

// Functions that undo each other over the reals do not undo each other's rounding.
// CHECK-LABEL: func.func @inverse_functions
// CHECK: "tape.exp"
// CHECK: "tape.log"
// CHECK: "tape.sqrt"
// CHECK: "tape.mul"
func.func @inverse_functions(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "tape.exp"(%x) : (tensor<f32>) -> tensor<f32>
  %1 = "tape.log"(%0) : (tensor<f32>) -> tensor<f32>
  %2 = "tape.sqrt"(%x) : (tensor<f32>) -> tensor<f32>
  %3 = "tape.mul"(%2, %2) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %1, %3 : tensor<f32>, tensor<f32>
}

// Casts that round, wrap or saturate on the way.
// CHECK-LABEL: func.func @casts_that_lose
// CHECK-COUNT-6: "tape.cast"
// CHECK: return
func.func @casts_that_lose(%x: tensor<f64>, %i: tensor<i32>, %l: tensor<i64>) -> (tensor<f64>, tensor<i32>, tensor<i64>) {
  %0 = "tape.cast"(%x) {dtype = f32} : (tensor<f64>) -> tensor<f32>
  %1 = "tape.cast"(%0) {dtype = f64} : (tensor<f32>) -> tensor<f64>
  %2 = "tape.cast"(%i) {dtype = f32} : (tensor<i32>) -> tensor<f32>
  %3 = "tape.cast"(%2) {dtype = i32} : (tensor<f32>) -> tensor<i32>
  %4 = "tape.cast"(%l) {dtype = f64} : (tensor<i64>) -> tensor<f64>
  %5 = "tape.cast"(%4) {dtype = i64} : (tensor<f64>) -> tensor<i64>
  return %1, %3, %5 : tensor<f64>, tensor<i32>, tensor<i64>
}

// A function whose reference is not the compiled code's bits is left for the compiled code, constant or not.
// CHECK-LABEL: func.func @inexact_functions
// CHECK: "tape.exp"
// CHECK: "tape.pow"
func.func @inexact_functions() -> (tensor<f32>, tensor<f32>) {
  %0 = "tape.constant"() {value = 1.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.exp"(%0) : (tensor<f32>) -> tensor<f32>
  %2 = "tape.pow"(%0, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %1, %2 : tensor<f32>, tensor<f32>
}

// What may fail stays, however constant: integer division by zero raises when it runs.
// CHECK-LABEL: func.func @fallible
// CHECK: "tape.int_div"
// CHECK: "tape.int_rem"
func.func @fallible(%x: tensor<i32>) -> (tensor<i32>, tensor<i32>) {
  %0 = "tape.constant"() {value = 0 : i64, dtype = i32} : () -> tensor<i32>
  %1 = "tape.constant"() {value = 7 : i64, dtype = i32} : () -> tensor<i32>
  %2 = "tape.int_div"(%1, %0) : (tensor<i32>, tensor<i32>) -> tensor<i32>
  %3 = "tape.int_rem"(%x, %0) : (tensor<i32>, tensor<i32>) -> tensor<i32>
  return %2, %3 : tensor<i32>, tensor<i32>
}

// A minus zero must not become a constant: 0.0 is what the attribute would say.
// CHECK-LABEL: func.func @minus_zero
// CHECK: "tape.constant"() {value = 0.0
// CHECK-NEXT: "tape.neg"
// CHECK: "tape.mul"
// CHECK: return
func.func @minus_zero() -> (tensor<2xf32>, tensor<f32>) {
  %0 = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.neg"(%0) : (tensor<f32>) -> tensor<f32>
  %2 = "tape.reshape"(%1) {shape = [1]} : (tensor<f32>) -> tensor<1xf32>
  %3 = "tape.broadcast"(%2) {shape = [2]} : (tensor<1xf32>) -> tensor<2xf32>
  %4 = "tape.constant"() {value = -3.0 : f64, dtype = f32} : () -> tensor<f32>
  %5 = "tape.mul"(%0, %4) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %3, %5 : tensor<2xf32>, tensor<f32>
}

// Views that look alike: a moved axis that is long, a padding, a partial update, a start known only at run time.
// CHECK-LABEL: func.func @views_that_do_something
// CHECK-NEXT: "tape.permute"
// CHECK-NEXT: "tape.pad"
// CHECK-NEXT: "tape.update_slice"
// CHECK-NEXT: "tape.dynamic_slice"
// CHECK-NEXT: "tape.flip"
// CHECK-NEXT: return
func.func @views_that_do_something(%x: tensor<2x3xf32>, %y: tensor<4xf32>, %u: tensor<3xf32>, %z: tensor<f32>, %start: tensor<i64>) -> (tensor<3x2xf32>, tensor<5xf32>, tensor<4xf32>, tensor<3xf32>, tensor<4xf32>) {
  %0 = "tape.permute"(%x) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %1 = "tape.pad"(%y, %z) {low = [0], high = [1]} : (tensor<4xf32>, tensor<f32>) -> tensor<5xf32>
  %2 = "tape.update_slice"(%y, %u, %start) {steps = [1]} : (tensor<4xf32>, tensor<3xf32>, tensor<i64>) -> tensor<4xf32>
  %3 = "tape.dynamic_slice"(%y, %start) {sizes = [3], steps = [1]} : (tensor<4xf32>, tensor<i64>) -> tensor<3xf32>
  %4 = "tape.flip"(%y) {axes = [0]} : (tensor<4xf32>) -> tensor<4xf32>
  return %0, %1, %2, %3, %4 : tensor<3x2xf32>, tensor<5xf32>, tensor<4xf32>, tensor<3xf32>, tensor<4xf32>
}
