// RUN: flambeau-opt %S/Inputs/programs.mlir --to plan --target x86-64-v3 > %t
// RUN: filecheck %s < %t
// RUN: flambeau-opt %t | sed -e "s,^// plan of.*,,;s,^//   .*,,;/^$/d" > %t.again
// RUN: sed -e "/^\/\/ plan of/d;/^\/\/   /d" %t | diff - %t.again
// What runs when, on what memory; the plans are read back as they were written.

// CHECK: plan of @chain
// CHECK-NEXT: kernel 0: mul+add+sum
// CHECK: plan.kernels = 1
// CHECK: %[[FOUR:.*]] = "plan.const"() {value = 4000 : i64}
// CHECK-COUNT-2: "plan.input"
// CHECK: "plan.output"({{.*}}) {mode = "new", source = 0 : i64}
// CHECK: "plan.step"({{.*}}) {fallible = false, kernel = 0 : i64}
// CHECK-NOT: "plan.step"

// A row's intermediates live in the scratch memory of a thread, so the arena is empty.
// CHECK: plan of @softmax
// CHECK: %[[ZERO:.*]] = "plan.const"() {value = 0 : i64}
// CHECK: "plan.arena"(%[[ZERO]])
// CHECK: "plan.step"
// CHECK-NOT: "plan.step"

// CHECK: plan of @layer
// CHECK-COUNT-3: "plan.input"
// CHECK: "plan.step"
// CHECK-NOT: "plan.step"

// CHECK: plan of @gradient
// CHECK: "plan.step"
// CHECK-NOT: "plan.step"

// The sums of the chains are kept in the arena until the second step has combined them.
// CHECK: plan of @columns
// CHECK: %[[A:.*]] = "plan.view"(%arena
// CHECK: "plan.step"({{.*}}%[[A]]{{.*}}) {fallible = false, kernel = 0 : i64}
// CHECK: %[[B:.*]] = "plan.view"(%arena
// CHECK: "plan.step"({{.*}}%[[B]]{{.*}}) {fallible = false, kernel = 1 : i64}

// The step that may fail gets the status word, and its error code is that of gather.
// CHECK: plan of @lookup
// CHECK: error 1: gather
// CHECK: %[[S:.*]] = "plan.view"(%status
// CHECK: "plan.step"({{.*}}%[[S]]{{.*}}) {fallible = true, kernel = 0 : i64}

// The new weights lie where the old ones did: the output is the input's buffer, read and written by one step.
// CHECK: plan of @update
// CHECK: %out0 = "plan.output"({{.*}}) {mode = "update", source = 0 : i64}
// CHECK: "plan.step"({{.*}}) {fallible = false, kernel = 0 : i64}
// CHECK: "plan.view"(%out0
// CHECK-NOT: "plan.view"(%in0
// CHECK: "plan.view"(%out0
// CHECK: "plan.step"({{.*}}) {fallible = false, kernel = 1 : i64}
// CHECK-NOT: "plan.step"
