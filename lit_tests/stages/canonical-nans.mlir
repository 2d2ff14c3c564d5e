// RUN: flambeau-opt %s --to canonical-nans | filecheck %s
// RUN: flambeau-opt %s --to assembly | filecheck %s --check-prefix=ASM
// NaNs are made one behind what leaves the program; the code for it compares and blends what is in registers already.

// CHECK-LABEL: func.func @sum_of_products(
// CHECK-NEXT: "tape.mul"
// CHECK-NEXT: %[[S:.*]] = "tape.add"
// CHECK-NEXT: %[[N:.*]] = "tape.canonical_nan"(%[[S]])
// CHECK-NEXT: return %[[N]]
// ASM: kernel 0 of @sum_of_products: mul+add+canonical_nan
// ASM: cmpunord
func.func @sum_of_products(%x: tensor<640xf32>, %y: tensor<640xf32>, %z: tensor<640xf32>) -> tensor<640xf32> {
  %0 = "tape.mul"(%x, %y) : (tensor<640xf32>, tensor<640xf32>) -> tensor<640xf32>
  %1 = "tape.add"(%0, %z) : (tensor<640xf32>, tensor<640xf32>) -> tensor<640xf32>
  return %1 : tensor<640xf32>
}
