"""An export, refused or not, leaves everything that existed before it as it was; and a refusal names what stands in the way."""

import contextlib
import functools
import gc

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest


class Everything:
    """A model with all that a call may change: what it holds can be compared before and after."""

    def __init__(self, body):
        fb.manual_seed(7)
        self.model = Model(body)
        self.memory = np.arange(4, dtype=np.float32)
        self.model.foreign = fb.from_numpy(self.memory)
        self.outside = fb.tensor([1.0, 2, 3, 4])
        self.generator = fb.Generator().manual_seed(3)
        self.example = fb.ones(3, 4)
        self.model.world = lambda: self  # a closure: no attribute of a module leads there
        self.w = fb.tensor([2.0, 3.0], requires_grad=True)
        self.history = (self.w * self.w).sum()
        self.history.item()
        for p in self.model.inner.parameters():
            p.grad = fb.full(p.shape, 0.5)
        self.optimizer = fb.optim.SGD(self.model.inner.parameters(), lr=0.1, momentum=0.9)
        self.grads = {n: p.grad for n, p in self.model.named_parameters()}

    def state(self):
        m = self.model
        tensors = {**m.state_dict(), "foreign": m.foreign, "outside": self.outside, "example": self.example}
        gradients = {n: p.grad for n, p in m.named_parameters()}
        return {
            "values": {n: t.detach().numpy().tobytes() for n, t in tensors.items()},
            "types": {n: (t.shape, t.dtype, t.requires_grad, t.is_leaf) for n, t in [*tensors.items(), ("w", self.w)]},
            "versions": {n: t._version for n, t in m.state_dict().items()},
            "memory": self.memory.tobytes(),
            "gradients": {n: g if g is None else (id(g), g.numpy().tobytes()) for n, g in gradients.items()},
            "attributes": {n: {k: id(v) for k, v in vars(x).items()} for n, x in m.named_modules()},
            "containers": [list(map(id, m.log)), dict(m.cache), sorted(m.seen)],
            "modes": [x.training for x in m.modules()],
            "random": [fb.get_rng_state().tolist(), self.generator.get_state().tolist()],
            "optimizer": repr(self.optimizer.state_dict()),
            "grad mode": fb.is_grad_enabled(),
        }


class Model(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.inner = nn.Linear(4, 2)
        self.norm = nn.LayerNorm(4)
        self.register_buffer("calls", fb.zeros(4))
        self.hidden = fb.zeros(3, 4)
        self.log, self.cache, self.seen = [], {"a": [1]}, set()
        self.body = body

    def forward(self, x):
        return self.body(self, x)


def trains(m, x):
    with fb.enable_grad():
        m.inner(x).sum().backward()
        m.world().optimizer.step()
    return m.inner(x)


def descends(m, x):
    with fb.enable_grad():
        loss = m.inner(x).sum()
        m.inner.weight.grad = None
        loss.backward()
    with fb.no_grad():
        m.inner.weight -= 0.1 * m.inner.weight.grad
    return m.inner(x)


def builds_an_optimizer(m, x):
    with fb.enable_grad():
        m.inner(x).square().sum().backward()
        fb.optim.Adam(m.inner.parameters(), lr=0.1).step()
    return x


def counts(m, x):
    m.calls += 1
    return x * m.calls


def counts_by_view(m, x):
    m.calls[1:3].mul_(2)
    return x * m.calls


def counts_by_assignment(m, x):
    m.calls = m.calls + 1
    return x * m.calls


def remembers(m, x):
    m.hidden = (m.hidden + x).tanh()
    return m.hidden


def normalizes(m, x):
    m.calls.copy_(x.mean(0) * 0.1 + m.calls * 0.9)
    return m.norm(x - m.calls)


def draws(m, x):
    return x + fb.rand(4) + fb.rand(4, generator=m.world().generator)


def seeds(m, x):
    fb.manual_seed(5)
    m.world().generator.manual_seed(6)
    return x + fb.randn(4)


def writes_the_callers(m, x):
    m.world().outside.mul_(3)
    m.world().example.zero_()
    return x


def writes_shared_memory(m, x):
    m.foreign[1] = 5
    return x + m.foreign


def reads(m, x):
    m.calls.add_(1)
    m.log.append(m.calls)
    return x * 2 if x.sum().item() > 0 else x


def reads_in_silence(m, x):
    with contextlib.suppress(RuntimeError):
        float(x.sum())
    return x


def reads_its_input(m, x):
    return x * x.tolist()[0][0]


def frees_a_graph(m, x):
    with fb.enable_grad():
        m.world().history.backward()
    return x


def fails_late(m, x):
    m.calls += 1
    m.world().outside.add_(1)
    m.log.append(1)
    raise LookupError("mine")


REFUSED = {
    trains: r"SGD.step at .*:\d+ changes inner.weight, inner.bias in place",
    descends: r"changes inner.weight in place",
    builds_an_optimizer: r"Adam.step at .* changes inner.weight, inner.bias in place",
    counts: r"add.* at .*py:\d+ changes calls in place, which outlives the call",
    counts_by_view: "mul.* changes calls in place",
    counts_by_assignment: "assigns another tensor to calls, which it also reads",
    remembers: "assigns another tensor to hidden, which it also reads",
    normalizes: r"copy_? at .* changes calls in place",
    draws: r"(?s)random_bits.*random_bits.*would draw the same numbers",
    seeds: "random_bits.*would draw the same numbers",
    writes_the_callers: r"(?s)mul.* changes a tensor in place.*zero.* changes a tensor in place",
    writes_shared_memory: "changes foreign in place",
    reads: r"(?s)reads values while it runs at .*py:\d+.*changes calls in place",
    reads_in_silence: r"reads values while it runs at .*py:\d+",
    reads_its_input: r"reads values while it runs at .*py:\d+",
    frees_a_graph: "sets the gradient of a tensor",
    fails_late: "mine",
}


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: body.__name__)
def test_a_refused_export_changes_nothing_and_names_the_cause(body, tmp_path):
    world = Everything(body)
    before = world.state()
    error = LookupError if body is fails_late else RuntimeError
    with pytest.raises(error, match=REFUSED[body]):
        fb.export(world.model, world.example, tmp_path / "model")
    assert world.state() == before
    assert not list(tmp_path.iterdir())
    world.history.backward()  # its graph is whole
    assert world.w.grad.tolist() == [4.0, 6.0]


def looks_up(m, x):
    m.seen.add("x")
    m.cache["a"].append(2)
    m.cache["b"] = x
    m.log.append(x)
    m.note = m.inner(x)
    m.inner.extra = 3
    m.train()
    m.norm.weight.requires_grad_(False)
    m.zero_grad()
    fb.set_grad_enabled(True)
    return m.note.detach() + m.calls[:2]


def differentiates(m, x):
    with fb.enable_grad():
        x.requires_grad_()
        m.inner(x).square().sum().backward(inputs=[x])
        return x.grad, fb.autograd.grad(m.inner(x).sum(), [m.inner.weight])[0]


def goes_through_a_graph(m, x):
    (g,) = fb.autograd.grad(m.world().history, [m.world().w])
    return x + g.sum()


def optimizes_inside(m, x):
    with fb.enable_grad():
        p = fb.zeros(4).requires_grad_()
        optimizer = fb.optim.SGD([p], lr=0.1, momentum=0.5)
        for _ in range(3):
            optimizer.zero_grad()
            (x.detach() @ p - 1).square().sum().backward()
            optimizer.step()
    return p.detach()


def writes_its_own(m, x):
    mask = fb.tensor([1.0, 0, 1, 0])
    mask += 1
    x.mul_(mask)
    y = m.calls.clone()
    y[0] = 7
    return x + y


ACCEPTED = [looks_up, differentiates, goes_through_a_graph, optimizes_inside, writes_its_own]


@pytest.mark.parametrize("body", ACCEPTED, ids=lambda body: body.__name__)
def test_an_export_that_succeeds_changes_nothing_either(body, tmp_path):
    world = Everything(body)
    before = world.state()
    fb.export(world.model, world.example, tmp_path / "model")
    assert world.state() == before
    world.history.backward()
    assert world.w.grad.tolist() == [4.0, 6.0]


def test_what_an_export_of_long_models_leaves_out_is_not_called_reading(tmp_path):
    """Bounds that end long traces do not refuse a model."""

    def long(x):
        for k in range(1100):
            x = x * 1.001 + k
        return x

    fb.export(long, fb.ones(2), tmp_path / "long")


def test_tensors_kept_by_the_caller_have_values_after_an_export_and_an_error_after_a_refusal(tmp_path):
    kept = []

    def keeps(x):
        kept.append(x + 1)
        return kept[-1] + (fb.rand(2) if len(kept) > 1 else 0)

    fb.export(keeps, fb.ones(2), tmp_path / "a")
    with pytest.raises(RuntimeError, match="random_bits"):
        fb.export(keeps, fb.ones(2), tmp_path / "b")
    assert kept[0].tolist() == [2, 2]
    with pytest.raises(RuntimeError, match=r"\[export\] this tensor was computed while a model was being recorded"):
        kept[1].tolist()


def test_training_goes_on_as_if_there_had_been_no_export(tmp_path):
    def run(export):
        fb.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Dropout(0.2), nn.Linear(8, 1))
        optimizer = fb.optim.Adam(model.parameters(), lr=0.01)
        for k in range(4):
            optimizer.zero_grad()
            model(fb.randn(16, 4)).square().mean().backward()
            if export and k:
                fb.export(model, fb.ones(2, 4), tmp_path / "model")
                with pytest.raises(RuntimeError, match=r"Adam\.step"):
                    fb.export(lambda x: [optimizer.step(), x][1], fb.ones(2, 4), tmp_path / "other")
            optimizer.step()
        return [t.numpy().tobytes() for t in model.state_dict().values()]

    assert run(True) == run(False)


def test_modules_are_found_in_functions_and_methods(tmp_path):
    world = Everything(counts)
    model = world.model
    for call in (model.forward, lambda x: model(x), functools.partial(counts, model)):
        before = world.state()
        with pytest.raises(RuntimeError, match="changes calls in place"):
            fb.export(call, world.example, tmp_path / "model")
        assert world.state() == before


def test_an_export_within_an_export_is_refused(tmp_path):
    def exports(x):
        fb.export(lambda x: x, x.detach(), tmp_path / "inner")
        return x

    with pytest.raises(RuntimeError, match=r"\[export\]"):
        fb.export(exports, fb.ones(2), tmp_path / "outer")
    assert (fb.ones(2) + 1).tolist() == [2, 2]


def test_exports_hold_nothing(tmp_path):
    """What is logged while recording is let go."""
    from flambeau.runtime import recorder

    def cells():
        gc.collect()
        return recorder.stats()["live_cells"]

    counts_of_rounds = []
    for _ in range(3):
        for body in (trains, counts, draws, looks_up):
            world = Everything(body)
            with contextlib.suppress(RuntimeError):
                fb.export(world.model, world.example, tmp_path / "model")
            del world
        counts_of_rounds.append(cells())
    assert counts_of_rounds[1] == counts_of_rounds[2]
