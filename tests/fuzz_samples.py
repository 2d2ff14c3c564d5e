"""Kinds of the fuzzer that call what PyTorch has samples for: its samples from views, on other numbers, and tensors made of lists.

Each has a seed and says what is wrong, or None. Next: `fuzz_kinds.py`.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import flambeau as fb
from fuzz_calls import REFUSALS
from fuzz_programs import Kind


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


BESIDE_PYTORCH = {
    "samples": Kind(samples, None, 2.0),
    "elements": Kind(elements, None, 2.0),
    "creation": Kind(creation, None, 0.3),
}
