"""Forward mode: of every record against its vjp, of functions against formulas, and that it costs no gradient on the way."""

from collections import deque

import flambeau as fb
import numpy as np
import opgen
import pytest
from flambeau.autograd import forward_ad, functional
from flambeau.compiler.plans import devices
from flambeau.dialects import forward, reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float64
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import NoGradient, find
from flambeau.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from support import rounds

pytestmark = pytest.mark.accept("AG-15")
RECORDS = [r for r in opgen.records() if not isinstance(r.vjp, NoGradient) and r.name not in ("graft", "stop_gradient")]


def tangent_graph(graph: Graph, wrt: list[int]) -> Graph:
    """From the forward's inputs and tangents of `wrt` to the tangents of its outputs."""
    b = GraphBuilder()
    values = {v: b.input(graph.avals[v]) for v in graph.inputs}
    tangents = {v: b.input(graph.avals[v]) for v in wrt}
    found = forward.jvp(b, graph, values, tangents, graph.outputs)
    zeros = [b.constant(0, graph.avals[v].dtype, graph.avals[v].shape) for v in graph.outputs]
    b.graph.outputs = [z.id if t is None else t.id for t, z in zip(found, zeros, strict=True)]
    return b.graph


def random(avals, seed=5):
    generator = np.random.default_rng(seed)
    return [np.asarray(generator.normal(size=a.shape), a.dtype.numpy) for a in avals]


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_tangents_of_a_record_are_its_gradients_transposed(record):
    """<ct, J t> is <ct J, t>, and there are records whose vjp is tested by finite differences."""
    cases = [c for c in opgen.cases(record, narrow=False) if c.sample.gradient and sum(x.size for x in c.arrays) < 500]
    for case in [c for c in cases if c.arrays[0].dtype in (bool, np.float64)][: rounds(3, 8, 100)]:
        graph = case.graph
        wrt = [v for v in graph.inputs if graph.avals[v].dtype is float64]
        outputs = [v for v in graph.outputs if graph.avals[v].dtype is float64]
        if not wrt or not outputs:
            continue
        graph = Graph(graph.avals, graph.inputs, graph.nodes, outputs)
        ts, cts = (random([graph.avals[v] for v in values], len(values)) for values in (wrt, outputs))
        gradients = reference.run(opgen.gradient_graph(graph, wrt), [*case.arrays, *cts])
        tangents = reference.run(tangent_graph(graph, wrt), [*case.arrays, *ts])
        left = sum(np.vdot(ct, t) for ct, t in zip(cts, tangents, strict=True))
        right = sum(np.vdot(g, t) for g, t in zip(gradients, ts, strict=True))
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


def test_a_rule_has_only_what_is_linear_in_the_tangents():
    """No gradient is computed on the way: a sine's tangent is a cosine and a product, a product of matrices is two of them."""
    b = GraphBuilder()
    x, w = b.input(Aval((3, 4), float64)), b.input(Aval((4, 5), float64))
    find("sin")(x)
    find("matmul")(x, w)
    for node, names in zip(b.graph.nodes, (["cos", "mul"], ["add", "matmul", "matmul"]), strict=True):
        rule = forward._rule(b.graph, node, (True,) * len(node.operands))
        assert sorted(n.op.name for n in rule.nodes if n.op.name != "permute") == names


def data(*shape: int, seed: int = 0) -> fb.Tensor:
    return fb.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape))


def close(found, expected) -> None:
    found, expected = (x.detach().numpy() if isinstance(x, fb.Tensor) else np.asarray(x) for x in (found, expected))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_jvp_of_functions():
    x, t, w = data(4), data(4, seed=1), data(4, 3, seed=2)
    value, along = jvp(lambda x: (x @ w).sin(), (x,), (t,))
    close(value, (x @ w).sin())
    close(along, (x @ w).cos() * (t @ w))
    assert not value.requires_grad and not along.requires_grad
    value, along, aux = jvp(lambda a: ({"y": a[0] * a[1], "z": w}, "aux"), ([x, x],), ([t, 2 * t],), has_aux=True)
    close(along["y"], 3 * x * t)
    close(along["z"], w * 0)
    assert aux == "aux"

    def in_place(x):
        y = x.clone()
        y[:2] *= x[2:]
        return y.mul_(3)

    found = jvp(in_place, (x,), (t,))[1]
    close(found[:2], 3 * (t[:2] * x[2:] + x[:2] * t[2:]))
    with pytest.raises(RuntimeError, match=r"\[jvp\] tangents have shapes"):
        jvp(lambda x: x, (x,), (w,))
    with pytest.raises(RuntimeError, match=r"\[jvp\] primals and tangents are tuples"):
        jvp(lambda x: x, x, t)
    with pytest.raises(RuntimeError, match=r"\[jvp\] result 0 does not depend on the primals"):
        jvp(lambda x: w, (x,), (t,), strict=True)


def test_forward_and_reverse_in_any_order():
    x, t = data(4), data(4, seed=1)
    f = lambda x: (x.exp() * x).sum()  # noqa: E731
    second = lambda x: (x + 2) * x.exp()  # noqa: E731
    close(jvp(grad(f), (x,), (t,))[1], second(x) * t)
    close(grad(lambda x: jvp(f, (x,), (t,))[1])(x), second(x) * t)
    close(jvp(lambda x: jvp(f, (x,), (t,))[1], (x,), (t,))[1], (second(x) * t * t).sum())
    close(vjp(lambda x: jvp(f, (x,), (t,))[1], x)[1](fb.ones((), dtype=fb.float64))[0], second(x) * t)
    close(vmap(lambda x, t: jvp(lambda x: x.sin(), (x,), (t,))[1])(x, t), x.cos() * t)
    close(jvp(vmap(lambda x: x.sin()), (x,), (t,))[1], x.cos() * t)
    value, derivative = linearize(lambda x: x.sin(), x)
    close(value, x.sin())
    for scale in (1, 2):
        close(derivative(t * scale), x.cos() * t * scale)
    eye = fb.eye(4, dtype=fb.float64)
    close(vmap(derivative)(eye), np.diag(x.cos().numpy()))


def test_what_was_recorded_outside_of_a_batch_is_gone_through_within():
    """The usual ways to write Jacobians: `vmap` of the functions that `vjp` and `linearize` give, before and after a look."""
    eye = fb.eye(4, dtype=fb.float64)
    for seed, look in ((0, False), (1, True), (2, False)):
        x = data(4, seed=seed)
        value, pull = vjp(lambda x: x.sin() * x, x)
        _, push = linearize(lambda x: x.sin() * x, x)
        if look:
            value.numpy()
        expected = np.diag((x.cos() * x + x.sin()).numpy())
        close(vmap(pull)(eye)[0], expected)
        close(vmap(push)(eye), expected)
        close(vmap(vmap(push))(fb.stack([eye, 2 * eye])), np.stack([expected, 2 * expected]))


class Twice(fb.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, ct):
        return 2 * ct


def test_gradients_of_ones_own_have_no_tangents():
    with pytest.raises(RuntimeError, match=r"\[jvp\] an autograd\.Function is on the way"):
        jvp(Twice.apply, (data(3),), (data(3),))
    close(jacrev(lambda x: Twice.apply(x).sin())(data(3)), np.diag(2 * (2 * data(3)).cos().numpy()))


def test_loops_and_choices():
    x, t = data(3), data(3, seed=1)

    def power(x):
        return fb.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * x), (fb.tensor(0), x))[1]

    close(jvp(power, (x,), (t,))[1], 4 * x**3 * t)
    choice = lambda x: fb.cond(x.sum() > 0, lambda x: x.exp(), lambda x: x * x, (x,))  # noqa: E731
    for y in (x.abs(), -x.abs()):
        close(jvp(choice, (y,), (t,))[1], (y.exp() if y.sum() > 0 else 2 * y) * t)


def jacobian(f, x):
    """By central differences."""
    columns = []
    for k in range(x.numel()):
        step = fb.zeros(x.numel(), dtype=fb.float64)
        step[k] = 1e-6
        step = step.reshape(x.shape)
        columns.append(((f(x + step) - f(x - step)) / 2e-6).numpy())
    return np.stack(columns, -1).reshape(*f(x).shape, *x.shape)


def test_jacobians():
    x, w = data(2, 3), data(3, 4, seed=1)
    f = lambda x: (x @ w).tanh()  # noqa: E731
    expected = jacobian(f, x)
    for derivative in (jacrev, jacfwd):
        for size in (None, 1, 4):
            np.testing.assert_allclose(derivative(f, chunk_size=size)(x).numpy(), expected, rtol=1e-7, atol=1e-9)
        both, aux = derivative(lambda x, w: ({"y": x @ w}, x), (0, 1), has_aux=True)(x, w)
        assert [tuple(j.shape) for j in both["y"]] == [(2, 4, 2, 3), (2, 4, 3, 4)] and aux.shape == (2, 3)
        close(derivative(lambda x: w)(x), np.zeros((3, 4, 2, 3)))
        assert derivative(lambda x: x[:0])(x).shape == (0, 3, 2, 3)
        with pytest.raises(ValueError, match=r"chunk_size is 0\. Give at least 1"):
            derivative(f, chunk_size=0)
    for strategy in ("reverse-mode", "forward-mode"):
        found = functional.jacobian(f, x, vectorize=True, strategy=strategy)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-7, atol=1e-9)
    close(
        functional.jacobian(lambda x, y: (x * y, x), (x, x), vectorize=True)[0][1],
        np.einsum("ij,ik,jl->ijkl", x, np.eye(2), np.eye(3)),
    )
    with pytest.raises(NotImplementedError, match=r"\[jacobian\] forward mode needs vectorize=True"):
        functional.jacobian(f, x, strategy="forward-mode")
    with pytest.raises(RuntimeError, match=r"\[jacobian\] there is no strategy 'both'"):
        functional.jacobian(f, x, strategy="both")
    close(functional.jvp(f, x, x)[1], np.einsum("ijkl,kl->ij", jacrev(f)(x), x))


def test_hessians():
    x = data(5)
    f = lambda x: (x.roll(1) * x * x).sum()  # noqa: E731
    found = hessian(f)(x)
    close(found, jacrev(jacrev(f))(x))
    close(found, jacfwd(jacfwd(f))(x))
    close(found, jacrev(jacfwd(f))(x))
    close(found, functional.hessian(f, x, vectorize=True))
    np.testing.assert_allclose(found.numpy(), jacobian(grad(f), x), rtol=1e-6, atol=1e-8)
    close(vmap(hessian(f))(fb.stack([x, 2 * x])), fb.stack([found, hessian(f)(2 * x)]))
    close(jacrev(vmap(lambda x: x.sin()))(x), np.diag(x.cos().numpy()))


def steps(monkeypatch, call) -> int:
    """How many steps the programs have that a call compiles."""
    made, link = [], devices.link
    with monkeypatch.context() as patched, fb.compiler_options(mode="blocking"):
        patched.setattr(devices, "link", lambda *a: made.append(a[0]) or link(*a))
        call()
    return sum(len(program.spec.steps) for program in made)


def test_kernels_are_counted(monkeypatch):
    """A jvp has no more kernels than value and tangent need, and a Jacobian as many for any number of rows."""
    w = data(8, 8)
    f = lambda x: (x @ w).tanh() @ w  # noqa: E731
    x = data(8)
    assert steps(monkeypatch, lambda: [y.numpy() for y in jvp(f, (x,), (x,))]) <= 6
    rows = lambda n: jacrev(lambda x: (x @ w)[:n].sin())(x).numpy()  # noqa: E731
    counts = [steps(monkeypatch, lambda: rows(3)), steps(monkeypatch, lambda: rows(7))]
    assert counts[0] == counts[1] and 0 < counts[0] <= 7  # one of them packs w, once while it stays the same


#: Functions whose value takes several steps that do not fuse into one.
STEPS = {
    "products": lambda x, w: ((x @ w).tanh() @ w).sin() @ w,
    "softmax": lambda x, w: (x @ w).softmax(-1) @ w,
    "norm": lambda x, w: fb.nn.functional.layer_norm(x @ w, (8,)) @ w,
    "scan": lambda x, w: (x @ w).cumsum(-1) * x.logsumexp(-1),
    "choice": lambda x, w: (x @ w).amax(-1) * w[0].gather(0, x.argsort(-1)[:3]).sum(),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_jvp_costs_two_values_and_a_batch_of_them_one(monkeypatch, name):
    """No gradient of a gradient, which has as many steps again, and no loop over the batch."""
    f, w, x = STEPS[name], data(8, 8), data(8)
    value = steps(monkeypatch, lambda: f(x, w).numpy())
    along = lambda x, t: jvp(lambda x: f(x, w), (x,), (t,))[1]  # noqa: E731
    alone = steps(monkeypatch, lambda: along(x, x).numpy())
    assert 0 < alone <= 2 * value, (alone, value)
    counts = [steps(monkeypatch, lambda: vmap(along)(data(n, 8), data(n, 8)).numpy()) for n in (5, 40)]  # noqa: B023
    assert 0 < counts[1] <= counts[0] <= alone + 2, (counts, alone)
    few = data(3, 8)
    close(vmap(along)(few, few), fb.stack([along(x, x) for x in few]))


def test_duals():
    x, t = data(4), data(4, seed=1)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, t)
        assert forward_ad.unpack_dual(dual).tangent.tolist() == t.tolist()
        out = dual.sin() * x
        primal, tangent = forward_ad.unpack_dual(out)
        close(primal, x.sin() * x)
        close(tangent, x.cos() * t * x)
        assert not primal.requires_grad and not tangent.requires_grad
        dual.mul_(2)
        close(forward_ad.unpack_dual(dual).tangent, 2 * t)
        assert forward_ad.unpack_dual(x) == (x, None)
        with pytest.raises(RuntimeError, match=r"\[forward_ad\] there is a level already"):
            forward_ad.enter_dual_level()
        with pytest.raises(RuntimeError, match=r"\[make_dual\] the tangent is float64 of shape"):
            forward_ad.make_dual(x, t[:2])
        with pytest.raises(ValueError, match=r"\[make_dual\] the tensor is int64"):
            forward_ad.make_dual(fb.arange(3), fb.arange(3))
        with fb.no_grad(), pytest.raises(RuntimeError, match=r"\[make_dual\] gradients are disabled here"):
            forward_ad.make_dual(x, t)
        leaf = x.clone().requires_grad_()
        mixed = forward_ad.unpack_dual(forward_ad.make_dual(leaf, t).exp()).tangent
        close(fb.autograd.grad(mixed.sum(), leaf)[0], x.exp() * t)
    assert forward_ad.unpack_dual(out).tangent is None
    with pytest.raises(RuntimeError, match=r"\[make_dual\] there is no level"):
        forward_ad.make_dual(x, t)
    with pytest.raises(RuntimeError, match=r"\[exit_dual_level\] there is no level"):
        forward_ad.exit_dual_level()


def test_transforms_agree_with_pytorch():
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(3)
    w, x, t = (generator.normal(size=s) for s in ((4, 6), (5, 4), (5, 4)))

    def energy(w, row):
        return ((row @ w).tanh() ** 2).sum()

    def found(m):
        ours = [m.tensor(a) for a in (w, x, t)]
        f = m.func
        yield f.vmap(f.grad(energy), (None, 0))(ours[0], ours[1])
        yield f.hessian(energy, 1)(ours[0], ours[1][0])
        yield f.jacfwd(f.vmap(energy, (None, 0)), 1)(ours[0], ours[1])
        yield f.jacrev(f.vmap(energy, (None, 0)))(ours[0], ours[1])
        yield f.vmap(lambda row, t: f.jvp(lambda row: energy(ours[0], row), (row,), (t,))[1])(ours[1], ours[2])
        yield f.vmap(f.jacrev(f.grad(energy, 1), 1), (None, 1), 2)(ours[0], ours[1].T)
        yield f.linearize(lambda row: energy(ours[0], row).exp(), ours[1][0])[1](ours[2][0])

    for ours, theirs in zip(found(fb), found(torch), strict=True):
        assert tuple(ours.shape) == tuple(theirs.shape)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("of", [grad, jacrev, jacfwd])
def test_what_is_no_tree_of_tensors_has_no_gradient(of):
    x = fb.ones(3)
    for given in (deque([x]), {"x": x, "n": 3}, [x, "name"]):
        with pytest.raises(ValueError, match=r"an argument to differentiate has a \w+ in it"):
            of(lambda tree: x.sum())(given)
    with pytest.raises(RuntimeError, match=r"argnums is \(0, -2\), which names an argument twice"):
        of(lambda a, b: (a * b).sum(), argnums=(0, -2))(x, x)
    with pytest.raises(ValueError, match=r"\[vjp\] an argument to differentiate has a float in it"):
        vjp(lambda a, b: a * b, x, 2.0)
    assert of(lambda a, n: (a[0] * n).sum())((x, None), 3)[0].tolist() == [3.0, 3.0, 3.0]
