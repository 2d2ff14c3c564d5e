// RUN: flambeau-opt %s --legalise-complex | filecheck %s
// RUN: flambeau-opt %s --legalise-complex --legalise-complex | filecheck %s

// In memory the parts lie one after the other: they are slices of a real tensor, and are put together where they leave.
// CHECK-LABEL: func.func @product(
// CHECK-SAME: tensor<4x2xf32>
// CHECK: "tape.slice"(%0) {starts = [0 : i64, 0 : i64], sizes = [4 : i64, 1 : i64]
// CHECK: "tape.slice"(%0) {starts = [0 : i64, 1 : i64], sizes = [4 : i64, 1 : i64]
// CHECK-COUNT-2: "tape.mul"({{.*}}) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
// CHECK: "tape.sub"
// CHECK-COUNT-2: "tape.mul"
// CHECK: "tape.add"
// CHECK: "tape.concat"({{.*}}) {dim = 1 : i64} : (tensor<4x1xf32>, tensor<4x1xf32>) -> tensor<4x2xf32>
// CHECK: return {{.*}} : tensor<4x2xf32>
func.func @product(%x: tensor<4xcomplex<f32>>, %y: tensor<4xcomplex<f32>>) -> tensor<4xcomplex<f32>> {
  %0 = "tape.mul"(%x, %y) : (tensor<4xcomplex<f32>>, tensor<4xcomplex<f32>>) -> tensor<4xcomplex<f32>>
  return %0 : tensor<4xcomplex<f32>>
}

// Views of the memory are the memory.
// CHECK-LABEL: func.func @memory(
// CHECK-NEXT: return %0, %1 : tensor<3x2xf64>, tensor<3x2xf64>
func.func @memory(%x: tensor<3xcomplex<f64>>, %y: tensor<3x2xf64>) -> (tensor<3x2xf64>, tensor<3xcomplex<f64>>) {
  %0 = "tape.view_as_real"(%x) : (tensor<3xcomplex<f64>>) -> tensor<3x2xf64>
  %1 = "tape.view_as_complex"(%y) : (tensor<3x2xf64>) -> tensor<3xcomplex<f64>>
  return %0, %1 : tensor<3x2xf64>, tensor<3xcomplex<f64>>
}

// What is done to the parts needs no memory between.
// CHECK-LABEL: func.func @size(
// CHECK-NOT: "tape.concat"
// CHECK: "tape.hypot"
func.func @size(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "tape.complex"(%x, %0) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xcomplex<f32>>
  %2 = "tape.abs"(%1) : (tensor<4xcomplex<f32>>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}

// What is real is left alone.
// CHECK-LABEL: func.func @real(
// CHECK-NEXT: "tape.add"(%0, %0)
// CHECK-NEXT: return
func.func @real(%x: tensor<4xf64>) -> tensor<4xf64> {
  %0 = "tape.add"(%x, %x) : (tensor<4xf64>, tensor<4xf64>) -> tensor<4xf64>
  return %0 : tensor<4xf64>
}

// What is alike for both parts is done to memory as it lies.
// CHECK-LABEL: func.func @alike(
// CHECK-NEXT: "tape.add"(%0, %1) : (tensor<4x2xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
// CHECK-NEXT: "tape.neg"
// CHECK-NEXT: return
func.func @alike(%x: tensor<4xcomplex<f32>>, %y: tensor<4xcomplex<f32>>) -> tensor<4xcomplex<f32>> {
  %0 = "tape.add"(%x, %y) : (tensor<4xcomplex<f32>>, tensor<4xcomplex<f32>>) -> tensor<4xcomplex<f32>>
  %1 = "tape.neg"(%0) : (tensor<4xcomplex<f32>>) -> tensor<4xcomplex<f32>>
  return %1 : tensor<4xcomplex<f32>>
}
