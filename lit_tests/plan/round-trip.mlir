// RUN: flambeau-opt %s > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t --from plan --to plan | diff %t -
// RUN: flambeau-opt %s | flambeau-opt | diff %t -

// Sizes are expressions, also of extents that are known only when the plan runs; storage is bytes; a step is a kernel
// call on views. The first step may fail and writes nothing that anybody else has; the second is the runtime's copy.
// CHECK: func.func @plan() attributes {plan.kernels = 1 : i64, plan.symbols = 1 : i64}
// CHECK-NEXT: %x0 = "plan.const"() {value = 64 : i64} : () -> index
// CHECK-NEXT: %x1 = "plan.symbol"() {value = 0 : i64} : () -> index
// CHECK-NEXT: %x2 = "plan.mul"(%x0, %x1) : (index, index) -> index
// CHECK-NEXT: %x3 = "plan.const"() {value = 0 : i64} : () -> index
// CHECK-NEXT: %x4 = "plan.add"(%x2, %x0)
// CHECK-NEXT: %x5 = "plan.sub"(%x4, %x0)
// CHECK-NEXT: %x6 = "plan.floordiv"(%x5, %x0)
// CHECK-NEXT: %x7 = "plan.ceildiv"(%x5, %x0)
// CHECK-NEXT: %x8 = "plan.min"(%x6, %x7)
// CHECK-NEXT: %x9 = "plan.max"(%x6, %x7)
// CHECK-NEXT: "plan.guard"(%x6) {relation = ">="} : (index) -> ()
// CHECK-NEXT: "plan.guard"(%x3) {relation = "=="} : (index) -> ()
// CHECK-NEXT: %in0 = "plan.input"(%x2)
// CHECK-NEXT: %out0 = "plan.output"(%x2) {mode = "new", source = 0 : i64}
// CHECK-NEXT: %out1 = "plan.output"(%x2) {mode = "replace", source = 0 : i64}
// CHECK-NEXT: %out2 = "plan.output"(%x2) {mode = "output", source = 0 : i64}
// CHECK-NEXT: %arena = "plan.arena"(%x0)
// CHECK-NEXT: %constants = "plan.constants"() {data = "00017fff"}
// CHECK-NEXT: %status = "plan.status"()
// CHECK-NEXT: %[[A:.*]] = "plan.view"(%in0, %x3)
// CHECK-NEXT: %[[B:.*]] = "plan.view"(%arena, %x3)
// CHECK-NEXT: %[[C:.*]] = "plan.view"(%constants, %x3)
// CHECK-NEXT: %[[D:.*]] = "plan.view"(%status, %x3)
// CHECK-NEXT: %[[DIMS:.*]] = "plan.dims"(%x1, %x8, %x9) : (index, index, index) -> tensor<3xindex>
// CHECK-NEXT: "plan.step"(%x1, %x0, %x3, %[[DIMS]], %[[A]], %[[B]], %[[C]], %[[D]]) {fallible = true, kernel = 0 : i64}
// CHECK-NEXT: %[[E:.*]] = "plan.view"(%out0, %x3)
// CHECK-NEXT: %[[F:.*]] = "plan.view"(%in0, %x3)
// CHECK-NEXT: %[[BYTES:.*]] = "plan.dims"(%x2)
// CHECK-NEXT: "plan.step"({{.*}}, %[[BYTES]], %[[E]], %[[F]]) {fallible = false, kernel = -1 : i64}
// CHECK-NEXT: "plan.view"(%out1, %x3)
// CHECK-NEXT: "plan.dims"
// CHECK-NEXT: "plan.step"({{.*}}) {fallible = false, kernel = -2 : i64}
func.func @anything() attributes {plan.symbols = 1, plan.kernels = 1} {
  %line = "plan.const"() {value = 64} : () -> index
  %rows = "plan.symbol"() {value = 0} : () -> index
  %bytes = "plan.mul"(%line, %rows) : (index, index) -> index
  %zero = "plan.const"() {value = 0} : () -> index
  %a = "plan.add"(%bytes, %line) : (index, index) -> index
  %b = "plan.sub"(%a, %line) : (index, index) -> index
  %c = "plan.floordiv"(%b, %line) : (index, index) -> index
  %d = "plan.ceildiv"(%b, %line) : (index, index) -> index
  %e = "plan.min"(%c, %d) : (index, index) -> index
  %f = "plan.max"(%c, %d) : (index, index) -> index
  "plan.guard"(%c) {relation = ">="} : (index) -> ()
  "plan.guard"(%zero) {relation = "=="} : (index) -> ()
  %x = "plan.input"(%bytes) : (index) -> memref<?xi8>
  %y = "plan.output"(%bytes) {mode = "new", source = 0} : (index) -> memref<?xi8>
  %z = "plan.output"(%bytes) {mode = "replace", source = 0} : (index) -> memref<?xi8>
  %same = "plan.output"(%bytes) {mode = "output", source = 0} : (index) -> memref<?xi8>
  %arena = "plan.arena"(%line) : (index) -> memref<?xi8>
  %constants = "plan.constants"() {data = "00017fff"} : () -> memref<?xi8>
  %status = "plan.status"() : () -> memref<?xi8>
  %0 = "plan.view"(%x, %zero) : (memref<?xi8>, index) -> memref<?xi8>
  %1 = "plan.view"(%arena, %zero) : (memref<?xi8>, index) -> memref<?xi8>
  %2 = "plan.view"(%constants, %zero) : (memref<?xi8>, index) -> memref<?xi8>
  %3 = "plan.view"(%status, %zero) : (memref<?xi8>, index) -> memref<?xi8>
  %4 = "plan.dims"(%rows, %e, %f) : (index, index, index) -> tensor<3xindex>
  "plan.step"(%rows, %line, %zero, %4, %0, %1, %2, %3) {fallible = true, kernel = 0} : (index, index, index, tensor<3xindex>, memref<?xi8>, memref<?xi8>, memref<?xi8>, memref<?xi8>) -> ()
  %5 = "plan.view"(%y, %zero) : (memref<?xi8>, index) -> memref<?xi8>
  %6 = "plan.dims"(%bytes) : (index) -> tensor<1xindex>
  "plan.step"(%zero, %zero, %zero, %6, %5, %0) {fallible = false, kernel = -1} : (index, index, index, tensor<1xindex>, memref<?xi8>, memref<?xi8>) -> ()
  %7 = "plan.view"(%z, %zero) : (memref<?xi8>, index) -> memref<?xi8>
  "plan.step"(%zero, %zero, %zero, %6, %7) {fallible = false, kernel = -2} : (index, index, index, tensor<1xindex>, memref<?xi8>) -> ()
  return
}
