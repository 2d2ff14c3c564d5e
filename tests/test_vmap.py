"""`func.vmap`: one program for a batch, which gives what a loop gives; axes, nesting, gradients, writes, random numbers, errors."""

import re

import flambeau as fb
import numpy as np
import pytest
from flambeau import nn
from flambeau.compiler.plans import devices
from flambeau.func import functional_call, grad, stack_module_state, vmap
from flambeau.runtime import recorder

pytestmark = pytest.mark.accept("AG-15")


def data(*shape: int, seed: int = 0) -> fb.Tensor:
    return fb.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape))


def close(found, expected) -> None:
    found, expected = (x.detach().numpy() if isinstance(x, fb.Tensor) else np.asarray(x) for x in (found, expected))
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def loop(f, *args, **kwargs):
    return fb.stack([f(*(a[k] for a in args), **kwargs) for k in range(len(args[0]))])


def test_axes_of_arguments_and_results():
    x, y = data(3, 4), data(4, 5, seed=1)
    table = {
        (0, 0): vmap(lambda a: a * 2)(x),
        (1, 0): vmap(lambda a: a * 2, 1)(x).T,
        (-1, -1): vmap(lambda a: a * 2, -1, -1)(x),
        (1, 1): vmap(lambda a: a * 2, (1,), 1)(x),
    }
    for found in table.values():
        close(found, x * 2)
    close(vmap(fb.matmul, (None, 1))(x, y), (x @ y).T)
    close(vmap(fb.matmul, (0, None), 1)(x, y), (x @ y).T)
    nested = vmap(lambda d, k: (d["a"][0] + k, {"b": d["a"][1].sum()}), ({"a": (0, None)}, None), (1, 0))
    first, rest = nested({"a": [x, y]}, 2.0)
    close(first, (x + 2).T)
    close(rest["b"], np.full(3, y.sum().item()))
    close(vmap(lambda a, *, b, by: (a + b) * by)(x, b=x[0], by=2), (x + x[0]) * 2)
    close(vmap(lambda a: y)(x), np.stack([y.numpy()] * 3))
    assert vmap(lambda a: y, out_dims=None)(x).shape == (4, 5)
    assert vmap(lambda a: (a + 1).sum(), in_dims=1)(data(3, 0)).shape == (0,)


def test_nesting_and_what_is_read_from_outside():
    x, y, scale = data(3, 4), data(5, 4, seed=1), data(4, seed=2)
    close(vmap(lambda a: vmap(lambda b: (a * b * scale).sum())(y))(x), (x * scale) @ y.T)
    close(vmap(vmap(lambda a, b: a.sin() * b, (0, None)), (None, 0))(x, y[:, 0]), x.sin() * y[:, :1, None])


def test_shapes_are_those_of_one_sample():
    seen = []
    vmap(lambda a: (seen.append((a.shape, a.ndim, a.numel())), a)[1])(data(3, 4, 2))
    assert seen == [((4, 2), 2, 8)]


def mlp(w1, w2, x):
    return (x @ w1).tanh() @ w2


def test_gradients_of_samples():
    w1, w2, x = data(4, 6), data(6, seed=1), data(5, 4, seed=2)
    loss = lambda w1, w2, x: mlp(w1, w2, x) ** 2  # noqa: E731
    found = vmap(grad(loss, (0, 1)), (None, None, 0))(w1, w2, x)
    for k in range(5):
        for f, e in zip(found, grad(loss, (0, 1))(w1, w2, x[k])):
            close(f[k], e)


def test_gradients_through_a_batch_of_any_order():
    w1, w2, x = data(4, 6), data(6, seed=1), data(5, 4, seed=2)
    for leaf in (w1, x):
        leaf.requires_grad_()
    total = vmap(lambda x: mlp(w1, w2, x))(x).pow(2).sum()
    expected = fb.autograd.grad(mlp(w1, w2, x).pow(2).sum(), (w1, x))
    for f, e in zip(fb.autograd.grad(total, (w1, x)), expected):
        close(f, e)
    inner = vmap(grad(lambda x: mlp(w1, w2, x) ** 2))(x)
    by_loop = loop(grad(lambda x: mlp(w1, w2, x) ** 2), x)
    close(inner, by_loop)
    second, wanted = (fb.autograd.grad(y.pow(2).sum(), w1)[0] for y in (inner, by_loop))
    close(second, wanted)
    third = vmap(grad(grad(grad(lambda t: t.sin() * t))))(x[0].detach())
    t = x[0].detach().numpy()
    close(third, -3 * np.sin(t) - t * np.cos(t))


def test_per_sample_gradients_of_a_module_and_ensembles():
    fb.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(-3), nn.Linear(12, 2)
    ).double()
    params = {n: p.detach() for n, p in model.named_parameters()}
    x, y = data(4, 2, 4, 4), fb.tensor([0, 1, 1, 0])

    def loss(params, x, y):
        out = functional_call(model, params, (x.unsqueeze(0),))
        return nn.functional.cross_entropy(out, y.unsqueeze(0))

    found = vmap(grad(loss), (None, 0, 0))(params, x, y)
    for k in range(4):
        alone = grad(loss)(params, x[k], y[k])
        for name in params:
            close(found[name][k], alone[name])
    models = [nn.Linear(3, 2).double() for _ in range(3)]
    stacked, buffers = stack_module_state(models)
    inputs = data(5, 3)
    found = vmap(lambda p, b: functional_call(models[0], (p, b), (inputs,)))(stacked, buffers)
    close(found, fb.stack([m(inputs) for m in models]))


def steps(monkeypatch, call) -> int:
    """How many steps the programs have that a call compiles."""
    made, link = [], devices.link
    with monkeypatch.context() as patched, fb.compiler_options(mode="blocking"):
        patched.setattr(devices, "link", lambda *a: made.append(a[0]) or link(*a))
        call()
    return sum(len(program.spec.steps) for program in made)


def test_a_batch_has_as_many_kernels_as_one_sample(monkeypatch):
    """No loop over the batch: neither for values nor for gradients of samples."""
    w = data(4, 6)

    def alone(w, x):
        return (x @ w).tanh().pow(2).sum()

    single = steps(monkeypatch, lambda: grad(alone)(w, data(4)).numpy())
    for n in (7, 50):
        assert 0 < steps(monkeypatch, lambda: vmap(alone, (None, 0))(w, data(n, 4)).numpy()) <= 4  # noqa: B023
        assert 0 < steps(monkeypatch, lambda: vmap(grad(alone), (None, 0))(w, data(n, 4)).numpy()) <= single + 1  # noqa: B023


class Cube(fb.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, ct):
        return ct * 3 * ctx.saved_tensors[0] ** 2


def test_gradients_of_ones_own():
    x = data(3)
    close(vmap(Cube.apply)(x), x**3)
    close(vmap(grad(Cube.apply))(x), 3 * x**2)
    with pytest.raises(RuntimeError, match=r"\[vmap\] the function calls an autograd\.Function, or has hooks"):
        vmap(Cube.apply)(x.requires_grad_())


def test_writes_in_place():
    def within(x):
        y = x.clone()
        y[0] = 7
        y[1:].mul_(2)
        return y.add_(x)

    x = data(3, 4)
    close(vmap(within)(x), loop(within, x))
    given = data(3, 4)
    before = given.clone()
    close(vmap(lambda a: a.add_(1).sum(), 1)(given), (before + 1).sum(0))
    close(given, before + 1)


def test_indices_that_differ_from_sample_to_sample():
    table, index, x = data(6, 3), fb.tensor([4, 0, 5]), data(3, 6)
    close(vmap(lambda i: table[i])(index), table[index])
    close(vmap(lambda row, i: row[i])(x, index), x.numpy()[np.arange(3), index.numpy()])
    put = vmap(lambda row, i: row.index_fill(0, i.reshape(1), 0.0))(x, index)
    expected = x.numpy().copy()
    expected[np.arange(3), index.numpy()] = 0
    close(put, expected)
    close(vmap(lambda r: r.sort(descending=True).values)(x), x.sort(dim=1, descending=True).values)


def test_choices_and_loops_that_differ_from_sample_to_sample():
    x = data(4, 3)
    choose = lambda a: fb.cond(a.sum() > 0, lambda a: a.exp(), lambda a: -a, (a,))  # noqa: E731
    close(vmap(choose)(x), loop(choose, x))

    def halve(a):
        return fb.while_loop(lambda a: a.abs().sum() > 1, lambda a: (a / 2,), (a,))[0]

    close(vmap(halve)(x), loop(halve, x))


def test_random_numbers():
    zeros = fb.zeros(4, 3, dtype=fb.float64)
    draw = lambda x: x + fb.randn(3, dtype=fb.float64) + fb.rand(3, dtype=fb.float64)  # noqa: E731
    fb.manual_seed(3)
    alone = draw(zeros[0])
    drawn, after = fb.default_generator._offset, fb.rand(2).tolist()
    fb.manual_seed(3)
    same = vmap(draw, randomness="same")(zeros)
    close(same, fb.stack([alone] * 4))
    assert fb.rand(2).tolist() == after
    fb.manual_seed(3)
    different = vmap(draw, randomness="different")(zeros).numpy()
    assert len(np.unique(different)) == 12 and fb.default_generator._offset == 4 * drawn
    nested = vmap(vmap(lambda x: fb.rand(()), randomness="different"), randomness="different")(zeros)
    assert len(np.unique(nested.numpy())) == 12
    shared = vmap(vmap(lambda x: fb.rand(()), randomness="same"), randomness="different")(zeros).numpy()
    assert (shared == shared[:, :1]).all() and len(np.unique(shared)) == 4
    before = fb.default_generator._offset
    with pytest.raises(RuntimeError, match=r"\[vmap\] the function draws random numbers\. Pass randomness='different'"):
        vmap(draw)(zeros)
    assert fb.default_generator._offset == before


def test_chunks():
    x = data(7, 3)
    for size in (1, 2, 3, 7, 20):
        found = vmap(lambda a: (a.sum(), fb.ones(2)), out_dims=(0, None), chunk_size=size)(x)
        close(found[0], x.sum(1))
        assert found[1].shape == (2,)
    fb.manual_seed(0)
    same = vmap(lambda a: fb.rand(2), randomness="same", chunk_size=3)(x).numpy()
    assert (same == same[0]).all()


def test_a_repeated_call_compiles_nothing():
    x = data(5, 4)
    step = lambda: vmap(lambda a: (a * 2).softmax(0).sum())(x).tolist()  # noqa: E731
    first = [step() for _ in range(3)]
    before = recorder.stats()
    assert step() == first[0]
    after = recorder.stats()
    assert (after["misses"], after["builds"]) == (before["misses"], before["builds"])


def test_narrow_numbers_round_as_without_a_batch():
    x = data(5, 4).to(fb.float16)
    found, expected = vmap(lambda a: a.softmax(0) * 0.1)(x), x.softmax(1) * 0.1
    assert found.tolist() == expected.tolist()


X = fb.ones(2, 3)
REFUSED = [
    (lambda: vmap(lambda a: a, 1.5)(X), ValueError, "[vmap] in_dims is 1.5. Give an int"),
    (lambda: vmap(lambda a: a, (0, 0))(X), ValueError, "[vmap] in_dims is (0, 0), which is not nested as the 1"),
    (lambda: vmap(lambda a: a, None)(X), ValueError, "[vmap] no argument has samples"),
    (lambda: vmap(lambda a: a, 2)(X), ValueError, "[vmap] in_dims has 2 for a tensor of shape (2, 3)."),
    (lambda: vmap(lambda a, b: a)(X, 3), ValueError, "[vmap] an argument with in_dims 0 is a int."),
    (lambda: vmap(lambda a, b: a, (0, 1))(X, X), ValueError, "[vmap] arguments have 2, 3 samples."),
    (lambda: vmap(lambda a: 3)(X), ValueError, "[vmap] the function gives a int."),
    (lambda: vmap(lambda a: a, out_dims=None)(X), ValueError, "[vmap] out_dims is None for a result that differs"),
    (lambda: vmap(lambda a: a, out_dims=2)(X), IndexError, "[vmap] out_dims has 2 for a result of 2 axes."),
    (lambda: vmap(lambda a: a, out_dims=(0, 0))(X), ValueError, "[vmap] out_dims is (0, 0), which is not nested as"),
    (lambda: vmap(lambda a: a, randomness="some"), RuntimeError, "[vmap] randomness is 'some'."),
    (lambda: vmap(lambda a: a, chunk_size=0), ValueError, "[vmap] chunk_size is 0."),
    (lambda: vmap(lambda a: a.sum().item())(X), RuntimeError, "[vmap] a function that it may run reads a value"),
    (lambda: vmap(lambda a: X.add_(a.sum()))(X), RuntimeError, "[vmap] a function that it may run changes a tensor"),
]


@pytest.mark.parametrize("call, kind, text", REFUSED, ids=[text[7:30] for _, _, text in REFUSED])
def test_what_is_refused(call, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        call()
