"""Flambeau, written as a PyTorch user would write it."""

import numpy as np
import workloads as C
from workloads import Case, Unsupported


def load(variant, threads):
    global fb, nn, F
    import flambeau as fb
    import flambeau.nn as nn
    import flambeau.nn.functional as F

    fb.set_num_threads(threads)
    fb.manual_seed(0)
    return {"flambeau": fb.__version__}


def tensor(a):
    return fb.tensor(np.ascontiguousarray(a))


def mlp(params):
    class MLP(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2, self.fc3 = nn.Linear(784, 512), nn.Linear(512, 256), nn.Linear(256, 10)

        def forward(self, x):
            return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))

    model = MLP()
    model.load_state_dict({k: tensor(v) for k, v in params.items()})
    return model


def train_mlp(name):
    x, y = map(tensor, C.batch(name))
    model = mlp(C.mlp())
    opt = fb.optim.Adam(model.parameters(), lr=C.MLP["lr"])

    def step():
        opt.zero_grad(set_to_none=True)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return Case(step, lambda loss: loss.item())


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
    if name.startswith("W1"):
        return train_mlp(name)
    if name.startswith("W6"):
        return chain_case(name)
    if name.startswith("W7_mm"):
        a, b = map(tensor, C.batch(name))
        return Case(lambda: realized(a @ b), lambda r: r[0, 0].item())
    if name.startswith("W7"):
        return rows_case(name)
    if name.startswith("W8"):
        return adds_case(name)
    if name == "W9_mlp":
        model, x = mlp(C.mlp()), tensor(C.batch(name)[0])
        model.eval()

        def step():
            with fb.no_grad():
                return realized(model(x))

        return Case(step, lambda r: r.sum().item())
    raise Unsupported(name)
