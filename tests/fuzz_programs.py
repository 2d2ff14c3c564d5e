"""Kinds of the fuzzer whose programs are graphs, lines of source, indices and threads.

Each has a seed and says what is wrong, or None. `KINDS` need nothing, `BESIDE_PYTORCH` need PyTorch. Next: `fuzz_kinds.py`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import flambeau as fb
import numpy as np
import random_derivatives
import random_graphs
import random_sizes
import random_training
import symbolic
from flambeau.compiler import driver
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.options import Options
from flambeau.dialects.irdl import print_graph
from flambeau.dialects.reducing import reduced


class Kind(NamedTuple):
    """`run(seed)` says what is wrong; `shrink(seed)` shows a small program that is; `weight` is its share of the time."""

    run: Callable[[int], str | None]
    shrink: Callable[[int], str] | None = None
    weight: float = 1.0


@contextmanager
def mode(name: str):
    with fb.compiler_options(mode=name):
        yield


# ---- graphs -----------------------------------------------------------------------------------------------------


def graph_of(seed: int) -> tuple[random_graphs.Program, bool]:
    rng = random.Random(seed)
    exact = rng.random() < 0.3
    large = rng.random() < 0.1
    shapes = random_graphs.LARGE if large else random_graphs.SHAPES
    nodes = rng.choice((3, 6)) if large else rng.choice((2, 4, 8, 8, 15, 25, 40))
    fallible, moving = rng.random() < 0.5, rng.random() < 0.5
    return random_graphs.program(seed, nodes, exact, fallible, shapes=shapes, moving=moving), exact


def results(graph: Any, inputs: list[np.ndarray], options: Options, given: bool = False) -> list[np.ndarray] | str:
    """The outputs; or the class of the error. `given`: inputs are buffers that updates may take."""
    try:
        executable = driver.compile(graph, options)
        if given:
            found = executable(list(map(symbolic.buffer, inputs)), tuple(set(graph.updates.values())))
        else:
            found = executable(inputs)
    except (IndexError, ZeroDivisionError, ValueError, RuntimeError) as error:
        return type(error).__name__
    return [to_array(x, graph.avals[v]) for v, x in zip(graph.outputs, found, strict=True)]


def unequal(found: Any, wanted: Any, same: Callable[..., bool] = random_graphs.same_bits) -> str | None:
    """Where outputs differ; by default any NaN equals any other."""
    if isinstance(found, str) or isinstance(wanted, str):
        return None if isinstance(found, str) and isinstance(wanted, str) else f"{found} instead of {wanted}"
    for k, (x, y) in enumerate(zip(found, wanted, strict=True)):
        if not same(x, y):
            return f"output {k}: {_first(x, y)}"
    return None


def same_bytes(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal shapes, types and bits, of NaNs too, as on every tier."""
    return (x.shape, x.dtype, x.tobytes()) == (y.shape, y.dtype, y.tobytes())


def _first(x: np.ndarray, y: np.ndarray) -> str:
    if x.shape != y.shape or x.dtype != y.dtype:
        return f"{x.dtype}{x.shape} instead of {y.dtype}{y.shape}"
    flat, other = x.reshape(-1), y.reshape(-1)
    at = next((i for i in range(flat.size) if flat[i].tobytes() != other[i].tobytes()), 0)
    bits = f" ({flat[at].tobytes().hex()}, {other[at].tobytes().hex()})" if flat[at] != flat[at] else ""
    return f"{flat[at]!r} instead of {other[at]!r}{bits} at element {at} of {x.shape}"


WAYS: dict[str, tuple[Options, bool]] = {
    "fused": (Options(mode="blocking"), False),
    "fused, in place": (Options(mode="blocking"), True),
    "kernel by kernel": (Options(mode="blocking", fuse=False), False),
}


def check_graph(graph: Any, inputs: list[np.ndarray], exact: bool) -> str | None:
    wanted = results(graph, inputs, Options(mode="off"))
    for name, (options, given) in WAYS.items():
        if (found := unequal(results(graph, inputs, options, given), wanted, same_bytes)) is not None:
            return f"{name}, beside op by op: {found}"
    if exact and not isinstance(wanted, str):
        values = random_graphs.evaluate(graph, inputs)
        if (found := unequal(wanted, [values[v] for v in graph.outputs])) is not None:
            return f"op by op, beside the references: {found}"
    return None


def graphs(seed: int) -> str | None:
    (graph, inputs), exact = graph_of(seed)
    return check_graph(graph, inputs, exact)


def small_graph(seed: int) -> str:
    (graph, inputs), exact = graph_of(seed)
    values = random_graphs.evaluate(graph, inputs)
    graph.updates = {}
    if check_graph(graph, inputs, exact) is None:
        return print_graph(graph_of(seed)[0].graph)
    small, given = reduced(graph, values, lambda g, xs: check_graph(g, xs, exact) is not None)
    return f"{print_graph(small)}\ninputs: {given}"


def sizes(seed: int) -> str | None:
    rng = random.Random(seed)
    graph = random_sizes.program(seed, rng.choice((2, 5, 10, 20)))
    chosen = [(rng.choice((2, 5, 9, 17, 64)), rng.choice((2, 3, 5, 7, 9, 65))) for _ in range(4)]
    options = Options(mode="off") if rng.random() < 0.25 else symbolic.STRICT
    try:
        symbolic.check(graph, chosen, options, inputs=random_sizes.arguments)
    except AssertionError as error:
        return f"{error}\n{print_graph(graph)}"
    return None


# ---- programs of users ------------------------------------------------------------------------------------------


def torch_module() -> Any:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    return torch


def with_plain_hooks(program: tuple) -> tuple:
    """A program whose hooks change nothing, if it asks for several gradients at once: see docs/differences.md."""

    def changed(line: Any) -> Any:
        if isinstance(line, random_training.Block):
            return line._replace(lines=tuple(map(changed, line.lines)))
        return line.replace("', 2.0)", "')").replace("', 3.0)", "')") if ".register_hook(" in line else line

    asks_several = any(re.search(r"\w+, *\w+,? = gradients\(", str(line)) for line in program)
    return tuple(map(changed, program)) if asks_several else program


def training_program(seed: int) -> tuple:
    rng = random.Random(seed)
    return with_plain_hooks(random_training.generate(seed, torch_module(), rng.choice((8, 15, 30, 50))))


def regression_program(seed: int) -> tuple:
    """A program that once went wrong, with lines put in between: views, writes, looks, cuts, gradients of any order."""
    from test_random_training_programs import PROGRAMS

    rng = random.Random(seed)
    _, *lines = rng.choice(PROGRAMS.strip().split("\n\n")).split("\n")
    generator = random_training.Generator(seed, torch_module())
    share, made = rng.choice((0.15, 0.4, 0.8)), []
    if any("requires_grad_" in line for line in lines):  # which PyTorch's earlier views would follow
        kept = [
            (m, w) for m, w in zip(generator.makers, generator.weights) if m.__name__ not in ("view", "misc", "flags")
        ]
        generator.makers, generator.weights = map(list, zip(*kept))
    for line in lines:
        made.append(line)
        random_training.run_line(line, generator.env)
        while rng.random() < share and generator.healthy():
            made.append(generator.line())
    return with_plain_hooks(tuple(made))


def _of_alias(what: str, program: tuple) -> bool:
    """Whether a difference is that an alias without history gets none by what is written through it: see docs/differences.md."""
    aliases = any(word in str(program) for word in (".data", ".detach()"))
    return aliases and what.endswith(".requires_grad: False instead of True")


def check_training(program: tuple, seed: int) -> str | None:
    torch = torch_module()
    expected = random_training.reference(program, torch)
    # a view of a leaf that was written to keeps its hooks here; PyTorch's gets another node
    writes = any(word in str(program) for word in (".step()", "no_grad", ".data", "_("))
    with mode("blocking" if seed % 5 == 0 else "off"):
        first = None
        for name, between in (("new", None), ("again", None), ("run after every line", fb.flush)):
            try:
                found = random_training.run(program, fb, between)
            except AssertionError as error:  # an error that is none for users
                return f"{name}: {error}"
            what = random_training.disagreement(found, expected)
            if what is not None and not (what.startswith(".log") and writes) and not _of_alias(what, program):
                return f"{name}, beside PyTorch: {what}"
            first = first or found
            if (what := random_training.disagreement(found, (*first, expected[2]), 0.0)) is not None:
                return f"{name}, beside the first time: {what}"
            fb.flush()
    return None


def training(make: Callable[[int], tuple]) -> Kind:
    def run(seed: int) -> str | None:
        return check_training(make(seed), seed)

    def shrink(seed: int) -> str:
        small = random_training.shrink(make(seed), lambda p: check_training(p, seed) is not None)
        return f"{random_training.source(small)}\n{check_training(small, seed)}"

    return Kind(run, shrink, 2.0)


def check_derivatives(program: tuple[str, ...], seed: int) -> str | None:
    rng = random.Random(seed)
    other = {"elsewhere": lambda: rng.random() < 0.4}
    ways: list[tuple[str, str, dict]] = [
        ("from the trie", "off", {}),
        ("run after every line", "off", {"between": lambda env: fb.flush()}),
        ("looked at now and then", "off", {"between": random_derivatives.looks(seed, 0.3, fb)}),
        ("looked at often", "off", {"between": random_derivatives.looks(seed + 1, 0.6, fb)}),
        ("by two threads in turn", "off", other),
    ]
    if seed % 8 == 0:
        ways.append(("fused", "blocking", {}))
    with mode("off"):
        expected = random_derivatives.run(program, fb)
    for name, tier, way in ways:
        with mode(tier):
            found = random_derivatives.run(program, fb, **way)
        if (what := random_derivatives.difference(found, expected)) is not None:
            return f"{name}: {what}"
    return None


def derivatives_program(seed: int) -> tuple[str, ...]:
    rng = random.Random(seed)
    narrow = rng.random() < 0.5
    return random_derivatives.generate(seed, rng.choice((5, 7, 9)) if narrow else 16, narrow=narrow)


def derivatives(seed: int) -> str | None:
    return check_derivatives(derivatives_program(seed), seed)


def small_derivatives(seed: int) -> str:
    fails = lambda p: check_derivatives(p, seed) is not None  # noqa: E731
    small = random_training.shrink(derivatives_program(seed), fails)
    return f"{random_training.source(small)}\n{check_derivatives(small, seed)}"


#: PyTorch computes gradients of these from their results, so that such a gradient depends on the result in another way than here.
_OF_RESULTS = re.compile(r"(x\d+) = .*\.(?:std|norm|logsumexp)\(")


def _asks_by_results(program: Sequence[str]) -> bool:
    """Whether a gradient is asked for by what one of these gave."""
    given = [found[1] for line in program if (found := _OF_RESULTS.match(line))]
    return any(re.search(rf"gradients\(.*\[[^\]]*\b{name}\b", line) for name in given for line in program)


#: PyTorch's third derivative of layer_norm is not that of this formula in its own ops: it is off by 1 of 1.
_LAYER_NORM = re.compile(r"F\.layer_norm\((\w+), \w+\.shape\[-1:\]\)")
_FORMULA = r"((\1 - \1.mean(-1, keepdim=True)) * T.rsqrt(\1.var(-1, keepdim=True, unbiased=False) + 1e-5))"


def derivatives_beside_pytorch(seed: int) -> str | None:
    torch = torch_module()
    program = random_derivatives.generate(seed, common=True)
    if _asks_by_results(program):
        return None
    program = tuple(_LAYER_NORM.sub(_FORMULA, line) for line in program)
    with mode("off"):
        what = random_derivatives.beside_pytorch(program, fb, torch)
    return None if what is None else what + "\n" + "\n".join(program)


def indices(seed: int) -> str | None:
    import test_random_indexing as programs

    torch = torch_module()
    other, mixed = (torch, True) if torch is not None and seed % 2 else (np, False)
    program = programs.Program(seed, mixed)
    with mode("off"):
        try:
            programs.same(program.run(fb), program.run(other), seed)
        except AssertionError as error:
            return f"{error}\n{program.shape} {program.steps}"
    return None


def threads(seed: int) -> str | None:
    import sys

    import thread_scenarios as scenes

    rng = random.Random(seed)
    name = rng.choice([n for n in scenes.scenarios if n not in ("forks", "signals_and_finalizers")])
    before = sys.getswitchinterval()
    sys.setswitchinterval(rng.choice((1e-6, 1e-5, 1e-4)))
    try:
        scenes.scenarios[name](scenes.Arena(rng.choice((2, 3, 8)), rng.choice((3, 8)), seed))
    finally:
        sys.setswitchinterval(before)
    return None


KINDS = {
    "graphs": Kind(graphs, small_graph, 2.0),
    "sizes": Kind(sizes),
    "derivatives": Kind(derivatives, small_derivatives, 2.0),
    "indices": Kind(indices, None, 0.5),
    "threads": Kind(threads, None, 0.5),
}
BESIDE_PYTORCH = {
    "training": training(training_program),
    "regressions": training(regression_program),
    "pytorch": Kind(derivatives_beside_pytorch),
}
