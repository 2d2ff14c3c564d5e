"""Flambeau, written as a PyTorch user would write it."""

import nets
import numpy as np
import workloads as C
from workloads import Case, Unsupported


def load(variant, threads):
    global fb, F
    import flambeau as fb
    import flambeau.nn.functional as F

    fb.set_num_threads(threads)
    fb.manual_seed(0)
    return {"flambeau": fb.__version__}


def tensor(a):
    return fb.tensor(np.ascontiguousarray(a))


def optimizer(kind, parameters, **settings):
    opt = getattr(fb.optim, kind)(parameters, **settings)
    return opt, opt.step


def chain(x):
    return (fb.tanh(x * 2 + 1) * fb.sigmoid(x) - F.relu(x) ** 2).sum()


def chain_case(name):
    x = tensor(C.batch(name)[0])
    if "_fwd_" in name:
        return Case(lambda: realized(chain(x)), lambda r: r.item())
    x.requires_grad_()

    def step():
        x.grad = None
        loss = chain(x)
        loss.backward()
        fb.flush()
        return loss

    return Case(step, lambda loss: loss.item())


def realized(value):
    fb.flush()
    return value


def rows_case(name):
    a, w, b = map(tensor, C.batch(name))
    if name == "W7_softmax":
        return Case(lambda: realized(F.softmax(a, -1)), lambda r: r[0, 0].item())
    return Case(lambda: realized(F.layer_norm(a, (1024,), w, b)), lambda r: r[0, 0].item())


def adds_case(name):
    x0, y = fb.zeros(10), fb.full((10,), 1e-3)
    y.requires_grad_(name.endswith("grad"))
    fb.flush()

    def step():
        x = x0
        for _ in range(200):
            x = x + y
        fb.flush()
        return x

    return Case(step, lambda r: r[0].item(), inner=200)


def make(name):
    if case := nets.make(nets.Api(fb, lambda f: f, optimizer, fb.no_grad), name):
        return case
    if name.startswith("W6"):
        return chain_case(name)
    if name.startswith("W7_mm"):
        a, b = map(tensor, C.batch(name))
        return Case(lambda: realized(a @ b), lambda r: r[0, 0].item())
    if name.startswith("W7"):
        return rows_case(name)
    if name.startswith("W8"):
        return adds_case(name)
    raise Unsupported(name)
