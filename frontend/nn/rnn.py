"""Recurrent layers over sequences, and their cells: RNN, GRU, LSTM. The formulas are in `functions/recurrent.py`.

In: sequences [T, N, features], or packed ones. Out: the outputs of the last layer at each step, and the last states of all layers.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from flambeau.autocasting import DEVICES
from flambeau.device import Device
from flambeau.functions.assemble import cat, stack
from flambeau.functions.create import empty, zeros
from flambeau.functions.dropout import dropout as drop
from flambeau.functions.from_data import as_tensor
from flambeau.functions.recurrent import CELLS, GATES, LOOPS, SEQUENCES
from flambeau.nn import init
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.nn.utils.rnn import PackedSequence, padded_rows
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

#: Where autocast is on for any device, calls convert what they are given.
_AUTOCAST = functools.reduce(lambda x, bits: x | bits.enabled, DEVICES.values(), 0)


def _draw(module: Module, hidden_size: int) -> None:
    bound = 1.0 / math.sqrt(hidden_size) if hidden_size > 0 else 0.0
    for p in module.parameters():
        init.uniform_(p, -bound, bound)


#: Packed sequences are padded, and run by a loop, up to so many times their elements; else they are written out step by step.
_PADDING = 2


def _permuted(x: Tensor, order: Tensor | None) -> Tensor:
    return x if order is None else x.index_select(1, order)


class RNNBase(Module):
    """`num_layers` recurrent layers of a kind, "LSTM", "GRU", "RNN_TANH" or "RNN_RELU". Each layer has weights [gates * hidden, in]
    and [gates * hidden, hidden] and two biases, once more for the other direction if `bidirectional`; all start uniform in
    [-1 / sqrt(hidden), 1 / sqrt(hidden)). `dropout` is applied between layers. An LSTM's outputs have `proj_size` features if that
    is above 0.

    Raises ValueError for sizes below 1, for a `dropout` outside of [0, 1], and for a `proj_size` that does not fit.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        op = type(self).__name__
        if mode not in GATES:
            raise ValueError(f"[{op}] mode is {mode!r}. Use one of {', '.join(map(repr, GATES))}.")
        for name, flag in (("bias", bias), ("batch_first", batch_first)):
            if not isinstance(flag, bool):
                raise TypeError(f"[{op}] {name} is a {type(flag).__name__}. Pass a bool.")
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if not isinstance(value, int):
                raise TypeError(f"[{op}] {name} is a {type(value).__name__}. Pass an int.")
            if value <= 0:
                raise ValueError(f"[{op}] {name} is {value}. Use at least 1.")
        if isinstance(dropout, bool) or not 0.0 <= dropout <= 1.0:
            raise ValueError(f"[{op}] dropout is {dropout}. Use a probability from 0 to 1.")
        if proj_size and mode != "LSTM":
            raise ValueError(f"[{op}] proj_size is {proj_size}. Only LSTMs have projections.")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                f"[{op}] proj_size is {proj_size}. Use a number from 0 up to, not including, {hidden_size}."
            )
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        width, outputs = GATES[mode] * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            for name in self._suffixes(layer):
                inputs = input_size if layer == 0 else outputs * self._directions
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (width, inputs), "weight_hh": (width, outputs)}
                if bias:
                    shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for what, shape in shapes.items():
                    self.register_parameter(what + name, Parameter(empty(shape, dtype=dtype, device=device)))
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        _draw(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing: parameters are packed where they are used."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        suffixes = [s for layer in range(self.num_layers) for s in self._suffixes(layer)]
        return [[getattr(self, n + s) for n in names if hasattr(self, n + s)] for s in suffixes]

    # ---- the sequences ---------------------------------------------------------------------------------------

    def _check(self, input: Tensor, ranks: tuple[int, ...]) -> None:
        op = type(self).__name__
        if input.dim() not in ranks:
            raise ValueError(
                f"[{op}] input has {input.dim()} dimensions. Pass [T, N, features], or [T, features] without a batch."
            )
        weight = self.weight_ih_l0
        if input.dtype is not weight.dtype and not recorder.get_mode() & _AUTOCAST:
            raise ValueError(
                f"[{op}] input is {input.dtype.name}, the weights are {weight.dtype.name}. Convert the input or the layer with "
                ".to(dtype)."
            )
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"[{op}] input has {input.shape[-1]} features, expected {self.input_size}.")

    def _first(self, given: Any, batch: int, is_batched: bool, like: Tensor) -> list[Tensor]:
        """The first states [layers * directions, N, features], zeros where none are given."""
        op, layers = type(self).__name__, self.num_layers * self._directions
        wanted = [(layers, batch, self.proj_size or self.hidden_size), (layers, batch, self.hidden_size)]
        wanted = wanted if self.mode == "LSTM" else wanted[:1]
        if given is None:
            return [zeros(shape, dtype=like.dtype, device=like.device) for shape in wanted]
        states = list(given) if self.mode == "LSTM" else [given]
        rank = 3 if is_batched else 2
        for name, state, shape in zip(("h_0", "c_0"), states, wanted):
            if state.dim() != rank:
                raise RuntimeError(f"[{op}] {name} has {state.dim()} dimensions, expected {rank}.")
            found = tuple(state.shape) if is_batched else (state.shape[0], 1, state.shape[1])
            if found != shape:
                raise RuntimeError(f"[{op}] {name} has shape {tuple(state.shape)}, expected {shape}.")
        return states if is_batched else [s.unsqueeze(1) for s in states]

    def _run(
        self, x: Tensor, sizes: tuple[int, ...] | None, states: list[Tensor], is_on: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Outputs of all layers, and the last states. `x` is packed, if there are sizes of packed steps; else sequences go on where
        `is_on` [T, N] holds."""
        last: list[list[Tensor]] = [[] for _ in states]
        for layer in range(self.num_layers):
            outputs = []
            for direction, name in enumerate(self._suffixes(layer)):
                of_layer = [s[layer * self._directions + direction] for s in states]
                how = (is_on, direction == 1) if sizes is None else (sizes, direction == 1)
                out, *ended = (LOOPS if sizes is None else SEQUENCES)[self.mode](
                    self.mode,
                    x,
                    of_layer[0],
                    of_layer[1] if len(of_layer) > 1 else None,
                    getattr(self, "weight_ih" + name),
                    getattr(self, "weight_hh" + name),
                    getattr(self, "bias_ih" + name) if self.bias else None,
                    getattr(self, "bias_hh" + name) if self.bias else None,
                    getattr(self, "weight_hr" + name) if self.proj_size else None,
                    *how,
                )
                outputs.append(out)
                for each, state in zip(last, ended):
                    each.append(state)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, dim=-1)
            if self.dropout and layer + 1 < self.num_layers:
                x = drop(x, self.dropout, self.training)
        return x, [stack(each) for each in last]

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """(outputs of the last layer at each step, last states of all layers [layers * directions, N, features]). `input` is
        [T, N, in] ([N, T, in] with `batch_first`, [T, in] without a batch) or a PackedSequence, which the outputs then are, too.
        `hx` are the first states, of an LSTM (h_0, c_0); zeros by default. Raises ValueError for inputs of other ranks,
        RuntimeError for sizes that do not fit and for sequences without steps."""
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        self._check(input, (2, 3))
        is_batched, x = input.dim() == 3, input
        turned = self.batch_first and is_batched
        x = x.transpose(0, 1) if turned else x if is_batched else x.unsqueeze(1)
        steps, batch, features = x.shape
        if steps == 0:
            raise RuntimeError(f"[{type(self).__name__}] the sequence has no steps. Pass at least one.")
        states = self._first(hx, batch, is_batched, x)
        if steps == 1 or x.device.type != "cpu":  # written out
            out, last = self._run(x.reshape(steps * batch, features), (batch,) * steps, states)
            out = out.reshape(steps, batch, out.shape[-1])
        else:
            out, last = self._run(x, None, states)
        if not is_batched:
            out, last = out.squeeze(1), [s.squeeze(1) for s in last]
        return out.transpose(0, 1) if turned else out, self._states(last)

    def _packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        self._check(input.data, (2,))
        sizes = tuple(input.batch_sizes.tolist())
        states = self._first(hx, sizes[0], True, input.data)
        if hx is not None:
            states = [_permuted(s, input.sorted_indices) for s in states]
        if input.data.device.type != "cpu" or len(sizes) * sizes[0] > _PADDING * sum(sizes):
            out, last = self._run(input.data, sizes, states)
        else:
            out, last = self._padded(input.data, sizes, states)
        last = [_permuted(s, input.unsorted_indices) for s in last]
        return PackedSequence(out, *input[1:]), self._states(last)

    def _padded(self, x: Tensor, sizes: tuple[int, ...], states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Packed outputs of all layers, and the last states, by a loop over padded steps."""
        is_on, rows = padded_rows(sizes)
        steps = x.index_select(0, as_tensor(rows.reshape(-1))).reshape(*rows.shape, x.shape[1])
        out, last = self._run(steps, None, states, as_tensor(is_on))
        return out.reshape(-1, out.shape[-1]).index_select(0, as_tensor(np.flatnonzero(is_on))), last

    @staticmethod
    def _states(last: list[Tensor]) -> Any:
        return tuple(last) if len(last) > 1 else last[0]

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        given = {
            "proj_size": (self.proj_size, 0),
            "num_layers": (self.num_layers, 1),
            "bias": (self.bias, True),
            "batch_first": (self.batch_first, False),
            "dropout": (self.dropout, 0.0),
            "bidirectional": (self.bidirectional, False),
        }
        return ", ".join(parts + [f"{k}={v}" for k, (v, usual) in given.items() if v != usual])


class RNN(RNNBase):
    """Elman's layers: h = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu with `nonlinearity="relu"`. See `RNNBase`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        mode = _nonlinear("RNN", nonlinearity)
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )
        self.nonlinearity = nonlinearity


def _nonlinear(op: str, nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"[{op}] nonlinearity is {nonlinearity!r}. Use 'tanh' or 'relu'.")
    return f"RNN_{nonlinearity.upper()}"


class GRU(RNNBase):
    """Gated recurrent units. See `RNNBase`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )


class LSTM(RNNBase):
    """Long short-term memory. See `RNNBase`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )


class _Cell(Module):
    """One step of a layer."""

    _mode = ""

    def __init__(self, input_size: int, hidden_size: int, bias: bool, device: Device, dtype: Any) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        width = hidden_size * GATES[self._mode or "RNN_TANH"]
        shapes = {"weight_ih": (width, input_size), "weight_hh": (width, hidden_size)}
        for name, shape in {**shapes, "bias_ih": (width,), "bias_hh": (width,)}.items():
            wanted = bias or name in shapes
            self.register_parameter(name, Parameter(empty(shape, dtype=dtype, device=device)) if wanted else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        _draw(self, self.hidden_size)

    def _next(self, input: Tensor, states: list[Tensor | None]) -> Any:
        op = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"[{op}] input has {input.dim()} dimensions. Pass [N, features] or [features].")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"[{op}] input has {input.shape[-1]} features, expected {self.input_size}.")
        x = input if input.dim() == 2 else input.unsqueeze(0)
        made = []
        for state in states:
            if state is None:
                made.append(zeros((x.shape[0], self.hidden_size), dtype=x.dtype, device=x.device))
                continue
            if state.dim() not in (1, 2):
                raise ValueError(f"[{op}] a state has {state.dim()} dimensions. Pass {input.dim()}, as the input has.")
            wanted = (*input.shape[:-1], self.hidden_size)
            if tuple(state.shape) != wanted:
                raise RuntimeError(f"[{op}] a state has shape {tuple(state.shape)}, expected {wanted}.")
            made.append(state if input.dim() == 2 else state.unsqueeze(0))
        second = made[1] if len(made) > 1 else None
        found = CELLS[self._mode](
            self._mode, x, made[0], second, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        )
        if input.dim() == 2:
            return found
        return tuple(s.squeeze(0) for s in found) if second is not None else found.squeeze(0)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else f", bias={self.bias}")


class RNNCell(_Cell):
    """One step of an `RNN` layer: input [N, in] or [in] and h [N, hidden] give the next h."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        self._mode = _nonlinear("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._next(input, [hx])

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class GRUCell(_Cell):
    """One step of a `GRU` layer: input [N, in] or [in] and h [N, hidden] give the next h."""

    _mode = "GRU"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Device = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._next(input, [hx])


class LSTMCell(_Cell):
    """One step of an `LSTM` layer: input [N, in] or [in] and (h, c) [N, hidden] give the next (h, c)."""

    _mode = "LSTM"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Device = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        return self._next(input, [None, None] if hx is None else list(hx))
