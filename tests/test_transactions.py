"""What ran out of memory is dropped whole: every allocation of a training step fails once, and each time the step has
happened or it has not. Later steps are those of a run in which nothing failed."""

import os
import random
import sys
from collections import Counter

import flambeau as fb
import numpy as np
import pytest
from flambeau import dialects
from flambeau.runtime import _binding, recorder
from support import rounds

nn, F = fb.nn, fb.nn.functional
ONE = np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 6)


def mlp(*layers):
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), *layers, nn.Linear(8, 3))


class Training:
    """A small program with a step that starts by dropping gradients. `cut`: it looks at a value in between."""

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
    def step(self):
        self.optimizer.zero_grad()
        for k in range(3):
            self.found = self.loss() * k
            self.found.backward()
        self.optimizer.step()
        self.done += 1


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


PROGRAMS = (Training, Dropout, Looks, Accumulates, Skips, Recorded, Shared)


@pytest.fixture(params=["blocking", "off"])
def mode(request):
    with fb.compiler_options(mode=request.param):
        yield request.param
    _binding._refuse_memory(0)


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


@pytest.mark.parametrize("warm", [0, 2])
@pytest.mark.parametrize("make", PROGRAMS)
def test_every_allocation_of_a_step_fails_once(make, warm, mode):
    wanted = good_run(make, warm + 2)
    at_most = rounds(12, 60, 10000)
    nth = failures = 0
    while True:
        nth += 1 + nth // at_most  # all of the first, then ever fewer
        if not check_dropped(make, warm, nth, wanted):
            break
        failures += 1
    assert failures > 2


# ---- interrupts inside of step()

INTERRUPTED = {
    "SGD": lambda groups: fb.optim.SGD(groups, lr=0.1),
    "momentum": lambda groups: fb.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "nesterov": lambda groups: fb.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda groups: fb.optim.Adam(groups, lr=0.1, amsgrad=True),
    "AdamW": lambda groups: fb.optim.AdamW(groups, lr=0.1),
}


GROUPS = {
    "one group": lambda parameters: parameters,
    "a group each": lambda parameters: [{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(parameters)],
}


class Interrupted(BaseException):
    pass


def lines_of_step(optimizer, most, folders):
    """Take a step, which is interrupted at line `most` of the code in `folders`: how many lines it got through."""
    left = most

    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(folders):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        optimizer.step()
    except Interrupted:
        assert left <= 0
    finally:
        sys.settrace(before)
    return most - left


class Steps:
    """A model with gradients, three steps over it, and what each of them leaves."""

    def __init__(self, name, groups):
        self.name, self.groups, self.wanted = name, groups, []
        self.begin()
        self.start = self.values()[0]
        for _ in range(3):
            self.optimizer.step()
            self.wanted.append(self.values())

    def begin(self):
        fb.manual_seed(3)
        model = mlp()
        self.parameters = list(model.parameters())
        self.optimizer = INTERRUPTED[self.name](GROUPS[self.groups](self.parameters))
        model(fb.tensor(ONE)).square().mean().backward()

    def values(self):
        state = self.optimizer.state_dict()["state"]
        kept = {(k, n): content(t) for k, e in state.items() for n, t in e.items()}
        return [content(p) for p in self.parameters], kept

    def interrupt(self, nth, folders):
        """Interrupt a step, and take what is left of three: whether the first one had happened, None if it has fewer lines."""
        if lines_of_step(self.optimizer, nth, folders) < nth:
            return None
        happened = self.values()[0] != self.start
        assert not happened or self.values() == self.wanted[0], nth
        for k in range(happened, 3):
            self.optimizer.step()
            assert self.values() == self.wanted[k], nth
        return happened


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_step_that_is_interrupted_at_any_line_happens_once_when_it_is_taken_again(name, groups):
    """All groups, or none of them."""
    with fb.compiler_options(mode="off"):
        folders = (os.path.dirname(fb.optim.__file__),)
        steps, counts = Steps(name, groups), Counter()
        steps.begin()
        lines = lines_of_step(steps.optimizer, 10**9, folders)
        for nth in {*range(1, lines, rounds(10, 1, 1)), *range(lines - 5, lines)}:
            steps.begin()
            counts[steps.interrupt(nth, folders)] += 1
        assert counts[False] > 3 and counts[True] > 0 and not counts[None], counts


@pytest.mark.parametrize("name", ["momentum", "Adam"])
def test_a_step_that_is_interrupted_while_it_is_recorded_for_the_first_time_happens_once(name):
    """Rules and compilation are Python, which an interrupt may leave at any line."""
    chance, folders = random.Random(1), tuple(os.path.dirname(part.__file__) for part in (fb, dialects))
    with fb.compiler_options(mode="off"):
        steps, counts = Steps(name, "a group each"), Counter()

        def begin():
            steps.begin()
            fb.flush()
            recorder.clear()

        begin()
        lines = lines_of_step(steps.optimizer, 10**9, folders)
        for _ in range(rounds(12, 100, 2000)):
            begin()
            counts[steps.interrupt(chance.randrange(1, lines), folders)] += 1
        assert counts[False] and counts[True] and not counts[None], counts
