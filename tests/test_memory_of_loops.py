"""Loops of an unusual kind leave nothing behind and stop learning: live tensors, and what the recorder has seen, stay flat."""

import gc

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau.runtime import recorder


class Loop:
    """A small model that is trained, and whatever an iteration wants to keep."""

    def __init__(self):
        numbers = np.random.default_rng(0)
        self.x = fb.tensor(numbers.standard_normal((8, 6)).astype(np.float32))
        self.y = fb.tensor(numbers.integers(0, 3, 8))
        self.model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        self.optimizer = fb.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.kept = {}

    def loss(self):
        return F.cross_entropy(self.model(self.x), self.y)

    def step(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def exceptions_swallowed(loop, i):
    try:
        loss = loop.loss()
        if i % 2:
            raise ValueError
        if i % 3 == 0:
            fb.ones(3) + fb.ones(4)
        loop.step(loss)
    except (ValueError, RuntimeError) as error:
        loop.kept["error"] = error


def detached_losses_kept(loop, i):
    loss = loop.loss()
    loop.step(loss)
    loop.kept[i % 7] = loss.detach()


def generators(loop, i):
    squares = (p * p for p in loop.model.parameters())
    loop.step(sum(s.sum() for s in squares) * 0.01 + loop.loss())


def hooks_in_every_step(loop, i):
    hidden = loop.model[0](loop.x)
    hidden.register_hook(lambda g: g * 0.5)
    hidden.retain_grad()
    handle = loop.model[0].weight.register_hook(lambda g: None)
    loss = F.cross_entropy(loop.model[2](hidden.tanh()), loop.y)
    if i % 3 == 0:
        loss.item()
    if i % 4:
        loop.step(loss)
    handle.remove()


def hooks_whose_backward_never_comes(loop, i):
    hidden = loop.model[0](loop.x)
    hidden.register_hook(lambda g: loop.kept.clear())
    hidden.sum().item()


def cycles_through_hooks(loop, i):
    class Holder:
        pass

    holder = Holder()
    holder.itself, holder.loss = holder, loop.loss()
    holder.loss.register_hook(lambda g, holder=holder: None)
    if i % 2:
        loop.step(holder.loss)


def cycles_through_one_history(loop, i):
    """Two histories of one trace, and one that goes on from there."""

    class Holder:
        pass

    holders = [Holder(), Holder()]
    for holder in holders:
        holder.hidden = loop.model[0](loop.x)
        holder.hidden.register_hook(lambda g, holder=holder: None)
    if i % 2:
        holders[0].hidden.sum().item()
    if i % 3:
        (holders[0].hidden * holders[1].hidden).sum().backward()


def new_parameters_every_time(loop, i):
    layer, offset = nn.Linear(6, 3), nn.Parameter(fb.zeros(3))
    optimizer = fb.optim.Adam([offset, *layer.parameters()])
    F.cross_entropy(layer(loop.x) + offset, loop.y).backward()
    optimizer.step()


def batches_that_change(loop, i):
    n = 1 + i * 7 % 8
    loop.step(F.cross_entropy(loop.model(loop.x[:n]), loop.y[:n]))


def gradient_penalties(loop, i):
    x = loop.x.clone().requires_grad_()
    (g,) = fb.autograd.grad(loop.model(x).sum(), x, create_graph=True)
    loop.step(g.square().mean() + F.cross_entropy(loop.model(x), loop.y))


def graphs_dropped(loop, i):
    loss = loop.loss() * 2
    if i % 2:
        loop.kept["last"] = loss.item()


def arrays_shared(loop, i):
    array = np.full((4, 6), i, np.float32)
    loss = loop.model(fb.from_numpy(array)[1:3]).sum()
    array[:] = 0
    loop.step(loss)


def data_written_to_results(loop, i):
    out = loop.kept.setdefault("out", loop.model(loop.x))
    out.data.mul_(0.5)
    out.sum().item()


LOOPS = [
    exceptions_swallowed, detached_losses_kept, generators, hooks_in_every_step, hooks_whose_backward_never_comes,
    cycles_through_hooks, cycles_through_one_history, new_parameters_every_time, batches_that_change, gradient_penalties,
    graphs_dropped, arrays_shared, data_written_to_results,
]  # fmt: skip


@pytest.mark.accept("T-26")
@pytest.mark.parametrize("iteration", LOOPS, ids=lambda f: f.__name__)
def test_nothing_grows(iteration):
    loop, found = Loop(), []
    for i in range(5 * 42):
        iteration(loop, i)
        if i % 42 == 41:
            gc.collect()
            stats = recorder.stats()
            found.append([stats[k] for k in ("live_cells", "misses", "states", "programs", "types", "views")])
            found[-1].append(fb.memory_stats()["live_bytes"])
    assert found[-1] == found[-2] == found[-3]


def averages(tensors):
    kept = [p.clone() for p in tensors]
    while True:
        kept = [k * 0.9 + p * 0.1 for k, p in zip(kept, tensors)]
        yield


def in_place(tensors):
    total = fb.zeros(())
    while True:
        for p in tensors:
            p.mul_(0.999).add_(0.001)
            total += p.sum()
        yield


def changing_numbers(tensors):
    x, n = tensors[0], 0
    while True:
        n += 1
        x = (x * (1.0 / n)).sin() + n
        yield


@pytest.mark.parametrize("loop", [averages, in_place, changing_numbers], ids=lambda f: f.__name__)
def test_loops_that_look_at_nothing_are_cut_where_they_repeat(loop):
    """... without a module, a loader or a backward: also after something else, and whatever their period is."""
    for offset in (0, 5):
        recorder.clear()
        tensors = [fb.full((3,), float(i)) for i in range(3)]
        for _ in range(offset):
            tensors[0] = tensors[0].cos()
        rounds = loop(tensors)
        misses = []
        for i in range(4000):
            next(rounds)
            if i % 1000 == 999:
                misses.append(recorder.stats()["misses"])
        assert misses[-1] == misses[-3] and misses[-1] < 1500
        assert recorder.stats()["flushes"] < 200


def test_rounds_that_read_nothing_of_one_another_are_cut_later():
    """As the layers of a net are initialised: it is one program for as many layers as there are, up to a length."""
    recorder.clear()
    layers = []
    for _ in range(200):
        layers.append(fb.empty(3).fill_(2.0).mul_(0.5))
    assert recorder.stats()["flushes"] == 0
    for _ in range(1000):
        layers.append(fb.empty(3).fill_(2.0).mul_(0.5))
    assert recorder.stats()["flushes"] > 0


def test_a_loop_with_history_is_not_cut():
    recorder.clear()
    x = w = fb.tensor([1.0, 1.0, 1.0], requires_grad=True)
    for _ in range(200):
        x = (x * w).sin()
    assert recorder.stats()["flushes"] == 0
