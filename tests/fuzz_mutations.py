"""A kind of the fuzzer whose programs are the project's own regression tests, changed: statements twice, left out, in another
order, others put in between. Next: `fuzz_kinds.py`.

They are those of `overwritten_programs.py`. Each is run without looks, with looks at every statement, and with some: what comes
out, a gradient or a refusal, must not depend on them.
"""

from __future__ import annotations

import ast
import inspect
import random
import textwrap
from collections.abc import Callable
from typing import Any

import flambeau as fb
import overwritten_programs
from flambeau.runtime.recorder import Tensor
from fuzz_programs import Kind

BETWEEN = (
    "{x}.data.mul_(0.5)", "{x}.data[0] = 0.4", "with T.no_grad(): {x}.add_(0.1)", "with T.no_grad(): {x}[0] = 0.3", "{x}.mul_(2)",
    "{x}[1:].sin_()", "{x}.detach().mul_(0.5)", "{x} = {x}.view_as({x})", "{x} = {x} * {x}", "{x} = {x}.flip(0)",
    "T.autograd.grad({x}.sin().sum(), a, retain_graph=True, allow_unused=True)", "v = {x}[::2]",
    "T.autograd.grad({x}[::2].sum(), {x}, retain_graph=True)", "T.autograd.grad({x}[:2].sum(), {x}[:2], allow_unused=True)",
    "({x} * {x}).sum().backward(retain_graph=True)",
)  # fmt: skip


def statements(program: Callable) -> list[str]:
    """Those of a function without its docstring; the last returns."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(program))).body
    assert isinstance(function, ast.FunctionDef)
    return [ast.unparse(s) for s in function.body if not isinstance(getattr(s, "value", None), ast.Constant)]


def names_of(lines: list[str]) -> list[str]:
    """The names that statements give to tensors."""
    nodes = (node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.Name))
    return sorted({node.id for node in nodes if isinstance(node.ctx, ast.Store)})


def mutated(seed: int) -> list[str]:
    rng = random.Random(seed)
    *lines, last = statements(overwritten_programs.PROGRAMS[rng.choice(list(overwritten_programs.PROGRAMS))])
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(1, len(lines) + 1)
        match rng.choice(("twice", "twice", "between", "between", "between", "moved", "without")):
            case "twice":
                lines.insert(at, lines[rng.randrange(at)])
            case "between":
                lines.insert(at, rng.choice(BETWEEN).format(x=rng.choice(names_of(lines[:at]) or ["a"])))
            case "moved":
                lines.insert(at - 1, lines.pop(rng.randrange(1, len(lines))) if len(lines) > 1 else "look(a)")
            case "without" if len(lines) > 2:
                del lines[rng.randrange(1, len(lines))]
    return [*lines, last]


def outcome(lines: list[str], chance: Callable[[], bool]) -> Any:
    """The gradient, or that there is an error; tensors are looked at after a statement where `chance` says so."""
    scope: dict[str, Any] = {**vars(overwritten_programs), "T": fb, "look": lambda x: None}
    *body, last = lines
    fb.flush()
    try:
        for line in body:
            exec(line, scope)
            for x in [x for x in scope.values() if isinstance(x, Tensor)]:
                if chance():
                    x.tolist()
        found = eval(last.removeprefix("return "), scope)
        return None if found is None else found.tolist()
    except (RuntimeError, NameError, TypeError, ValueError, AttributeError, IndexError):
        return "an error"


def rewritten(seed: int) -> str | None:
    return check(mutated(seed), seed)


def check(lines: list[str], seed: int) -> str | None:
    rng = random.Random(seed)
    ways = {"everywhere": lambda: True, "at some": lambda: rng.random() < 0.4, "at few": lambda: rng.random() < 0.1}
    with fb.compiler_options(mode="off"):
        wanted = outcome(lines, lambda: False)
        for name, chance in ways.items():
            if str(found := outcome(lines, chance)) != str(wanted):  # NaN is itself here
                return f"looked at {name}: {found} instead of {wanted}\n" + "\n".join(lines)
    return None


def small(seed: int) -> str:
    """The program without the statements that do not matter."""
    lines = mutated(seed)
    at = len(lines) - 1
    while at > 0:
        at -= 1
        fewer = lines[:at] + lines[at + 1 :]
        if check(fewer, seed) is not None:
            lines = fewer
    return str(check(lines, seed))


KINDS = {"rewritten": Kind(rewritten, small)}
