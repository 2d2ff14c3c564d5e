// RUN: flambeau-opt %s --cluster | filecheck %s

// Elementwise ops and the reduction that ends them are one loop nest.
// CHECK: loops cluster
// CHECK: func.func @chain(
// CHECK: "tape.mul"
// CHECK: "tape.exp"
// CHECK: "tape.sum"
// CHECK: return
func.func @chain(%x: tensor<1000xf32>, %y: tensor<1000xf32>) -> tensor<f32> {
  %0 = "tape.mul"(%x, %y) : (tensor<1000xf32>, tensor<1000xf32>) -> tensor<1000xf32>
  %1 = "tape.exp"(%0) : (tensor<1000xf32>) -> tensor<1000xf32>
  %2 = "tape.sum"(%1) {axes = [0]} : (tensor<1000xf32>) -> tensor<f32>
  return %2 : tensor<f32>
}

// A softmax reads its row three times while it is in cache: one cluster.
// CHECK: loops cluster
// CHECK: func.func @softmax(
// CHECK: "tape.max"
// CHECK: "tape.exp"
// CHECK: "tape.sum"
// CHECK: "tape.div"
// CHECK: return
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

// The sums of columns are known only after the last row: what divides by them comes after, in a cluster of its own.
// CHECK: loops cluster
// CHECK: func.func @columns_0(
// CHECK: "tape.sum"
// CHECK: return
// CHECK: loops cluster
// CHECK: func.func @columns_1(
// CHECK: "tape.broadcast"
// CHECK: "tape.div"
func.func @columns(%x: tensor<300x40xf32>) -> tensor<300x40xf32> {
  %0 = "tape.sum"(%x) {axes = [0]} : (tensor<300x40xf32>) -> tensor<40xf32>
  %1 = "tape.reshape"(%0) {shape = [1, 40]} : (tensor<40xf32>) -> tensor<1x40xf32>
  %2 = "tape.broadcast"(%1) {shape = [300, 40]} : (tensor<1x40xf32>) -> tensor<300x40xf32>
  %3 = "tape.div"(%x, %2) : (tensor<300x40xf32>, tensor<300x40xf32>) -> tensor<300x40xf32>
  return %3 : tensor<300x40xf32>
}

// A layer: the product with its bias and its relu; the second product begins a cluster.
// CHECK: contraction cluster
// CHECK: func.func @layers_0(
// CHECK: "tape.matmul"
// CHECK: "tape.add"
// CHECK: "tape.maximum"
// CHECK: return
// CHECK: contraction cluster
// CHECK: func.func @layers_1(
// CHECK-NEXT: "tape.matmul"
// CHECK-NEXT: return
func.func @layers(%x: tensor<64x32xf32>, %w: tensor<32x48xf32>, %b: tensor<48xf32>, %v: tensor<48x10xf32>) -> tensor<64x10xf32> {
  %0 = "tape.matmul"(%x, %w) : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
  %1 = "tape.reshape"(%b) {shape = [1, 48]} : (tensor<48xf32>) -> tensor<1x48xf32>
  %2 = "tape.broadcast"(%1) {shape = [64, 48]} : (tensor<1x48xf32>) -> tensor<64x48xf32>
  %3 = "tape.add"(%0, %2) : (tensor<64x48xf32>, tensor<64x48xf32>) -> tensor<64x48xf32>
  %c = "tape.constant"() {value = 0.0 : f64, dtype = f32} : () -> tensor<f32>
  %4 = "tape.reshape"(%c) {shape = [1, 1]} : (tensor<f32>) -> tensor<1x1xf32>
  %5 = "tape.broadcast"(%4) {shape = [64, 48]} : (tensor<1x1xf32>) -> tensor<64x48xf32>
  %6 = "tape.maximum"(%3, %5) : (tensor<64x48xf32>, tensor<64x48xf32>) -> tensor<64x48xf32>
  %7 = "tape.matmul"(%6, %v) : (tensor<64x48xf32>, tensor<48x10xf32>) -> tensor<64x10xf32>
  return %7 : tensor<64x10xf32>
}

// Two ends of a path through a product cannot meet in one cluster: it would need its own result.
// CHECK: loops cluster
// CHECK: func.func @around_a_product_0(
// CHECK-NEXT: %[[E:.*]] = "tape.exp"
// CHECK-NEXT: return %[[E]]
// CHECK: contraction cluster
// CHECK: func.func @around_a_product_1(
// CHECK: "tape.matmul"
func.func @around_a_product(%x: tensor<64x64xf32>, %w: tensor<64x64xf32>) -> tensor<64x64xf32> {
  %0 = "tape.exp"(%x) : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %1 = "tape.matmul"(%0, %w) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %2 = "tape.add"(%0, %1) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %2 : tensor<64x64xf32>
}

// A view is read by its reader, not computed.
// CHECK: loops cluster
// CHECK: func.func @through_a_view(
// CHECK: "tape.permute"
// CHECK: "tape.add"
func.func @through_a_view(%x: tensor<20x30xf32>, %y: tensor<30x20xf32>) -> tensor<30x20xf32> {
  %0 = "tape.permute"(%x) {perm = [1, 0]} : (tensor<20x30xf32>) -> tensor<30x20xf32>
  %1 = "tape.add"(%0, %y) : (tensor<30x20xf32>, tensor<30x20xf32>) -> tensor<30x20xf32>
  return %1 : tensor<30x20xf32>
}

// Updates of several parameters of one size are one cluster; nothing joins values of different sizes.
// CHECK: loops cluster
// CHECK: func.func @sizes_0(
// CHECK: "tape.sub"
// CHECK: return
// CHECK: loops cluster
// CHECK: func.func @sizes_1(
// CHECK: "tape.sub"
// CHECK: return
// CHECK-NOT: func.func @sizes_2(
func.func @sizes(%x: tensor<64xf32>, %y: tensor<64xf32>, %u: tensor<70xf32>, %v: tensor<70xf32>) -> (tensor<64xf32>, tensor<70xf32>) {
  %0 = "tape.sub"(%x, %y) : (tensor<64xf32>, tensor<64xf32>) -> tensor<64xf32>
  %1 = "tape.sub"(%u, %v) : (tensor<70xf32>, tensor<70xf32>) -> tensor<70xf32>
  return %0, %1 : tensor<64xf32>, tensor<70xf32>
}

// An optimizer's update of the weights whose gradient is a product: applied to its register tile, three results stored.
// CHECK: contraction cluster
// CHECK: func.func @update_of_a_product(
// CHECK: "tape.matmul"
// CHECK: "tape.sqrt"
// CHECK: return %{{.*}}, %{{.*}}, %{{.*}} :
func.func @update_of_a_product(%x: tensor<32x64xf32>, %ct: tensor<64x48xf32>, %w: tensor<32x48xf32>, %m: tensor<32x48xf32>, %v: tensor<32x48xf32>) -> (tensor<32x48xf32>, tensor<32x48xf32>, tensor<32x48xf32>) attributes {tape.updates = [[0, 2], [1, 3], [2, 4]]} {
  %g = "tape.matmul"(%x, %ct) : (tensor<32x64xf32>, tensor<64x48xf32>) -> tensor<32x48xf32>
  %square = "tape.mul"(%g, %g) : (tensor<32x48xf32>, tensor<32x48xf32>) -> tensor<32x48xf32>
  %m1 = "tape.add"(%m, %g) : (tensor<32x48xf32>, tensor<32x48xf32>) -> tensor<32x48xf32>
  %v1 = "tape.add"(%v, %square) : (tensor<32x48xf32>, tensor<32x48xf32>) -> tensor<32x48xf32>
  %root = "tape.sqrt"(%v1) : (tensor<32x48xf32>) -> tensor<32x48xf32>
  %step = "tape.div"(%m1, %root) : (tensor<32x48xf32>, tensor<32x48xf32>) -> tensor<32x48xf32>
  %w1 = "tape.sub"(%w, %step) : (tensor<32x48xf32>, tensor<32x48xf32>) -> tensor<32x48xf32>
  return %w1, %m1, %v1 : tensor<32x48xf32>, tensor<32x48xf32>, tensor<32x48xf32>
}

// A bias stays with its product, whose result is then read by rows: one matrix crosses.
// CHECK: contraction cluster
// CHECK: func.func @logits_0(
// CHECK-NEXT: "tape.matmul"
// CHECK-NEXT: "tape.add"
// CHECK-NEXT: return
// CHECK: loops cluster
// CHECK: func.func @logits_1(
// CHECK: "tape.max"
// CHECK: "tape.sub"
// CHECK: return
func.func @logits(%x: tensor<64x32xf32>, %w: tensor<32x10xf32>, %b: tensor<64x10xf32>) -> tensor<64x10xf32> {
  %0 = "tape.matmul"(%x, %w) : (tensor<64x32xf32>, tensor<32x10xf32>) -> tensor<64x10xf32>
  %1 = "tape.add"(%0, %b) : (tensor<64x10xf32>, tensor<64x10xf32>) -> tensor<64x10xf32>
  %2 = "tape.max"(%1) {axes = [1]} : (tensor<64x10xf32>) -> tensor<64xf32>
  %3 = "tape.reshape"(%2) {shape = [64, 1]} : (tensor<64xf32>) -> tensor<64x1xf32>
  %4 = "tape.broadcast"(%3) {shape = [64, 10]} : (tensor<64x1xf32>) -> tensor<64x10xf32>
  %5 = "tape.sub"(%1, %4) : (tensor<64x10xf32>, tensor<64x10xf32>) -> tensor<64x10xf32>
  return %5 : tensor<64x10xf32>
}

// Two results of an epilogue that one nest reads are computed there: again one matrix crosses, the product.
// CHECK: contraction cluster
// CHECK: func.func @two_results_0(
// CHECK-NEXT: %[[P:.*]] = "tape.matmul"
// CHECK-NEXT: return %[[P]]
// CHECK: loops cluster
// CHECK: func.func @two_results_1(
// CHECK: "tape.exp"
// CHECK: "tape.add"
// CHECK: "tape.max"
// CHECK: "tape.sub"
// CHECK: return
// CHECK-NOT: func.func @two_results_2(
func.func @two_results(%x: tensor<64x32xf32>, %w: tensor<32x10xf32>, %b: tensor<64x10xf32>) -> tensor<64x10xf32> {
  %0 = "tape.matmul"(%x, %w) : (tensor<64x32xf32>, tensor<32x10xf32>) -> tensor<64x10xf32>
  %1 = "tape.add"(%0, %b) : (tensor<64x10xf32>, tensor<64x10xf32>) -> tensor<64x10xf32>
  %2 = "tape.exp"(%0) : (tensor<64x10xf32>) -> tensor<64x10xf32>
  %3 = "tape.max"(%1) {axes = [1]} : (tensor<64x10xf32>) -> tensor<64xf32>
  %4 = "tape.reshape"(%3) {shape = [64, 1]} : (tensor<64xf32>) -> tensor<64x1xf32>
  %5 = "tape.broadcast"(%4) {shape = [64, 10]} : (tensor<64x1xf32>) -> tensor<64x10xf32>
  %6 = "tape.sub"(%2, %5) : (tensor<64x10xf32>, tensor<64x10xf32>) -> tensor<64x10xf32>
  return %6 : tensor<64x10xf32>
}

// Two nests that read one value are one nest; so are computations on single numbers, related or not.
// CHECK: loops cluster
// CHECK: func.func @siblings(
// CHECK: "tape.exp"
// CHECK: "tape.log"
// CHECK: return
func.func @siblings(%x: tensor<100xf32>) -> (tensor<100xf32>, tensor<100xf32>) {
  %0 = "tape.exp"(%x) : (tensor<100xf32>) -> tensor<100xf32>
  %1 = "tape.log"(%x) : (tensor<100xf32>) -> tensor<100xf32>
  return %0, %1 : tensor<100xf32>, tensor<100xf32>
}

// CHECK: loops cluster
// CHECK: func.func @numbers(
// CHECK: "tape.neg"
// CHECK: "tape.sqrt"
// CHECK: return
func.func @numbers(%x: tensor<f32>, %y: tensor<f64>) -> (tensor<f32>, tensor<f64>) {
  %0 = "tape.neg"(%x) : (tensor<f32>) -> tensor<f32>
  %1 = "tape.sqrt"(%y) : (tensor<f64>) -> tensor<f64>
  return %0, %1 : tensor<f32>, tensor<f64>
}

// Numbers that one nest of a single row reads are computed there, although they came before all others; those that two read are not.
// CHECK: loops cluster
// CHECK: func.func @handed_over(
// CHECK: "tape.cast"
// CHECK: "tape.cast"
// CHECK: "tape.tanh"
// CHECK: "tape.sum"
// CHECK: return
// CHECK: loops cluster
// CHECK: func.func @kept_apart_0(
// CHECK: "tape.cast"
// CHECK: return
// CHECK: func.func @kept_apart_1(
// CHECK: func.func @kept_apart_2(
func.func @handed_over(%x: tensor<100xf32>, %a: tensor<i64>, %b: tensor<i64>) -> (tensor<f32>, tensor<100xf32>) {
  %0 = "tape.cast"(%a) {dtype = f32} : (tensor<i64>) -> tensor<f32>
  %1 = "tape.reshape"(%0) {shape = [1]} : (tensor<f32>) -> tensor<1xf32>
  %2 = "tape.broadcast"(%1) {shape = [100]} : (tensor<1xf32>) -> tensor<100xf32>
  %3 = "tape.mul"(%x, %2) : (tensor<100xf32>, tensor<100xf32>) -> tensor<100xf32>
  %4 = "tape.cast"(%b) {dtype = f32} : (tensor<i64>) -> tensor<f32>
  %5 = "tape.reshape"(%4) {shape = [1]} : (tensor<f32>) -> tensor<1xf32>
  %6 = "tape.broadcast"(%5) {shape = [100]} : (tensor<1xf32>) -> tensor<100xf32>
  %7 = "tape.add"(%3, %6) : (tensor<100xf32>, tensor<100xf32>) -> tensor<100xf32>
  %8 = "tape.tanh"(%7) : (tensor<100xf32>) -> tensor<100xf32>
  %9 = "tape.sum"(%8) {axes = [0]} : (tensor<100xf32>) -> tensor<f32>
  %10 = "tape.mul"(%8, %2) : (tensor<100xf32>, tensor<100xf32>) -> tensor<100xf32>
  return %9, %10 : tensor<f32>, tensor<100xf32>
}

func.func @kept_apart(%x: tensor<100xf32>, %y: tensor<200xf32>, %a: tensor<i64>) -> (tensor<f32>, tensor<f32>) {
  %0 = "tape.cast"(%a) {dtype = f32} : (tensor<i64>) -> tensor<f32>
  %1 = "tape.reshape"(%0) {shape = [1]} : (tensor<f32>) -> tensor<1xf32>
  %2 = "tape.broadcast"(%1) {shape = [100]} : (tensor<1xf32>) -> tensor<100xf32>
  %3 = "tape.mul"(%x, %2) : (tensor<100xf32>, tensor<100xf32>) -> tensor<100xf32>
  %4 = "tape.sum"(%3) {axes = [0]} : (tensor<100xf32>) -> tensor<f32>
  %5 = "tape.broadcast"(%1) {shape = [200]} : (tensor<1xf32>) -> tensor<200xf32>
  %6 = "tape.mul"(%y, %5) : (tensor<200xf32>, tensor<200xf32>) -> tensor<200xf32>
  %7 = "tape.sum"(%6) {axes = [0]} : (tensor<200xf32>) -> tensor<f32>
  return %4, %7 : tensor<f32>, tensor<f32>
}

// An op that may fail is computed although nobody reads it; its result is an output of its cluster.
// CHECK: func.func @unread_failure
// CHECK: %[[Q:.*]] = "tape.int_div"
// CHECK: return {{.*}}%[[Q]]
func.func @unread_failure(%x: tensor<8xi32>, %y: tensor<8xi32>) -> tensor<8xi32> {
  %0 = "tape.int_div"(%x, %y) : (tensor<8xi32>, tensor<8xi32>) -> tensor<8xi32>
  %1 = "tape.add"(%x, %y) : (tensor<8xi32>, tensor<8xi32>) -> tensor<8xi32>
  return %1 : tensor<8xi32>
}

// An output that is an input needs no cluster; one that is a view of an input needs a copy.
// CHECK: loops cluster
// CHECK: func.func @outputs(
// CHECK: "tape.permute"
// CHECK: return
// CHECK-NOT: cluster
func.func @outputs(%x: tensor<4x5xf32>) -> (tensor<4x5xf32>, tensor<5x4xf32>) {
  %0 = "tape.permute"(%x) {perm = [1, 0]} : (tensor<4x5xf32>) -> tensor<5x4xf32>
  return %x, %0 : tensor<4x5xf32>, tensor<5x4xf32>
}
