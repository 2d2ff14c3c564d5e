// RUN: not flambeau-opt %s 2>&1 | filecheck %s
// A plan is refused by MLIR, by the dialect's verifiers or by the runtime's checks; each part is refused by itself.

// Ops that the dialect has not, and ops of other dialects.
// CHECK: unregistered operation 'plan.pow'
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %y = "plan.pow"(%x, %x) : (index, index) -> index
  return
}

// -----

// CHECK: [plan] arith.constant at {{.*}} is not an op of the plan dialect.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %y = arith.constant 1 : index
  return
}

// -----

// Attributes: missing, of another kind, without meaning.
// CHECK: [plan.const] attribute 'value' is missing.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() : () -> index
  return
}

// -----

// CHECK: [plan.const] attribute 'value' is 1.500000e+00 : f64. Give an integer (i64).
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 1.5} : () -> index
  return
}

// -----

// CHECK: [plan.output] mode "old" is unknown. Use one of
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %y = "plan.output"(%x) {mode = "old", source = 0} : (index) -> memref<?xi8>
  return
}

// -----

// CHECK: [plan.constants] data is not hexadecimal.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %y = "plan.constants"() {data = "no"} : () -> memref<?xi8>
  return
}

// -----

// CHECK: [plan.step] attribute 'fallible' is 3 : i64. Give true or false.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %v = "plan.view"(%arena, %x) : (memref<?xi8>, index) -> memref<?xi8>
  %d = "plan.dims"(%x) : (index) -> tensor<1xindex>
  "plan.step"(%x, %x, %x, %d, %v) {fallible = 3, kernel = 0} : (index, index, index, tensor<1xindex>, memref<?xi8>) -> ()
  return
}

// -----

// CHECK: [plan.step] built-in kernels are -1 (copy), -2 (zero), -3 (branch), -4 (jump), -5 (note), -6 (transfer), -7 (set), -8 (count), -9 (move), -10 (wave).
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %v = "plan.view"(%arena, %x) : (memref<?xi8>, index) -> memref<?xi8>
  %d = "plan.dims"(%x) : (index) -> tensor<1xindex>
  "plan.step"(%x, %x, %x, %d, %v) {fallible = false, kernel = -11} : (index, index, index, tensor<1xindex>, memref<?xi8>) -> ()
  return
}

// -----

// Operands: too few, storage for a size, sizes for storage, storage without a view, a view of a view.
// CHECK: op expects exactly 2 operands, but got 1
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %y = "plan.add"(%x) : (index) -> index
  return
}

// -----

// CHECK: [plan.input] operands are memref<?xi8>. Give index.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %y = "plan.input"(%arena) : (memref<?xi8>) -> memref<?xi8>
  return
}

// -----

// CHECK: [plan.view] operands are index, index. Give memref<?xi8>, index.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %y = "plan.view"(%x, %x) : (index, index) -> memref<?xi8>
  return
}

// -----

// CHECK: [plan.step] at {{.*}} reads storage itself. Give views of it.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %d = "plan.dims"(%x) : (index) -> tensor<1xindex>
  "plan.step"(%x, %x, %x, %d, %arena) {fallible = false, kernel = 0} : (index, index, index, tensor<1xindex>, memref<?xi8>) -> ()
  return
}

// -----

// CHECK: [plan.view] at {{.*}} is a view of a view. Add the offsets.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %v = "plan.view"(%arena, %x) : (memref<?xi8>, index) -> memref<?xi8>
  %w = "plan.view"(%v, %x) : (memref<?xi8>, index) -> memref<?xi8>
  return
}

// -----

// CHECK: [plan.step] operands are {{.*}} Give n, grain and scratch, dims, then buffers.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %v = "plan.view"(%arena, %x) : (memref<?xi8>, index) -> memref<?xi8>
  "plan.step"(%x, %x, %x, %x, %v) {fallible = false, kernel = 0} : (index, index, index, index, memref<?xi8>) -> ()
  return
}

// -----

// Results of another type.
// CHECK: [plan.const] the result is i64, not index.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 1} : () -> i64
  return
}

// -----

// CHECK: [plan.dims] the result is tensor<2xindex>, but there are 1 operands.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %d = "plan.dims"(%x) : (index) -> tensor<2xindex>
  return
}

// -----

// The function: its counts, its body, the three storages that there are once.
// CHECK: [plan] attribute 'plan.kernels' is missing.
func.func @plan() attributes {plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  return
}

// -----

// CHECK: [plan] attribute 'plan.symbols' is "many". Give an integer (i64).
func.func @plan() attributes {plan.kernels = 1, plan.symbols = "many"} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  return
}

// -----

// CHECK: [plan] the function has arguments, or not one block.
func.func @plan(%i: index) attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  return
}

// -----

// CHECK: [plan] there is ['arena', 'status']. Give plan.arena, plan.constants and plan.status once.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  return
}

// -----

// CHECK: [plan] there is ['arena', 'constants', 'status', 'status'].
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %again = "plan.status"() : () -> memref<?xi8>
  return
}

// -----

// What may fail comes first.
// CHECK: [plan] a fallible step follows a commit step.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %v = "plan.view"(%arena, %x) : (memref<?xi8>, index) -> memref<?xi8>
  %d = "plan.dims"(%x) : (index) -> tensor<1xindex>
  "plan.step"(%x, %x, %x, %d, %v) {fallible = false, kernel = 0} : (index, index, index, tensor<1xindex>, memref<?xi8>) -> ()
  "plan.step"(%x, %x, %x, %d, %v) {fallible = true, kernel = 0} : (index, index, index, tensor<1xindex>, memref<?xi8>) -> ()
  return
}

// -----

// What only the runtime's own checks see: kernels, symbols, inputs and outputs that are not there, updates that may be lost.
// CHECK: [plan] step 0 calls kernel 1 of 1.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %v = "plan.view"(%arena, %x) : (memref<?xi8>, index) -> memref<?xi8>
  %d = "plan.dims"(%x) : (index) -> tensor<1xindex>
  "plan.step"(%x, %x, %x, %d, %v) {fallible = false, kernel = 1} : (index, index, index, tensor<1xindex>, memref<?xi8>) -> ()
  return
}

// -----

// CHECK: [plan] expression 1 reads symbol 1 of 1.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %y = "plan.symbol"() {value = 1} : () -> index
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  return
}

// -----

// CHECK: [plan] output 0 comes from input 0 of 0.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %y = "plan.output"(%x) {mode = "replace", source = 0} : (index) -> memref<?xi8>
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  return
}

// -----

// CHECK: [plan] fallible step 0
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  %in = "plan.input"(%x) : (index) -> memref<?xi8>
  %y = "plan.output"(%x) {mode = "update", source = 0} : (index) -> memref<?xi8>
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %v = "plan.view"(%y, %x) : (memref<?xi8>, index) -> memref<?xi8>
  %d = "plan.dims"(%x) : (index) -> tensor<1xindex>
  "plan.step"(%x, %x, %x, %d, %v) {fallible = true, kernel = 0} : (index, index, index, tensor<1xindex>, memref<?xi8>) -> ()
  return
}

// -----

// CHECK: [plan.guard] relation "<=" is unknown. Use one of ['==', '!=', '<', '>='].
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 1} {
  %x = "plan.const"() {value = 64} : () -> index
  "plan.guard"(%x) {relation = "<="} : (index) -> ()
  return
}

// -----

// CHECK: [plan] 1 guards on 0 symbols.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 0} {
  %x = "plan.const"() {value = 64} : () -> index
  "plan.guard"(%x) {relation = "!="} : (index) -> ()
  %arena = "plan.arena"(%x) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  return
}

// -----

// Launches have a grid and a block of three numbers each, and kernels of their own.
// CHECK: [plan.launch] operands are ['index', 'index', 'index', 'index', 'index', 'index', 'index']. Give grid and block along x, y and z, dims, then buffers.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 0} {
  %x = "plan.const"() {value = 1} : () -> index
  "plan.launch"(%x, %x, %x, %x, %x, %x, %x) {fallible = false, kernel = 0} : (index, index, index, index, index, index, index) -> ()
  return
}

// -----

// CHECK: [plan.launch] kernel -1 is built in. Launch kernels of the plan.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 0} {
  %x = "plan.const"() {value = 1} : () -> index
  %d = "plan.dims"() : () -> tensor<0xindex>
  "plan.launch"(%x, %x, %x, %x, %x, %x, %d) {fallible = false, kernel = -1} : (index, index, index, index, index, index, tensor<0xindex>) -> ()
  return
}

// -----

// What the runtime checks of steps it checks of launches.
// CHECK: [plan] step 0 calls kernel 3 of 1.
func.func @plan() attributes {plan.kernels = 1, plan.symbols = 0} {
  %x = "plan.const"() {value = 1} : () -> index
  %a = "plan.arena"(%x) : (index) -> memref<?xi8>
  %c = "plan.constants"() {data = ""} : () -> memref<?xi8>
  %s = "plan.status"() : () -> memref<?xi8>
  %d = "plan.dims"() : () -> tensor<0xindex>
  "plan.launch"(%x, %x, %x, %x, %x, %x, %d) {fallible = false, kernel = 3} : (index, index, index, index, index, index, tensor<0xindex>) -> ()
  return
}
