"""Kinds of the fuzzer whose programs are calls: of ops at drawn extents, and of public functions on views, strange numbers
and sizes that change.

Each has a seed and says what is wrong, or None. `KINDS` need nothing, `BESIDE_PYTORCH` need PyTorch. Next: `fuzz_kinds.py`.
"""

from __future__ import annotations

import dataclasses
import random
from functools import cache
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
from fuzz_programs import Kind, results, unequal
from support import every_size_by_itself

#: What a call may raise where it does not take what it is given.
REFUSALS = (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError)

# ---- ops at drawn extents ---------------------------------------------------------------------------------------


def records(seed: int) -> str | None:
    """An op between views, and perhaps a fold: the same on every tier, and alone what its reference gives."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        made = guard_pages.record_program(seed)
        if made is None:
            return None
        graph, arrays = made
        wanted = results(graph, arrays, Options(mode="off"))
        if isinstance(wanted, str) and not any(node.op.fallible for node in graph.nodes):
            return None  # drawn numbers that the op is never given
        return unequal(results(graph, arrays, Options(mode="blocking")), wanted)
    # no library takes any numbers; near where logaddexp is 0 its terms cancel, beyond the record's bound
    record = rng.choice([r for r in guard_pages.DRAWN if not r.family.calls and r.name != "logaddexp"])
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
            special = numbers.choice((0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 1.0, -1.0), array.shape)
            return np.where(numbers.random(array.shape) < 0.3, special, array)
        case "zeros":
            return np.where(numbers.random(array.shape) < 0.5, 0.0, array)
        case "repeated":
            return numbers.choice(array.reshape(-1)[:2], array.shape)
    return array


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
    """A call of a public function on drawn numbers, the same ones at every run."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.name = rng.choice(list(fc.SAMPLED))
        good = list(fc.cases(fc.SAMPLED[self.name]))
        floats = [c for c in good if c.dtype.is_inexact]
        self.case = rng.choice(floats if floats and rng.random() < 0.5 else good)
        draw = lambda a: strange(rng, a)  # noqa: E731
        sample = self.case.sample
        operands = [fc.mapped(v, draw) for v in sample.operands]
        attrs = {k: fc.mapped(v, draw) for k, v in sample.attrs.items()}
        self.case.sample = dataclasses.replace(sample, operands=tuple(operands), attrs=attrs)
        self.seed = seed

    def run(self, is_placed: bool) -> Any:
        rng = random.Random(self.seed)
        try:
            return fc.read(self.case.results((lambda a: placed(rng, a)) if is_placed else fb.tensor))
        except REFUSALS as error:
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
    call = Call(seed)
    with fb.compiler_options(mode="off"):
        plain = call.run(False)
        if not alike(found := call.run(True), plain) and not isinstance(found, str):
            return f"of views: {found} instead of {plain}: {call}"
    if seed % 3 == 0:
        with fb.compiler_options(mode="blocking"):
            if not alike(found := call.run(seed % 2 == 0), plain) and not isinstance(found, str):
                return f"fused: {found} instead of {plain}: {call}"
    if call.case.sample.gradient and call.case.dtype.is_inexact and not isinstance(plain, str):
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


# ---- PyTorch's samples ------------------------------------------------------------------------------------------


@cache
def _passing() -> list[Any]:
    import opinfo_parity as parity

    listed = parity.LIST.read_text().splitlines()
    names = {name for line in listed if line.startswith("pass ") for name in line.split()[1:]}
    return [op for op in parity.op_db() if parity.title(op) in names]


def as_view(rng: random.Random, value: Any) -> Any:
    """A tensor of PyTorch's as a view of a larger one; lists of them alike."""
    import torch

    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(as_view(rng, v) for v in value)
    if not isinstance(value, torch.Tensor) or value.requires_grad or not value.ndim or rng.random() < 0.5:
        return value
    wide = torch.stack([value, value.flip(0)], -1)
    return wide.select(-1, 0)


def samples(seed: int) -> str | None:
    """A function of PyTorch's on one of its own samples, in some dtype and from views, and on permuted numbers."""
    import opinfo_parity as parity
    import torch

    rng = random.Random(seed)
    op = rng.choice(_passing())
    torch.manual_seed(rng.getrandbits(16))
    every = list(op.sample_inputs("cpu", torch.float32, requires_grad=op.supports_autograd))
    every = [s for s in every if not isinstance(s.input, torch.Tensor) or s.input.numel() < parity.LARGE]
    sample = rng.choice(every)
    sample.input, sample.args = as_view(rng, sample.input), as_view(rng, sample.args)
    return _beside_pytorch(op, sample, "blocking" if rng.random() < 0.15 else "off")


def _beside_pytorch(op: Any, sample: Any, mode: str) -> str | None:
    """What is wrong with what a function here makes of a sample of PyTorch's."""
    import opinfo_parity as parity

    try:
        with fb.compiler_options(mode=mode):
            parity.check_sample(op, parity.ours(op), sample)
    except parity.Absent:
        return None
    except Exception as error:
        return f"{parity.title(op)}: {type(error).__name__}: {error} of {sample}"[:3000]
    return None


@cache
def _of_elements() -> list[Any]:
    """Those that take any numbers: elementwise functions and reductions."""
    named = (
        "std",
        "var",
        "std_mean",
        "var_mean",
        "norm",
        "softmax",
        "log_softmax",
        "logsumexp",
        "cumsum",
        "isin",
        "where",
        "lerp",
    )
    kinds = {"UnaryUfuncInfo", "BinaryUfuncInfo", "ReductionOpInfo"}
    found = [op for op in _passing() if op.name in named or kinds & {c.__name__ for c in type(op).__mro__}]
    # of lengths below 0 PyTorch's gradient of polar has the other sign; what ints do not hold becomes some int
    # a gradient of `ldexp` whose power of two overflows is infinite here, NaN there
    return [op for op in found if op.name not in ("polar", "char", "byte", "short", "int", "long", "ldexp")]


def other_numbers(rng: random.Random, x: Any) -> Any:
    """A tensor of PyTorch's of the same shape with other numbers: equal ones, zeros, far ones, more of them."""
    import torch

    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or not x.numel():
        return x
    y = x.detach().clone()
    match rng.choice(("equal", "zeros", "far", "signs", "same")):
        case "equal":
            y = torch.full_like(y, float(y.reshape(-1)[0]))
        case "zeros":
            y = y * (torch.rand(y.shape) < 0.5)
        case "far":
            y = y + rng.choice((1e3, 1e5, -1e6))
        case "signs":
            y = -y.abs()
    return y.requires_grad_(x.requires_grad)


def elements(seed: int) -> str | None:
    """An elementwise function or reduction of PyTorch's on other numbers than its samples have."""
    import torch

    rng = random.Random(seed)
    op = rng.choice(_of_elements())
    torch.manual_seed(seed & 0xFFFF)
    sample = rng.choice(list(op.sample_inputs("cpu", torch.float32, requires_grad=op.supports_autograd)))
    sample.input = other_numbers(rng, sample.input)
    sample.args = tuple(other_numbers(rng, a) for a in sample.args)
    try:
        op.op(sample.input, *sample.args, **sample.kwargs)
    except Exception:
        return None
    return _beside_pytorch(op, sample, "off")


def creation(seed: int) -> str | None:
    """Tensors made of nested lists of numbers and tensors, beside PyTorch's."""
    import torch

    rng = random.Random(seed)
    dtypes = ("float32", "float64", "int32", "int64", "bool", "uint8", "int16")
    scalars = [f"m.tensor({rng.randint(0, 1)}, dtype=m.{d})" for d in dtypes]
    items = [*scalars, "1", "2.5", "True", "x[0]", "x[1].sum()", "x.max()", "k[0]", "k.sum()"]

    def some(depth: int) -> str:
        if not depth:
            return rng.choice(chosen)
        return "[" + ", ".join(some(depth - 1) for _ in range(n)) + "]"

    chosen, n = rng.sample(items, rng.randint(1, 2)), rng.randint(1, 3)
    text = some(rng.randint(1, 2))
    call = rng.choice(
        ("m.tensor({})", "m.as_tensor({})", "m.stack([m.tensor({0}), m.tensor({0})])", "m.tensor({}).sum()")
    )
    found: list[Any] = []
    for m in (fb, torch):
        scope = {"m": m, "x": m.tensor([1.0, 2.0], dtype=m.float32), "k": m.tensor([3, 4], dtype=m.int32)}
        try:
            made = eval(call.format(text), scope)
            found.append((str(made.dtype).rpartition(".")[2], tuple(made.shape), made.tolist()))
        except REFUSALS as error:
            found.append(type(error).__name__)
    return None if found[0] == found[1] else f"{call.format(text)}: {found[0]} instead of {found[1]}"


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
BESIDE_PYTORCH = {
    "samples": Kind(samples, None, 2.0),
    "elements": Kind(elements, None, 2.0),
    "creation": Kind(creation, None, 0.3),
}
