"""A training step of a transformer with symbols for batch and length: at all sizes the bits of the step for that size.

Forward, backward and update are one program: embedding, layer norms, causal attention, dropout, cross-entropy, momentum.
"""

from __future__ import annotations

import numpy as np
import symbolic
from flambeau.dialects.autodiff import vjp
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import float32, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from flambeau.dialects.size import symbol
from flambeau.dialects.size_guards import scope
from test_symbolic_kernels import layer_norm, softmax, transposed

WIDTH, HEADS, WORDS = 32, 2, 11
WEIGHTS = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
batch, length = symbol(0), symbol(1)


def linear(x: Value, w: Value) -> Value:
    rows, columns = batch * length, w.shape[1]
    flat = find("matmul")(find("reshape")(x, shape=(rows, x.shape[-1])), w)
    return find("reshape")(flat, shape=(batch, length, columns))


def heads(x: Value) -> Value:
    return find("permute")(find("reshape")(x, shape=(batch, length, HEADS, WIDTH // HEADS)), perm=(0, 2, 1, 3))


def attention(x: Value, wq: Value, wk: Value, wv: Value, wo: Value, mask: Value) -> Value:
    scores = find("matmul")(heads(linear(x, wq)), transposed(heads(linear(x, wk)))) * 0.25
    causal = find("slice")(mask, starts=(0,) * 4, sizes=(1, 1, length, length), steps=(1,) * 4).expand(scores.shape)
    mixed = find("permute")(find("matmul")(softmax(scores + causal), heads(linear(x, wv))), perm=(0, 2, 1, 3))
    return linear(find("reshape")(mixed, shape=(batch, length, WIDTH)), wo)


def dropout(x: Value, seed: Value) -> Value:
    bits = find("random_bits")(seed, x.builder.constant(0, int64), shape=x.shape)
    return find("select")(bits > bits.like(-(2**30)), x * (4 / 3), x.like(0.0))


def model(words: Value, labels: Value, seed: Value, mask: Value, table: Value, *weights: Value) -> Value:
    rows = find("gather")(table, words.expand((batch * length, WIDTH)), axis=0)
    x = find("reshape")(rows, shape=(batch, length, WIDTH))
    x = x + attention(layer_norm(x), *weights[:4], mask)
    x = x + dropout(linear(find("tanh")(linear(layer_norm(x), weights[4])), weights[5]), seed)
    logits = find("reshape")(linear(x, transposed(table)), shape=(batch * length, WORDS))
    return -(find("sum")(find("gather")(find("log")(softmax(logits)), labels, axis=1), axes=(0, 1)) / (batch * length))


def step(hints: tuple[int, int]) -> Graph:
    """Inputs: words, labels, seed, mask, parameters, velocities. Outputs: the loss, new parameters, new velocities."""
    shapes = [(WORDS, WIDTH), *WEIGHTS]
    with scope(hints) as asked:
        b = GraphBuilder()
        given = [b.input(Aval(shape, int64)) for shape in [(batch * length, 1)] * 2 + [()]]
        given.append(b.input(Aval((1, 1, 512, 512), float32)))
        parameters, velocities = ([b.input(Aval(shape, float32)) for shape in shapes] for _ in range(2))
        loss = model(*given, *parameters)
        forward = Graph(list(b.graph.avals), list(b.graph.inputs), list(b.graph.nodes), [loss.id])
        values = {v: b.value(v) for v in range(len(b.graph.avals))}
        gradients = vjp(b, forward, values, {loss.id: b.constant(1.0, float32)}, [p.id for p in parameters])
        moved = [v * 0.9 + g for v, g in zip(velocities, gradients)]
        new = [p - v * 0.1 for p, v in zip(parameters, moved)]
    assert [(g.holds((2, 512)), g.holds((2, 513))) for g in asked.guards] == [(True, False)], (
        "the mask limits the length, nothing else"
    )
    b.graph.outputs = [v.id for v in (loss, *new, *moved)]
    b.graph.updates = {1 + k: len(given) + k for k in range(2 * len(shapes))}
    b.graph.sizes = hints
    return b.graph


def arguments(bound: Graph) -> list[np.ndarray]:
    """Small weights, and words that there are."""
    return [x * np.float32(0.2) if x.dtype == np.float32 else x % WORDS for x in symbolic.arguments(bound)]


def test_a_training_step_serves_all_batches_and_lengths():
    sizes = [(4, 16), (4, 17), (2, 2), (8, 3), (3, 64), (2, 65), (5, 100), (30, 7), (2, 300)]
    outcome = symbolic.check(step((4, 16)), sizes, inputs=arguments)
    assert len(outcome.plans) <= 4 and not outcome.pins


def test_a_training_step_borrows_little_more_memory_than_one_for_its_sizes():
    sizes = (4, 40)
    graph = step((6, 30))
    executable = symbolic.check(graph, [sizes], inputs=arguments).executable
    alone = symbolic.driver.compile(graph.bind(sizes), symbolic.STRICT).ready()
    assert 0 < executable.ready(sizes).arena_bytes <= 1.1 * alone.arena_bytes
