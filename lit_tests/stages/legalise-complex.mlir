// RUN: flambeau-opt %s --to legalise-complex | filecheck %s
// RUN: flambeau-opt %s --to assembly --target x86-64-v3 | filecheck %s --check-prefix=ASM
// Complex numbers are pairs of real ones behind this stage.

// CHECK-LABEL: func.func @total(
// CHECK-NOT: complex
// CHECK: "tape.sum"({{.*}}) {axes = [0 : i64]} : (tensor<64xf64>) -> tensor<f64>
// CHECK: "tape.sum"({{.*}}) {axes = [0 : i64]} : (tensor<64xf64>) -> tensor<f64>
// ASM: vaddpd
func.func @total(%x: tensor<64xcomplex<f64>>) -> tensor<complex<f64>> {
  %0 = "tape.sum"(%x) {axes = [0]} : (tensor<64xcomplex<f64>>) -> tensor<complex<f64>>
  return %0 : tensor<complex<f64>>
}
