"""Nanoseconds of Python time that calls cost users on a hit, net of an empty loop: views, writes in place, operators, methods.

    python benchmarks/calls.py [--check] [statement ...]

The least of many rounds; what is recorded runs between them. With `--check` it exits with 1 where a call, or one of the tensors
that it gives together, takes more than 100 ns.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time

import flambeau as fb

BUDGET, ROUND, UNROLL, ROUNDS = 100, 10, 10, 40

NAMES = {
    "fb": fb,
    "x": fb.rand(4, 6),
    "y": fb.rand(4, 6),
    "square": fb.rand(4, 4),
    "flat": fb.rand(24),
    "thin": fb.rand(1, 4, 1, 6),
    "row": fb.rand(1, 6),
    "w": fb.rand(4, 6),
    "counts": fb.arange(24).reshape(4, 6),
    "places": fb.tensor([[0, 1, 2, 3, 0, 1]]),
    "mask": fb.rand(4, 6) > 0.5,
}

VIEWS = """
x[1:3]  x[1]  x[1, 2]  x[..., None, 0]
x.view(6, 4)  x.view(-1)  x.reshape((6, 4))  x.view_as(y)  x.reshape_as(y)  x.flatten()  x.ravel()  flat.unflatten(0, (4, 6))
x.contiguous()  thin.squeeze()  thin.squeeze(0)  x.unsqueeze(0)  fb.atleast_2d(flat)
x.t()  x.T  x.mT  x.mH  x.transpose(0, 1)  x.swapaxes(0, 1)  x.movedim(0, 1)  x.permute(1, 0)
row.expand(4, -1)  row.expand_as(x)  row.broadcast_to((4, 6))
x.narrow(0, 1, 2)  x.narrow(dim=0, start=1, length=2)  x.select(0, 1)  square.diagonal(1)  flat.unfold(0, 3, 1)
x.as_strided((2, 3), (3, 1))  x.real  x.data  x.detach()  x.to(fb.float32)  x.float()
x.chunk(2)  x.split([1, 3], 0)  x.tensor_split(3, 1)  x.hsplit(2)  x.unbind(1)
"""
WRITES = """
w += y  w *= 1.0  w **= 1.0  w[1] = 0.0  w[:, 2] = y[:, 1]
w.add_(y)  w.mul_(1.0)  w.zero_()  w.fill_(1.0)  w.copy_(y)  w.clamp_(0, 1)  w.sqrt_()  w.relu_()  w.masked_fill_(mask, 0.0)
w.scatter_add_(0, places, y)  w.addcmul_(x, y, value=0.5)  w.lerp_(y, 0.5)  w.pow_(2)
"""
CALLS = """
x + y  x - 2.0  square @ x  x ** 2  x // 2.0  x % 2.0  x / y  -x  abs(x)  x < y  x == 1.0  counts & counts  ~counts
x.exp()  x.add(y, alpha=2)  x.sum(dim=1, keepdim=True)  x.mean()  x.max()  x.argmax(1)  x.softmax(1)  x.clamp(0, 1)  x.pow(2)
x.where(mask, y)  x.gather(0, places)  x.cumsum(0)  x.norm()  x.clone()  x.double()  x.to(fb.float64)  x.max(1)  x.sort()  x.topk(2)
x.new_zeros(2)
"""


def statements(text: str) -> list[str]:
    return [part.strip() for line in text.splitlines() for part in line.split("  ") if part.strip()]


def tensors_of(statement: str) -> int:
    """How many tensors an expression gives."""
    try:
        found = eval(statement, dict(NAMES))
    except SyntaxError:
        return 1
    return len(found) if isinstance(found, tuple) else 1


def nanoseconds(statement: str) -> float:
    """Of one statement, the least of all rounds but the first few, in which it is learnt."""
    body = "".join(f"  {statement}\n" for _ in range(UNROLL))
    names: dict = {}
    exec(f"def loop({', '.join(NAMES)}):\n for _ in range({ROUND}):\n{body}", names)
    best = float("inf")
    for i in range(ROUNDS):
        start = time.perf_counter_ns()
        names["loop"](**NAMES)
        best = min(best, time.perf_counter_ns() - start) if i > 4 else best
        fb.flush()
    return best / (ROUND * UNROLL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a call takes longer than 100 ns")
    parser.add_argument("statements", nargs="*")
    given = parser.parse_args()
    fb.set_limits(max_ops=100_000, soft_ops=1_000_000)  # traces end between rounds
    gc.disable()
    empty, slow = nanoseconds("x"), False
    for statement in given.statements or statements(VIEWS + WRITES + CALLS):
        count = tensors_of(statement)
        each = (nanoseconds(statement) - empty) / count
        slow |= each > BUDGET
        print(f"{statement:40s} {each:7.1f} ns" + (" each" if count > 1 else ""), "" if each <= BUDGET else "<--")
    return 1 if given.check and slow else 0


if __name__ == "__main__":
    sys.exit(main())
