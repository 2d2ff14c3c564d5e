// Ops with regions: text that comes back the same, passes that walk into regions, and the plan, which branches and jumps.
// RUN: flambeau-opt %s | filecheck %s
// RUN: flambeau-opt %s | flambeau-opt - | filecheck %s
// RUN: flambeau-opt %s --simplify --cse --dead-code | filecheck %s --check-prefix=PASSES
// RUN: flambeau-opt %s --to plan | filecheck %s --check-prefix=PLAN

// CHECK: %[[Y:[0-9]+]], %{{[0-9]+}} = "control.cond"(%{{[0-9]+}}, %{{[0-9]+}}, %{{[0-9]+}}) ({
// CHECK-NEXT: ^bb0(%[[X:r[0-9_]+]]: tensor<4xf32>, %[[N:r[0-9_]+]]: tensor<i64>):
// CHECK: "tape.mul"(%[[X]], %{{r[0-9_]+}})
// CHECK: "control.yield"(%{{r[0-9_]+}}, %[[N]]) : (tensor<4xf32>, tensor<i64>) -> ()
// CHECK-NEXT: }, {
// CHECK: }) : (tensor<i1>, tensor<4xf32>, tensor<i64>) -> (tensor<4xf32>, tensor<i64>)
// CHECK: "control.while_loop"
// CHECK: return %[[Y]]
// CHECK: %[[T:[0-9]+]] = "control.host_call"(%{{[0-9]+}}, %{{[0-9]+}}, %{{[0-9]+}}) : (tensor<i64>, tensor<i64>, tensor<4xf32>) -> tensor<i64>
// CHECK-NEXT: "control.host_call"(%[[T]], %{{[0-9]+}})

// PASSES: "control.cond"
// PASSES: ^bb0
// PASSES-NOT: tape.neg
// PASSES-NOT: tape.constant
// PASSES: "control.yield"

// PLAN-LABEL: plan of @choose
// A branch over one step and a jump, then the other step.
// PLAN: {fallible = false, kernel = -3 : i64}
// PLAN: {fallible = false, kernel = 0 : i64}
// PLAN: {fallible = false, kernel = -4 : i64}
// PLAN: return
// PLAN-LABEL: plan of @repeat
// The carried values are copied once, then changed where they are; the last step jumps back.
// PLAN-COUNT-2: {fallible = true, kernel = -1 : i64}
// PLAN: {fallible = true, kernel = -3 : i64}
// PLAN-NOT: kernel = -1 : i64
// PLAN: {fallible = true, kernel = -4 : i64}
// PLAN-NEXT: return
// PLAN-LABEL: plan of @tell
// Both calls stay, although nobody reads the last token, before what cannot be undone.
// PLAN-COUNT-2: {fallible = true, kernel = -5 : i64}
module {
  func.func @choose(%p: tensor<i1>, %x: tensor<4xf32>, %n: tensor<i64>) -> tensor<4xf32> {
    %y, %m = "control.cond"(%p, %x, %n) ({
    ^bb0(%a: tensor<4xf32>, %k: tensor<i64>):
      %one = "tape.constant"() {value = 1.0 : f64, dtype = f32} : () -> tensor<f32>
      %lead = "tape.reshape"(%one) {shape = [1 : i64]} : (tensor<f32>) -> tensor<1xf32>
      %ones = "tape.broadcast"(%lead) {shape = [4 : i64]} : (tensor<1xf32>) -> tensor<4xf32>
      %unread = "tape.neg"(%a) : (tensor<4xf32>) -> tensor<4xf32>
      %same = "tape.mul"(%a, %ones) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      %b = "tape.mul"(%same, %a) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      "control.yield"(%b, %k) : (tensor<4xf32>, tensor<i64>) -> ()
    }, {
    ^bb0(%a: tensor<4xf32>, %k: tensor<i64>):
      %b = "tape.exp"(%a) : (tensor<4xf32>) -> tensor<4xf32>
      "control.yield"(%b, %k) : (tensor<4xf32>, tensor<i64>) -> ()
    }) : (tensor<i1>, tensor<4xf32>, tensor<i64>) -> (tensor<4xf32>, tensor<i64>)
    return %y : tensor<4xf32>
  }
  func.func @repeat(%i: tensor<i64>, %x: tensor<4xf32>, %n: tensor<i64>) -> (tensor<i64>, tensor<4xf32>) {
    %j, %y = "control.while_loop"(%i, %x, %n) ({
    ^bb0(%k: tensor<i64>, %a: tensor<4xf32>, %end: tensor<i64>):
      %more = "tape.lt"(%k, %end) : (tensor<i64>, tensor<i64>) -> tensor<i1>
      "control.yield"(%more) : (tensor<i1>) -> ()
    }, {
    ^bb0(%k: tensor<i64>, %a: tensor<4xf32>, %end: tensor<i64>):
      %one = "tape.constant"() {value = 1 : i64, dtype = i64} : () -> tensor<i64>
      %next = "tape.add"(%k, %one) : (tensor<i64>, tensor<i64>) -> tensor<i64>
      %b = "tape.mul"(%a, %a) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      "control.yield"(%next, %b) : (tensor<i64>, tensor<4xf32>) -> ()
    }) : (tensor<i64>, tensor<4xf32>, tensor<i64>) -> (tensor<i64>, tensor<4xf32>)
    return %j, %y : tensor<i64>, tensor<4xf32>
  }
  func.func @tell(%t: tensor<i64>, %n: tensor<i64>, %x: tensor<4xf32>) -> tensor<4xf32> {
    %u = "control.host_call"(%t, %n, %x) : (tensor<i64>, tensor<i64>, tensor<4xf32>) -> tensor<i64>
    %v = "control.host_call"(%u, %n) : (tensor<i64>, tensor<i64>) -> tensor<i64>
    %y = "tape.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
    return %y : tensor<4xf32>
  }
}
