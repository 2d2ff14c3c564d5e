"""The programs with sizes that change, as users of JAX write them.

Decoding has a cache of the full length and writes one position per token; training compiles per length (variant
'jit') or pads to the longest (variant 'pad').
"""

from __future__ import annotations

from functools import partial
from typing import Any

import gpt as C
import numpy as np

V = "jit"


def load(variant: str, threads: int) -> dict[str, str]:
    global V, jax, jnp, lax
    V = variant
    import jax
    import jax.numpy as jnp
    from jax import lax

    jnp.zeros(1).block_until_ready()  # create the client
    return {"jax": jax.__version__}


def arrays(c: dict[str, int]) -> dict[str, Any]:
    """The weights, matrices as JAX's layers keep them: (in, out)."""
    return {
        name: jnp.asarray(a.T if a.ndim == 2 and name.endswith("weight") else a) for name, a in C.weights(c).items()
    }


def linear(p: dict, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def norm(p: dict, name: str, x: Any) -> Any:
    m = x.mean(-1, keepdims=True)
    v = ((x - m) ** 2).mean(-1, keepdims=True)
    return (x - m) * lax.rsqrt(v + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def block(p: dict, i: int, heads: int, h: Any, mask: Any, keep: Any = lambda k, v: (k, v)) -> tuple[Any, Any]:
    """`keep` puts new keys and values among those of before."""
    b, t, d = h.shape
    parts = jnp.split(linear(p, f"{i}.qkv", norm(p, f"{i}.ln1", h)), 3, -1)
    q, k, v = (x.reshape(b, t, heads, d // heads).transpose(0, 2, 1, 3) for x in parts)
    k, v = keep(k, v)
    s = jnp.where(mask, q @ k.swapaxes(-1, -2) * (d // heads) ** -0.5, -jnp.inf)
    a = jax.nn.softmax(s, -1) @ v
    h = h + linear(p, f"{i}.proj", a.transpose(0, 2, 1, 3).reshape(b, t, d))
    wide = jax.nn.gelu(linear(p, f"{i}.fc", norm(p, f"{i}.ln2", h)), approximate=True)
    return h + linear(p, f"{i}.fc2", wide), (k, v)


def decode() -> C.Case:
    c = C.DECODE
    p = arrays(c)
    state: dict[str, Any] = {}

    @partial(jax.jit, donate_argnums=3)
    def forward(p: dict, token: Any, at: Any, caches: list) -> tuple[Any, list]:
        h, kept = p["tok"][token] + p["pos"][at], []
        seen = jnp.arange(c["T"]) <= at
        for i, cache in enumerate(caches):
            keep = lambda *new, old=cache: tuple(
                lax.dynamic_update_slice(o, n, (0, 0, at, 0)) for o, n in zip(old, new)
            )
            h, pair = block(p, i, c["heads"], h[None] if h.ndim == 2 else h, seen, keep)
            kept.append(pair)
        return linear(p, "head", norm(p, "lnf", h)).argmax(-1), kept

    def begin() -> None:
        shape = (1, c["heads"], c["T"], c["d"] // c["heads"])
        state["caches"] = [(jnp.zeros(shape), jnp.zeros(shape)) for _ in range(c["layers"])]
        for position, token in enumerate(C.PROMPT):
            run(token, position)

    def run(token: int, position: int) -> int:
        found, state["caches"] = forward(p, np.array([[token]]), position, state["caches"])
        state["token"] = int(found[0, 0])
        return state["token"]

    return C.Case(C.TOKENS, begin, lambda i: run(state["token"], len(C.PROMPT) + i), forward._cache_size)


def padded(x: np.ndarray) -> np.ndarray:
    """Targets are padded with -1, which counts nothing."""
    wide = np.full((C.BATCH, C.TRAIN["T"]), -1)
    wide[:, : x.shape[1]] = x
    return wide


def train() -> C.Case:
    c = C.TRAIN
    p = arrays(c)
    zeros = jax.tree.map(jnp.zeros_like, p)
    state = {"now": (p, zeros, jax.tree.map(jnp.zeros_like, p), jnp.zeros(()))}
    change = padded if V == "pad" else (lambda x: x)
    batches = [tuple(jnp.asarray(change(a)) for a in C.batch(n)) for n in C.lengths()]

    def loss_of(p: dict, x: Any, y: Any) -> Any:
        t = x.shape[1]
        h = p["tok"][jnp.maximum(x, 0)] + p["pos"][:t]
        mask = jnp.tril(jnp.ones((t, t), bool))
        for i in range(c["layers"]):
            h, _ = block(p, i, c["heads"], h, mask)
        logs = jax.nn.log_softmax(linear(p, "head", norm(p, "lnf", h)), -1)
        each = jnp.take_along_axis(logs, jnp.maximum(y, 0)[..., None], -1)[..., 0]
        return -(each * (y >= 0)).sum() / (y >= 0).sum()

    @partial(jax.jit, donate_argnums=0)
    def update(now: tuple, x: Any, y: Any) -> tuple[Any, tuple]:
        p, m, v, t = now
        loss, g = jax.value_and_grad(loss_of)(p, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        p = jax.tree.map(lambda p, m, v: p * (1 - C.LR * 0.01) - C.LR * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), p, m, v)
        return loss, (p, m, v, t)

    def step(i: int) -> float:
        loss, state["now"] = update(state["now"], *batches[i])
        return float(loss)

    return C.Case(len(batches), lambda: None, step, update._cache_size)
