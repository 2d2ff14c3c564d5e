"""What the helpers of training loops cost, as counts: micro-batches of any number, updates of any number of parameters, frozen
layers, CTC of any length, checkpoints beside batch normalization, truncated backpropagation."""

import flambeau as fb
import numpy as np
import pytest
from counting import calls, new_programs
from flambeau import nn
from flambeau.compiler.tools import report
from flambeau.nn import functional as F
from flambeau.runtime import recorder
from flambeau.utils.checkpoint import checkpoint


def learnt(fn) -> tuple[int, int, int]:
    """Misses, builds and programs by running `fn`."""
    before = recorder.stats()
    programs = len(new_programs(fn))
    after = recorder.stats()
    return after["misses"] - before["misses"], after["builds"] - before["builds"], programs


def programs_of(step, times: int = 3) -> list[report.ProgramReport]:
    """What is compiled for `step`, which is run until nothing is."""
    recorder.clear()
    return new_programs(lambda: [step() for _ in range(times)])


# ---- gradients accumulated over micro-batches ------------------------------------------------------------------------------


def accumulating(look=False):
    """(model, a step of `n` micro-batches)."""
    fb.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = fb.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rows = fb.tensor(np.random.default_rng(0).standard_normal((24, 6)).astype(np.float32))

    def step(n):
        optimizer.zero_grad()
        for k in range(n):
            loss = F.cross_entropy(model(rows[k : k + 4]), fb.arange(4) % 3) / n
            loss.backward()
            if look:
                loss.item()
        optimizer.step()

    return model, step


@pytest.mark.accept("AG-18")
@pytest.mark.parametrize("look", [False, True], ids=["unread", "read"])
def test_new_counts_of_micro_batches_compile_and_miss_nothing(look):
    recorder.clear()
    _, step = accumulating(look)
    for _ in range(2):
        for n in range(1, 9):
            step(n)
    assert learnt(lambda: [step(n) for n in range(9, 21)]) == (0, 0, 0)


@pytest.mark.accept("AG-18")
def test_micro_batches_cost_what_each_costs():
    _, step = accumulating()
    for n in (*range(1, 9), *range(1, 9)):
        step(n)
    first, second, third = (calls(lambda n=n: step(n)) for n in (5, 10, 20))
    assert third - second <= 1.1 * 2 * (second - first)


@pytest.mark.accept("AG-18")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 11])
def test_micro_batches_give_the_gradient_of_all(count):
    x = np.random.default_rng(1).standard_normal((count, 3)).astype(np.float64)
    w = fb.tensor([0.5, -1.0, 2.0], dtype=fb.float64, requires_grad=True)
    for _ in range(2):
        w.grad = None
        for row in x:
            ((fb.tensor(row) * w).sum() ** 2 / count).backward()
        wanted = 2 * x.T @ (x @ [0.5, -1.0, 2.0]) / count
        np.testing.assert_allclose(w.grad.numpy(), wanted, rtol=1e-12)


def test_equal_backwards_through_a_graph_that_is_kept_end_no_trace():
    w = fb.ones(3, requires_grad=True)
    y = (w * w).sum()
    before = recorder.stats()["flushes"]
    for _ in range(5):
        y.backward(retain_graph=True)
    assert recorder.stats()["flushes"] == before
    assert w.grad.tolist() == [10.0] * 3


# ---- updates ---------------------------------------------------------------------------------------------------------------


@pytest.mark.accept("OPT-10")
@pytest.mark.parametrize(("name", "options"), [("SGD", {"momentum": 0.9}), ("Adam", {}), ("AdamW", {})])
def test_an_update_takes_few_kernels_for_any_number_of_parameters(name, options):
    """One kernel serves all, called once for each; what all share is computed once."""

    def update(count):
        params = [nn.Parameter(fb.full((2 + k % 3, 5), 1.0)) for k in range(count)]
        optimizer = getattr(fb.optim, name)(params, lr=0.1, **options)

        def step():
            for p in params:
                p.grad = fb.full(tuple(p.shape), 2.0)
            recorder.flush()
            optimizer.step()

        return [(len(p.kernels), p.steps - count) for p in programs_of(step) if p.ops > 4 * count]

    few, many = update(4), update(40)
    assert few == many and few
    assert all(kernels <= 3 and others <= 2 for kernels, others in few)


# ---- frozen layers -----------------------------------------------------------------------------------------------------------


def with_body(frozen):
    """A step of six layers, five of which are `frozen`: by "flag", by "no_grad", or "not"."""
    fb.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(6)]
    body, head = nn.Sequential(*layers[:5]), layers[5]
    body.requires_grad_(frozen != "flag")
    optimizer, x = fb.optim.SGD(head.parameters(), lr=0.1), fb.randn(4, 8)

    def step():
        optimizer.zero_grad()
        if frozen == "no_grad":
            with fb.no_grad():
                h = body(x)
        else:
            h = body(x)
        head(h).square().mean().backward()
        optimizer.step()
        return head[0].weight.detach().numpy().copy()

    return step


@pytest.mark.accept("OPT-13", "NN-17")
def test_frozen_layers_cost_nothing_in_the_backward():
    costs, weights = [], []
    for frozen in ("flag", "no_grad", "not"):
        step = with_body(frozen)
        found = programs_of(step)
        costs.append(([p.ops for p in found], [p.steps for p in found], calls(step)))
        weights.append(step())
    (ops, steps, made), (other_ops, other_steps, other_made), (all_ops, _, _) = costs
    assert ops == other_ops and steps == other_steps and sum(ops) < sum(all_ops)
    assert made <= other_made + 2
    np.testing.assert_array_equal(*weights[:2])


# ---- CTC, checkpoints, truncated backpropagation -----------------------------------------------------------------------------


@pytest.mark.accept("LOS-08")
def test_the_loops_of_ctc_are_compiled():
    """As many kernels for any number of steps, none of them op by op."""

    def kernels(steps):
        x, lengths = fb.randn(steps, 2, 5).requires_grad_(), (fb.tensor([steps, steps - 1]), fb.tensor([3, 2]))

        def step():
            x.grad = None
            F.ctc_loss(x.log_softmax(2), fb.tensor([[1, 2, 3], [2, 3, 1]]), *lengths).backward()
            assert np.isfinite(x.grad.numpy()).all()

        found = programs_of(step, times=2)
        assert found and all(p.tier == "fused" and p.error is None for p in found)
        return [(p.ops, len(p.kernels), p.steps) for p in found]

    assert kernels(9) == kernels(36)


@pytest.mark.accept("AG-16", "T-29")
@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_updates_averages_once_and_drops_alike(reentrant):
    def run(wrap):
        fb.manual_seed(4)
        net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, 2))
        x = fb.randn(4, 2, 6, 6, requires_grad=True)
        for _ in range(3):
            net.zero_grad()
            wrap(net, x).square().mean().backward()
        norm = net[1]
        return [norm.num_batches_tracked, norm.running_mean, norm.running_var, *(p.grad for p in net.parameters())]

    plain = run(lambda net, x: net(x))
    kept = run(lambda net, x: checkpoint(net, x, use_reentrant=reentrant))
    assert plain[0].item() == kept[0].item() == 3
    for a, b in zip(plain, kept, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.accept("AG-17")
@pytest.mark.parametrize("look", [False, True], ids=["unread", "read"])
def test_truncated_backpropagation_compiles_nothing_after_the_third_segment(look):
    fb.manual_seed(0)
    cell, head = nn.GRUCell(3, 4), nn.Linear(4, 1)
    optimizer = fb.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.01)
    xs, state = fb.randn(60, 2, 3), fb.zeros(2, 4)

    def segment(start):
        nonlocal state
        state, loss = state.detach(), 0.0
        for x in xs[start : start + 5]:
            state = cell(x, state)
            loss = loss + head(state).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if look:
            loss.item()

    for k in range(3):
        segment(5 * k)
    assert learnt(lambda: [segment(5 * k) for k in range(3, 12)]) == (0, 0, 0)
