"""The vjps: finite differences in float64, first and second order, for every record; and PyTorch's choices at kinks."""

from dataclasses import replace

import numpy as np
import opgen
import pytest
from flambeau.dialects import reference
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import OpRecord, find

DIFFERENTIABLE = [r for r in opgen.records() if callable(r.vjp) and r.name not in ("stop_gradient", "graft")]
#: Operands, by position, that a record gives no gradient, as PyTorch does not.
WITHOUT = {"zeta": (0,)}
#: Ops of symmetric matrices, which are moved only so that they stay symmetric: their gradients are symmetric, too.
SYMMETRIC = ("cholesky", "eigh")
#: Ops of vectors that have any phase where numbers are complex: `test_complex_matrices.py` has losses that do not depend on it.
OF_ANY_PHASE = ("eig", "eigh", "svd")
STEP = 2e-4


def floating(graph: Graph) -> list[int]:
    return [v for v in graph.inputs if graph.avals[v].dtype.is_inexact]


def inner(x: np.ndarray, y: np.ndarray) -> float:
    """The sum of x * y, of complex numbers over their parts: what a gradient in PyTorch's convention is for."""
    return float(np.sum(np.real(np.conj(x) * y)))


def uniform(generator: np.random.Generator, shape: tuple[int, ...], dtype) -> np.ndarray:
    made = np.asarray(generator.uniform(-1, 1, shape))
    return made + 1j * generator.uniform(-1, 1, shape) if dtype.is_complex else made


def directional(graph: Graph, arrays: list[np.ndarray], direction: list, weights: list[np.ndarray]) -> float:
    """The derivative of sum(weights * outputs) along `direction`, by a fourth-order central difference."""

    def value(t: float) -> float:
        moved = [x if d is None else x + t * d for x, d in zip(arrays, direction, strict=True)]
        outputs = reference.run(graph, moved)
        return sum(inner(w, y) for w, y in zip(weights, outputs, strict=True))

    near, far = value(STEP) - value(-STEP), value(2 * STEP) - value(-2 * STEP)
    return (8 * near - far) / (12 * STEP)


def check_gradient(
    graph: Graph, arrays: list[np.ndarray], order: int, label: str, without: tuple[int, ...], symmetric: bool = False
) -> None:
    """Finite differences of `graph` agree with its gradient to 1e-6 of its scale; then the same for that."""
    wrt = [v for v in floating(graph) if v not in [graph.inputs[i] for i in without]]
    generator = np.random.default_rng(11)
    weights = [uniform(generator, *graph.avals[v][:2]) for v in graph.outputs]
    gradient = opgen.gradient_graph(graph, wrt)
    cts = reference.run(gradient, [*arrays, *weights])
    kept = {v: ct for v, ct in zip(wrt, cts, strict=True)}
    for _ in range(2):
        direction = [
            uniform(generator, *graph.avals[v][:2]) if v in kept else None
            for v, x in zip(graph.inputs, arrays, strict=True)
        ]
        if symmetric:
            direction[0] = direction[0] + np.swapaxes(direction[0], -1, -2).conj()
        parts = [inner(kept[v], d) for v, d in zip(graph.inputs, direction, strict=True) if d is not None]
        scale = sum(np.sum(np.abs(kept[v] * d)) for v, d in zip(graph.inputs, direction, strict=True) if d is not None)
        expected = directional(graph, arrays, direction, weights)
        assert np.isfinite(expected), label
        assert abs(float(sum(parts)) - expected) <= 1e-6 * max(1.0, float(scale)), f"{label}, order {order}"
    if order < 2:
        check_gradient(gradient, [*arrays, *weights], order + 1, label, without, symmetric)


def float64_cases(record: OpRecord) -> list[opgen.Case]:
    """Samples at smooth points, and their float64 results: others cannot be checked by differences."""
    cases = [c for c in opgen.cases(record) if c.sample.gradient and floating(c.graph)]
    if record.name in OF_ANY_PHASE:
        cases = [c for c in cases if not any(a.dtype.is_complex for a in c.graph.avals)]
    cases = [c._replace(graph=_with_floating_outputs(c.graph)) for c in cases]
    return [
        c
        for c in cases
        if c.graph.outputs
        and all(c.graph.avals[v].dtype.to_real().name == "float64" for v in (*floating(c.graph), *c.graph.outputs))
    ]


def _with_floating_outputs(graph: Graph) -> Graph:
    return replace(graph, outputs=[v for v in graph.outputs if graph.avals[v].dtype.is_inexact])


@pytest.mark.accept("VER-01", "AG-01")
@pytest.mark.parametrize("record", DIFFERENTIABLE, ids=str)
def test_finite_differences(record: OpRecord) -> None:
    cases = float64_cases(record)
    assert cases or record.name == "eig"
    for case in cases:
        without, symmetric = WITHOUT.get(record.name, ()), record.name in SYMMETRIC
        check_gradient(case.graph, case.arrays, 1, case.id, without, symmetric)


def gradients(name: str, arrays: list, attrs: dict | None = None, order: int = 1) -> list[np.ndarray]:
    """Gradients of the sum of `name`'s result; of the sum of those for order 2."""
    arrays = [np.asarray(x) for x in arrays]
    graph = opgen.graph_of(find(name), arrays, attrs or {})
    wrt = floating(graph)
    for _ in range(order):
        arrays = [*arrays, *(np.ones(graph.avals[v].shape, graph.avals[v].dtype.numpy) for v in graph.outputs)]
        graph = opgen.gradient_graph(graph, wrt)
        wrt = graph.inputs[: len(wrt)]
    return reference.run(graph, arrays)


def test_float32_gradients_stay_float32() -> None:
    for record in DIFFERENTIABLE:
        for case in opgen.cases(record):
            wrt = [v for v in floating(case.graph) if case.graph.avals[v].dtype.name == "float32"]
            if wrt and case.graph.avals[case.graph.outputs[0]].dtype.is_floating_point:
                graph = opgen.gradient_graph(case.graph, wrt)
                assert [graph.avals[v] for v in graph.outputs] == [case.graph.avals[v] for v in wrt], case.id


def test_extremes_split_ties_and_reductions_share_them() -> None:
    x, y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 2.0])
    assert [g.tolist() for g in gradients("maximum", [x, y])] == [[0, 0.5, 1], [1, 0.5, 0]]
    assert [g.tolist() for g in gradients("minimum", [x, y])] == [[1, 0.5, 0], [0, 0.5, 1]]
    tied = np.array([[5.0, 5.0, 1.0, 5.0], [1.0, 2.0, 3.0, 4.0]])
    (shared,) = gradients("max", [tied], {"axes": (1,)})
    assert np.allclose(shared, [[1 / 3, 1 / 3, 0, 1 / 3], [0, 0, 0, 1]], atol=0, rtol=1e-15)


@pytest.mark.accept("RED-05")
@pytest.mark.parametrize("x", [[2.0, 3.0, 4.0], [0.0, 3.0, 4.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [7.0]])
def test_prod_beside_zeros(x: list[float]) -> None:
    """First and second derivatives of a product are products of the others, exactly, whatever is zero."""
    n = len(x)
    others = [np.prod([x[k] for k in range(n) if k != i]) for i in range(n)]
    twice = [sum(np.prod([x[k] for k in range(n) if k not in (i, j)]) for j in range(n) if j != i) for i in range(n)]
    assert gradients("prod", [np.array(x)], {"axes": (0,)})[0].tolist() == others
    assert gradients("prod", [np.array(x)], {"axes": (0,)}, order=2)[0].tolist() == twice


@pytest.mark.accept("PW-24")
def test_select_is_safe_beside_nan() -> None:
    builder_x = np.array([4.0, -1.0])
    from flambeau.dialects.builder import GraphBuilder
    from flambeau.dialects.reference import aval_of

    builder = GraphBuilder()
    x = builder.input(aval_of(builder_x))
    positive = x > 0
    safe = find("select")(positive, find("sqrt")(find("select")(positive, x, x.like(1))), x.like(0))
    builder.graph.outputs = [safe.id]
    (gradient,) = reference.run(opgen.gradient_graph(builder.graph, [x.id]), [builder_x, np.ones(2)])
    assert gradient.tolist() == [0.25, 0.0]
    chosen = gradients("select", [np.array([True, False]), np.array([1.0, np.nan]), np.array([np.inf, 2.0])])
    assert [g.tolist() for g in chosen] == [[1.0, 0.0], [0.0, 1.0]]


_AT_KINKS = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -2.5, np.inf, -np.inf, np.nan])
_UNARY = ["abs", "sign", "floor", "ceil", "round", "trunc", "sqrt", "rsqrt", "neg"]
_SMOOTH = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sin", "cos"]


@pytest.mark.accept("PW-06", "VER-03")
@pytest.mark.parametrize("name", [*_UNARY, *_SMOOTH])
def test_unary_gradients_as_in_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(_AT_KINKS, requires_grad=True)
    getattr(torch, name)(x).sum().backward()
    np.testing.assert_allclose(gradients(name, [_AT_KINKS])[0], x.grad.numpy(), rtol=1e-14, atol=1e-15)


@pytest.mark.accept("PW-07", "PW-16", "VER-03")
@pytest.mark.parametrize("name", ["maximum", "minimum", "pow", "mul", "div", "add", "sub"])
def test_binary_gradients_as_in_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    values = _AT_KINKS if name != "pow" else np.array([0.0, 1.0, -1.0, 2.0, 3.0, 0.5, -0.5, 1.5, -2.0])
    grid = [np.ascontiguousarray(g.ravel()) for g in np.meshgrid(values, values)]
    x, y = (torch.tensor(g, requires_grad=True) for g in grid)
    getattr(torch, name)(x, y).sum().backward()
    for ours, theirs in zip(gradients(name, grid), (x.grad, y.grad), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-13)


@pytest.mark.accept("VER-03")
def test_reduction_gradients_as_in_torch() -> None:
    torch = pytest.importorskip("torch")
    numbers = np.array([[1.0, 3.0, 3.0], [0.0, 0.0, 2.0], [-np.inf, 1.0, np.inf]])
    for name, torch_name in (("sum", "sum"), ("max", "amax"), ("min", "amin")):
        for axes in ((0,), (1,), (0, 1)):
            leaf = torch.tensor(numbers, requires_grad=True)
            getattr(torch, torch_name)(leaf, axes).sum().backward()
            np.testing.assert_allclose(gradients(name, [numbers], {"axes": axes})[0], leaf.grad.numpy(), rtol=1e-15)
    x = np.array([[1.0, 3.0, 3.0], [0.0, np.nan, 2.0], [np.nan, 1.0, np.inf]])
    for name in ("max", "min"):  # at NaN as torch.max(x), also where some axes are reduced
        leaf = torch.tensor(x, requires_grad=True)
        getattr(torch, name)(leaf).backward()
        np.testing.assert_allclose(gradients(name, [x], {"axes": (0, 1)})[0], leaf.grad.numpy(), rtol=1e-15)
    x = numbers
    leaf = torch.tensor(x[:2], requires_grad=True)
    leaf.prod(1).sum().backward()
    np.testing.assert_allclose(gradients("prod", [x[:2]], {"axes": (1,)})[0], leaf.grad.numpy(), rtol=1e-15)
