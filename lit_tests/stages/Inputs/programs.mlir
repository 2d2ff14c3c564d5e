// The programs that the tests of the stages follow from the tape to machine code.

// An elementwise chain that ends in a sum, with something for simplify, cse and dead-code to do.
func.func @chain(%x: tensor<1000xf32>, %y: tensor<1000xf32>) -> tensor<f32> {
  %one = "tape.constant"() {value = 1.0 : f64, dtype = f32} : () -> tensor<f32>
  %unit = "tape.reshape"(%one) {shape = [1]} : (tensor<f32>) -> tensor<1xf32>
  %ones = "tape.broadcast"(%unit) {shape = [1000]} : (tensor<1xf32>) -> tensor<1000xf32>
  %0 = "tape.mul"(%x, %ones) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %1 = "tape.mul"(%0, %y) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %2 = "tape.mul"(%y, %x) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %3 = "tape.add"(%1, %2) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %4 = "tape.sum"(%3) {axes = [0]} : (tensor<1000xf32>) -> tensor<f32>
  %5 = "tape.exp"(%3) : (tensor<1000xf32>) -> tensor<1000xf32>
  return %4 : tensor<f32>
}

func.func @softmax(%x: tensor<32x100xf32>) -> tensor<32x100xf32> {
  %0 = "tape.max"(%x) {axes = [1]} : (tensor<32x100xf32>) -> tensor<32xf32>
  %1 = "tape.reshape"(%0) {shape = [32, 1]} : (tensor<32xf32>) -> tensor<32x1xf32>
  %2 = "tape.broadcast"(%1) {shape = [32, 100]} : (tensor<32x1xf32>) -> tensor<32x100xf32>
  %3 = "tape.sub"(%x, %2) : (tensor<32x100xf32>, tensor<32x100xf32>) -> tensor<32x100xf32>
  %4 = "tape.exp"(%3) : (tensor<32x100xf32>) -> tensor<32x100xf32>
  %5 = "tape.sum"(%4) {axes = [1]} : (tensor<32x100xf32>) -> tensor<32xf32>
  %6 = "tape.reshape"(%5) {shape = [32, 1]} : (tensor<32xf32>) -> tensor<32x1xf32>
  %7 = "tape.broadcast"(%6) {shape = [32, 100]} : (tensor<32x1xf32>) -> tensor<32x100xf32>
  %8 = "tape.div"(%4, %7) : (tensor<32x100xf32>, tensor<32x100xf32>) -> tensor<32x100xf32>
  return %8 : tensor<32x100xf32>
}

// A linear layer with its bias and relu.
func.func @layer(%x: tensor<64x32xf32>, %w: tensor<32x48xf32>, %b: tensor<48xf32>) -> tensor<64x48xf32> {
  %0 = "tape.matmul"(%x, %w) : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
  %1 = "tape.reshape"(%b) {shape = [1, 48]} : (tensor<48xf32>) -> tensor<1x48xf32>
  %2 = "tape.broadcast"(%1) {shape = [64, 48]} : (tensor<1x48xf32>) -> tensor<64x48xf32>
  %3 = "tape.add"(%0, %2) : (tensor<64x48xf32>, tensor<64x48xf32>) -> tensor<64x48xf32>
  %zero = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %4 = "tape.reshape"(%zero) {shape = [1, 1]} : (tensor<f32>) -> tensor<1x1xf32>
  %5 = "tape.broadcast"(%4) {shape = [64, 48]} : (tensor<1x1xf32>) -> tensor<64x48xf32>
  %6 = "tape.maximum"(%3, %5) : (tensor<64x48xf32>, tensor<64x48xf32>) -> tensor<64x48xf32>
  return %6 : tensor<64x48xf32>
}

// The gradient of that layer's weights if they were stored transposed, (x.T @ g).T.
func.func @gradient(%x: tensor<64x32xf32>, %g: tensor<64x48xf32>) -> tensor<48x32xf32> {
  %0 = "tape.permute"(%x) {perm = [1, 0]} : (tensor<64x32xf32>) -> tensor<32x64xf32>
  %1 = "tape.matmul"(%0, %g) : (tensor<32x64xf32>, tensor<64x48xf32>) -> tensor<32x48xf32>
  %2 = "tape.permute"(%1) {perm = [1, 0]} : (tensor<32x48xf32>) -> tensor<48x32xf32>
  return %2 : tensor<48x32xf32>
}

func.func @columns(%x: tensor<300x40xf32>) -> tensor<40xf32> {
  %0 = "tape.sum"(%x) {axes = [0]} : (tensor<300x40xf32>) -> tensor<40xf32>
  return %0 : tensor<40xf32>
}

// An index may be out of range: this is found when the plan runs.
func.func @lookup(%table: tensor<100xf32>, %index: tensor<24xi64>) -> tensor<24xf32> {
  %0 = "tape.gather"(%table, %index) {axis = 0} : (tensor<100xf32>, tensor<24xi64>) -> tensor<24xf32>
  %1 = "tape.add"(%0, %0) : (tensor<24xf32>, tensor<24xf32>) -> tensor<24xf32>
  return %1 : tensor<24xf32>
}

// w -= lr * g, in place; the learning rate is the user's number.
func.func @update(%w: tensor<500xf32>, %g: tensor<500xf32>, %lr: tensor<f64>) -> tensor<500xf32> attributes {tape.updates = [[0, 0]]} {
  %0 = "tape.cast"(%lr) {dtype = f32} : (tensor<f64>) -> tensor<f32>
  %1 = "tape.reshape"(%0) {shape = [1]} : (tensor<f32>) -> tensor<1xf32>
  %2 = "tape.broadcast"(%1) {shape = [500]} : (tensor<1xf32>) -> tensor<500xf32>
  %3 = "tape.mul"(%g, %2) : (tensor<500xf32>, tensor<500xf32>) -> tensor<500xf32>
  %4 = "tape.sub"(%w, %3) : (tensor<500xf32>, tensor<500xf32>) -> tensor<500xf32>
  return %4 : tensor<500xf32>
}
