// RUN: not flambeau-opt %s 2>&1 | filecheck %s
// Every part is refused by itself, with the line it is on and the record's own words.

// The result type is not what the operands give.
// CHECK: invalid.mlir:7:8: [add] result is tensor<3xf32>, but the operands give tensor<4xf32>.
func.func @f(%x: tensor<4xf32>) -> tensor<3xf32> {
  %0 = "tape.add"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

// Nor the dtype: a comparison gives truth values.
// CHECK: [lt] result is tensor<4xf32>, but the operands give tensor<4xi1>.
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.lt"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

// Operands of two shapes, and of two dtypes.
// CHECK: [add] operands have shapes (4,) and (3,).
func.func @f(%x: tensor<4xf32>, %y: tensor<3xf32>) {
  %0 = "tape.add"(%x, %y) : (tensor<4xf32>, tensor<3xf32>) -> tensor<4xf32>
  return
}

// -----

// CHECK: [mul] operands have dtypes float32 and float64.
func.func @f(%x: tensor<4xf32>, %y: tensor<4xf64>) {
  %0 = "tape.mul"(%x, %y) : (tensor<4xf32>, tensor<4xf64>) -> tensor<4xf32>
  return
}

// -----

// A dtype that the op does not take.
// CHECK: [exp] operand has dtype int32
func.func @f(%x: tensor<4xi32>) {
  %0 = "tape.exp"(%x) : (tensor<4xi32>) -> tensor<4xi32>
  return
}

// -----

// Too few operands, too many, and too many results.
// CHECK: [add] takes 2 operand(s), got 1.
func.func @f(%x: tensor<4xf32>) {
  %0 = "tape.add"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

// CHECK: [sum] takes x, got 2 operand(s).
func.func @f(%x: tensor<4xf32>) {
  %0 = "tape.sum"(%x, %x) {axes = [0]} : (tensor<4xf32>, tensor<4xf32>) -> tensor<f32>
  return
}

// -----

// CHECK: [neg] result is tensor<4xf32>, tensor<4xf32>, but the operands give tensor<4xf32>.
func.func @f(%x: tensor<4xf32>) {
  %0:2 = "tape.neg"(%x) : (tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
  return
}

// -----

// An attribute that is missing, of the wrong kind, out of range, repeated.
// CHECK: [sum] attribute 'axes' is missing. Attributes are ['axes'].
func.func @f(%x: tensor<4xf32>) {
  %0 = "tape.sum"(%x) : (tensor<4xf32>) -> tensor<f32>
  return
}

// -----

// CHECK: [sum] bad attributes: {{.*}} Give ['axes'] as the op's record says.
func.func @f(%x: tensor<4xf32>) {
  %0 = "tape.sum"(%x) {axes = 0} : (tensor<4xf32>) -> tensor<f32>
  return
}

// -----

// CHECK: [tape] attribute dense<0> : tensor<1xi64> is of no kind that ops use.
func.func @f(%x: tensor<4xf32>) {
  %0 = "tape.sum"(%x) {axes = dense<0> : tensor<1xi64>} : (tensor<4xf32>) -> tensor<f32>
  return
}

// -----

// CHECK: [sum] axis 1 is out of range for an operand of rank 1.
func.func @f(%x: tensor<4xf32>) {
  %0 = "tape.sum"(%x) {axes = [1]} : (tensor<4xf32>) -> tensor<f32>
  return
}

// -----

// CHECK: [permute] 
func.func @f(%x: tensor<4x4xf32>) {
  %0 = "tape.permute"(%x) {perm = [0, 0]} : (tensor<4x4xf32>) -> tensor<4x4xf32>
  return
}

// -----

// A reshape that would lose elements, a product whose sizes do not meet.
// CHECK: [reshape] 
func.func @f(%x: tensor<4xf32>) {
  %0 = "tape.reshape"(%x) {shape = [3]} : (tensor<4xf32>) -> tensor<3xf32>
  return
}

// -----

// CHECK: [matmul] 
func.func @f(%x: tensor<4x5xf32>) {
  %0 = "tape.matmul"(%x, %x) : (tensor<4x5xf32>, tensor<4x5xf32>) -> tensor<4x5xf32>
  return
}

// -----

// Constants that their dtype does not hold. -0.0 is written as a negation.
// CHECK: [constant] 'one' is no number.
func.func @f() {
  %0 = "tape.constant"() {value = "one", dtype = f32} : () -> tensor<f32>
  return
}

// -----

// CHECK: [constant] 2147483648 is not a value of int32.
func.func @f() {
  %0 = "tape.constant"() {value = 2147483648, dtype = i32} : () -> tensor<i32>
  return
}

// -----

// CHECK: [constant] -0.0 equals 0.0 and would be merged with it.
func.func @f() {
  %0 = "tape.constant"() {value = -0.0, dtype = f32} : () -> tensor<f32>
  return
}

// -----

// CHECK: [tape] tensor<2xf32> is no element type of ours.
func.func @f() {
  %0 = "tape.constant"() {value = 1.0, dtype = tensor<2xf32>} : () -> tensor<f32>
  return
}

// -----

// Ops that nobody knows, of this dialect and of others.
// CHECK: tape.frobnicate
func.func @f(%x: tensor<4xf32>) {
  %0 = "tape.frobnicate"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

// CHECK: [tape] arith.constant at loc("{{.*}}invalid.mlir":{{[0-9]+}}:8) is not an op of the tape dialect.
func.func @f() {
  %0 = arith.constant 1 : i32
  return
}

// -----

// CHECK: [tape] llvm.func at {{.*}} is no program.
llvm.func @f()

// -----

// Types that are no tensors of known extents and supported elements.
// CHECK: [tape] f32 is not a ranked tensor.
func.func @f(%x: f32) {
  return
}

// -----

// CHECK: [tape] tensor<?xf32> has unknown extents. Give an expression for each, as in tensor<?xf32, ["s0"]>.
func.func @f(%x: tensor<?xf32>) {
  return
}

// -----

// CHECK: [tape] i7 is no element type of ours.
func.func @f(%x: tensor<4xi7>) {
  return
}

// -----

// Bodies: none, and two.
// CHECK: [tape] the function at {{.*}} has 0 blocks.
func.func private @f(tensor<4xf32>)

// -----

// CHECK: [tape] the function at {{.*}} has 2 blocks.
func.func @f() {
  return
^bb1:
  return
}

// -----

// Updates: of no list, of an output that is not there, of an input that is not there.
// CHECK: [tape] tape.updates is 1 : i64. Give pairs [output, input] by position, below 1 and 1.
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> attributes {tape.updates = 1} {
  return %x : tensor<4xf32>
}

// -----

// CHECK: [tape] tape.updates is {{.*}} below 1 and 1.
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> attributes {tape.updates = [[1, 0]]} {
  return %x : tensor<4xf32>
}

// -----

// CHECK: [tape] tape.updates is {{.*}} below 1 and 1.
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> attributes {tape.updates = [[0, -1]]} {
  return %x : tensor<4xf32>
}

// -----

// Text that is no MLIR, a value that is not there, a return of another type, two functions of one name, no function.
// CHECK: expected
func.func @f( {

// -----

// CHECK: use of undeclared SSA value name
func.func @f(%x: tensor<4xf32>) {
  %0 = "tape.neg"(%y) : (tensor<4xf32>) -> tensor<4xf32>
  return
}

// -----

// CHECK: type of return operand 0 ('tensor<4xf32>') doesn't match function result type ('tensor<4xf64>')
func.func @f(%x: tensor<4xf32>) -> tensor<4xf64> {
  return %x : tensor<4xf32>
}

// -----

// CHECK: redefinition of symbol named 'f'
func.func @f() {
  return
}
func.func @f() {
  return
}

// -----

// CHECK: [tape] the module has no func.func.
module {
}

// -----

// The parts between them that are right are printed all the same.
// CHECK: func.func @right(
func.func @right(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

// CHECK: [tape] s1 has no value. Give the function one in tape.sizes.
func.func @f(%x: tensor<?x?xf32, ["s0", "s1"]>) attributes {tape.sizes = [5]} {
  return
}

// -----

// CHECK: [neg] result is tensor<?xf32, ["s0 + 1"]>, but the operands give tensor<?xf32, ["s0"]>.
func.func @f(%x: tensor<?xf32, ["s0"]>) attributes {tape.sizes = [5]} {
  %0 = "tape.neg"(%x) : (tensor<?xf32, ["s0"]>) -> tensor<?xf32, ["s0 + 1"]>
  return
}

// -----

// CHECK: [size] 's0 ** 2' is no size.
func.func @f(%x: tensor<?xf32, ["s0 ** 2"]>) attributes {tape.sizes = [5]} {
  return
}
