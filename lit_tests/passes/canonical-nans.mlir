// RUN: flambeau-opt %s --canonical-nans | filecheck %s
// RUN: flambeau-opt %s --canonical-nans --canonical-nans | filecheck %s

// What is computed and leaves the program holds one NaN only; its other readers read the same.
// CHECK-LABEL: func.func @leaving(
// CHECK-NEXT: %[[A:.*]] = "tape.add"(%0, %1)
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%[[A]])
// CHECK-NEXT: %[[E:.*]] = "tape.exp"(%[[N]])
// CHECK-NEXT: %[[L:.*]] = "tape.lt"(%[[E]], %1)
// CHECK-NEXT: return %[[N]], %[[L]]
func.func @leaving(%x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xi1>) {
  %0 = "tape.add"(%x, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.exp"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.lt"(%1, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xi1>
  return %0, %2 : tensor<4xf32>, tensor<4xi1>
}

// What is moved keeps its bits, an input here; what is computed is made canonical before it is moved.
// CHECK-LABEL: func.func @moved(
// CHECK-NEXT: %[[M:.*]] = "tape.mul"(%0, %0)
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%[[M]])
// CHECK-NEXT: %[[C:.*]] = "tape.concat"(%1, %[[N]])
// CHECK-NEXT: %[[F:.*]] = "tape.flip"(%[[C]])
// CHECK-NEXT: return %[[F]]
func.func @moved(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<8xf32> {
  %0 = "tape.mul"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.concat"(%y, %0) {dim = 0} : (tensor<4xf32>, tensor<4xf32>) -> tensor<8xf32>
  %2 = "tape.flip"(%1) {axes = [0]} : (tensor<8xf32>) -> tensor<8xf32>
  return %2 : tensor<8xf32>
}

// Folds make theirs canonical themselves, those of a root are found by their bits; choosing between such values makes no other.
// CHECK-LABEL: func.func @canonical_already(
// CHECK-NEXT: %[[M:.*]] = "tape.max"(%1)
// CHECK-NEXT: %[[R:.*]] = "tape.sqrt"(%[[M]])
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan_of_root"(%[[R]])
// CHECK-NEXT: %[[S:.*]] = "tape.select"(%0, %[[M]], %[[N]])
// CHECK-NEXT: return %[[N]], %[[S]]
func.func @canonical_already(%c: tensor<4xi1>, %x: tensor<4x9xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %0 = "tape.max"(%x) {axes = [1]} : (tensor<4x9xf32>) -> tensor<4xf32>
  %1 = "tape.sqrt"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "tape.select"(%c, %0, %1) : (tensor<4xi1>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %1, %2 : tensor<4xf32>, tensor<4xf32>
}

// A choice of a root may be the root: what it gives is looked at by its bits, too.
// CHECK-LABEL: func.func @choice_of_a_root(
// CHECK: %[[S:.*]] = "tape.select"(
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan_of_root"(%[[S]])
// CHECK-NEXT: return %[[N]]
func.func @choice_of_a_root(%c: tensor<4xi1>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.sqrt"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.select"(%c, %x, %0) : (tensor<4xi1>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}

// What adds up products is canonical after each, as it would be if the program were cut there; not what others read, too.
// CHECK-LABEL: func.func @added_up(
// CHECK: %[[A:.*]] = "tape.add"(%0, %{{.*}})
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%[[A]])
// CHECK: %[[B:.*]] = "tape.add"(%[[N]], %{{.*}})
// CHECK-NEXT: %[[M:.*]] = "tape.canonical_nan"(%[[B]])
// CHECK-NEXT: return %[[M]]
func.func @added_up(%x: tensor<4x4xf32>, %y: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %0 = "tape.matmul"(%x, %y) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %1 = "tape.matmul"(%y, %x) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %2 = "tape.add"(%x, %0) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %3 = "tape.add"(%2, %1) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  return %3 : tensor<4x4xf32>
}
