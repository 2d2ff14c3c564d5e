"""Steps that run side by side: which ones a plan takes together, that no bit depends on it, and what a failure leaves."""

from functools import cache, reduce
from unittest import mock

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import nn
from flambeau.compiler import stages
from flambeau.compiler.options import Options
from flambeau.compiler.plans import waves
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import find
from flambeau.runtime.plan_spec import KERNEL_WAVE, OutMode
from whole_programs import graphs

BRANCHES, WIDTH, DEPTH = 4, 64, 3
SQUARE = Aval((WIDTH, WIDTH), float32)


@pytest.fixture(autouse=True)
def setting():
    before = fb.get_num_threads()
    with fb.compiler_options(mode="blocking"):
        yield
    fb.set_num_threads(before)


class Branches(nn.Module):
    """Stacks of layers on one input, none of which depends on another."""

    def __init__(self, join):
        super().__init__()
        layers = lambda: [m for _ in range(DEPTH) for m in (nn.Linear(WIDTH, WIDTH), nn.Tanh())]  # noqa: E731
        self.branches = nn.ModuleList([nn.Sequential(*layers()) for _ in range(BRANCHES)])
        self.join = join

    def forward(self, x):
        return self.join([branch(x) for branch in self.branches])


def added(results):
    return fb.stack(results).sum(0)


def joined(results):
    return fb.cat(results, 1)


def made(join=added):
    fb.manual_seed(0)
    return Branches(join), fb.randn(WIDTH, WIDTH)


def evaluate(join):
    model, x = made(join)
    with fb.no_grad():
        return model(x).numpy()


def branches(join):
    """`DEPTH` products and what is elementwise behind them, in each of `BRANCHES` branches."""
    b = GraphBuilder()
    x, results = b.input(SQUARE), []
    for _ in range(BRANCHES):
        y = x
        for _ in range(DEPTH):
            y = find("tanh")(find("matmul")(y, b.input(SQUARE)))
        results.append(y)
    out = find("concat")(*results, dim=1) if join is joined else reduce(find("add"), results)
    b.graph.outputs = [out.id]
    return b.graph


@cache
def training():
    """A step with Adam, of another batch than other tests have."""
    return max(graphs(lambda: train(added, steps=2, batch=WIDTH + 8)), key=lambda graph: len(graph.updates))


def plan_of(graph):
    return stages.run(graph, Options(mode="blocking")).program.spec


def plans_of(graph):
    """The plan of a graph, and the one that has no steps side by side."""
    with mock.patch.object(waves, "WAKE_NS", 1 << 60):
        apart = plan_of(graph)
    assert rounds(apart) == calls(apart)
    return plan_of(graph), apart


def calls(spec):
    """The steps but those whose results are kept from run to run."""
    return len(spec.steps) - len(spec.kept)


def rounds(spec):
    """How many rounds a plan takes: steps of a wave are one, and what is made once of weights counts as none."""
    return calls(spec) - sum(spec.exprs[step[5][0]][1] for step in spec.steps if step[0] == KERNEL_WAVE)


@pytest.mark.accept("GRB-26")
@pytest.mark.parametrize("join", [added, joined])
def test_branches_too_small_to_be_split_take_the_rounds_of_one(join):
    spec, apart = plans_of(branches(join))
    assert calls(apart) >= BRANCHES * DEPTH and rounds(spec) <= DEPTH + BRANCHES


@pytest.mark.accept("GRB-26")
def test_what_is_not_worth_a_thread_stays_as_it_is():
    b = GraphBuilder()
    x = b.input(Aval((8, 8), float32))
    b.graph.outputs = [find("matmul")(x, b.input(Aval((8, 8), float32))).id for _ in range(4)]
    spec, apart = plans_of(b.graph)
    assert spec == apart and calls(spec) == 4


def train(join, steps=4, batch=WIDTH):
    model, _ = made(join)
    x = fb.randn(batch, WIDTH)
    optimizer = fb.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach().numpy() for p in model.parameters()]


@pytest.mark.accept("GRB-26", "DEV-08")
@pytest.mark.parametrize("join", [added, joined])
def test_bits_do_not_depend_on_what_runs_side_by_side(join):
    found = []
    for threads in (1, 2, 5):
        fb.set_num_threads(threads)
        found.append((evaluate(join), *train(join)))
    for y, losses, weights in found[1:]:
        assert y.tobytes() == found[0][0].tobytes() and losses == found[0][1]
        assert [w.tobytes() for w in weights] == [w.tobytes() for w in found[0][2]]
    model, x = made(join)
    wanted = []
    for branch in model.branches:
        z = x.numpy().astype(np.float64)
        for linear in branch[::2]:
            z = np.tanh(z @ linear.weight.detach().numpy().T + linear.bias.detach().numpy())
        wanted.append(z)
    np.testing.assert_allclose(found[0][0], np.concatenate(wanted, 1) if join is joined else sum(wanted), atol=2e-5)


@pytest.mark.accept("GRB-26", "DEV-15")
def test_an_update_still_takes_the_memory_of_what_it_replaces():
    spec, apart = plans_of(training())
    assert rounds(spec) < calls(apart)
    taken = lambda s: sorted((mode, source) for mode, source, _ in s.outputs if mode != OutMode.NEW)  # noqa: E731
    states = 3  # a parameter and two averages; what is made of the counter is computed where elements read it, beside the old one
    assert taken(spec) == taken(apart) and len(taken(spec)) == 2 * BRANCHES * DEPTH * states


class Embedded(nn.Module):
    """Branches that each look their rows up."""

    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(9, WIDTH) for _ in range(BRANCHES)])
        self.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(BRANCHES)])

    def forward(self, index):
        return added([F.gelu(layer(table(index))) for table, layer in zip(self.tables, self.layers, strict=True)])


@pytest.mark.accept("GRB-26")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_in_a_wave_loses_nothing(threads):
    fb.set_num_threads(threads)
    fb.manual_seed(0)
    model = Embedded()
    optimizer = fb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(index):
        optimizer.zero_grad()
        loss = model(index).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    index = fb.tensor([k % 9 for k in range(WIDTH)])
    step(index)
    step(index)
    before = [p.detach().numpy().copy() for p in model.parameters()]
    with pytest.raises(IndexError, match=r"\[gather\] index\[0, 0\] is out of range.*0..8"):
        step(fb.tensor([9] * WIDTH))
    assert all((p.detach().numpy() == b).all() for p, b in zip(model.parameters(), before, strict=True))
    again = step(index)
    fb.manual_seed(0)
    model = Embedded()
    optimizer = fb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step(index)
    step(index)
    assert step(index) == again
