"""A whole training step as one graph: a multilayer perceptron, cross-entropy, its gradients, Adam.

In: sizes. Out: `step(...)`: the graph, whose outputs are the loss and the new parameters, moments and step count, each
updating its input; `arrays(...)`: inputs for it.
"""

from __future__ import annotations

import itertools

import flambeau.dialects.tape  # noqa: F401
import numpy as np
from flambeau.dialects.autodiff import vjp
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import float32, float64, int64
from flambeau.dialects.graph import Graph, Loc
from flambeau.dialects.record import find

LAYERS = (784, 512, 256, 10)


def step(batch: int, layers: tuple[int, ...] = LAYERS) -> Graph:
    """One step of Adam. Inputs: x, labels, rate (a float64 scalar), parameters, first and second moments, count."""
    b = GraphBuilder()
    b.loc = Loc("step.py", 1)
    x, labels = b.input(Aval((batch, layers[0]), float32)), b.input(Aval((batch, 1), int64))
    rate = b.input(Aval((), float64)).cast(float32)
    shapes = [s for i, o in itertools.pairwise(layers) for s in ((o, i), (o,))]
    parameters, first, second = ([b.input(Aval(s, float32)) for s in shapes] for _ in range(3))
    count = b.input(Aval((), float32))
    loss = _loss(x, labels, parameters)
    values = {v: b.value(v) for v in range(len(b.graph.avals))}
    one = b.constant(1.0, float32)
    forward = Graph(list(b.graph.avals), list(b.graph.inputs), list(b.graph.nodes), [loss.id])
    gradients = vjp(b, forward, values, {loss.id: one}, [p.id for p in parameters])
    outputs, updates = [loss], {}
    new_count = count + one
    for k, (p, m, v, g) in enumerate(zip(parameters, first, second, gradients)):
        for slot, new in enumerate(_adam(p, m, v, g, rate, new_count)):
            updates[len(outputs)] = 3 + slot * len(shapes) + k
            outputs.append(new)
    updates[len(outputs)] = 3 + 3 * len(shapes)
    outputs.append(new_count)
    b.graph.outputs = [o.id for o in outputs]
    b.graph.updates = updates
    return b.graph


def arrays(batch: int, layers: tuple[int, ...] = LAYERS, seed: int = 0) -> list[np.ndarray]:
    """Inputs of `step`."""
    rng = np.random.default_rng(seed)
    shapes = [s for i, o in itertools.pairwise(layers) for s in ((o, i), (o,))]
    uniform = lambda s: (rng.uniform(-1, 1, s) / np.sqrt(s[-1])).astype(np.float32)  # noqa: E731
    zeros = [np.zeros(s, np.float32) for s in shapes]
    x, labels = rng.standard_normal((batch, layers[0])).astype(np.float32), rng.integers(0, layers[-1], (batch, 1))
    parameters = [uniform(s) for s in shapes]
    return [x, labels, np.float64(1e-3).reshape(()), *parameters, *zeros, *zeros, np.zeros((), np.float32)]


def _loss(x: Value, labels: Value, parameters: list[Value]) -> Value:
    for k in range(0, len(parameters), 2):
        w, bias = parameters[k], parameters[k + 1]
        y = find("matmul")(x, find("permute")(w, perm=(1, 0)))
        y = y + bias.expand(y.shape)
        x = find("maximum")(y, y.like(0.0)) if k + 2 < len(parameters) else y
    rows = x.shape[0]
    shifted = x - _keep(find("max")(x, axes=(1,)), x.shape)
    logs = shifted - _keep(find("log")(find("sum")(find("exp")(shifted), axes=(1,))), x.shape)
    picked = find("gather")(logs, labels, axis=1)
    return -(find("sum")(picked, axes=(0, 1)) * (1.0 / rows))


def _keep(value: Value, shape: tuple[int, ...]) -> Value:
    return find("broadcast")(find("reshape")(value, shape=(shape[0], 1)), shape=shape)


def _adam(p: Value, m: Value, v: Value, g: Value, rate: Value, count: Value) -> tuple[Value, Value, Value]:
    b = p.builder
    m = m * 0.9 + g * 0.1
    v = v * 0.999 + g * g * 0.001
    correction1 = 1.0 - find("pow")(b.constant(0.9, float32), count)
    correction2 = 1.0 - find("pow")(b.constant(0.999, float32), count)
    scale = rate / correction1
    root = find("sqrt")(v) / find("sqrt")(correction2).expand(p.shape)
    return p - m * scale.expand(p.shape) / (root + 1e-8), m, v
