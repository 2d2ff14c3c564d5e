// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | diff %t -

// Every kind of attribute: numbers, booleans, types, arrays, strings, and floats to the last bit.
// CHECK-LABEL: func.func @attributes(
// CHECK-NEXT: "tape.constant"() {value = 0.1 : f64, dtype = f32} : () -> tensor<f32>
// CHECK-NEXT: "tape.constant"() {value = 1.0e+300 : f64, dtype = f64} : () -> tensor<f64>
// CHECK-NEXT: "tape.constant"() {value = 5.0e-324 : f64, dtype = f64} : () -> tensor<f64>
// CHECK-NEXT: "tape.constant"() {value = 0x7FF8000000000000 : f64, dtype = f32} : () -> tensor<f32>
// CHECK-NEXT: "tape.constant"() {value = 0xFFF0000000000000 : f64, dtype = f32} : () -> tensor<f32>
// CHECK-NEXT: "tape.constant"() {value = -7 : i64, dtype = i64} : () -> tensor<i64>
// CHECK-NEXT: "tape.constant"() {value = true, dtype = i1} : () -> tensor<i1>
// CHECK-NEXT: "tape.iota"() {shape = [2 : i64, 3 : i64], dim = 1 : i64, dtype = i32} : () -> tensor<2x3xi32>
// CHECK-NEXT: "tape.check_index"(%0) {size = 5 : i64, op = "getitem", what = "a \"quoted\" index", negative = false}
// CHECK-NEXT: "tape.sum"(%1) {axes = []}
func.func @attributes(%i: tensor<i64>, %x: tensor<4xf32>) -> (tensor<i64>, tensor<4xf32>) {
  %0 = "tape.constant"() {value = 0.1 : f64, dtype = f32} : () -> tensor<f32>
  %1 = "tape.constant"() {value = 1.0e300 : f64, dtype = f64} : () -> tensor<f64>
  %2 = "tape.constant"() {value = 5.0e-324 : f64, dtype = f64} : () -> tensor<f64>
  %3 = "tape.constant"() {value = 0x7FF8000000000000 : f64, dtype = f32} : () -> tensor<f32>
  %4 = "tape.constant"() {value = 0xFFF0000000000000 : f64, dtype = f32} : () -> tensor<f32>
  %5 = "tape.constant"() {value = -7 : i64, dtype = i64} : () -> tensor<i64>
  %6 = "tape.constant"() {value = true, dtype = i1} : () -> tensor<i1>
  %7 = "tape.iota"() {dtype = i32, dim = 1, shape = [2, 3]} : () -> tensor<2x3xi32>
  %8 = "tape.check_index"(%i) {size = 5, op = "getitem", what = "a \"quoted\" index", negative = false} : (tensor<i64>) -> tensor<i64>
  %9 = "tape.sum"(%x) {axes = []} : (tensor<4xf32>) -> tensor<4xf32>
  return %8, %9 : tensor<i64>, tensor<4xf32>
}

// Values are numbered in order; types without elements and without axes are types like others.
// CHECK-LABEL: func.func @names(
// CHECK-SAME: %0: tensor<0x3xf64>, %1: tensor<i1>)
// CHECK-NEXT: %2 = "tape.neg"(%0) : (tensor<0x3xf64>) -> tensor<0x3xf64>
// CHECK-NEXT: return %2, %1
func.func @names(%anything: tensor<0x3xf64>, %flag: tensor<i1>) -> (tensor<0x3xf64>, tensor<i1>) {
  %result = "tape.neg"(%anything) : (tensor<0x3xf64>) -> tensor<0x3xf64>
  return %result, %flag : tensor<0x3xf64>, tensor<i1>
}

// Output 1 takes the place of input 0: an update in place.
// CHECK-LABEL: func.func @updates(
// CHECK-SAME: attributes {tape.updates = {{\[\[}}1 : i64, 0 : i64]]}
// CHECK: return %1, %2
func.func @updates(%w: tensor<4xf32>, %g: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) attributes {tape.updates = [[1, 0]]} {
  %0 = "tape.sub"(%w, %g) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %g, %0 : tensor<4xf32>, tensor<4xf32>
}

// Lines of the user's program are kept; this file's own lines are not the user's.
// CHECK-LABEL: func.func @locations(
// CHECK-NEXT: "tape.exp"{{.*}} loc("train.py":12:0)
// CHECK-NEXT: "tape.log"
// CHECK-NOT: loc(
func.func @locations(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.exp"(%x) : (tensor<4xf32>) -> tensor<4xf32> loc("train.py":12:0)
  %1 = "tape.log"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}

// CHECK-LABEL: func.func @no_inputs() -> ()
// CHECK-NEXT: return
func.func @no_inputs() {
  return
}

// Extents that are known at run time only are `?` with an expression each, in types and in attributes; tape.sizes are the
// values of the symbols when the program was recorded.
// CHECK-LABEL: func.func @symbols(
// CHECK-SAME: %0: tensor<?x8xf32, ["s0"]>, %1: tensor<?x1x?xf32, ["s0 - 1", "max(2*s1, s0)"]>)
// CHECK-SAME: -> (tensor<?x8xf32, ["s0 - 1"]>, tensor<?x8xf32, ["2*s0 - 1"]>) attributes {tape.sizes = [5 : i64, 7 : i64]}
// CHECK-NEXT: "tape.slice"(%0) {starts = [1 : i64, 0 : i64], sizes = [{size = "s0 - 1"}, 8 : i64], steps = [1 : i64, 1 : i64]}
// CHECK-NEXT: "tape.concat"(%0, %2) {dim = 0 : i64} : (tensor<?x8xf32, ["s0"]>, tensor<?x8xf32, ["s0 - 1"]>) -> tensor<?x8xf32, ["2*s0 - 1"]>
func.func @symbols(%x: tensor<?x8xf32, ["s0"]>, %y: tensor<?x1x?xf32, ["s0 - 1", "max(s0, 2*s1)"]>) -> (tensor<?x8xf32, ["s0 - 1"]>, tensor<?x8xf32, ["2*s0 - 1"]>) attributes {tape.sizes = [5, 7]} {
  %0 = "tape.slice"(%x) {starts = [1, 0], sizes = [{size = "-1 + s0"}, 8], steps = [1, 1]} : (tensor<?x8xf32, ["s0"]>) -> tensor<?x8xf32, ["s0 - 1"]>
  %1 = "tape.concat"(%x, %0) {dim = 0} : (tensor<?x8xf32, ["s0"]>, tensor<?x8xf32, ["s0 - 1"]>) -> tensor<?x8xf32, ["2*s0 - 1"]>
  return %0, %1 : tensor<?x8xf32, ["s0 - 1"]>, tensor<?x8xf32, ["2*s0 - 1"]>
}
