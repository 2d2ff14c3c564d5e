// RUN: not flambeau-opt %s 2>&1 | filecheck %s
// Bad regions: every part is refused by itself, with where it is and what to do.

// A region reads what is outside of it.
// CHECK: [tape.mul] at {{.*}}:9:10) reads a value from outside of its region. Make it an operand of the op, and
func.func @f(%p: tensor<i1>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %y = "control.cond"(%p, %x) ({
  ^bb0(%a: tensor<4xf32>):
    %b = "tape.mul"(%a, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
    "control.yield"(%b) : (tensor<4xf32>) -> ()
  }, {
  ^bb0(%a: tensor<4xf32>):
    "control.yield"(%a) : (tensor<4xf32>) -> ()
  }) : (tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// The branches give different types.
// CHECK: [cond] one branch gives (4xf32), the other (i1). Make them give equal shapes and dtypes.
func.func @f(%p: tensor<i1>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %y = "control.cond"(%p, %x) ({
  ^bb0(%a: tensor<4xf32>):
    "control.yield"(%a) : (tensor<4xf32>) -> ()
  }, {
  ^bb0(%a: tensor<4xf32>):
    %b = "tape.constant"() {value = true, dtype = i1} : () -> tensor<i1>
    "control.yield"(%b) : (tensor<i1>) -> ()
  }) : (tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// A region takes other types than the operands have.
// CHECK: [cond] its region 'then' takes (3xf32), its operands are (4xf32). Make them equal.
func.func @f(%p: tensor<i1>, %x: tensor<4xf32>) -> tensor<3xf32> {
  %y = "control.cond"(%p, %x) ({
  ^bb0(%a: tensor<3xf32>):
    "control.yield"(%a) : (tensor<3xf32>) -> ()
  }, {
  ^bb0(%a: tensor<3xf32>):
    "control.yield"(%a) : (tensor<3xf32>) -> ()
  }) : (tensor<i1>, tensor<4xf32>) -> tensor<3xf32>
  return %y : tensor<3xf32>
}

// -----

// The results are not what the regions give.
// CHECK: [cond] results are tensor<5xf32>, but its regions give tensor<4xf32>
func.func @f(%p: tensor<i1>, %x: tensor<4xf32>) -> tensor<5xf32> {
  %y = "control.cond"(%p, %x) ({
  ^bb0(%a: tensor<4xf32>):
    "control.yield"(%a) : (tensor<4xf32>) -> ()
  }, {
  ^bb0(%a: tensor<4xf32>):
    "control.yield"(%a) : (tensor<4xf32>) -> ()
  }) : (tensor<i1>, tensor<4xf32>) -> tensor<5xf32>
  return %y : tensor<5xf32>
}

// -----

// One region too few.
// CHECK: [cond] at {{.*}} has 1 regions. Give then, otherwise, in this order.
func.func @f(%p: tensor<i1>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %y = "control.cond"(%p, %x) ({
  ^bb0(%a: tensor<4xf32>):
    "control.yield"(%a) : (tensor<4xf32>) -> ()
  }) : (tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// A region that does not end.
// CHECK: [cond] at {{.*}} has a region that is not one block ending with control.yield. Give it one.
func.func @f(%p: tensor<i1>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %y = "control.cond"(%p, %x) ({
  ^bb0(%a: tensor<4xf32>):
    %b = "tape.exp"(%a) : (tensor<4xf32>) -> tensor<4xf32>
  }, {
  ^bb0(%a: tensor<4xf32>):
    "control.yield"(%a) : (tensor<4xf32>) -> ()
  }) : (tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// The types of ops within regions are checked where they stand.
// CHECK: control-invalid.mlir:98:10: [add] result is tensor<3xf32>, but the operands give tensor<4xf32>.
func.func @f(%p: tensor<i1>, %x: tensor<4xf32>) -> tensor<4xf32> {
  %y = "control.cond"(%p, %x) ({
  ^bb0(%a: tensor<4xf32>):
    %b = "tape.add"(%a, %a) : (tensor<4xf32>, tensor<4xf32>) -> tensor<3xf32>
    "control.yield"(%a) : (tensor<4xf32>) -> ()
  }, {
  ^bb0(%a: tensor<4xf32>):
    "control.yield"(%a) : (tensor<4xf32>) -> ()
  }) : (tensor<i1>, tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// An op of a name that is no op with regions.
// CHECK: control.perhaps at {{.*}} is not an op of the tape dialect.
func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  %y = "control.perhaps"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// -----

// Two calls after one: nobody would know their order.
// CHECK: [host_call] its token is that of an earlier effect, too. Give it the one that this gives.
func.func @f(%t: tensor<i64>, %n: tensor<i64>) -> (tensor<i64>, tensor<i64>) {
  %u = "control.host_call"(%t, %n) : (tensor<i64>, tensor<i64>) -> tensor<i64>
  %v = "control.host_call"(%t, %n) : (tensor<i64>, tensor<i64>) -> tensor<i64>
  return %u, %v : tensor<i64>, tensor<i64>
}
