// RUN: flambeau-opt %s --cluster=fuse=false | filecheck %s --check-prefix APART
// RUN: flambeau-opt %s --cluster=max_ops=2 | filecheck %s --check-prefix TWO
// RUN: flambeau-opt %s --cluster=fuse=true,max_ops=50 | filecheck %s --check-prefix ONE
// RUN: flambeau-opt %s --simplify --cse --dead-code --cluster | filecheck %s --check-prefix ONE

// APART-COUNT-4: loops cluster
// APART-NOT: cluster

// TWO: loops cluster
// TWO: func.func @chain_0(
// TWO-NEXT: "tape.exp"
// TWO-NEXT: "tape.exp"
// TWO-NEXT: return
// TWO: loops cluster
// TWO: func.func @chain_1(
// TWO-NEXT: "tape.exp"
// TWO-NEXT: "tape.exp"
// TWO-NEXT: return
// TWO-NOT: cluster

// ONE: loops cluster
// ONE: func.func @chain(
// ONE-COUNT-4: "tape.exp"
// ONE-NOT: cluster
func.func @chain(%x: tensor<100xf32>) -> tensor<100xf32> {
  %0 = "tape.exp"(%x) : (tensor<100xf32>) -> tensor<100xf32>
  %1 = "tape.exp"(%0) : (tensor<100xf32>) -> tensor<100xf32>
  %2 = "tape.exp"(%1) : (tensor<100xf32>) -> tensor<100xf32>
  %3 = "tape.exp"(%2) : (tensor<100xf32>) -> tensor<100xf32>
  return %3 : tensor<100xf32>
}
