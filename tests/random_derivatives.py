"""Random programs that take derivatives of derivatives, and what must not be seen in them: where traces were cut.

In: a seed. Out: `Program`: lines in the API common to Flambeau and PyTorch, as in `random_training.py`, made without running
them: tensors are 3x3, 3 or 0-d, so that most lines work, and one that does not fails in every run alike. `run` looks at
tensors, frees graphs' owners, and hands lines to another thread where it is told to. Next: `test_random_derivatives.py`.
"""

from __future__ import annotations

import random
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import random_training
from random_training import environment, observed, plain, run_line

#: (form, rank of the result; None: that of the operand). Values stay bounded, derivatives smooth almost everywhere.
UNARY = (
    ("T.tanh({x})", None), ("T.sigmoid({x})", None), ("T.exp({x}.sin())", None), ("T.sqrt({x} * {x} + 1.0)", None),
    ("T.rsqrt({x} * {x} + 1.0)", None), ("T.expm1({x}.sin())", None), ("T.log1p({x} * {x})", None), ("{x}.sin()", None),
    ("{x}.cos()", None), ("T.erf({x})", None), ("1.0 / (1.0 + {x} * {x})", None), ("T.tanh({x}) ** 3", None),
    ("{x} * 0.5", None), ("-{x}", None), ("{x}.abs()", None), ("F.gelu({x})", None), ("F.softplus({x})", None),
    ("F.silu({x})", None), ("{x}.clone()", None), ("{x}.clamp(-0.7, 0.7)", None), ("T.relu({x})", None),
    ("{x}.std()", 0), ("{x}.var()", 0), ("{x}.norm()", 0), ("T.tanh({x}).prod()", 0), ("{x}.sum()", 0), ("{x}.mean()", 0),
    ("({x} * 0.5).square().mean()", 0),
)  # fmt: skip
#: For operands of at least one dimension.
ROWS = (
    ("T.softmax({x}, -1)", None), ("{x}.logsumexp(-1, keepdim=True)", None), ("F.layer_norm({x}, {x}.shape[-1:])", None),
    ("{x} - {x}.mean(-1, keepdim=True)", None), ("{x}.std(-1, keepdim=True)", None), ("{x}.amax(-1, keepdim=True)", None),
    ("{x}.flip(0)", None), ("T.cat([{x}[1:], {x}[:1]])", None), ("F.log_softmax({x}, -1) * 0.3", None),
    ("{x}.norm(dim=-1, keepdim=True)", None),
)  # fmt: skip
BINARY = (
    "{x} + {y}", "{x} - {y}", "T.tanh({x}) * {y}", "{x} / (1.0 + {y} * {y})", "T.maximum({x}, {y})",
    "T.where({y} > 0, {x}, {y})", "T.lerp({x}, {y}, 0.3)", "{x} * {y}.detach()",
)  # fmt: skip
VIEWS = (
    ("{x}[0]", -1),
    ("{x}[-1]", -1),
    ("{x}.detach()", None),
    ("{x}", None),
    ("{x}[1:]", None),
    ("{x}.view_as({x})", None),
)
INPLACE = (
    "{x}.mul_(0.5)", "{x}.tanh_()", "{x}.sigmoid_()", "{x}.add_(1.0)", "{x}.zero_()", "{x}.fill_(0.3)", "{x}.sin_()",
    "{x}[0] = 0.5", "{x}[0] *= 0.5", "{x}[1:] += 0.25", "{x}[:] = 0.1", "{x}.data.mul_(0.9)", "{x}.detach().add_(0.1)",
    "{x}.mul_({y}.sin())", "{x}.copy_({y})", "{x}.add_({y}, alpha=0.3)", "{x}[0] = {y}.sum()", "{x}.masked_fill_({x} > 0, 0.1)",
)  # fmt: skip
OPTIMIZERS = ("SGD([{p}], lr=0.1)", "SGD([{p}], lr=0.1, momentum=0.9, weight_decay=0.1)", "Adam([{p}], lr=0.01)")


#: What PyTorch understands otherwise: see docs/differences.md.
DIFFERENT = (".data", ".detach().add_")


class Generator:
    """Makes programs. Names are a (leaves), x (results), v (views), g (gradients), h (handles of hooks), o (optimizers).

    `common`: only what PyTorch promises too. `narrow`: a few kinds of lines, chosen anew, about a few tensors, so that the same
    ones meet again and again (Groce et al., Swarm Testing, 2012).
    """

    def __init__(self, seed: int, common: bool = False, narrow: bool = False) -> None:
        self.rng = random.Random(seed)
        self.common = common
        self.rank: dict[str, int] = {}
        self.count = 0
        self.optimizers: list[str] = []
        makers: list[tuple[Callable[[], str], int]] = [
            (self.unary, 12), (self.rows, 4), (self.binary, 8), (self.product, 2), (self.view, 3), (self.inplace, 3),
            (self.grad, 14), (self.backward, 4), (self.take, 3), (self.observe, 3), (self.delete, 2), (self.hook, 1),
            (self.optimizer, 1), (self.write, 2), (self.leaf, 1),
        ]  # fmt: skip
        if common:
            makers = [(m, w) for m, w in makers if m not in (self.hook, self.write)]
        self.makers = [m for m, _ in makers]
        self.weights = [w * self.rng.choice((0, 0.5, 1, 1, 2)) if w < 8 else w for _, w in makers]
        self.narrow = narrow
        if narrow:
            chosen = self.rng.sample(self.makers, self.rng.randint(2, 4))
            self.weights = [4.0 if m in chosen else 0.2 for m in self.makers]

    def program(self, n_lines: int) -> tuple[str, ...]:
        lines = [self.leaf(), self.unary()] if self.narrow else [self.leaf(), self.leaf(), self.unary(), self.unary()]
        maker = self.unary
        while len(lines) < n_lines:
            if not (self.narrow and self.rng.random() < 0.5):  # else once more what was done last
                maker = self.rng.choices(self.makers, self.weights)[0]
            try:
                lines.append(maker())
            except IndexError:  # nothing to choose from
                maker = self.unary
        return (*lines, *self.ending())

    def ending(self) -> list[str]:
        """Derivatives of what there is, so that every program has some."""
        name, leaf = self.any("xg"), self.any("a")
        return [
            f"u, = gradients(T.tanh({name}).sum(), [{leaf}], allow_unused=True, create_graph=True)",
            f"v, = gradients((u * u).sum(), [{leaf}], allow_unused=True, create_graph=True)",
            f"w, = gradients((v * v).sum(), [{leaf}], allow_unused=True)",
        ]

    # ---- choosing

    def any(self, kinds: str = "axxxxvvgggg", rank: int = 0) -> str:
        there = {k: r for k, r in self.rank.items() if r >= rank and k[0] in kinds}
        kind = self.rng.choice([k for k in kinds if any(name[0] == k for name in there)])
        names = [k for k in there if k[0] == kind]
        recent = names[-3:]
        return self.rng.choice(recent if self.rng.random() < 0.6 else names)

    def new(self, kind: str, rank: int) -> str:
        self.count += 1
        self.rank[f"{kind}{self.count}"] = rank
        return f"{kind}{self.count}"

    def apply(self, form: tuple[str, int | None], rank: int = 0, kind: str = "x") -> str:
        x = self.any(rank=rank)
        text, result = form
        made = self.rank[x] if result is None else max(0, self.rank[x] + result) if result < 0 else result
        return f"{self.new(kind, made)} = {text.format(x=x)}"

    # ---- lines

    def leaf(self) -> str:
        rank = self.rng.choice((1, 1, 2, 0))
        return f"{self.new('a', rank)} = data({', '.join(['3'] * rank + ['grad=True'])})"

    def unary(self) -> str:
        return self.apply(self.rng.choice(UNARY))

    def rows(self) -> str:
        return self.apply(self.rng.choice(ROWS), rank=1)

    def binary(self) -> str:
        x, y = self.any(), self.any()
        return f"{self.new('x', max(self.rank[x], self.rank[y]))} = {self.rng.choice(BINARY).format(x=x, y=y)}"

    def product(self) -> str:
        x, y = self.any(rank=1), self.any(rank=2)
        return f"{self.new('x', self.rank[x])} = {x} @ {y} * 0.4"

    def view(self) -> str:
        return self.apply(self.rng.choice(VIEWS), rank=1, kind="v")

    def inplace(self) -> str:
        forms = [f for f in INPLACE if not (self.common and any(d in f for d in DIFFERENT))]
        form, x, y = self.rng.choice(forms), self.any("xxxvg"), self.any()
        line = form.format(x=x, y=y)
        return f"with T.no_grad(): {line}" if self.rng.random() < 0.15 else line

    def write(self) -> str:
        """To a leaf's data."""
        forms = (
            "{x}.data.mul_(0.9)",
            "with T.no_grad(): {x}.add_(0.1)",
            "with T.no_grad(): {x}[0] = 0.3",
            "{x}.grad = None",
        )
        return self.rng.choice(forms).format(x=self.any("a"))

    def _graph(self) -> str:
        return self.rng.choice(("create_graph=True",) * 5 + ("retain_graph=True", ""))

    def grad(self) -> str:
        y = self.any("xxxg")
        wanted = {self.any("aaaxg" if self.common else "aaaxgv") for _ in range(self.rng.choice((1, 1, 2)))}
        chosen = sorted(wanted)
        targets = [self.new("g", self.rank[k]) for k in chosen]
        scale = self.rng.choice(("{y}.sum()", "{y}.sum()", "({y} * {y}).sum()", "{y}.sin().mean()")).format(y=y)
        extra = ", ".join(filter(None, ("allow_unused=True", self._graph())))
        return f"{', '.join(targets)}, = gradients({scale}, [{', '.join(chosen)}], {extra})"

    def backward(self) -> str:
        y = self.any("xxxg")
        scale = self.rng.choice(("{y}.sum()", "({y} * {y}).mean()")).format(y=y)
        return f"{scale}.backward({self._graph()})"

    def take(self) -> str:
        leaf = self.any("a")
        return f"{self.new('g', self.rank[leaf])} = {leaf}.grad{self.rng.choice(('', '', ' * 1.0', '.clone()'))}"

    def observe(self) -> str:
        forms = (
            "seen.append({x}.tolist())",
            "seen.append({x}.sum().item())",
            "bool({x}.sum() > 0)",
            "seen.append(plain({x}))",
        )
        return self.rng.choice(forms).format(x=self.any())

    def delete(self) -> str:
        if self.narrow and sum(k[0] in "xg" for k in self.rank) < 2:
            raise IndexError("nothing would be left to take derivatives of")
        name = self.any("xxg")
        del self.rank[name]
        return f"del {name}"

    def hook(self) -> str:
        self.count += 1
        name, handle = self.any("axxgv"), f"h{self.count}"
        return f"{handle} = {name}.register_hook(log.hook('{handle}'{self.rng.choice(('', ', 2.0'))}))"

    def optimizer(self) -> str:
        if self.optimizers and self.rng.random() < 0.7:
            name = self.rng.choice(self.optimizers)
            return self.rng.choice((f"{name}.step()", f"{name}.step()", f"{name}.zero_grad()"))
        self.count += 1
        self.optimizers.append(f"o{self.count}")
        return f"o{self.count} = T.optim.{self.rng.choice(OPTIMIZERS).format(p=self.any('a'))}"


def generate(seed: int, n_lines: int = 16, common: bool = False, narrow: bool = False) -> tuple[str, ...]:
    """A random program."""
    return Generator(seed, common, narrow).program(n_lines)


# ---- running --------------------------------------------------------------------------------------------------


def run(
    program: tuple[str, ...],
    library: types.ModuleType,
    between: Callable[[dict[str, Any]], None] | None = None,
    elsewhere: Callable[[], bool] | None = None,
) -> tuple:
    """(what became of each line, everything that can be seen at the end). `between` gets the names after every line;
    lines run in another thread where `elsewhere()` says so."""
    env = {**environment(library), "plain": plain}
    outcomes = []
    with ThreadPoolExecutor(1) as other:
        for line in program:
            there = elsewhere is not None and elsewhere()
            outcomes.append((line, other.submit(run_line, line, env).result() if there else run_line(line, env)))
            if between is not None:
                between(env)
        return outcomes, observed(env, library)


def looks(seed: int, share: float, library: types.ModuleType) -> Callable[[dict[str, Any]], None]:
    """Looks at a tensor of the program after a share of its lines."""
    rng = random.Random(seed)

    def look(env: dict[str, Any]) -> None:
        if rng.random() >= share:
            return
        tensors = [x for x in env.values() if isinstance(x, library.Tensor)]
        if tensors:
            rng.choice((library.Tensor.tolist, repr, lambda t: t.sum().item()))(rng.choice(tensors))

    return look


def difference(found: tuple, expected: tuple) -> str | None:
    """Where two runs of a program differ, if they do: in a line's outcome, or in a bit that can be seen at the end."""
    for (line, a), (_, b) in zip(found[0], expected[0], strict=True):
        if a != b:
            return f"`{line}` gives {a or 'no error'} instead of {b or 'none'}"
    return random_training.difference(found[1], expected[1], 0.0)


def before_refusals(program: tuple[str, ...], *libraries: types.ModuleType) -> tuple[str, ...]:
    """The program up to the first line that one of the libraries refuses and another does not, or for what both refuse it in
    a class of their own: None where a tensor is due. PyTorch's third derivative of layer_norm, which is not that of the same
    formula in its own ops (off by 1 of 1), is left out."""
    if any("layer_norm" in line for line in program):
        program = tuple(line for line in program if not line.startswith("w, "))
    outcomes = [run(program, library)[0] for library in libraries]
    for i, lines in enumerate(zip(*outcomes)):
        kinds = {outcome for _, outcome in lines}
        if len(kinds) > 1:
            assert kinds & {"RuntimeError", "GraphFreed"} or kinds == {"TypeError", "AttributeError"}, lines
            return program[:i]
    return program


def beside_pytorch(program: tuple[str, ...], *libraries: types.ModuleType) -> str | None:
    """Where Flambeau and PyTorch differ, before the first line that one of them refuses, but for what docs/differences.md states:
    whether a derivative requires grad, and None where PyTorch has zeros."""
    outcomes = [run(program, library)[0] for library in libraries]
    wrong = (i for i, lines in enumerate(zip(*outcomes, strict=True)) if any(outcome for _, outcome in lines))
    program = program[: next(wrong, len(program))]
    found, expected = (_without_flags(run(program, library)[1]) for library in libraries)
    return random_training.difference(found, expected, 1e-9)


def _without_flags(seen: dict[str, Any]) -> dict[str, Any]:
    """What can be seen of a program, derivatives without what is said of their history, and without those that are zeros."""
    found = {}
    for name, facts in seen.items():
        if isinstance(facts, dict) and "requires_grad" in facts:
            flags = ("requires_grad", "is_leaf", "grad.requires_grad")
            facts = {k: v for k, v in facts.items() if k not in flags}
            if np.abs(facts["value"]).max(initial=0.0) < 1e-9 and name[0] in "guvw":
                continue
        found[name] = facts
    return found
