// RUN: flambeau-opt %s --to legalise-dtypes | filecheck %s
// RUN: flambeau-opt %s --to assembly --target x86-64-v3 | filecheck %s --check-prefix=ASM
// Elements are halves in memory and singles in registers: no library is called for them.

// CHECK-LABEL: func.func @scaled(
// CHECK: "tape.mul"({{.*}}) : (tensor<640xf32>, tensor<640xf32>)
// CHECK: "tape.cast"({{.*}}) {dtype = f16}
// ASM: kernel 0 of @scaled: cast+cast+mul+cast+canonical_nan
// ASM: vcvtph2ps
// ASM: vmulps
// ASM: vcvtps2ph
func.func @scaled(%x: tensor<640xf16>, %y: tensor<640xf16>) -> tensor<640xf16> {
  %0 = "tape.mul"(%x, %y) : (tensor<640xf16>, tensor<640xf16>) -> tensor<640xf16>
  return %0 : tensor<640xf16>
}
