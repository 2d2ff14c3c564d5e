"""Kinds of the fuzzer whose programs meet what nobody plans for: interrupts, memory that runs out, compilers that are not ready
yet; and programs that run where there is no Python.

Programs are those of `fuzz_programs.py`. Each has a seed and says what is wrong, or None. What is upset stands in a state that
the undisturbed program has between two of its lines, and goes on from there to the same bits. Next: `fuzz_kinds.py`.
"""

from __future__ import annotations

import contextlib
import math
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flambeau as fb
import numpy as np
import random_derivatives
import random_graphs
import random_training
import symbolic
from flambeau.compiler import driver
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.export import exporter, linker
from flambeau.compiler.options import Options
from flambeau.compiler.targets import platforms
from flambeau.dialects.irdl import print_graph
from flambeau.runtime import _binding
from fuzz_programs import Kind, derivatives_program, graph_of, mode, results, same_bytes, unequal

FILE = "program.py"
MODES = ("off", "off", "blocking", "background")

# ---- states of programs -------------------------------------------------------------------------------------------

#: What is not to be seen in tensors, or is another thing when it is done again.
ONCE = re.compile(r"^del |seen\.|register_hook|data\(|optim\.|plain\(|^bool\(|\.grad = |zero_grad")
KEEPS_GRAPHS = (
    (re.compile(r"\.backward\(\)"), ".backward(retain_graph=True)"),
    (re.compile(r"allow_unused=True\)"), "allow_unused=True, retain_graph=True)"),
)


#: What there is of a tensor whose memory was refused.
LOST = {"is": "lost"}


def facts(x: fb.Tensor) -> Any:
    """What can be seen of a tensor, its version too."""
    try:
        value = x.detach().clone().numpy().copy()
    except fb.OutOfMemory as error:
        if "a test refuses" in str(error):
            return LOST
        raise
    seen = {"value": value, "requires_grad": x.requires_grad, "version": x._version}
    grad = x.grad if x.is_leaf else None
    return seen if grad is None else seen | {"grad": facts(grad)}


def state_of(env: dict[str, Any]) -> dict[str, Any]:
    found = {name: facts(x) for name, x in env.items() if isinstance(x, fb.Tensor)}
    found |= {name: None for name, x in env.items() if x is None}
    optimizers = {name: x for name, x in env.items() if isinstance(x, fb.optim.Optimizer)}
    return found | {name: random_training._states(x, fb) for name, x in optimizers.items()}


def agrees(now: dict[str, Any], then: dict[str, Any]) -> str | None:
    """Where a state is not one that was; names that came later may be there."""
    for name, wanted in then.items():
        if now.get(name, LOST) is LOST:
            return f"{name} is lost"
        if now[name] is None and wanted is None:
            continue
        if (what := random_training.difference(now[name], wanted, 0.0, name)) is not None:
            return what
    return None


# ---- lines --------------------------------------------------------------------------------------------------------


class Run:
    """A program line by line. Its lines are those of `FILE`."""

    def __init__(self, program: Sequence[str]) -> None:
        self.program = program
        self.code = [compile("\n" * k + line, FILE, "exec") for k, line in enumerate(program)]
        self.env = {**random_training.environment(fb), "plain": random_training.plain}
        self.outcomes: list[str] = [""] * len(program)

    def flush(self, k: int) -> None:
        """As if it stood in a line."""
        exec(compile("\n" * k + "T.flush()", FILE, "exec"), self.env)

    def line(self, k: int) -> None:
        """Do a line. Raises what is no answer of the line's own: lack of memory, interrupts."""
        self.outcomes[k] = ""
        try:
            exec(self.code[k], self.env)
        except fb.OutOfMemory:
            raise
        except Exception as error:
            freed = isinstance(error, RuntimeError) and "freed" in str(error)
            self.outcomes[k] = "GraphFreed" if freed else random_training.for_users(error).__name__

    def rest(self, first: int) -> None:
        for k in range(first, len(self.program)):
            self.line(k)

    def end(self) -> tuple[list[tuple[str, str]], dict[str, Any]]:
        return list(zip(self.program, self.outcomes)), random_training.observed(self.env, fb)


def undisturbed(program: Sequence[str]) -> tuple[list[dict[str, Any]], tuple]:
    """The states before the first line and after each, and what can be seen at the end."""
    run = Run(program)
    states = [state_of(run.env)]
    for k in range(len(program)):
        run.line(k)
        states.append(state_of(run.env))
    return states, run.end()


def blocks(program: Sequence[str], rng: random.Random) -> dict[int, int]:
    """First and last lines that are disturbed as one."""
    found: dict[int, int] = {}
    at = 0
    while at < len(program):
        last = at
        while last < len(program) and not ONCE.search(program[last]) and last - at < 6:
            last += 1
        if last > at and rng.random() < 0.6:
            found[at] = rng.randrange(at, last)
            last = found[at] + 1
        at = max(last, at + 1)
    return found


#: What upsets lines: a context around them, and the class of the error it makes.
Upset = Callable[[random.Random], contextlib.AbstractContextManager]


def check_upset(program: Sequence[str], seed: int, upset: Upset, kind: type[BaseException]) -> str | None:
    """Run lines again and again that `upset` disturbs; what is lost, happens by half, twice, or otherwise, if anything is."""
    rng = random.Random(seed)
    chosen = rng.choice(MODES)
    with mode("off"):
        states, expected = undisturbed(program)
    with mode(chosen):
        for turn in range(3):  # new, and known
            run, at, disturbed = Run(program), 0, blocks(program, rng)
            while at < len(program):
                if at not in disturbed:
                    run.line(at)
                    at += 1
                    continue
                found = _disturb(run, at, disturbed.pop(at), upset(rng), kind, states, expected[0])
                if isinstance(found, str):
                    return f"{chosen}, turn {turn}: {found}"
                at = found
            if (what := random_derivatives.difference(run.end(), expected)) is not None:
                return f"{chosen}, turn {turn}, disturbed: {what}"
            if fb.is_grad_enabled() is not True:
                fb.set_grad_enabled(True)
                return f"{chosen}, turn {turn}: gradients are off afterwards"
        run = Run(program)
        run.rest(0)
        if (what := random_derivatives.difference(run.end(), expected)) is not None:
            return f"{chosen}, afterwards: {what}"
    return None


def _disturb(
    run: Run, first: int, last: int, disturbing: Any, kind: type, states: list, outcomes: list[tuple[str, str]]
) -> int | str:
    """The line to go on with, or what is wrong."""
    fb.flush()
    begun = first
    try:
        with disturbing:
            for begun in range(first, last + 1):
                run.line(begun)
            run.flush(last)
        return last + 1
    except kind as error:
        if kind is fb.OutOfMemory and (what := _message(error, first, last)) is not None:
            return f"lines {first + 1} to {last + 1}: {what}"
    now = state_of(run.env)
    told = ""
    for k in range(begun + 1, first - 1, -1):
        if (what := agrees(now, states[k])) is None:
            while k > first and outcomes[k - 1][1]:  # a line that fails leaves nothing to be seen
                k -= 1
            return k
        told = what
    return f"lines {first + 1} to {begun + 1}, disturbed, are in no state between them: {told}"


def _message(error: BaseException, first: int, last: int) -> str | None:
    if not str(error).startswith("[memory] a test refuses"):
        return f"{error!r} instead of what a test refuses"
    text = "\n".join([str(error), *getattr(error, "__notes__", [])])
    if re.search(rf"run at (?!{re.escape(FILE)}:)\S+:\d", text):
        return None  # in what a line calls
    lines = {int(n) - 1 for n in re.findall(rf"run at {re.escape(FILE)}:(\d+)", text)}
    return None if lines & set(range(first, last + 1)) else f"no line of it is named: {text}"


# ---- memory that runs out -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def refusing(nth: int) -> Iterator[None]:
    """The nth allocation fails."""
    _binding._refuse_memory(nth)
    try:
        yield
    finally:
        _binding._refuse_memory(0)


def some_allocation(rng: random.Random) -> contextlib.AbstractContextManager:
    return refusing(1 + int(rng.expovariate(0.3)))


def check_memory(program: Sequence[str], seed: int) -> str | None:
    return check_upset(program, seed, some_allocation, fb.OutOfMemory)


def check_graph_memory(graph: Any, inputs: list[np.ndarray], seed: int) -> str | None:
    """A graph whose nth allocation fails: its inputs are as they were, and the next run is right."""
    rng = random.Random(seed)
    options = Options(mode=rng.choice(("off", "blocking")), fuse=rng.random() < 0.8)
    wanted = results(graph, inputs, Options(mode="off"))
    executable = driver.compile(graph, options)
    donated = tuple(set(graph.updates.values()))
    for nth in (1, 2, 3, rng.randrange(4, 20)):
        given = [symbolic.buffer(x) for x in inputs]
        before = [bytes(memoryview(b)) for b in given]
        try:
            with refusing(nth):
                executable(given, donated)
        except fb.OutOfMemory as error:
            if not str(error).startswith("[memory] a test refuses"):
                return f"{options.mode}, allocation {nth}: {error}"
            if [bytes(memoryview(b)) for b in given] != before:
                return f"{options.mode}, allocation {nth}: an input was written"
        except (IndexError, ZeroDivisionError, ValueError, RuntimeError):
            pass
        again = results(graph, inputs, options, True)
        if (what := unequal(again, wanted, same_bytes)) is not None:
            return f"{options.mode}, after allocation {nth} failed: {what}"
    return None


def memory_program(seed: int) -> tuple[str, ...]:
    """Without hooks, which look; and gradients keep their graphs: what copies one may be cut off from what used its graph up."""
    pattern, kept = KEEPS_GRAPHS[1]
    lines = (line for line in derivatives_program(seed) if "register_hook" not in line)
    return tuple(pattern.sub(kept, line) if "create_graph" not in line else line for line in lines)


def memory(seed: int) -> str | None:
    if seed % 3 == 0:
        graph, inputs = graph_of(seed)[0]
        what = check_graph_memory(graph, inputs, seed)
        return None if what is None else f"{what}\n{print_graph(graph)}"
    return check_memory(memory_program(seed), seed)


def small_lines(check: Callable[[Sequence[str], int], str | None], lines: Callable[[int], Sequence[str]]) -> Callable:
    """Leaves out lines that do not matter; what takes chance is tried a few times."""

    def shrink(seed: int) -> str:
        def fails(program: Sequence[str]) -> bool:
            return any(check(program, seed + (k << 32)) is not None for k in range(4))

        small = random_training.shrink(tuple(lines(seed)), fails)
        told = next((what for k in range(4) if (what := check(small, seed + (k << 32))) is not None), None)
        return f"{random_training.source(small)}\n{told}"

    return shrink


def small_memory(seed: int) -> str:
    return "(a graph)" if seed % 3 == 0 else small_lines(check_memory, memory_program)(seed)


# ---- interrupts ---------------------------------------------------------------------------------------------------


class Interrupt:
    """SIGINT after a while, if what it is around still runs."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.armed = seconds, False

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGINT, self.raised)
        self.armed = True
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def raised(self, number: int, frame: Any) -> None:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt

    def __exit__(self, *exc: object) -> None:
        self.armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, self.before)


@contextlib.contextmanager
def alarms_interrupt() -> Iterator[None]:
    """The timer's signal is one."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def some_moment(rng: random.Random) -> contextlib.AbstractContextManager:
    return Interrupt(math.exp(rng.uniform(math.log(2e-5), math.log(rng.choice((1e-3, 1e-2, 0.2))))))


def check_interrupts(program: Sequence[str], seed: int) -> str | None:
    with alarms_interrupt():
        return check_upset(program, seed, some_moment, KeyboardInterrupt)


def interrupted_program(seed: int) -> tuple[str, ...]:
    """Graphs are kept, so that a gradient whose result did not arrive can be asked for again."""
    lines = []
    for line in derivatives_program(seed):
        if "register_hook" in line:
            continue
        if "retain_graph" not in line and "create_graph" not in line:
            for pattern, kept in KEEPS_GRAPHS:
                line = pattern.sub(kept, line)
        lines.append(line)
    return tuple(lines)


def interrupted(seed: int) -> str | None:
    assert threading.current_thread() is threading.main_thread(), "signals reach the main thread only"
    return check_interrupts(interrupted_program(seed), seed)


# ---- compilers in the background ----------------------------------------------------------------------------------


def check_background(program: Sequence[str], seed: int) -> str | None:
    """The same program again and again while its parts are being compiled, with pauses at drawn lines."""
    rng = random.Random(seed)

    def pause(env: dict[str, Any]) -> None:
        if rng.random() < 0.2:
            time.sleep(rng.choice((0.0, 0.001, 0.02, 0.1)))
        if rng.random() < 0.1:
            fb.flush()

    with mode("off"):
        expected = random_derivatives.run(program, fb)
    with mode("background"):
        for turn in range(rng.choice((3, 5, 8))):
            found = random_derivatives.run(program, fb, between=pause)
            if (what := random_derivatives.difference(found, expected)) is not None:
                return f"turn {turn}: {what}"
            fb.flush()
            time.sleep(rng.choice((0.0, 0.02, 0.3)))
    return None


def check_graph_background(graph: Any, inputs: list[np.ndarray], seed: int) -> str | None:
    rng = random.Random(seed)
    wanted = results(graph, inputs, Options(mode="off"))
    executable = driver.compile(graph, Options(mode="background"))
    for turn in range(6):
        if turn == 5:
            executable.wait(60)
        try:
            if rng.random() < 0.5:
                found: Any = executable([symbolic.buffer(x) for x in inputs], tuple(set(graph.updates.values())))
            else:
                found = executable(inputs)
            found = [to_array(x, graph.avals[v]) for v, x in zip(graph.outputs, found, strict=True)]
        except (IndexError, ZeroDivisionError, ValueError, RuntimeError) as error:
            found = type(error).__name__
        if (what := unequal(found, wanted, same_bytes)) is not None:
            return f"turn {turn}: {what}"
        time.sleep(rng.choice((0.0, 0.001, 0.03, 0.15)))
    return None


def background(seed: int) -> str | None:
    if seed % 3 == 0:
        graph, inputs = graph_of(seed)[0]
        what = check_graph_background(graph, inputs, seed)
        return None if what is None else f"{what}\n{print_graph(graph)}"
    return check_background(derivatives_program(seed), seed)


def small_background(seed: int) -> str:
    return "(a graph)" if seed % 3 == 0 else small_lines(check_background, derivatives_program)(seed)


# ---- native programs ----------------------------------------------------------------------------------------------

HERE = next((p for p in platforms.PLATFORMS.values() if p.is_here), None)


@contextlib.contextmanager
def linked_by(name: str) -> Iterator[None]:
    """By this machine's C compiler, or by Zig, which first compiles a C library."""
    before = linker.zig
    if name == "cc":
        linker.zig = lambda platform: None
    try:
        yield
    finally:
        linker.zig = before


def check_export(graph: Any, inputs: list[np.ndarray], seed: int) -> str | None:
    """A graph as a native program, given the inputs, and the same numbers in other places."""
    rng = np.random.default_rng(seed)
    graph.updates = {}
    wanted = results(graph, inputs, Options(mode="off"))
    if HERE is None or isinstance(wanted, str) or exporter.problems(graph):
        return None
    request = exporter.ExportRequest("drawn", graph, list(range(len(inputs))), inputs, wanted)
    with tempfile.TemporaryDirectory() as folder, linked_by("cc" if shutil.which("cc") and seed % 20 else "zig"):
        made = exporter.write(Path(folder), request, HERE.name, True)
        assert made is not None
        program = Path(folder) / made.name
        check = subprocess.run([program, "--check"], capture_output=True, timeout=60)
        if check.returncode:
            return f"--check: {check.stderr.decode()}"
        others = [rng.permutation(x.reshape(-1)).reshape(x.shape) for x in inputs]
        for given in (inputs, others):
            wanted = results(graph, given, Options(mode="off"))
            data = b"".join(np.ascontiguousarray(x).tobytes() for x in given)
            done = subprocess.run([program], input=data, capture_output=True, timeout=60)
            if isinstance(wanted, str) or done.returncode:
                if isinstance(wanted, str) and done.returncode:
                    continue
                return f"status {done.returncode} {done.stderr.decode()} instead of {wanted}"
            if (what := unequal(_split(done.stdout, wanted), wanted, same_bytes)) is not None:
                return what
    return None


def _split(data: bytes, like: Sequence[np.ndarray]) -> list[np.ndarray] | str:
    """What a program writes, as arrays."""
    if len(data) != sum(x.nbytes for x in like):
        return f"{len(data)} bytes"
    found, at = [], 0
    for x in like:
        found.append(np.frombuffer(data[at : at + x.nbytes], x.dtype).reshape(x.shape))
        at += x.nbytes
    return found


def exported(seed: int) -> str | None:
    graph, inputs = graph_of(seed)[0]
    return check_export(graph, inputs, seed)


def small_export(seed: int) -> str:
    from flambeau.dialects.reducing import reduced

    graph, inputs = graph_of(seed)[0]
    graph.updates = {}
    values = random_graphs.evaluate(graph, inputs)
    small, given = reduced(graph, values, lambda g, xs: check_export(g, xs, seed) is not None)
    return f"{print_graph(small)}\ninputs: {given}"


#: Waiting for workers, linkers and programs is no processor time of this process, by which shares are measured.
KINDS = {
    "memory": Kind(memory, small_memory),
    "interrupted": Kind(interrupted, small_lines(check_interrupts, interrupted_program)),
    "background": Kind(background, small_background, 0.1),
    "exported": Kind(exported, small_export, 0.03),
}
