"""RNN, GRU and LSTM over whole sequences.

ONNX stacks the gates in another order than PyTorch, and directions in one tensor. What is as in PyTorch's layers (the usual
activations, no peepholes, GRUs whose reset gate comes after the product) is computed by the rule of these; all else step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from flambeau.functions.recurrent import SEQUENCES
from flambeau.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from flambeau.onnx.names import F, fb
from flambeau.onnx.node import OnnxNode, rule
from flambeau.runtime.recorder import Tensor

_ACTIVATIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "Relu": lambda x, a, b: F.relu(x),
    "Tanh": lambda x, a, b: fb.tanh(x),
    "Sigmoid": lambda x, a, b: fb.sigmoid(x),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: F.leaky_relu(x, a),
    "ScaledTanh": lambda x, a, b: a * fb.tanh(b * x),
    "HardSigmoid": lambda x, a, b: fb.clamp(a * x + b, 0, 1),
    "Softsign": lambda x, a, b: F.softsign(x),
    "Softplus": lambda x, a, b: F.softplus(x),
}
_CONSTANTS = {"LeakyRelu": (0.01, 0.0), "HardSigmoid": (0.2, 0.5), "ScaledTanh": (1.0, 1.0), "Affine": (1.0, 0.0)}
_USUAL = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
#: Where PyTorch's gates stand among ONNX's: GRU r, z, n of z, r, h; LSTM i, f, g, o of i, o, f, c.
_ORDER = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}


class _Direction(NamedTuple):
    """One direction of a node: weights [gates * hidden, ...] with ONNX's order of gates, biases None where there are none."""

    node: OnnxNode
    activations: list[Callable[[Tensor], Tensor]]
    usual: bool
    w: Tensor
    r: Tensor
    bias: tuple[Tensor, Tensor] | None
    peepholes: Tensor | None
    reverse: bool

    def reordered(self, v: Tensor) -> Tensor:
        gates = v.chunk(len(_ORDER[self.node.kind]), 0)
        order = _ORDER[self.node.kind]
        return v if len(order) == 1 else fb.cat([gates[k] for k in order], 0)


# ---- as PyTorch's layers do -----------------------------------------------------------------------------------


def _packed(at: _Direction, x: Tensor, lengths: np.ndarray | None, h: Tensor, c: Tensor | None) -> tuple[Tensor, ...]:
    """Outputs [T, N, hidden] and the last states, by the rule of PyTorch's layers."""
    kind = "RNN_TANH" if at.node.kind == "RNN" else at.node.kind
    weights = [at.reordered(v) for v in (at.w, at.r)]
    biases = [None, None] if at.bias is None else [at.reordered(v) for v in at.bias]
    steps, batch = int(x.shape[0]), int(x.shape[1])
    if lengths is None or (lengths == steps).all():
        counts = (batch,) * steps
        y, *last = SEQUENCES[kind](
            kind, x.reshape(steps * batch, -1), h, c, *weights, *biases, None, counts, at.reverse
        )
        return y.reshape(steps, batch, -1), *last
    packed = pack_padded_sequence(x, lengths.tolist(), enforce_sorted=False)
    sort: Any = packed.sorted_indices
    back = packed.unsorted_indices
    counts = tuple(packed.batch_sizes.tolist())
    states = [h.index_select(0, sort), None if c is None else c.index_select(0, sort)]
    y, *last = SEQUENCES[kind](kind, packed.data, *states, *weights, *biases, None, counts, at.reverse)
    whole, _ = pad_packed_sequence(packed._replace(data=y), total_length=steps)
    return whole, *(s.index_select(0, back) for s in last)


# ---- step by step ---------------------------------------------------------------------------------------------


def _clipped(at: _Direction, x: Tensor) -> Tensor:
    limit = at.node.get("clip")
    return x if limit is None else fb.clamp(x, -limit, limit)


def _rnn(at: _Direction, x: Tensor, h: Tensor, c: Any) -> tuple[Tensor, Any]:
    return at.activations[0](_clipped(at, x + _hidden(at, h, slice(None)))), c


def _hidden(at: _Direction, h: Tensor, rows: slice) -> Tensor:
    found = h @ at.r[rows].t()
    return found if at.bias is None else found + at.bias[1][rows]


def _gru(at: _Direction, x: Tensor, h: Tensor, c: Any) -> tuple[Tensor, Any]:
    n, (f, g) = int(h.shape[1]), at.activations
    z = f(_clipped(at, x[:, :n] + _hidden(at, h, slice(0, n))))
    r = f(_clipped(at, x[:, n : 2 * n] + _hidden(at, h, slice(n, 2 * n))))
    last = slice(2 * n, 3 * n)
    inner = r * _hidden(at, h, last) if at.node.get("linear_before_reset", 0) else _hidden(at, r * h, last)
    return (1 - z) * g(_clipped(at, x[:, last] + inner)) + z * h, c


def _lstm(at: _Direction, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    f, g, e = at.activations
    i, o, forget, cell = (x + _hidden(at, h, slice(None))).chunk(4, 1)
    p_i, p_o, p_f = (0, 0, 0) if at.peepholes is None else [p * c for p in at.peepholes.chunk(3, 0)]
    i = f(_clipped(at, i + p_i))
    forget = 1 - i if at.node.get("input_forget", 0) else f(_clipped(at, forget + p_f))
    new = forget * c + i * g(_clipped(at, cell))
    if at.peepholes is not None:
        p_o = at.peepholes.chunk(3, 0)[1] * new
    return f(_clipped(at, o + p_o)) * e(new), new


_STEPS: dict[str, Callable[..., tuple[Tensor, Any]]] = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}


def _stepped(at: _Direction, x: Tensor, lengths: np.ndarray | None, h: Tensor, c: Tensor | None) -> tuple[Tensor, ...]:
    """The same one step after the other; a sequence that has ended keeps its state and gives zeros."""
    steps = int(x.shape[0])
    gates = x @ at.w.t()
    gates = gates if at.bias is None else gates + at.bias[0]
    found: list[Any] = [None] * steps
    for t in reversed(range(steps)) if at.reverse else range(steps):
        new_h, new_c = _STEPS[at.node.kind](at, gates[t], h, c)
        if lengths is not None and (lengths <= t).any():
            on = fb.from_numpy((lengths > t)[:, None])
            found[t] = fb.where(on, new_h, fb.zeros_like(new_h))
            h, c = fb.where(on, new_h, h), None if c is None else fb.where(on, new_c, c)
        else:
            found[t], h, c = new_h, new_h, new_c
    return (fb.stack(found), h) if c is None else (fb.stack(found), h, c)


# ---- nodes ----------------------------------------------------------------------------------------------------


def _activation(node: OnnxNode, k: int, names: Sequence[str]) -> Callable[[Tensor], Tensor]:
    name = names[k].capitalize() if names[k].islower() else names[k]
    if name not in _ACTIVATIONS:
        raise node.lacks(f"has the activation {name}")
    a, b = _CONSTANTS.get(name, (0.0, 0.0))
    alphas, betas = node.get("activation_alpha", []), node.get("activation_beta", [])
    a, b = alphas[k] if k < len(alphas) else a, betas[k] if k < len(betas) else b
    return lambda x: _ACTIVATIONS[name](x, a, b)


def _direction(node: OnnxNode, d: int, w: Tensor, r: Tensor, b: Tensor | None, p: Tensor | None) -> _Direction:
    usual = _USUAL[node.kind]
    directions = int(w.shape[0])
    names = list(node.get("activations") or usual * directions)
    mine = range(d * len(usual), (d + 1) * len(usual))
    plain = [names[k] for k in mine] == usual and p is None and node.get("clip") is None
    plain = (
        plain and not node.get("input_forget", 0) and (node.kind != "GRU" or node.get("linear_before_reset", 0) == 1)
    )
    bias = None if b is None else (b[d].chunk(2, 0)[0], b[d].chunk(2, 0)[1])
    backwards = d == 1 or node.get("direction", "forward") == "reverse"
    activations = [_activation(node, k, names) for k in mine]
    return _Direction(node, activations, plain, w[d], r[d], bias, None if p is None else p[d], backwards)


@rule("RNN GRU LSTM", host=(4,))
def _recurrent(
    node: OnnxNode,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: np.ndarray | None = None,
    h: Tensor | None = None,
    c: Tensor | None = None,
    p: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Outputs [T, directions, N, hidden] and last states [directions, N, hidden]; with `layout` the batch comes first."""
    batch_first = bool(node.get("layout", 0))
    if batch_first:
        x, h, c = x.transpose(0, 1), *(None if s is None else s.transpose(0, 1) for s in (h, c))
    shape = (int(w.shape[0]), int(x.shape[1]), int(r.shape[2]))
    h = fb.zeros(shape, dtype=x.dtype) if h is None else h
    c = fb.zeros(shape, dtype=x.dtype) if c is None and node.kind == "LSTM" else c
    found = []
    for d in range(shape[0]):
        at = _direction(node, d, w, r, b, p)
        run = _packed if at.usual else _stepped
        found.append(run(at, x, lengths, h[d], None if c is None else c[d]))
    y, *last = (fb.stack(parts, 1 if k == 0 else 0) for k, parts in enumerate(zip(*found)))
    if batch_first:
        y, last = y.permute(2, 0, 1, 3), [s.transpose(0, 1) for s in last]
    return y, *last
