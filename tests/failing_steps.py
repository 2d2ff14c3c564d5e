"""Training programs whose steps fail, and what must hold afterwards: the step has happened or it has not.

`check_dropped` lets one allocation of a step fail. `test_transactions.py` and `test_transactions_elsewhere.py` call it.
"""

import flambeau as fb
import numpy as np
import pytest
from flambeau.runtime import _binding, recorder

nn, F = fb.nn, fb.nn.functional
ONE = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)


def mlp(*layers):
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), *layers, nn.Linear(8, 3))


class Training:
    """A small program with a step that starts by dropping gradients. `cut`: it runs in parts, as it looks at a value in between."""

    cut = False

    def __init__(self):
        fb.manual_seed(3)
        self.model = mlp()
        self.optimizer = self.make_optimizer()
        self.x = fb.tensor(ONE)
        self.done = 0

    def make_optimizer(self):
        return fb.optim.Adam(self.model.parameters(), lr=0.1)

    def loss(self):
        return self.model(self.x).square().mean()

    def step(self):
        self.optimizer.zero_grad()
        self.found = self.loss()
        self.found.backward()
        self.optimizer.step()
        self.done += 1

    def parameters(self):
        return list(self.model.parameters())

    def state(self):
        """All that a step changes, but for gradients, as bytes."""
        kept = {k: {n: content(t) for n, t in e.items()} for k, e in self.optimizer.state_dict()["state"].items()}
        return [content(p) for p in self.parameters()], kept, [p._version for p in self.parameters()]


def content(value):
    if not isinstance(value, fb.Tensor):
        return value
    return bytes(memoryview(recorder.realize(value))[: value.numel() * value.dtype.itemsize])


class Dropout(Training):
    def loss(self):
        return F.dropout(self.model(self.x), 0.5).square().mean() + (fb.randn(4, 3) * self.model(self.x)).sum()

    def make_optimizer(self):
        return fb.optim.AdamW(self.model.parameters(), lr=0.1, amsgrad=True)


class Looks(Training):
    cut = True

    def step(self):
        self.optimizer.zero_grad()
        self.found = self.loss()
        self.found.item()
        self.found.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.optimizer.step()
        self.done += 1

    def make_optimizer(self):
        groups = [{"params": [p]} for p in self.model.parameters()]
        return fb.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.01)


class Accumulates(Training):
    rounds = 2  # of one trace

    def step(self):
        self.optimizer.zero_grad()
        for k in range(self.rounds):
            self.found = self.loss() * k
            self.found.backward()
        self.optimizer.step()
        self.done += 1


class AccumulatesInParts(Accumulates):
    """A trace ends after the third of the rounds, whose gradients remain."""

    cut = True
    rounds = 4


class Skips(Training):
    """Every other step leaves a parameter out, whose counter of steps then stands still."""

    def step(self):
        self.optimizer.zero_grad()
        x = self.x.tanh() if self.done % 2 else self.model[0](self.x)
        weight = self.model[2].weight if self.done % 2 == 0 else self.model[0].weight
        self.found = (x @ weight.t()).square().mean()
        self.found.backward()
        self.optimizer.step()
        self.done += 1


class Shared(Training):
    """Parameters that NumPy sees, of a group each: they are copied when they are read, and written through."""

    cut = True

    def __init__(self):
        super().__init__()
        self.arrays = [p.detach().numpy() for p in self.model.parameters()]

    def make_optimizer(self):
        groups = [{"params": [p]} for p in self.model.parameters()]
        return fb.optim.SGD(groups, lr=0.1)


class Recorded(Training):
    """Gradients that are recorded op by op: a hook, and a second derivative in the loss."""

    def __init__(self):
        super().__init__()
        self.model[0].weight.register_hook(lambda g: g * 2.0)

    def loss(self):
        loss = super().loss()
        slopes = fb.autograd.grad(loss, self.parameters(), create_graph=True)
        return loss + sum(s.square().sum() for s in slopes)


PROGRAMS = (Training, Dropout, Looks, Accumulates, AccumulatesInParts, Skips, Recorded, Shared)


def attempt(program, nth):
    """Whether a step in which the nth allocation fails says so."""
    _binding._refuse_memory(nth)
    try:
        program.step()
        return False
    except fb.OutOfMemory as error:
        assert str(error).startswith("[memory] a test refuses"), error
        return True
    finally:
        _binding._refuse_memory(0)


def good_run(make, steps):
    program, states = make(), []
    for _ in range(steps):
        states.append((program.state(), fb.get_rng_state().tolist()))
        program.step()
    return [*states, (program.state(), fb.get_rng_state().tolist())]


def is_computed(program):
    try:
        program.state()
    except fb.OutOfMemory as error:
        assert str(error).startswith("[memory] a test refuses"), error
        return False
    return True


def check_dropped(make, warm, nth, wanted):
    """False if the step needs fewer allocations."""
    program = make()
    for _ in range(warm):
        program.step()
    if not attempt(program, nth):
        return False
    if warm == 0 and not is_computed(program):  # what failed is the computation of the first values
        return True
    happened = program.done > warm or program.state() == wanted[warm + 1][0]
    if not happened:
        assert program.state() == wanted[warm][0]
        if not program.cut:
            assert fb.get_rng_state().tolist() == wanted[warm][1]
            assert [p.grad for p in program.parameters()] == [None] * len(program.parameters())
            with pytest.raises(fb.OutOfMemory, match="a test refuses"):
                program.found.item()
        program.step()
    assert program.state() == wanted[warm + 1][0]
    program.step()
    assert program.state()[:2] == wanted[warm + 2][0][:2]
    return True
