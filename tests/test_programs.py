"""Whole programs as users write them: run by Flambeau and by PyTorch on the same numbers, values and gradients compared."""

import concurrent.futures
import copy
import gc
import types
from itertools import pairwise

import flambeau as fb
import numpy as np
import pytest

#: A program that the compiler gives up on warns.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning:flambeau")


class Library:
    """A library under test, and random numbers that do not depend on it."""

    def __init__(self, module: types.ModuleType) -> None:
        self.t, self.nn, self.F, self.optim = module, module.nn, module.nn.functional, module.optim
        self.rng = np.random.default_rng(0)

    def randn(self, *shape, grad=False, dtype=np.float32):
        x = self.t.tensor(self.rng.standard_normal(shape).astype(dtype))
        return x.requires_grad_() if grad else x

    def integers(self, low, high, *shape):
        return self.t.tensor(self.rng.integers(low, high, shape))

    def initialised(self, model):
        with self.t.no_grad():
            for p in model.parameters():
                p.copy_(self.randn(*p.shape) * 0.3)
        return model

    def mlp(self, *sizes, activation="ReLU"):
        layers = []
        for n_in, n_out in pairwise(sizes):
            layers += [self.nn.Linear(n_in, n_out), getattr(self.nn, activation)()]
        return self.initialised(self.nn.Sequential(*layers[:-1]))


def plain(x):
    """Tensors as arrays, errors as names of their classes."""
    if hasattr(x, "detach"):
        return np.array(x.detach().numpy())
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    return type(x).__name__ if isinstance(x, BaseException) else x


def compare(found, expected, tolerance, path="result"):
    assert type(found) is type(expected), f"{path}: {found!r} is no {type(expected).__name__}"
    if isinstance(found, dict):
        assert list(found) == list(expected), path
        for k in found:
            compare(found[k], expected[k], tolerance, f"{path}.{k}")
    elif isinstance(found, list):
        assert len(found) == len(expected), path
        for i, (x, y) in enumerate(zip(found, expected)):
            compare(x, y, tolerance, f"{path}[{i}]")
    elif isinstance(found, np.ndarray):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype), path
        np.testing.assert_allclose(found, expected, tolerance, tolerance, err_msg=path)
    elif isinstance(found, float):
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance, nan_ok=True), path
    else:
        assert found == expected, path


def check(program, tolerance=2e-5):
    """`program(library)` gives the same in Flambeau and in PyTorch."""
    torch = pytest.importorskip("torch")
    compare(plain(program(Library(fb))), plain(program(Library(torch))), tolerance)


# ---- models and training loops --------------------------------------------------------------------------------


@pytest.mark.accept("NN-22", "AG-12", "T-26")
def test_embedding_tied_to_the_output_layer():
    def program(lib):
        class Model(lib.nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.middle = lib.nn.Embedding(10, 6), lib.nn.Linear(6, 6)
                self.out = lib.nn.Linear(6, 10, bias=False)
                self.out.weight = self.embed.weight

            def forward(self, i):
                return self.out(lib.F.gelu(self.middle(self.embed(i))).mean(1))

        model = lib.initialised(Model())
        optimizer = lib.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(4):
            loss = lib.F.cross_entropy(model(lib.integers(0, 10, 7, 3)), lib.integers(0, 10, 7))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        shared = model.embed.weight is model.out.weight
        return loss, list(model.parameters()), shared, sorted(model.state_dict())

    check(program)


@pytest.mark.accept("AG-05")
def test_adversarial_training_with_detached_and_shared_graphs():
    def program(lib):
        generator, critic = lib.mlp(4, 16, 6), lib.mlp(6, 16, 1, activation="Tanh")
        for_generator = lib.optim.Adam(generator.parameters(), lr=1e-2, betas=(0.5, 0.9))
        for_critic = lib.optim.Adam(critic.parameters(), lr=1e-2)
        loss, losses = lib.F.binary_cross_entropy_with_logits, []
        for _ in range(4):
            real, fake = lib.randn(8, 6), generator(lib.randn(8, 4))
            for_critic.zero_grad()
            critic_loss = loss(critic(real), lib.t.ones(8, 1)) + loss(critic(fake.detach()), lib.t.zeros(8, 1))
            critic_loss.backward()
            for_critic.step()
            for_generator.zero_grad()
            generator_loss = loss(critic(fake), lib.t.ones(8, 1))
            generator_loss.backward()
            for_generator.step()
            losses += [critic_loss.item(), generator_loss.item()]
        return losses, list(generator.parameters()), [p.grad for p in critic.parameters()]

    check(program)


@pytest.mark.accept("AG-18", "OPT-02")
def test_gradients_accumulated_over_uneven_micro_batches():
    def program(lib):
        model, x, y = lib.mlp(5, 12, 3), lib.randn(32, 5), lib.integers(0, 3, 32)
        optimizer = lib.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
        for sizes in ([8, 8, 8, 8], [10, 22], [1, 30, 1], [32]):
            optimizer.zero_grad()
            for first, n in zip(np.cumsum([0, *sizes]).tolist(), sizes):
                part = slice(first, first + n)
                (lib.F.cross_entropy(model(x[part]), y[part], reduction="sum") / 32).backward()
            optimizer.step()
        return [p.grad for p in model.parameters()], list(model.parameters())

    check(program)


@pytest.mark.accept("AG-17")
def test_recurrence_truncated_by_detach():
    def program(lib):
        cell, head = lib.mlp(3 + 8, 8), lib.mlp(8, 1)
        optimizer = lib.optim.SGD([*cell.parameters(), *head.parameters()], lr=0.05)
        xs, ys, state, losses = lib.randn(20, 4, 3), lib.randn(20, 4, 1), lib.t.zeros(4, 8), []
        for start, length in ((0, 5), (5, 1), (6, 9), (15, 5)):
            state, loss = state.detach(), 0.0
            for step in range(start, start + length):
                state = lib.t.tanh(cell(lib.t.cat([xs[step], state], 1)))
                loss = loss + lib.F.mse_loss(head(state), ys[step])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, state, list(cell.parameters())

    check(program)


@pytest.mark.accept("NN-17", "OPT-13")
def test_freezing_parameters_and_averaging_them_by_hand():
    def program(lib):
        model, seen = lib.mlp(4, 8, 8, 2), []
        average = copy.deepcopy(model).requires_grad_(False)
        optimizer = lib.optim.AdamW(model.parameters(), lr=1e-2)
        for i in range(7):
            model[0].requires_grad_(i % 3 != 1)
            optimizer.zero_grad()
            x = lib.randn(6, 4)
            loss = model(x).square().mean() + lib.F.mse_loss(model(x), average(x))
            loss.backward()
            seen += [[p.grad is None for p in model.parameters()], loss.item()]
            optimizer.step()
            with lib.t.no_grad():
                for mean, new in zip(average.state_dict().values(), model.state_dict().values()):
                    mean.mul_(0.9).add_(new, alpha=0.1)
        return seen, list(model.parameters()), list(average.parameters())

    check(program)


def test_statistics_in_buffers_updated_in_place():
    def program(lib):
        class Standardise(lib.nn.Module):
            def __init__(self, n):
                super().__init__()
                self.register_buffer("mean", lib.t.zeros(n))
                self.register_buffer("steps", lib.t.tensor(0))
                self.floor = lib.t.tensor(1e-3)

            def forward(self, x):
                if self.training:
                    with lib.t.no_grad():
                        self.mean.mul_(0.9).add_(0.1 * x.mean(0))
                        self.steps += 1
                return (x - self.mean) / (x.std(0) + self.floor)

        model = lib.nn.Sequential(lib.mlp(4, 6), Standardise(6), lib.mlp(6, 2))
        optimizer, seen = lib.optim.SGD(model.parameters(), lr=0.1), []
        for _ in range(4):
            x = lib.randn(9, 4)
            loss = model.train()(x).pow(2).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with lib.t.no_grad():
                seen.append(model.eval()(x).sum().item())
        return seen, dict(model.state_dict())

    check(program)


@pytest.mark.accept("OPT-11", "T-28")
def test_steps_that_are_broken_off():
    def program(lib):
        model, seen = lib.mlp(4, 3), []
        optimizer = lib.optim.Adam(model.parameters(), lr=0.1)
        for i in range(7):
            try:
                optimizer.zero_grad()
                loss = lib.F.cross_entropy(model(lib.randn(5, 4)), lib.integers(0, 3, 5))
                if i == 1:
                    model(lib.randn(5, 5))
                loss.backward()
                if i == 2:
                    raise KeyboardInterrupt
                if i == 3:
                    with lib.t.no_grad():
                        raise KeyError
                optimizer.step()
            except (RuntimeError, KeyError, KeyboardInterrupt) as error:
                seen.append(error)
            seen += [loss.item(), lib.t.is_grad_enabled()]
            if i == 4:
                saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        model(lib.randn(5, 4)).sum().backward()
        optimizer.step()
        return seen, list(model.parameters())

    check(program)


def train(seed, steps=40):
    lib = Library(fb)
    lib.rng = np.random.default_rng(seed)
    model = lib.mlp(6, 16, 3, activation="GELU")
    optimizer = lib.optim.AdamW(model.parameters(), lr=1e-2)
    for i in range(steps):
        loss = lib.F.cross_entropy(model(lib.randn(16 - i % 3, 6)), lib.integers(0, 3, 16 - i % 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % 7 == seed:
            loss.item()
    return [loss.item(), *(p.tolist() for p in model.parameters())]


def test_two_models_trained_in_two_threads():
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        found = list(threads.map(train, (0, 1)))
    assert found == [train(0), train(1)]


@pytest.mark.accept("VER-06")
def test_memory_and_programs_do_not_grow():
    train(2, 100)
    gc.collect()
    before, programs = fb.memory_stats()["live_bytes"], fb.explain().programs
    train(2, 900)
    gc.collect()
    assert fb.memory_stats()["live_bytes"] == before
    assert fb.explain().programs == programs


def test_a_batch_of_no_rows():
    def program(lib):
        model, x = lib.mlp(4, 6, 2), lib.t.zeros(0, 4)
        y = model(x)
        y.sum().backward()
        joined = lib.t.cat([lib.t.zeros(0, 2), y, lib.t.ones(2, 2)])
        return (
            y,
            joined,
            [p.grad for p in model.parameters()],
            y.mean(),
            lib.F.mse_loss(y, y),
            lib.F.layer_norm(x, (4,)),
        )

    check(program)


# ---- gradients ------------------------------------------------------------------------------------------------


@pytest.mark.accept("AG-08")
def test_hooks_and_retained_gradients():
    def program(lib):
        model, x, seen = lib.mlp(3, 5, 2), lib.randn(4, 3, grad=True), []
        hidden = model[0](x)
        hidden.retain_grad()
        handle = hidden.register_hook(lambda g: g.clamp(-0.1, 0.1) * 2)
        x.register_hook(lambda g: seen.append(g.clone()))
        model[2](model[1](hidden)).sum().backward(retain_graph=True)
        handle.remove()
        first = hidden.grad.clone()
        model[2](model[1](hidden)).sum().backward()
        total = hidden.grad.clone()
        hidden.grad = None
        return first, total, hidden.grad, seen, x.grad, [p.grad for p in model.parameters()]

    check(program)


def outcome(f):
    """What `f` returns, or the error it raises, by class."""
    try:
        return f()
    except RuntimeError as error:
        return error


@pytest.mark.accept("AG-01")
@pytest.mark.parametrize("observe", [False, True])
def test_values_that_a_gradient_needs_are_not_changed_unnoticed(observe):
    def program(lib):
        t = lib.t

        def leaf_through_views():
            w, x = lib.randn(3, 3, grad=True), lib.randn(2, 3, grad=True)
            y = lib.F.linear(x, w).sum()
            if observe:
                y.item()
            with t.no_grad():
                w.add_(1)
            y.backward()

        def parameters_by_a_step():
            model, x = lib.mlp(3, 3, 3), lib.randn(2, 3)
            optimizer = lib.optim.SGD(model.parameters(), lr=0.1)
            loss = model(x).pow(2).sum()
            if observe:
                loss.item()
            loss.backward(retain_graph=True)
            optimizer.step()
            loss.backward()

        def intermediate_through_an_alias():
            x = lib.randn(3, grad=True)
            y = x * 2
            z = y * y
            if observe:
                z.tolist()
            y.detach().add_(1)
            z.sum().backward()

        def input_of_a_product():
            w, x = lib.randn(3, 3, grad=True), lib.randn(3, 3)
            y = (x @ w).sum()
            x.add_(1)
            y.backward()

        programs = (leaf_through_views, parameters_by_a_step, intermediate_through_an_alias, input_of_a_product)
        return [outcome(f) for f in programs]

    check(program)


@pytest.mark.accept("AG-01")
@pytest.mark.parametrize("observe", [False, True])
def test_changes_that_no_gradient_needs_are_allowed(observe):
    def program(lib):
        t = lib.t

        def copies():
            x = lib.randn(3, grad=True)
            y = x.clone()
            z = y * y
            if observe:
                z.tolist()
            with t.no_grad():
                x.add_(1)
            z.sum().backward()
            return x.grad

        def linear_uses():
            w, x = lib.randn(3, 3, grad=True), lib.randn(2, 3)
            y = (x @ w).sum()
            if observe:
                y.item()
            with t.no_grad():
                w.zero_()
            y.backward()
            return w.grad

        def through_data():
            x = lib.randn(3, grad=True)
            y = (x * 3).sum()
            x.data.add_(1)
            y.backward()
            return x.grad

        def results_in_place():
            x = lib.randn(3, grad=True)
            y = x.exp()
            y = y * 2
            y += 1
            y.mul_(3)
            if observe:
                y.tolist()
            y[1] = 0
            y.sum().backward()
            return x.grad

        def steps():
            model, x = lib.mlp(3, 4, 1), lib.randn(2, 3)
            optimizer = lib.optim.Adam(model.parameters())
            for _ in range(3):
                optimizer.zero_grad()
                loss = model(x).pow(2).sum()
                if observe:
                    loss.item()
                loss.backward()
                optimizer.step()
                after = model(x).sum()
            after.backward()
            return [p.grad for p in model.parameters()]

        def buffer_filled_step_by_step():
            x, out, h = lib.randn(4, 3, grad=True), t.zeros(4, 3), t.zeros(3)
            for i in range(4):
                h = t.tanh(h + x[i])
                out[i] = h
                if observe:
                    out.tolist()
            (out**2).sum().backward()
            return out, x.grad

        programs = (copies, linear_uses, through_data, results_in_place, steps, buffer_filled_step_by_step)
        return [f() for f in programs]

    check(program)


@pytest.mark.accept("AG-08", "AG-10")
def test_a_retained_graph_is_gone_through_again_after_its_value_was_read():
    def program(lib):
        model, losses = lib.mlp(6, 8, 3, activation="Tanh"), []
        for _ in range(4):
            model.zero_grad()
            loss = model(lib.randn(4, 6)).sum()
            loss.backward(retain_graph=True)
            losses.append(loss.item())
            loss.backward()
        return losses, [p.grad for p in model.parameters()]

    check(program)


@pytest.mark.accept("AG-08")
@pytest.mark.parametrize("create_graph", [False, True])
def test_hooks_run_also_after_the_loss_was_read(create_graph):
    def program(lib):
        model, seen = lib.mlp(3, 5, 2, activation="Tanh"), []
        model[2].bias.register_hook(lambda g: g * 10)
        model[0].weight.register_hook(lambda g: seen.append(g.clone()))
        for _ in range(3):
            hidden = model[0](lib.randn(4, 3))
            hidden.retain_grad()
            hidden.register_hook(lambda g: g.clamp(-0.1, 0.1) * 2)
            loss = model[2](model[1](hidden)).pow(2).sum()
            loss.item()
            if create_graph:
                (gradient,) = lib.t.autograd.grad(loss, model[2].weight, create_graph=True)
                loss = loss + gradient.pow(2).sum()
                loss.item()
            loss.backward()
            seen.append(hidden.grad.clone())
        return seen, [p.grad for p in model.parameters()]

    check(program)


def losses_read_before_backward(library, rounds):
    """Gradients that accumulate over rounds in which nothing but the loss is read."""
    model, x = library.mlp(3, 4, 1), library.randn(5, 3)
    for _ in range(rounds):
        loss = model(x).pow(2).mean()
        loss.item()
        loss.backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.accept("AG-18")
def test_accumulating_gradients_for_long_repeats_itself():
    check(lambda lib: losses_read_before_backward(lib, 5))
    losses_read_before_backward(Library(fb), 600)
    before = fb.explain()
    losses_read_before_backward(Library(fb), 600)
    assert fb.explain().programs == before.programs
    assert fb.explain().misses == before.misses


@pytest.mark.accept("AG-14")
@pytest.mark.parametrize("observe", [False, True])
def test_a_gradient_penalty_whose_parts_are_read_on_the_way(observe):
    def program(lib):
        model, x, found = lib.mlp(3, 5, 2, activation="Tanh"), lib.randn(4, 3, grad=True), []
        look = (lambda v: v.sum().item()) if observe else (lambda v: None)
        for _ in range(3):
            hidden = model[0](x)
            hidden.retain_grad()
            loss = model[2](model[1](hidden)).pow(2).sum()
            look(loss)
            (gradient,) = lib.t.autograd.grad(loss, x, create_graph=True)
            look(gradient)
            penalty = gradient.pow(2).sum()
            look(penalty)
            (loss + penalty).backward()
            found.append([hidden.grad, x.grad.clone(), *(p.grad.clone() for p in model.parameters())])
        return found

    check(program)


@pytest.mark.accept("AG-06", "AG-05")
@pytest.mark.parametrize("observe", [False, True])
def test_no_gradient_flows_through_what_was_computed_without(observe):
    def program(lib):
        t, found = lib.t, []

        def finish(w, y):
            if observe:
                y.item()
            y.backward()
            found.append(w.grad)

        def computed_without():
            w = lib.randn(4, grad=True)
            h = w * 3
            with t.no_grad():
                k = h * 2
            finish(w, (h * k).sum())

        def from_a_leaf():
            w = lib.randn(4, grad=True)
            with t.no_grad():
                k = w[1:].exp().sum()
            finish(w, (w * k).sum())

        def written_without(write):
            w, m = lib.randn(4, grad=True), t.zeros(4)
            h = w * 3
            with t.no_grad():
                write(m, h)
            finish(w, (h * m).sum())

        def written_over_history():
            w = lib.randn(4, grad=True)
            m = w * 2
            with t.no_grad():
                m.add_((w * 3).exp())
            finish(w, (m + w.exp() * m.detach()).sum())

        def written_through_data():
            w, m = lib.randn(4, grad=True), t.zeros(4)
            m.data.add_(w * 3)
            finish(w, (w * m).sum())

        def gradients_as_numbers():
            w = lib.randn(4, grad=True)
            w.exp().sum().backward()
            g = w.grad
            w.grad = None
            finish(w, (w * g).sum())

        def gradients_asked_for():
            w = lib.randn(4, grad=True)
            (g,) = t.autograd.grad(w.exp().sum(), w)
            finish(w, (w * g * g).sum())

        computed_without()
        from_a_leaf()
        written_without(lambda m, h: m.add_(h))
        written_without(lambda m, h: m.copy_(h))
        written_without(lambda m, h: m.__setitem__(slice(1, 3), h[1:3]))
        written_over_history()
        written_through_data()
        gradients_as_numbers()
        gradients_asked_for()
        return found

    check(program)
