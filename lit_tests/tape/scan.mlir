// Loops of a given length: text that comes back the same, dead code in and around them, and the plan, which counts and moves cursors.
// RUN: flambeau-opt %s | filecheck %s
// RUN: flambeau-opt %s | flambeau-opt - | filecheck %s
// RUN: flambeau-opt %s --dead-code | filecheck %s --check-prefix=DEAD
// RUN: flambeau-opt %s --to plan | filecheck %s --check-prefix=PLAN

// CHECK: %[[H:[0-9]+]], %{{[0-9]+}}, %{{[0-9]+}} = "control.scan"(%{{[0-9]+}}, %{{[0-9]+}}) ({
// CHECK-NEXT: ^bb0(%{{r[0-9_]+}}: tensor<4xf32>, %{{r[0-9_]+}}: tensor<4xf32>):
// CHECK: }) {carried = 1 : i64, sliced = 1 : i64, size = 0 : i64, reverse = true} : (tensor<4xf32>, tensor<7x4xf32>) -> (tensor<4xf32>, tensor<7x4xf32>, tensor<7x4xf32>)

// DEAD: %[[H:[0-9]+]], %[[Y:[0-9]+]] = "control.scan"
// DEAD-NOT: tape.exp
// DEAD: return %[[H]], %[[Y]]

// Two places to begin at, the count, then a turn: cursors go back first, and the body jumps to where it is counted.
// PLAN-COUNT-2: kernel = -9 : i64
// PLAN: kernel = -7 : i64
// PLAN: kernel = -8 : i64
// PLAN-COUNT-2: kernel = -9 : i64
// PLAN: kernel = -4 : i64

module {
  func.func @decay(%h: tensor<4xf32>, %x: tensor<7x4xf32>) -> (tensor<4xf32>, tensor<7x4xf32>) {
    %last, %y, %unread = "control.scan"(%h, %x) ({
    ^bb0(%a: tensor<4xf32>, %row: tensor<4xf32>):
      %b = "tape.mul"(%a, %row) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      %c = "tape.add"(%b, %row) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      %e = "tape.exp"(%a) : (tensor<4xf32>) -> tensor<4xf32>
      "control.yield"(%c, %b, %e) : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> ()
    }) {carried = 1 : i64, sliced = 1 : i64, size = 0 : i64, reverse = true} : (tensor<4xf32>, tensor<7x4xf32>) -> (tensor<4xf32>, tensor<7x4xf32>, tensor<7x4xf32>)
    return %last, %y : tensor<4xf32>, tensor<7x4xf32>
  }
}
