"""Kinds of the fuzzer whose programs are functions of functions, and random numbers: loops beside their turns, transforms
beside calls one by one.

Each has a seed and says what is wrong, or None. Next: `fuzz_kinds.py`.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from typing import Any

import flambeau as fb
import function_cases as fc
import numpy as np
import random_derivatives
from flambeau.runtime.recorder import Tensor
from fuzz_calls import REFUSALS
from fuzz_programs import Kind

# ---- loops and transforms ---------------------------------------------------------------------------------------

BODY = (
    "{h}.tanh()", "{h} * {x}", "{h} + {x}", "({h} * 0.5).sin()", "{x} * {w}", "{h} - {x} * 0.3", "{h}.flip(0)", "{h} * {h} * 0.2",
    "F.softmax({h}, -1)", "{h}.abs().sqrt()", "fb.where({x} > 0, {h}, {h} * 0.5)", "{h}.cumsum(0) * 0.3", "{h}.mean() * {w}",
)  # fmt: skip
COMPLEX = (
    "{h} * {x}",
    "{h} + {x}",
    "{x} * {w}",
    "{h} - {x} * 0.3",
    "{h}.conj()",
    "{h} * 1j",
    "{h}.flip(0)",
    "{h} * {h} * 0.2",
)


def body(rng: random.Random, is_complex: bool) -> str:
    """A function of two vectors and one from outside, as an expression."""
    text = "h"
    for _ in range(rng.randint(1, 4)):
        text = "(" + rng.choice(COMPLEX if is_complex else BODY).format(h=text, x=rng.choice("xxh"), w="w") + ")"
    return text


def numbers(rng: random.Random, *shape: int, dtype: str) -> np.ndarray:
    made = np.random.default_rng(rng.getrandbits(32))
    x = made.standard_normal(shape) * 0.7
    return (x + 1j * made.standard_normal(shape) * 0.7 if dtype.startswith("complex") else x).astype(dtype)


def both_orders(total: Tensor, inputs: list[Tensor]) -> list[np.ndarray]:
    first = fb.autograd.grad(total, inputs, create_graph=True, allow_unused=True)
    terms = [(g * g.conj()).real.sum() if g.is_complex() else (g * g).sum() for g in first if g is not None]
    terms = [t for t in terms if t.requires_grad]
    second = fb.autograd.grad(sum(terms[1:], terms[0]), inputs, allow_unused=True) if terms else [None] * len(inputs)
    pairs = zip([*first, *second], [*inputs, *inputs], strict=True)
    return [(x if g is None else g).detach().numpy() * (0 if g is None else 1) for g, x in pairs]


def real(x: Tensor) -> Tensor:
    return (x * x.conj()).real.sum() if x.is_complex() else (x * x).sum()


def close(found: Any, wanted: Any) -> str | None:
    for k, (x, y) in enumerate(zip(found, wanted, strict=True)):
        tolerance = 2e-3 if x.dtype in (np.float32, np.complex64) else 1e-8
        scale = max(1.0, float(np.abs(y).max(initial=0.0)))
        if x.shape != y.shape or x.dtype != y.dtype or not np.allclose(x, y, 0, tolerance * scale, equal_nan=True):
            return f"{k}: {x} instead of {y}"
    return None


def loops(seed: int) -> str | None:
    """A scan beside its turns: values, and gradients of both orders."""
    rng = random.Random(seed)
    dtype = rng.choice(("float32", "float64", "float64", "complex64", "complex128"))
    text = body(rng, dtype.startswith("complex"))
    step = eval(f"lambda h, x, w: {text}", {"fb": fb, "F": fb.nn.functional})
    turns, reverse = rng.randint(1, 5), rng.random() < 0.3
    data = [numbers(rng, 3, dtype=dtype), numbers(rng, turns, 3, dtype=dtype), numbers(rng, 3, dtype=dtype)]

    def run(unrolled: bool, tier: str) -> list[np.ndarray]:
        with fb.compiler_options(mode=tier):
            h, xs, w = leaves = [fb.tensor(x, requires_grad=True) for x in data]
            if unrolled:
                made: list[Any] = [None] * turns
                for t in reversed(range(turns)) if reverse else range(turns):
                    h = step(h, xs[t], w)
                    made[t] = h * xs[t]
                given = fb.stack(made)
            else:
                turn = lambda h, x: ((new := step(h, x, w)), new * x)  # noqa: E731
                h, given = fb.scan(turn, h, xs, reverse=reverse)
            return [h.detach().numpy(), given.detach().numpy(), *both_orders(real(h) + real(given), leaves)]

    try:
        wanted = run(True, "off")
    except REFUSALS:
        return None
    for tier in ("off", "blocking")[: 1 + (seed % 3 == 0)]:
        try:
            found = run(False, tier)
        except Exception:
            return f"{text} in a scan ({dtype}, {tier}): {traceback.format_exc(limit=-3)}"
        if (what := close(found, wanted)) is not None:
            return f"{text} in a scan of {turns} turns ({dtype}, {tier}, reverse={reverse}): {what}"
    return None


def transforms(seed: int) -> str | None:
    """vmap beside calls one by one, jvp and grad beside backward, with a leaf that the function reads from outside."""
    rng = random.Random(seed)
    forms = [f for f, _ in (*random_derivatives.UNARY, *random_derivatives.ROWS)]
    text = "x"
    for _ in range(rng.randint(1, 3)):
        text = f"({rng.choice(forms).format(x=text)})"
        if rng.random() < 0.4:
            text = f"({rng.choice(random_derivatives.BINARY).format(x=text, y=rng.choice(('w', 'x')))})"
    w = fb.tensor(numbers(rng, 3, dtype="float64"), requires_grad=True)
    f = eval(f"lambda x: {text}", {"T": fb, "F": fb.nn.functional, "w": w})
    x, v = (fb.tensor(numbers(rng, 2, 3, dtype="float64")) for _ in range(2))
    with fb.compiler_options(mode="off"):
        try:
            wanted = fb.stack([f(row) for row in x])
        except REFUSALS:
            return None
        if (what := close([fb.vmap(f)(x).detach().numpy()], [wanted.detach().numpy()])) is not None:
            return f"vmap of {text}: {what}"
        total = lambda x: f(x).sum()  # noqa: E731
        leaf = x[0].clone().requires_grad_()
        reads = "w" in text
        (plain,) = fb.autograd.grad(total(leaf), [leaf], create_graph=True, allow_unused=True)
        plain = fb.zeros_like(leaf) if plain is None else plain
        given = fb.func.grad(total)(x[0])
        _, along = fb.func.jvp(total, (x[0],), (v[0],))
        with fb.no_grad():
            if fb.func.grad(total)(x[0]).requires_grad:
                return f"grad of {text} under no_grad keeps a history"
        pairs = (
            [given.detach().numpy(), along.detach().numpy()],
            [plain.detach().numpy(), (plain * v[0]).sum().detach().numpy()],
        )
        if (what := close(*pairs)) is not None:
            return f"grad or jvp of {text}: {what}"
        if reads and plain.requires_grad:
            wanted_w = fb.autograd.grad((plain * v[1]).sum(), [w], allow_unused=True)[0]
            found_w = fb.autograd.grad((given * v[1]).sum(), [w], allow_unused=True)[0] if given.requires_grad else None
            zeros = np.zeros(3)
            a, b = (zeros if g is None else g.detach().numpy() for g in (found_w, wanted_w))
            if (what := close([a], [b])) is not None:
                return f"grad of {text} by what it reads from outside: {what}"
    return None


# ---- random numbers ---------------------------------------------------------------------------------------------

DRAWS = (
    "fb.randn(3)", "fb.rand(2, 3)", "fb.randint(0, 9, (5,))", "fb.randperm(6)", "F.dropout(fb.ones(8), 0.5)",
    "fb.bernoulli(fb.full((7,), 0.5))", "fb.empty(4).normal_()", "fb.empty(4).uniform_(0, 2)", "fb.randn_like(x)",
    "fb.multinomial(fb.ones(5), 2)", "fb.empty(3).exponential_()", "fb.rand(3, generator=g)", "fb.randn(3, generator=g)",
    "fb.normal(x, 1.0)", "fb.rand(3, dtype=fb.float64)", "fb.poisson(fb.full((4,), 3.0))",
)  # fmt: skip
BETWEEN = (
    "fb.flush()", "fb.manual_seed({n})", "g.manual_seed({n})", "state = fb.get_rng_state()", "fb.set_rng_state(state)", "x = x + 1",
    "made[-1].tolist()",
)  # fmt: skip


def draws(seed: int) -> str | None:
    """The same numbers at every run and on every tier, others at every draw."""
    rng = random.Random(seed)
    lines = []
    for _ in range(rng.randint(3, 12)):
        call = rng.choice(DRAWS)
        lines.append(f"made.append({call})")
        if rng.random() < 0.3:
            lines.append(lines[-1])
        if rng.random() < 0.4:
            lines.append(rng.choice(BETWEEN).format(n=rng.randrange(3)))

    def run(tier: str, look: float) -> list[np.ndarray]:
        chance = random.Random(seed)
        with fb.compiler_options(mode=tier):
            out = []
            for _ in range(2):
                fb.manual_seed(3)
                scope: dict[str, Any] = {
                    "fb": fb,
                    "F": fb.nn.functional,
                    "x": fb.ones(3),
                    "made": [],
                    "g": fb.Generator(),
                }
                scope["g"].manual_seed(5)
                scope["state"] = fb.get_rng_state()
                for line in lines:
                    exec(line, scope)
                    if chance.random() < look:
                        scope["made"][-1].tolist()
                out += [t.numpy().copy() for t in scope["made"]]
            return out

    wanted = run("off", 0.0)
    half = len(wanted) // 2
    ways: list[tuple[str, Callable[[], list[np.ndarray]]]] = [
        ("again", lambda: wanted[half:]),
        ("looked at", lambda: run("off", 0.5)[:half]),
    ]
    if seed % 4 == 0:
        ways.append(("fused", lambda: run("blocking", 0.2)[:half]))
    for name, way in ways:
        if not all(map(fc.same, way(), wanted[:half])):
            return f"{name}: other numbers\n" + "\n".join(lines)
    if not any("seed" in line or "state" in line for line in lines):
        floats = [x for x in wanted[:half] if x.dtype.kind == "f" and x.size > 2 and not set(np.unique(x)) <= {0, 1, 2}]
        for k, x in enumerate(floats):
            if any(x.shape == y.shape and np.array_equal(x, y) and len(np.unique(x)) > 2 for y in floats[:k]):
                return "two draws give the same\n" + "\n".join(lines)
    return None


KINDS = {
    "loops": Kind(loops),
    "transforms": Kind(transforms, None, 0.7),
    "draws": Kind(draws, None, 0.5),
}
