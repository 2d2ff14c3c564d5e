"""PyTorch: eager, eager with fused optimizers, torch.compile."""

import nets
import numpy as np
import workloads as C
from workloads import Case, Unsupported

V = "eager"


def load(variant, threads):
    global torch, F, V
    V = variant
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return {"torch": torch.__version__}


def comp(f):
    return torch.compile(f) if V == "compile" else f


def optim(kind, params, **kw):
    if V == "fused":
        kw["fused"] = True
    o = getattr(torch.optim, kind)(params, **kw)
    return o, comp(lambda: o.step())


def T(a):
    return torch.from_numpy(np.ascontiguousarray(a))


def chain(x):
    return (torch.tanh(x * 2 + 1) * torch.sigmoid(x) - F.relu(x) ** 2).sum()


def make(name):
    inference = torch.inference_mode if V == "eager" else torch.no_grad
    if case := nets.make(nets.Api(torch, comp, optim, inference), name):
        return case
    if name.startswith("W6"):
        x = T(C.batch(name)[0])
        f = comp(chain)
        if "_fwd_" in name:
            return Case(lambda: f(x), float)
        x.requires_grad_()

        def step():
            x.grad = None
            l = f(x)
            l.backward()
            return l

        return Case(step, float)
    if name.startswith("W7"):
        a = list(map(T, C.batch(name)))
        if "mm" in name:
            f = comp(lambda a, b: a @ b)
        elif "softmax" in name:
            f = comp(lambda a, w, b: F.softmax(a, -1))
        else:
            f = comp(lambda a, w, b: F.layer_norm(a, (1024,), w, b))
        return Case(lambda: f(*a), lambda r: float(r[0, 0]))
    if name.startswith("W8"):
        x0, y = torch.zeros(10), torch.full((10,), 1e-3)
        g = name.endswith("grad")
        y.requires_grad_(g)
        f = comp(lambda x, y: x + y)

        def step():
            x = x0
            for _ in range(200):
                x = f(x, y)
            return x

        return Case(step, lambda r: float(r[0]), inner=200)
    raise Unsupported(name)
