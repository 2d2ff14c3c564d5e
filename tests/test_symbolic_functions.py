"""The frontend's rules on sizes that are known at run time only: mean, losses, normalization, attention, whole training
steps. Nothing they record leaves a single size, and programs have the bits of those bound to each size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flambeau.nn.functional as F
import numpy as np
import pytest
import symbolic
from flambeau import functions
from flambeau.dialects import autodiff
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import float32, float64, int64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from flambeau.dialects.size import symbol
from flambeau.dialects.size_guards import scope
from flambeau.function import building

s, t = symbol(0), symbol(1)
SIZES = [(n,) for n in (7, 2, 3, 64, 65, 300)]
PAIRS = [(3, 5), (2, 2), (4, 65), (7, 64)]


def number(x: Value, value: float) -> Value:
    return x.builder.constant(value, float64)


def layer_norm(x, w, b):
    return F.layer_norm.rule(x, (x.shape[-1],), w, b, number(x, 1e-5))


def cross_entropy(x, y, **more):
    return F.cross_entropy.rule(x, y, ignore_index=x.builder.constant(-100, int64), **more)


def split_heads(x):
    return find("permute")(reshaped(x, (*x.shape[:-1], 4, 16)), perm=(0, 2, 1, 3))


def reshaped(x, shape):
    return functions.shape._reshape_copy.rule(x, shape)


def attention(q, k, v, mask):
    scores = functions.linear._matmul(split_heads(q), find("permute")(split_heads(k), perm=(0, 1, 3, 2))) * 0.25
    length = q.shape[1]
    causal = find("slice")(mask, starts=(0, 0), sizes=(length, length), steps=(1, 1))
    weights = F.softmax.rule(scores + causal.expand(scores.shape), -1)
    mixed = find("permute")(functions.linear._matmul(weights, split_heads(v)), perm=(0, 2, 1, 3))
    return reshaped(mixed, (mixed.shape[0], -1, 64))


CALLS: dict[str, tuple[Callable[..., Any], list, list]] = {
    "mean": (lambda x: (functions.reduce.mean.rule(x), functions.reduce.mean.rule(x, 0)), [((s, 5), float32)], SIZES),
    "var": (lambda x: (functions.reduce.var.rule(x), functions.reduce.std.rule(x, 1)), [((4, s), float32)], SIZES),
    "layer_norm": (layer_norm, [((s, t, 8), float32), ((8,), float32), ((8,), float32)], PAIRS),
    "cross_entropy": (cross_entropy, [((s, 10), float32), ((s,), int64)], SIZES),
    "cross_entropy of symbolic classes": (
        lambda x, y: cross_entropy(x, y, label_smoothing=0.1),
        [((6, s), float32), ((6,), int64)],
        SIZES,
    ),
    "mse_loss": (lambda x, y: F.mse_loss.rule(x, y), [((s, 5), float32)] * 2, SIZES),
    "kl_div": (lambda x, y: F.kl_div.rule(x, y, "batchmean"), [((s, 5), float32)] * 2, SIZES),
    "softmax": (lambda x: F.log_softmax.rule(x, -1), [((3, s), float32)], SIZES),
    "linspace": (
        lambda x: functions.ramps._spaced.rule(s, float32, number(x, 0.0), number(x, 1.0)) + x,
        [((s,), float32)],
        SIZES,
    ),
    "arange": (
        lambda x: functions.ramps._ramp.rule(s, float32, number(x, 0.5), number(x, 1.5)) * x,
        [((s,), float32)],
        SIZES,
    ),
    "broadcasting": (
        lambda x, y: functions.arithmetic.add.rule(x, y),
        [((s, 1, 8), float32), ((t, 8), float32)],
        PAIRS,
    ),
    "linear": (
        lambda x, w, b: F.linear.rule(x, w, b),
        [((s, t, 16), float32), ((8, 16), float32), ((8,), float32)],
        PAIRS,
    ),
    "flatten": (lambda x: functions.shape._flatten_view.rule(x, 0, 1) * 2.0, [((s, t, 8), float32)], PAIRS),
    "attention": (attention, [((s, t, 64), float32)] * 3 + [((100, 100), float32)], PAIRS),
    "embedding": (lambda x, w: functions.gathering.embedding.rule(x, w), [((s, t), int64), ((5, 8), float32)], PAIRS),
    "pad and roll": (
        lambda x: functions.assemble.roll.rule(
            functions.assemble._pad_constant.rule(x, (1, 2, 0, 1), number(x, 0.5)), 1, 0
        ),
        [((s, 5), float32)],
        SIZES,
    ),
    "repeat": (lambda x: functions.assemble.repeat.rule(x, (2, 3)), [((s, 5), float32)], SIZES),
    "dropout": (
        lambda x, seed, offset: functions.dropout._dropout.rule(x, number(x, 0.5), (seed, offset)),
        [((s, 6), float32), ((), int64), ((), int64)],
        SIZES,
    ),
    "maximum": (lambda x: functions.reduce._max_full.rule(x), [((s, 6), float32)], SIZES),
    "norm": (lambda x: functions.reduce.norm.rule(x, 2.0, 1), [((3, s), float32)], SIZES),
    "gather": (
        lambda x, i: functions.gathering.gather.rule(x, 1, i),
        [((s, 6), float32), ((s, 3), int64)],
        SIZES,
    ),
}


def recorded(make: Callable[..., Any], inputs: list, hints: tuple[int, ...]) -> Graph:
    """The graph of a call, after checking that recording it pinned nothing."""

    def run(*values: Value) -> Any:
        values[0].builder.draws = 0  # which the builders of rules have
        with building(values[0].builder):
            return make(*values)

    with scope(hints) as asked:
        builder = GraphBuilder()
        run(*(builder.input(Aval(shape, dtype)) for shape, dtype in inputs))
    assert [g for g in asked.guards if g.relation == "=="] == []
    return symbolic.record(run, *inputs, hints=hints)


def arrays(graph: Graph) -> list[np.ndarray]:
    return [np.abs(x) if x.dtype.kind == "f" else x for x in symbolic.arguments(graph)]


@pytest.mark.parametrize("name", CALLS)
def test_functions(name):
    make, inputs, sizes = CALLS[name]
    outcome = symbolic.check(recorded(make, inputs, sizes[0]), sizes, inputs=arrays)
    assert outcome.pins == [] and len(outcome.plans) <= 3


def step(loss_of: Callable[..., Value], parameters: int) -> Callable[..., tuple[Value, ...]]:
    """A step of gradient descent: the loss and the new parameters, which come first among the inputs."""

    def make(*values: Value) -> tuple[Value, ...]:
        builder = values[0].builder
        loss = loss_of(*values)
        graph = builder.graph
        graph.outputs = [loss.id]
        forward = {v: builder.value(v) for v in range(len(graph.avals))}
        wrt = [v.id for v in values[:parameters]]
        gradients = autodiff.vjp(builder, graph, forward, {loss.id: loss.like(1.0)}, wrt)
        return loss, *(w - g * 0.1 for w, g in zip(values, gradients, strict=False) if g is not None)

    return make


def mlp(w1, b1, w2, b2, x, y):
    hidden = F.relu.rule(F.linear.rule(x, w1, b1))
    return cross_entropy(F.linear.rule(hidden, w2, b2), y)


def transformer(emb, w, b, wq, wk, wv, wo, x, y, mask):
    h = functions.gathering.embedding.rule(x, emb)
    n = layer_norm(h, w, b)
    h = h + F.linear.rule(attention(*(F.linear.rule(n, p, None) for p in (wq, wk, wv)), mask), wo, None)
    scores = F.linear.rule(F.gelu.rule(h), emb, None)
    return cross_entropy(reshaped(scores, (-1, 12)), reshaped(y, (-1,)))


STEPS: dict[str, tuple] = {
    "mlp": (
        step(mlp, 4),
        [*[(x, float32) for x in ((32, 20), (32,), (10, 32), (10,), (s, 20))], ((s,), int64)],
        [(n,) for n in (16, 2, 3, 64, 65, 100, 4096, 4097)],
        4,
    ),
    "transformer": (
        step(transformer, 7),
        [
            *[(x, float32) for x in ((12, 64), (64,), (64,), *[(64, 64)] * 4)],
            *[((s, t), int64)] * 2,
            ((100, 100), float32),
        ],
        [(3, 5), (2, 2), (4, 65), (7, 64), (16, 20)],
        4,
    ),
}


@pytest.mark.parametrize("name", STEPS)
def test_training_steps(name):
    make, inputs, sizes, plans = STEPS[name]
    graph = recorded(make, inputs, sizes[0])
    outcome = symbolic.check(graph, sizes)
    assert outcome.pins == [] and len(outcome.plans) <= plans
