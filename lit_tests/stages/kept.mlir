// What is made once: panels of weights, which the plan's first step packs where they are kept, and before a loop those that each of
// its turns reads.
// RUN: flambeau-opt %s --to plan > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | filecheck %s --check-prefix=AGAIN
// RUN: flambeau-opt %s --to plan --target x86-64-v3 | filecheck %s --check-prefix=FOREIGN

// The second product reads the same weights, so its panels are the same.
// CHECK: plan of @layers
// CHECK-DAG: panels of a matrix f32
// CHECK: %kept0 = "plan.kept"({{.*}}) {spare = true}
// CHECK-NOT: plan.kept
// CHECK: "plan.view"(%kept0
// CHECK: "plan.step"({{.*}}) {fallible = true
// CHECK: "plan.view"(%kept0
// CHECK: "plan.step"({{.*}}) {fallible = false
// CHECK: "plan.view"(%kept0
// CHECK: "plan.step"({{.*}}) {fallible = false
// AGAIN: "plan.kept"({{.*}}) {spare = true}

// A program for others keeps nothing, and its products get no address.
// FOREIGN: plan of @layers
// FOREIGN-NOT: panels of a matrix
// FOREIGN-NOT: plan.kept
// FOREIGN: %cursor0 = "plan.cursor"()
// FOREIGN-COUNT-2: "plan.view"(%cursor0
// FOREIGN: plan of @training

// Weights that the program itself replaces are never the same twice.
// CHECK: plan of @training
// CHECK-NOT: plan.kept
// CHECK: %cursor0 = "plan.cursor"()
// CHECK: plan of @recurrent

// One step packs, then the loop counts; what is made of an input is kept, too.
// CHECK: %kept0 = "plan.kept"({{.*}}) {spare = false}
// CHECK: "plan.view"(%kept0
// CHECK: "plan.step"
// CHECK: kernel = -7 : i64
// CHECK: kernel = -8 : i64
// CHECK: "plan.view"(%kept0
// CHECK: kernel = -4 : i64

module {
  func.func @layers(%x: tensor<9x70xf32>, %w: tensor<70x70xf32>) -> tensor<9x70xf32> {
    %a = "tape.matmul"(%x, %w) : (tensor<9x70xf32>, tensor<70x70xf32>) -> tensor<9x70xf32>
    %b = "tape.matmul"(%a, %w) : (tensor<9x70xf32>, tensor<70x70xf32>) -> tensor<9x70xf32>
    return %b : tensor<9x70xf32>
  }
  func.func @training(%x: tensor<9x70xf32>, %w: tensor<70x70xf32>) -> (tensor<9x70xf32>, tensor<70x70xf32>) attributes {tape.updates = [[1, 1]]} {
    %a = "tape.matmul"(%x, %w) : (tensor<9x70xf32>, tensor<70x70xf32>) -> tensor<9x70xf32>
    %b = "tape.add"(%w, %w) : (tensor<70x70xf32>, tensor<70x70xf32>) -> tensor<70x70xf32>
    return %a, %b : tensor<9x70xf32>, tensor<70x70xf32>
  }
  func.func @recurrent(%h: tensor<9x70xf32>, %x: tensor<7x9x70xf32>, %w: tensor<70x70xf32>) -> tensor<9x70xf32> {
    %last = "control.scan"(%h, %x, %w) ({
    ^bb0(%a: tensor<9x70xf32>, %row: tensor<9x70xf32>, %weight: tensor<70x70xf32>):
      %b = "tape.matmul"(%a, %weight) : (tensor<9x70xf32>, tensor<70x70xf32>) -> tensor<9x70xf32>
      %c = "tape.add"(%b, %row) : (tensor<9x70xf32>, tensor<9x70xf32>) -> tensor<9x70xf32>
      "control.yield"(%c) : (tensor<9x70xf32>) -> ()
    }) {carried = 1 : i64, sliced = 1 : i64, size = 0 : i64, reverse = false} : (tensor<9x70xf32>, tensor<7x9x70xf32>, tensor<70x70xf32>) -> tensor<9x70xf32>
    return %last : tensor<9x70xf32>
  }
}
