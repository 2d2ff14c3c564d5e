"""Nanoseconds of Python time per recorded operation on a trie hit, net of an empty loop. Nothing is computed.

`python benchmarks/recorder.py` prints a table; with `--check` it exits with 1 when a budget is exceeded: 25 ns for an
operator expression, 60 ns for a method with keywords.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from flambeau.runtime import Buffer
from flambeau.runtime import recorder as R

UNROLL, INNER, ROUNDS = 100, 10, 300


class DType:
    itemsize = 4


def expand(function: R.Function, operands: list, statics: dict, mode: int) -> tuple:
    if function.kind == "view":
        return None, (operands[0][1], operands[0][2])
    return None, [(operands[0][1], operands[0][2], False)], (0,) if function.kind == "inplace" else None


def build_program(export: list, live: tuple, history: tuple | None) -> R.Program:
    """Gives each live slot the same block: there is nothing to compute here."""
    block = Buffer.alloc(256)
    return R.Program(lambda inputs, donate: [block] * len(live), live, input_slots=())


def install() -> tuple[R.Tensor, R.Tensor]:
    R.set_hooks(expand=expand, build_program=build_program)
    operands = (("input", "operand", R.REQUIRED), ("other", "operand", R.REQUIRED))
    add = R.Function("add", operands, "pure", None)
    R.set_slot("nb_add", add)
    R.set_slot("nb_inplace_add", R.Function("add_", operands, "inplace", None))
    one = ("input", "tensor", R.REQUIRED)
    dim, keepdim = ("dim", "static", None), ("keepdim", "static", False)
    R.Tensor.add = add
    R.Tensor.sum = R.Function("sum", (one, dim, keepdim), "pure", None)
    R.Tensor.view = R.Function("view", (one, ("shape", "static", R.REQUIRED)), "view", None, variadic=True)
    R.set_limits(max_ops=10_000, soft_ops=1_000_000)  # traces end at flushes, not where the loop repeats itself
    return tuple(R.tensor_from_buffer(Buffer.alloc(256), (8, 8), DType) for _ in range(2))  # type: ignore[return-value]


def make_loop(statement: str, setup: str = "pass") -> Callable:
    body = f"   {statement}\n" * UNROLL
    source = (
        f"def loop(x, b, flush):\n for _ in range({ROUNDS}):\n  flush()\n  {setup}\n  for _ in range({INNER}):\n{body}"
    )
    names: dict = {}
    exec(source, names)
    return names["loop"]


def nanoseconds(loop: Callable, x: object, b: object, flush: Callable, repeats: int = 7) -> float:
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter_ns()
        loop(x, b, flush)
        best = min(best, time.perf_counter_ns() - start)
    return best / (ROUNDS * INNER * UNROLL)


#: name, statement, setup, budget in ns (None: shown only)
CASES = [
    ("operator y = x + b", "y = x + b", "pass", 25),
    ("operator chain x = x + b", "x = x + b", "pass", 25),
    ("operator with a number y = x + 2.0", "y = x + 2.0", "pass", 25),
    ("results kept alive", "append(x + b)", "kept = []; append = kept.append", None),
    ("in-place operator x += b", "x += b", "pass", None),
    ("method x.add(b)", "y = x.add(b)", "pass", 60),
    ("method with keywords x.sum(dim=1, keepdim=True)", "y = x.sum(dim=1, keepdim=True)", "pass", 60),
    ("view x.view(4, 16)", "y = x.view(4, 16)", "pass", None),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a budget is exceeded")
    check = parser.parse_args().check
    x, b = install()
    empty = nanoseconds(make_loop("y = x"), x, b, lambda: None)
    failed = False
    for name, statement, setup, budget in CASES:
        net = nanoseconds(make_loop(statement, setup), x, b, R.flush) - empty
        failed |= budget is not None and net > budget
        print(f"{name:50s} {net:7.1f} ns" + (f"   budget {budget}" if budget else ""))
    return 1 if check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
