// RUN: flambeau-opt %s --to assembly --target x86-64-v3 | filecheck %s --check-prefixes=V3
// RUN: flambeau-opt %s --to assembly --target x86-64-v4 | filecheck %s --check-prefixes=V4
// Elements of even and of odd places are computed side by side where narrowing a vector mixes quarters of it: no shuffle is needed.
// What is read beside other dtypes, or depends on places, stays in order.

// V3-LABEL: kernel 0 of @sum
// V3-NOT: {{vpmovzxwd|vpermq|vpackusdw}} {{.*}}%ymm
// V3: vaddps {{.*}}%ymm
// V3-NOT: {{vpermq|vpackusdw}} {{.*}}%ymm
// V3: vpblendw {{.*}}%ymm
// V3: jl
// V4-LABEL: kernel 0 of @sum
// V4: vpmovdw
func.func @sum(%x: tensor<640xbf16>, %y: tensor<640xbf16>) -> tensor<640xbf16> {
  %0 = "tape.add"(%x, %y) : (tensor<640xbf16>, tensor<640xbf16>) -> tensor<640xbf16>
  return %0 : tensor<640xbf16>
}


// V3-LABEL: kernel 0 of @mixed
// V3: vpmovzxwd
// V4-LABEL: kernel 0 of @mixed
func.func @mixed(%x: tensor<640xbf16>, %y: tensor<640xf32>) -> tensor<640xf32> {
  %0 = "tape.cast"(%x) {dtype = f32} : (tensor<640xbf16>) -> tensor<640xf32>
  %1 = "tape.add"(%0, %y) : (tensor<640xf32>, tensor<640xf32>) -> tensor<640xf32>
  return %1 : tensor<640xf32>
}
