"""Recurrent layers: a step of an RNN, GRU or LSTM, and whole sequences of them.

Elman (1990); Cho and others, "Learning phrase representations using RNN encoder-decoder" (2014); Hochreiter and Schmidhuber,
"Long short-term memory" (1997); with projections as in Sak, Senior and Beaufays (2014). Gates stand in PyTorch's order.

In: packed sequences: the elements of all sequences that are at one step lie together, step after step, longest sequence first,
so that those still going on are the first ones. Out: packed outputs, and the last state of each. Sequences of one length, or
of lengths not too different, are a loop of the program; others are written out step by step. The products of the input of all steps
are one. Next: `nn/rnn.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.dialects.builder import Value
from flambeau.dialects.loops import ScanParts
from flambeau.dialects.region import build
from flambeau.function import Optional_, Static, Tensor_, function
from flambeau.functions.common import ops, part

#: Gates of each kind of layer.
GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "GRU": 3, "LSTM": 4}


def _affine(x: Value, weight: Value, bias: Value | None) -> Value:
    found = ops.matmul(x, ops.permute(weight, perm=(1, 0)))
    return found if bias is None else found + bias.expand(found.shape)


def _gates(x: Value, count: int) -> list[Value]:
    size = x.shape[1] // count
    return [part(x, 1, k * size, size) for k in range(count)]


#: h, and c of an LSTM
_State = tuple[Value, ...]


def _step(kind: str, x: Value, state: _State, weight: Value, bias: Value | None, projection: Value | None) -> _State:
    """The next state; `x` [batch, gates * size] is what the input gives to the gates."""
    return _next(kind, _total(kind, x, _affine(state[0], weight, bias)), state, projection)


def _total(kind: str, x: Value, h: Value) -> tuple[Value, ...]:
    """What goes into the gates, given what the input and the state give: their sum, or both for a GRU, which weighs them apart."""
    return (x, h) if kind == "GRU" else (x + h,)


def _next(kind: str, total: tuple[Value, ...], state: _State, projection: Value | None) -> _State:
    """The next state, given what goes into the gates."""
    if kind == "LSTM":
        i, f, g, o = _gates(total[0], 4)
        c = ops.sigmoid(f) * state[1] + ops.sigmoid(i) * ops.tanh(g)
        out = ops.sigmoid(o) * ops.tanh(c)
        return (out if projection is None else _affine(out, projection, None)), c
    if kind == "GRU":
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (_gates(x, 3) for x in total)
        r, z = ops.sigmoid(x_r + h_r), ops.sigmoid(x_z + h_z)
        n = ops.tanh(x_n + r * h_n)
        return (n + z * (state[0] - n),)
    (x,) = total
    return (ops.tanh(x) if kind == "RNN_TANH" else ops.select(x <= 0, x.like(0), x),)


def _cell(
    kind: Static,
    input: Tensor_,
    hx: Tensor_,
    cx: Optional_,
    w_ih: Tensor_,
    w_hh: Tensor_,
    b_ih: Optional_,
    b_hh: Optional_,
):
    """One step of a batch [N, features]: h, or (h, c) of an LSTM."""
    state = (hx,) if cx is None else (hx, cx)
    found = _step(kind, _affine(input, w_ih, b_ih), state, w_hh, b_hh, None)
    return found if len(found) > 1 else found[0]


def _concat(parts: Sequence[Value]) -> Value:
    return parts[0] if len(parts) == 1 else ops.concat(*parts, dim=0)


def _onwards(step: Callable[[Value, _State], _State], parts: list[Value], state: _State) -> tuple[list[Value], _State]:
    """From the first step on: sequences that end drop out at the end of the batch."""
    outputs, ended = [], []
    for x in parts:
        count = state[0].shape[0]
        if x.shape[0] < count:
            ended.append(tuple(part(s, 0, x.shape[0], count - x.shape[0]) for s in state))
            state = tuple(part(s, 0, 0, x.shape[0]) for s in state)
        state = step(x, state)
        outputs.append(state[0])
    ended.append(state)
    return outputs, tuple(_concat(column) for column in zip(*reversed(ended)))


def _backwards(
    step: Callable[[Value, _State], _State], parts: list[Value], first: _State
) -> tuple[list[Value], _State]:
    """From the last step on: shorter sequences join at the end of the batch."""
    state, outputs = tuple(part(s, 0, 0, parts[-1].shape[0]) for s in first), []
    for x in reversed(parts):
        count = state[0].shape[0]
        if x.shape[0] > count:
            joining = (part(s, 0, count, x.shape[0] - count) for s in first)
            state = tuple(_concat(pair) for pair in zip(state, joining))
        state = step(x, state)
        outputs.append(state[0])
    return outputs[::-1], state


def _sequence(
    kind: Static,
    input: Tensor_,
    hx: Tensor_,
    cx: Optional_,
    w_ih: Tensor_,
    w_hh: Tensor_,
    b_ih: Optional_,
    b_hh: Optional_,
    w_hr: Optional_,
    batch_sizes: Static,
    reverse: Static,
):
    """One layer in one direction over packed sequences `input` [sum of batch_sizes, features], of which `batch_sizes` are at each
    step: packed outputs and the last h, and c of an LSTM."""
    gates, parts, at = _affine(input, w_ih, b_ih), [], 0
    for count in batch_sizes:
        parts.append(part(gates, 0, at, count))
        at += count

    def step(x: Value, state: _State) -> _State:
        return _step(kind, x, state, w_hh, b_hh, w_hr)

    first = (hx,) if cx is None else (hx, cx)
    outputs, last = (_backwards if reverse else _onwards)(step, parts, first)
    return _concat(outputs), *last


def _where(mask: Value, x: Value, y: Value) -> Value:
    """Rows of `x` where the mask [N] holds, else of `y`."""
    return ops.select(ops.reshape(mask, shape=(*mask.shape, 1)).expand(x.shape), x, y)


def _loop(
    kind: Static,
    input: Tensor_,
    hx: Tensor_,
    cx: Optional_,
    w_ih: Tensor_,
    w_hh: Tensor_,
    b_ih: Optional_,
    b_hh: Optional_,
    w_hr: Optional_,
    is_on: Optional_,
    reverse: Static,
):
    """One layer in one direction over sequences `input` [T, N, features]: outputs [T, N, size] and the last h, and c of an LSTM.
    Steps are turns of one loop of the program, whatever T is. A sequence keeps its state where `is_on` [T, N] does not hold."""
    steps, n, features = input.shape
    gates = _affine(ops.reshape(input, shape=(steps * n, features)), w_ih, b_ih)
    gates = ops.reshape(gates, shape=(steps, n, w_ih.shape[0]))
    first = [hx] if cx is None else [hx, cx]
    given = [w for w in (w_hh, b_hh, w_hr) if w is not None]
    through = [gates] if is_on is None else [gates, is_on]

    def turn(*values: Value) -> list[Value]:
        before, (x, *masks) = values[: len(first)], values[len(first) : len(first) + len(through)]
        fixed = iter(values[len(first) + len(through) :])
        weight = next(fixed)
        bias, projection = (None if w is None else next(fixed) for w in (b_hh, w_hr))
        total = _total(kind, x, _affine(before[0], weight, bias))
        state = _next(kind, total, before, projection)
        for mask in masks:
            state = tuple(_where(mask, new, old) for new, old in zip(state, before, strict=True))
        return [*state, state[0], total[-1]]  # the last one for the gradient, which needs no product then

    slices = [x.aval._replace(shape=x.shape[1:]) for x in through]
    body = build([*[s.aval for s in first], *slices, *[w.aval for w in given]], turn)
    found = ScanParts(body, len(first), len(through), 0, reverse).keeping().emit([*first, *through, *given])
    return found[len(first)], *found[: len(first)]


#: By the names of the layers, which messages say.
CELLS = {kind: function(name=f"{kind[:4].rstrip('_')}Cell")(_cell) for kind in GATES}
LOOPS = {kind: function(name=kind[:4].rstrip("_"))(_loop) for kind in GATES}
SEQUENCES = {kind: function(name=kind[:4].rstrip("_"))(_sequence) for kind in GATES}
