"""Gradients that nobody reads: many backward calls in one recording, Flambeau beside PyTorch.

    python benchmarks/unread.py [name ...] [--most 512] [--svg FILE]

Both are in one process, on one thread, and take turns. `first` has never been recorded: what recording, differentiating,
planning and running op by op cost together; `again` is the same loop once more, when its program is known. Seconds of the
processor (other programs and the compiler's processes do not count), the best of three turns; in between Flambeau forgets
all recordings. Only the result is read, at the end, and nothing is cut before.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import flambeau as fb
import numpy as np
from flambeau.runtime import recorder
from turns import find_torch

Run = Callable[[], np.ndarray]
TURNS = 3


def hessian(m: ModuleType, n: int) -> Run:
    """A Hessian by rows: n gradients of one graph."""

    def run() -> np.ndarray:
        x = m.arange(float(n), requires_grad=True)
        (g,) = m.autograd.grad((x.sin() * x).sum() ** 2, x, create_graph=True)
        return m.stack([m.autograd.grad(g[i], x, retain_graph=True)[0] for i in range(n)]).numpy()

    return run


def micro_batches(m: ModuleType, n: int) -> Run:
    """Gradients of n batches, accumulated in a model of three layers."""
    m.manual_seed(0)
    nn = m.nn
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    batches = [m.randn(8, 20) for _ in range(n)]

    def run() -> np.ndarray:
        model.zero_grad()
        for x in batches:
            (model(x).square().mean() / n).backward()
        return model[0].weight.grad.numpy()

    return run


def three_times(m: ModuleType, n: int) -> Run:
    """n losses, each differentiated three times."""

    def run() -> np.ndarray:
        x = m.arange(1.0, 9.0, requires_grad=True)
        found = []
        for _ in range(n):
            y = (x.sin() * x).sum()
            for last in (False, False, True):
                (g,) = m.autograd.grad(y, x, create_graph=not last)
                y = (g * x).sum()
            found.append(g)
        return m.stack(found).numpy()

    return run


def penalty(m: ModuleType, n: int) -> Run:
    """n rounds of a gradient penalty with an update by hand."""
    m.manual_seed(1)
    start = m.randn(6, 1)

    def run() -> np.ndarray:
        w = start.clone().requires_grad_()
        for _ in range(n):
            x = m.ones(4, 6, requires_grad=True)
            (gx,) = m.autograd.grad((x @ w).tanh().norm(), [x], create_graph=True)
            w.grad = None
            gx.norm().backward()
            with m.no_grad():
                w.sub_(0.001 * w.grad)
        return w.detach().numpy()

    return run


def hooks(m: ModuleType, n: int) -> Run:
    """n backward calls that a tensor's hook has a part in."""

    def run() -> np.ndarray:
        w, x = m.ones(2, 3, requires_grad=True), m.ones(2, 2)
        for _ in range(n):
            h = x @ w
            h.register_hook(lambda g: g * 2)
            h.sum().backward()
        return w.grad.numpy()

    return run


CASES: dict[str, Callable[[ModuleType, int], Run]] = {
    f.__name__: f for f in (hessian, micro_batches, three_times, penalty, hooks)
}


def seconds(run: Run) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def forget() -> None:
    recorder.flush()
    recorder.clear()


def measure(case: Callable[[ModuleType, int], Run], n: int, torch: ModuleType | None) -> dict[str, float]:
    """The best seconds of each turn."""
    run, peer = case(fb, n), case(torch, n) if torch else None
    found: dict[str, list[float]] = {"first": [], "again": [], "PyTorch": []}
    for _ in range(TURNS):
        forget()
        found["first"].append(seconds(run))
        found["again"].append(seconds(run))
        if peer:
            found["PyTorch"].append(seconds(peer))
    return {name: min(times) for name, times in found.items() if times}


def picture(rows: dict[str, dict[int, dict[str, float]]]) -> str:
    """Seconds over the number of backward calls, both logarithmic, a panel per case, as SVG."""
    size, gap, low, high = 150, 40, -4.0, 1.5
    colours = {"first": "#c33", "again": "#36c", "PyTorch": "#888"}
    out = []
    for k, (name, lines) in enumerate(rows.items()):
        left, ns = gap + k * (size + gap), sorted(lines)

        def at(n: int, s: float, left: int = left, ns: list[int] = ns) -> tuple[float, float]:
            x = (np.log2(n) - np.log2(ns[0])) / max(np.log2(ns[-1]) - np.log2(ns[0]), 1)
            return left + x * size, 30 + (high - np.log10(max(s, 1e-4))) / (high - low) * size

        out.append(f'<rect x="{left}" y="30" width="{size}" height="{size}" fill="none" stroke="#ccc"/>')
        out.append(f'<text x="{left}" y="22">{name}</text>')
        out += [f'<text x="{at(n, 1)[0] - 6:.0f}" y="{size + 44}">{n}</text>' for n in (ns[0], ns[-1])]
        out += [f'<text x="{left - 28}" y="{at(ns[0], 10.0**e)[1] + 4:.0f}">1e{e}</text>' for e in (-3, -1, 1)]
        for series, colour in colours.items():
            if series in lines[ns[0]]:
                points = " ".join("{:.1f},{:.1f}".format(*at(n, lines[n][series])) for n in ns)
                out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for k, (series, colour) in enumerate(colours.items()):
        out.append(f'<text x="{gap + 70 * k}" y="{size + 64}" fill="{colour}">{series}</text>')
    width = gap + len(rows) * (size + gap)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{size + 76}" font-family="sans-serif" '
    return "\n".join([head + 'font-size="10">', *out, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=", ".join(CASES))
    parser.add_argument("--most", type=int, default=512, help="of backward calls")
    parser.add_argument("--svg", type=Path, help="where to draw the times")
    args = parser.parse_args()
    fb.set_num_threads(1)
    recorder.set_limits(max_ops=1 << 30, soft_ops=1 << 30, max_ns=1 << 62, soft_ns=1 << 62)
    if (torch := find_torch()) is None:
        print("PyTorch is not installed: without it.")
    rows: dict[str, dict[int, dict[str, float]]] = {}
    print(f"{'seconds':16s}{'n':>5s}{'first':>10s}{'again':>10s}{'PyTorch':>10s}{'first x':>10s}{'again x':>10s}")
    for name in args.names or CASES:
        measure(CASES[name], 8, torch)  # what is loaded and remembered by types is there from here on
        rows[name] = {}
        for n in (n for n in (16, 32, 64, 128, 256, 512) if n <= args.most):
            found = rows[name][n] = measure(CASES[name], n, torch)
            peer = found.get("PyTorch", float("nan"))
            times = "".join(f"{found.get(k, peer):10.4f}" for k in ("first", "again", "PyTorch"))
            print(f"{name:16s}{n:5d}{times}{peer / found['first']:10.2f}{peer / found['again']:10.2f}")
            sys.stdout.flush()
    if args.svg:
        args.svg.write_text(picture(rows))


if __name__ == "__main__":
    main()
