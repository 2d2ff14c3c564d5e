"""The programs with sizes that change, in PyTorch's API: variants 'flambeau', 'eager', 'compile' (dynamic=True).

The only difference between Flambeau and PyTorch is the attention of PyTorch, which has a function of its own.
"""

from __future__ import annotations

from typing import Any

import gpt as C
import numpy as np

V = "eager"


def load(variant: str, threads: int) -> dict[str, str]:
    global V, torch, F
    V = variant
    if V == "flambeau":
        import flambeau as torch
        import flambeau.nn.functional as F
    else:
        import torch
        import torch.nn.functional as F
    torch.set_num_threads(threads)
    return {"torch" if V != "flambeau" else "flambeau": torch.__version__}


def tensor(a: np.ndarray) -> Any:
    return torch.tensor(np.ascontiguousarray(a))


def compiled(f: Any) -> Any:
    return torch.compile(f, dynamic=True) if V == "compile" else f


def compilations() -> int:
    if V == "flambeau":
        from flambeau.compiler.tools import report

        return sum(len(p.plans) for p in report.programs())
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"]


def linear(p: dict, name: str, x: Any) -> Any:
    return F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def norm(p: dict, name: str, x: Any) -> Any:
    return F.layer_norm(x, (x.shape[-1],), p[f"{name}.weight"], p[f"{name}.bias"])


def attention(q: Any, k: Any, v: Any, mask: Any) -> Any:
    """`mask`: True where a key is seen; None: everywhere."""
    if V != "flambeau":
        return F.scaled_dot_product_attention(q, k, v, is_causal=mask is not None)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return F.softmax(scores, dim=-1) @ v


def block(p: dict, i: int, heads: int, h: Any, cache: Any, mask: Any) -> tuple[Any, Any]:
    b, t, d = h.shape
    parts = linear(p, f"{i}.qkv", norm(p, f"{i}.ln1", h)).split(d, dim=2)
    q, k, v = (x.view(b, t, heads, d // heads).transpose(1, 2) for x in parts)
    if cache is not None:
        k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
    a = attention(q, k, v, mask)
    h = h + linear(p, f"{i}.proj", a.transpose(1, 2).reshape(b, t, d))
    return h + linear(p, f"{i}.fc2", F.gelu(linear(p, f"{i}.fc", norm(p, f"{i}.ln2", h)), approximate="tanh")), (k, v)


def decode() -> C.Case:
    c = C.DECODE
    p = {name: tensor(a) for name, a in C.weights(c).items()}
    state: dict[str, Any] = {}

    def forward(token: Any, position: Any, caches: list) -> tuple[Any, list]:
        h, kept = p["tok"][token] + p["pos"][position], []
        for i, cache in enumerate(caches):
            h, pair = block(p, i, c["heads"], h, cache, None)
            kept.append(pair)
        return linear(p, "head", norm(p, "lnf", h)).argmax(-1), kept

    forward = compiled(forward)

    def begin() -> None:
        state["caches"] = [None] * c["layers"]
        for position, token in enumerate(C.PROMPT):
            run(token, position)

    def run(token: int, position: int) -> int:
        with torch.no_grad():
            at = torch.tensor([position])
            token, state["caches"] = forward(torch.tensor([[token]]), at, state["caches"])
        state["token"] = token.item()
        return state["token"]

    return C.Case(C.TOKENS, begin, lambda i: run(state["token"], len(C.PROMPT) + i), compilations)


def train() -> C.Case:
    c = C.TRAIN
    p = {name: tensor(a).requires_grad_() for name, a in C.weights(c).items()}
    opt = torch.optim.AdamW(p.values(), lr=C.LR)
    mask = torch.tril(torch.ones(c["T"], c["T"])) > 0
    batches = [tuple(map(tensor, C.batch(n))) for n in C.lengths()]

    def loss_of(x: Any, y: Any) -> Any:
        t = x.shape[1]
        h = p["tok"][x] + p["pos"][:t]
        for i in range(c["layers"]):
            h, _ = block(p, i, c["heads"], h, None, mask[:t, :t])
        return F.cross_entropy(linear(p, "head", norm(p, "lnf", h)).flatten(0, 1), y.flatten())

    loss_of, update = compiled(loss_of), compiled(opt.step)

    def step(i: int) -> float:
        opt.zero_grad(set_to_none=True)
        loss = loss_of(*batches[i])
        loss.backward()
        update()
        return loss.item()

    return C.Case(len(batches), lambda: None, step, compilations)
