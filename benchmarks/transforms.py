"""Transforms of functions: vmap of a small MLP over 1,000 samples, gradients of samples, a Jacobian and a Hessian of n = 64,
Flambeau beside PyTorch and JAX.

    python benchmarks/transforms.py [name ...]

All are in one process, on one thread, and take turns; medians in milliseconds. PyTorch runs `torch.func` eagerly, JAX what
`jax.jit` compiles; Flambeau is called as PyTorch is. Blocking compilation; everything was done three times before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import flambeau as fb
import numpy as np
from turns import Step, beside_peers, find_torch, flushed

N, TURN, TURNS = 64, 0.05, 15
RNG = np.random.default_rng(0)
X, ROW = (RNG.normal(size=s).astype(np.float32) for s in ((1000, 32), (N,)))
W1, W2, W3 = (RNG.normal(size=s).astype(np.float32) / 8 for s in ((32, 64), (64, 8), (N, N)))


def mlp(m: Any, w1: Any, w2: Any, x: Any) -> Any:
    return m.tanh(x @ w1) @ w2


def loss(m: Any, w1: Any, w2: Any, x: Any) -> Any:
    return (mlp(m, w1, w2, x) ** 2).sum()


def layer(m: Any, w: Any, x: Any) -> Any:
    return m.tanh(x @ w) * x


def energy(m: Any, w: Any, x: Any) -> Any:
    return (layer(m, w, x) ** 2).sum()


#: name -> (of the transforms and the namespace, a function; its arguments)
TASKS: dict[str, tuple[Callable[[Any, Any], Callable[..., Any]], tuple[np.ndarray, ...]]] = {
    "vmap": (lambda f, m: f.vmap(lambda *a: mlp(m, *a), (None, None, 0)), (W1, W2, X)),
    "gradients": (lambda f, m: f.vmap(f.grad(lambda *a: loss(m, *a), (0, 1)), (None, None, 0)), (W1, W2, X[:100])),
    "jacrev": (lambda f, m: f.jacrev(lambda *a: layer(m, *a), 1), (W3, ROW)),
    "jacfwd": (lambda f, m: f.jacfwd(lambda *a: layer(m, *a), 1), (W3, ROW)),
    "hessian": (lambda f, m: f.hessian(lambda *a: energy(m, *a), 1), (W3, ROW)),
}


def torch_like(m: ModuleType, name: str) -> Step:
    make, data = TASKS[name]
    given = [m.tensor(x) for x in data]
    return flushed(m, lambda: make(m.func, m)(*given))


def jax_step(jax: ModuleType, name: str) -> Step:
    make, data = TASKS[name]
    given = [jax.numpy.asarray(x) for x in data]
    run = jax.jit(make(jax, jax.numpy))
    step = lambda: jax.block_until_ready(run(*given))  # noqa: E731
    for _ in range(3):
        step()
    return step


def find_jax() -> ModuleType | None:
    try:
        import jax
    except ImportError:
        return None
    return jax


def main() -> None:
    fb.set_num_threads(1)
    torch, jax = find_torch(), find_jax()
    for name in sys.argv[1:] or TASKS:
        with fb.compiler_options(mode="blocking"):
            found = beside_peers(name, torch_like, jax_step, (fb, torch, jax), TURN, TURNS)
        print(f"{name:12}" + "".join(f"{k:>12}{t / 1e3:9.3f}" for k, t in found.items()), flush=True)


if __name__ == "__main__":
    main()
