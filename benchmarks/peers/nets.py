"""The nets of the workloads as PyTorch's users write them. Flambeau and PyTorch run this text; they differ in what is imported.

In: `Api`, one of the two modules, with what its peer does to functions and optimizers. Out: a `Case` per workload, whose steps take
NumPy arrays or what was made of them before, and give numbers or NumPy arrays. Next: `workloads.py` (sizes, weights, batches).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import layers
import numpy as np
import workloads as C
from workloads import Case


@dataclass
class Api:
    """`module`: torch or flambeau. `compiled` is applied to functions that are called in every step; `optimizer(kind, parameters,
    **settings)` gives an optimizer and its step; `inference()` is the context in which nothing is differentiated."""

    module: ModuleType
    compiled: Callable[[Any], Any]
    optimizer: Callable[..., tuple[Any, Callable[[], Any]]]
    inference: Callable[[], Any]

    def tensor(self, a: np.ndarray) -> Any:
        return self.module.from_numpy(np.ascontiguousarray(a))

    def loaded(self, model: Any, weights: dict[str, np.ndarray]) -> Any:
        """A model with these weights of its own: steps change them in place."""
        model.load_state_dict({k: self.tensor(v.copy()) for k, v in weights.items()}, strict=False)
        return model

    def seeded(self, model: Any) -> Any:
        """A model whose parameters are alike for all peers: those of two and more axes random, weights of norms 1, biases 0."""
        rng, weights = np.random.default_rng(0), dict[str, np.ndarray]()
        for name, p in sorted(model.named_parameters()):
            shape = tuple(p.shape)
            if len(shape) > 1:
                weights[name] = C.uniform(rng, int(np.prod(shape[1:])), *shape)
            else:
                weights[name] = np.full(shape, float(name.endswith("weight")), np.float32)
        return self.loaded(model, weights)


def train(api: Api, model: Any, kind: str, settings: dict[str, Any], x: Any, y: Any) -> Case:
    F = api.module.nn.functional
    opt, update = api.optimizer(kind, model.parameters(), **settings)
    loss_of = api.compiled(lambda x, y: F.cross_entropy(model(x).flatten(0, -2), y.flatten()))

    def step() -> float:
        opt.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        update()
        return loss.item()

    return Case(step, float)


def gan(api: Api, m: dict[str, Any]) -> Case:
    torch, settings = api.module, dict(lr=C.GAN["lr"], betas=C.GAN["betas"])
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    G, D = (api.loaded(m[name](), weights) for name, weights in zip("GD", C.gan()))
    (of_g, update_g), (of_d, update_d) = (api.optimizer("Adam", net.parameters(), **settings) for net in (G, D))
    real, z = map(api.tensor, C.batch("W5"))
    one, zero = torch.ones(C.GAN["B"]), torch.zeros(C.GAN["B"])
    generated = api.compiled(lambda z: G(z))
    d_loss = api.compiled(lambda real, fake: bce(D(real), one) + bce(D(fake), zero))
    g_loss = api.compiled(lambda fake: bce(D(fake), one))

    def step() -> float:
        fake = generated(z)
        of_d.zero_grad(set_to_none=True)
        ld = d_loss(real, fake.detach())
        ld.backward()
        update_d()
        D.requires_grad_(False)
        of_g.zero_grad(set_to_none=True)
        lg = g_loss(fake)
        lg.backward()
        update_g()
        D.requires_grad_(True)
        return ld.item() + lg.item()

    return Case(step, float)


def infer(api: Api, model: Any, x: np.ndarray) -> Case:
    """From a NumPy array to a NumPy array, as for who serves a model from Python."""
    run = api.compiled(model.eval())

    def step() -> np.ndarray:
        with api.inference():
            return run(api.tensor(x)).numpy()

    return Case(step, lambda y: float(y.sum()))


def decode(api: Api, m: dict[str, Any]) -> Case:
    """One token after the other, with keys and values of a fixed length, which are overwritten in place."""
    torch, c = api.module, C.DECODE
    model = api.seeded(m["Decoder"]()).eval()
    shape = (1, c["heads"], c["T"], c["d"] // c["heads"])
    caches = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(c["layers"])]
    run, state = api.compiled(lambda token, at: model(token, at, caches)), [1, 0]

    def step() -> int:
        token, at = state
        with api.inference():
            state[0] = run(torch.tensor([[token]]), torch.tensor([at])).item()
        state[1] = (at + 1) % c["T"]
        return state[0]

    return Case(step, float)


def make(api: Api, name: str) -> Case | None:
    """A workload, or None for one that is no net."""
    m = layers.modules(api.module)
    trained: dict[str, tuple[Callable[[], Any], str, dict[str, Any]]] = {
        "W1_b64": (lambda: api.loaded(m["MLP"](), C.mlp()), "Adam", C.MLP),
        "W1_b512": (lambda: api.loaded(m["MLP"](), C.mlp()), "Adam", C.MLP),
        "W2": (lambda: api.loaded(m["CNN"](), C.cnn()), "SGD", dict(lr=C.CNN["lr"], momentum=C.CNN["momentum"])),
        "W3": (lambda: api.loaded(m["LSTM"](), C.lstm()), "Adam", dict(lr=C.LSTM["lr"])),
        "W4": (lambda: api.loaded(m["GPT"](), C.gpt()), "AdamW", dict(lr=C.GPT["lr"], weight_decay=C.GPT["wd"])),
        "resnet18_train": (lambda: api.seeded(m["ResNet18"]()), "SGD", dict(lr=0.01, momentum=0.9)),
        "vit_train": (lambda: api.seeded(m["ViT"]()), "AdamW", dict(lr=3e-4)),
    }
    if name in trained:
        net, kind, settings = trained[name]
        return train(api, net(), kind, settings, *map(api.tensor, C.batch(name)))
    served = {
        "W9_mlp": lambda: api.loaded(m["MLP"](), C.mlp()),
        "W9_cnn": lambda: api.loaded(m["CNN"](), C.cnn()),
        "resnet18_infer": lambda: api.seeded(m["ResNet18"]()),
        "vit_infer": lambda: api.seeded(m["ViT"]()),
    }
    if name in served:
        return infer(api, served[name](), C.batch(name)[0])
    return {"W5": gan, "decode": decode}[name](api, m) if name in ("W5", "decode") else None
