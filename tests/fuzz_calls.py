"""Kinds of the fuzzer whose programs are calls: of ops at drawn extents, and of public functions on views, strange numbers
and sizes that change.

Each has a seed and says what is wrong, or None. Next: `fuzz_samples.py`, PyTorch's samples; `fuzz_kinds.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
from typing import Any

import flambeau as fb
import function_cases as fc
import guard_pages
import numpy as np
import random_graphs
from flambeau.compiler.options import Options
from flambeau.dialects.agreement import difference
from flambeau.dialects.builder import GraphBuilder
from flambeau.runtime.recorder import Tensor
from fuzz_programs import Kind, results, same_bytes, unequal
from support import every_size_by_itself

#: What a call may raise where it does not take what it is given.
REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError)

# ---- ops at drawn extents ---------------------------------------------------------------------------------------

FEW = (0, 0, 1, 1, 2, 3)
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 1.0, -1.0)
#: Near their zeros terms cancel, beyond the record's bound.
CANCELLING = (
    "logaddexp",
    "logaddexp2",
    "lgamma",
    "digamma",
    "bessel_j0",
    "bessel_j1",
    "bessel_y0",
    "bessel_y1",
    "airy_ai",
)


def with_specials(rng: random.Random, x: np.ndarray) -> np.ndarray:
    """The floating-point or complex numbers with some that are zeros, infinite, NaN, or nearly nothing."""
    if x.dtype.kind not in "fc" or not x.ndim:
        return x
    numbers = np.random.default_rng(rng.getrandbits(32))
    chosen = np.where(numbers.random(x.shape) < 0.3, numbers.choice(SPECIAL, x.shape), x)
    if x.dtype.kind == "c":
        chosen = chosen + np.where(numbers.random(x.shape) < 0.3, 1j * numbers.choice(SPECIAL, x.shape), 0)
    return chosen.astype(x.dtype)


def records(seed: int) -> str | None:
    """An op between views, and perhaps a fold: the same on every tier, and alone what its reference gives."""
    rng = random.Random(seed)
    if rng.random() < 0.6:
        few = rng.random() < 0.4  # at the edges there is nothing, or one of it
        made = guard_pages.record_program(seed, FEW if few else guard_pages.EXTENTS)
        if made is None:
            return None
        graph, arrays = made
        if rng.random() < 0.5:
            arrays = [with_specials(rng, x) for x in arrays]
        wanted = results(graph, arrays, Options(mode="off"))
        if isinstance(wanted, str) and not any(node.op.fallible for node in graph.nodes):
            return None  # drawn numbers that the op is never given
        return unequal(results(graph, arrays, Options(mode="blocking")), wanted, same_bytes)
    # no library takes any numbers, and what NumPy gives may depend on the strides
    apart = (*CANCELLING, "reference_call")
    record = rng.choice([r for r in guard_pages.DRAWN if not (r.family.calls or r.name in apart)])
    sample = rng.choice([s for s in record.samples() if s.error is None])
    builder = GraphBuilder()
    try:
        arrays, attrs = guard_pages.resized(rng, record, sample)
        given = [guard_pages.viewed(rng, builder, x) for x in arrays]
        if not given:
            return None
        made = builder.emit_all(record, [v for v, _ in given], tuple(attrs[name] for name in record.attrs))
        if made[0].aval.size > guard_pages.LARGEST:
            return None
        values = random_graphs.evaluate(builder.graph, [x for _, x in given])
    except guard_pages.REFUSALS:
        return None
    builder.graph.outputs = [v.id for v in made]
    arrays, wanted = [values[v.id] for v, _ in given], [values[v.id] for v in made]
    for tier in ("off", "blocking"):
        found = results(builder.graph, [x for _, x in given], Options(mode=tier))
        if isinstance(found, str):
            return f"{tier}: {record.name} raises {found}"
        for x, y in zip(found, wanted, strict=True):
            y = np.asarray(y, x.dtype)
            if x.shape != y.shape:
                return f"{tier}: {record.name} gives {x.shape} instead of {y.shape}"
            if (off := difference(record, arrays, builder.graph.nodes[-1].attrs, x, y)) is not None:
                return (
                    f"{tier}: {record.name} gives {x[off.place]!r} instead of {y[off.place]!r} at {off.place}: {off.by}"
                )
    return None


# ---- functions --------------------------------------------------------------------------------------------------


def strange(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """Data of a sample with other numbers, in the same shape."""
    if array.dtype != np.float64 or not array.size:
        return array
    numbers = np.random.default_rng(rng.getrandbits(32))
    match rng.choice(("same", "same", "equal", "moved", "special", "zeros", "repeated")):
        case "equal":
            return np.full_like(array, array.flat[0])
        case "moved":
            return numbers.permutation(array.reshape(-1)).reshape(array.shape)
        case "special":
            return np.where(numbers.random(array.shape) < 0.3, numbers.choice(SPECIAL, array.shape), array)
        case "zeros":
            return np.where(numbers.random(array.shape) < 0.5, 0.0, array)
        case "repeated":
            return numbers.choice(array.reshape(-1)[:2], array.shape)
    return array


def drained() -> None:
    """Run what a call that was refused half-way has recorded, which may be refused as well, lest it be told to who reads next."""
    with contextlib.suppress(*REFUSALS):
        fb.flush()


def turned(array: np.ndarray) -> np.ndarray:
    """Complex numbers, which samples have without imaginary parts, with those of the next one as theirs."""
    return array if array.dtype.kind != "c" else (array.real + 1j * np.roll(array.real, 1)).astype(array.dtype)


def placed(rng: random.Random, array: np.ndarray) -> Tensor:
    """The array as a tensor of its own, or as a view of another one that shows the same."""
    how = rng.choice(("itself", "itself", "strided", "flipped", "part", "row", "turned"))
    if not array.ndim or how == "itself":
        return fb.tensor(array)
    if how == "strided":
        return fc.strided(array)
    if how == "flipped":
        return fb.tensor(np.ascontiguousarray(array[::-1])).flip(0)
    if how == "part":
        return fb.tensor(np.concatenate([array[:1], array, array[:1]]))[1:-1] if len(array) else fb.tensor(array)
    if how == "row":
        return fb.tensor(np.stack([array, array]))[1]
    axes = rng.sample(range(array.ndim), array.ndim)
    return fb.tensor(np.ascontiguousarray(array.transpose(np.argsort(axes)))).permute(
        np.argsort(np.argsort(axes)).tolist()
    )


class Call:
    """A call of a public function on drawn numbers, the same ones at every run; at every turn others, of the same shapes."""

    def __init__(self, seed: int, turn: int = 0) -> None:
        rng = random.Random(seed)
        self.name = rng.choice(list(fc.SAMPLED))
        good = list(fc.cases(fc.SAMPLED[self.name]))
        floats = [c for c in good if c.dtype.is_inexact]
        self.case = rng.choice(floats if floats and rng.random() < 0.5 else good)
        rng = random.Random(8 * seed + turn)
        self.is_turned = rng.random() < 0.5
        draw = lambda a: strange(rng, a)  # noqa: E731
        sample = self.case.sample
        operands = [fc.mapped(v, draw) for v in sample.operands]
        attrs = {k: fc.mapped(v, draw) for k, v in sample.attrs.items()}
        self.case.sample = dataclasses.replace(sample, operands=tuple(operands), attrs=attrs)
        self.seed = seed

    def run(self, is_placed: bool = False) -> Any:
        rng = random.Random(self.seed)
        place = (lambda a: placed(rng, a)) if is_placed else fb.tensor
        try:
            return fc.read(self.case.results(lambda a: place(turned(a) if self.is_turned else a)))
        except REFUSALS as error:
            drained()
            return type(error).__name__

    def gradients(self, is_seen: bool) -> Any:
        """Of the first and second order; `is_seen`: the results were looked at in between."""
        from test_functions import leaves_of, loss_of

        try:
            operands, named, leaves = leaves_of(self.case)
            total = loss_of(self.case, operands, named)
            if total is None or not leaves:
                return []
            if is_seen:
                total.item()
            first = [g for g in fb.autograd.grad(total, leaves, create_graph=True, allow_unused=True) if g is not None]
            if is_seen:
                fc.read(first)
            terms = [(g * g).sum() for g in first if g.requires_grad]
            second = fb.autograd.grad(sum(terms[1:], terms[0]), leaves, allow_unused=True) if terms else []
            return fc.read([*first, *(g for g in second if g is not None)])
        except REFUSALS as error:
            return type(error).__name__

    def __str__(self) -> str:
        return f"{self.case}, operands {self.case.sample.operands}, {self.case.sample.attrs}"


def alike(found: Any, wanted: Any) -> bool:
    if isinstance(found, str) or isinstance(wanted, str):
        return isinstance(found, str) and isinstance(wanted, str)
    return len(found) == len(wanted) and all(map(fc.same, found, wanted))


def functions(seed: int) -> str | None:
    """On several sets of numbers of the same shapes, which share what is compiled."""
    for turn in range(3):
        call = Call(seed, turn)
        if (what := _results_differ(call, seed, turn)) is not None:
            return what
    return None


def _results_differ(call: Call, seed: int, turn: int) -> str | None:
    with fb.compiler_options(mode="off"):
        plain = call.run()
        if not alike(found := call.run(True), plain) and not isinstance(found, str):
            return f"of views: {found} instead of {plain}: {call}"
    if seed % 2 == 0:
        with fb.compiler_options(mode="blocking"):
            if not alike(found := call.run(seed % 4 == 0), plain) and not isinstance(found, str):
                return f"fused: {found} instead of {plain}: {call}"
    if turn == 0 and call.case.sample.gradient and call.case.dtype.is_inexact and not isinstance(plain, str):
        return _gradients_differ(call, seed)
    return None


def _gradients_differ(call: Call, seed: int) -> str | None:
    with fb.compiler_options(mode="off"):
        wanted = call.gradients(False)
        if not alike(found := call.gradients(True), wanted):
            return f"gradients after a look: {found} instead of {wanted}: {call}"
    if seed % 3 == 0:
        with fb.compiler_options(mode="blocking"):
            if not alike(found := call.gradients(False), wanted):
                return f"gradients fused: {found} instead of {wanted}: {call}"
    return None


def changing(seed: int) -> str | None:
    """A function called at sizes that change, in turn, beside each size by itself."""
    rng = random.Random(seed)
    declaration = fc.SAMPLED[rng.choice(list(fc.SAMPLED))]
    good = [
        c for c in fc.cases(declaration) if fc.has_data(c.sample) and c.dtype.name in ("float32", "float64", "int64")
    ]
    if not good:
        return None
    case = rng.choice(good)
    sample, axis = case.sample, rng.randrange(3)
    times = [rng.randint(1, 4) for _ in range(5)]

    def at(count: int) -> Any:
        def grown(a: np.ndarray) -> np.ndarray:
            return np.concatenate([a] * count, axis % a.ndim) if a.ndim and a.dtype == np.float64 else a

        attrs = {k: fc.mapped(v, grown) for k, v in sample.attrs.items()}
        case.sample = dataclasses.replace(
            sample, operands=tuple(fc.mapped(v, grown) for v in sample.operands), attrs=attrs
        )
        try:
            return fc.read(case.results())
        except REFUSALS as error:
            return type(error).__name__

    with fb.compiler_options(mode="off"):
        found = [at(count) for count in times]
        for count, x in zip(times, found):
            with every_size_by_itself():
                if not alike(x, wanted := at(count)):
                    return f"{case.declaration.name} at {count} of {times}: {x} instead of {wanted}"
    return None


KINDS = {
    "records": Kind(records, None, 2.0),
    "functions": Kind(functions, None, 2.0),
    "changing": Kind(changing),
}
