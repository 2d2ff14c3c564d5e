// RUN: not flambeau-opt %s --assign-orders 2>&1 | filecheck %s
// RUN: not flambeau-opt %s --assign-orders --to kernels 2>&1 | filecheck %s --check-prefix=KERNELS

// A product of matrices becomes chains of fused multiply-adds in blocks.
// CHECK-LABEL: func.func @product(
// CHECK: %[[F:.*]] = math.fma %a0, %a1, %a2 : f32
// CHECK-NEXT: %[[K:.*]] = linalg.index 2 : index
// CHECK-NEXT: "flambeau.fold"(%[[F]], %[[K]]) {identity = 0x00000000 : f32, order = "blocks"}
// KERNELS: math.fma
func.func @product(%x: tensor<4x50xf32>, %y: tensor<50x6xf32>) -> tensor<4x6xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<4x6xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<4x6xf32>) -> tensor<4x6xf32>
  %0 = linalg.matmul ins(%x, %y : tensor<4x50xf32>, tensor<50x6xf32>) outs(%i : tensor<4x6xf32>) -> tensor<4x6xf32>
  return %0 : tensor<4x6xf32>
}

// -----

// One of a row with a matrix is a dot product for each element: lanes.
// CHECK-LABEL: func.func @row(
// CHECK: math.fma %a0, %a1, %a2 : f64
// CHECK: order = "lanes"
func.func @row(%x: tensor<3x1x50xf64>, %y: tensor<3x50x6xf64>) -> tensor<3x1x6xf64> {
  %zero = arith.constant 0.0 : f64
  %e = tensor.empty() : tensor<3x1x6xf64>
  %i = linalg.fill ins(%zero : f64) outs(%e : tensor<3x1x6xf64>) -> tensor<3x1x6xf64>
  %0 = linalg.batch_matmul ins(%x, %y : tensor<3x1x50xf64>, tensor<3x50x6xf64>) outs(%i : tensor<3x1x6xf64>) -> tensor<3x1x6xf64>
  return %0 : tensor<3x1x6xf64>
}

// -----

// Other folds go by lanes where the last loop is folded, else by chains; that the loop of one trip comes last does not count.
// CHECK-LABEL: func.func @greatest(
// CHECK: arith.maximumf %a0, %a1 : f32
// CHECK: order = "chains"
func.func @greatest(%x: tensor<7x5x1xf32>) -> tensor<5xf32> {
  %low = arith.constant 0xFF800000 : f32
  %e = tensor.empty() : tensor<5xf32>
  %i = linalg.fill ins(%low : f32) outs(%e : tensor<5xf32>) -> tensor<5xf32>
  %0 = linalg.reduce ins(%x : tensor<7x5x1xf32>) outs(%i : tensor<5xf32>) dimensions = [0, 2]
    (%a: f32, %b: f32) {
      %m = arith.maximumf %a, %b : f32
      linalg.yield %m : f32
    }
  return %0 : tensor<5xf32>
}

// -----

// An order that stands there stays.
// CHECK-LABEL: func.func @ordered(
// CHECK: order = "sequential"
// CHECK-NOT: flambeau.fold
func.func @ordered(%x: tensor<4x5xi32>) -> tensor<4xi32> {
  %zero = arith.constant 0 : i32
  %e = tensor.empty() : tensor<4xi32>
  %i = linalg.fill ins(%zero : i32) outs(%e : tensor<4xi32>) -> tensor<4xi32>
  %0 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0)>],
    iterator_types = ["parallel", "reduction"]} ins(%x : tensor<4x5xi32>) outs(%i : tensor<4xi32>) {
  ^bb0(%a: i32, %acc: i32):
    %s = arith.addi %acc, %a : i32
    %k = linalg.index 1 : index
    %t = "flambeau.fold"(%s, %k) {identity = 0 : i32, order = "sequential"} : (i32, index) -> i32
    linalg.yield %t : i32
  } -> tensor<4xi32>
  return %0 : tensor<4xi32>
}

// -----

// What starts from something else would count that once per lane.
// CHECK: [linalg.generic] at loc("{{.*}}assign-orders.mlir":{{[0-9]+}}:8): result 0 does not start from 0.000000e+00 : f32. Fill its tensor
func.func @added(%x: tensor<4x5xf32>, %y: tensor<5x6xf32>, %z: tensor<4x6xf32>) -> tensor<4x6xf32> {
  %0 = linalg.matmul ins(%x, %y : tensor<4x5xf32>, tensor<5x6xf32>) outs(%z : tensor<4x6xf32>) -> tensor<4x6xf32>
  return %0 : tensor<4x6xf32>
}

// -----

// CHECK: result 0 is combined by arith.subf. A fold is one of arith.addf, {{.*}}, of an element.
func.func @differences(%x: tensor<4x5xf32>) -> tensor<4xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<4xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<4xf32>) -> tensor<4xf32>
  %0 = linalg.reduce ins(%x : tensor<4x5xf32>) outs(%i : tensor<4xf32>) dimensions = [1]
    (%a: f32, %b: f32) {
      %m = arith.subf %b, %a : f32
      linalg.yield %m : f32
    }
  return %0 : tensor<4xf32>
}
