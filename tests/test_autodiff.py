"""The differentiation engine: chains, sharing, order of addition, what it reads, keeps and leaves alone."""

import numpy as np
import opgen
import pytest
from flambeau.dialects import reference
from flambeau.dialects.autodiff import readers, requires_gradient, residuals, vjp
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder, Value
from flambeau.dialects.dtypes import by_name
from flambeau.dialects.graph import Graph, Loc
from flambeau.dialects.record import REGISTRY, Kind, NoGradient, OpRecord, find

F64, F32, I64 = by_name("float64"), by_name("float32"), by_name("int64")


def program(*shapes: tuple[int, ...]) -> tuple[GraphBuilder, list[Value]]:
    builder = GraphBuilder()
    return builder, [builder.input(Aval(shape, F64)) for shape in shapes]


def differentiate(
    forward: Graph, wrt: list[int], given: dict[int, Value] | None = None
) -> tuple[Graph, list[Value | None]]:
    """A graph from the forward's inputs and output cotangents to the gradients; `given` limits the forward values."""
    builder = GraphBuilder()
    values = {v: builder.input(forward.avals[v]) for v in forward.inputs}
    cts = {v: builder.input(forward.avals[v]) for v in forward.outputs}
    found = vjp(builder, forward, values if given is None else given, cts, wrt)
    builder.graph.outputs = [v.id for v in found if v is not None]
    return builder.graph, found


def count(graph: Graph, name: str) -> int:
    return sum(node.op.name == name for node in graph.nodes)


def mlp() -> tuple[Graph, dict[str, int]]:
    """mean((tanh(x @ w1 + b1) @ w2 - t)^2), an ordinary training graph."""
    builder, (x, w1, b1, w2, t) = program((4, 3), (3, 5), (1, 5), (5, 2), (4, 2))
    hidden = find("tanh")(find("matmul")(x, w1) + b1.expand((4, 5)))
    error = find("matmul")(hidden, w2) - t
    total = find("sum")(error * error, axes=(0, 1))
    scale = total.like(0.125)
    loss = total * scale
    builder.graph.outputs = [loss.id]
    ids = {
        "x": x.id,
        "w1": w1.id,
        "b1": b1.id,
        "w2": w2.id,
        "t": t.id,
        "scale": scale.id,
        "hidden": hidden.id,
        "error": error.id,
    }
    return builder.graph, ids


def arrays_of(graph: Graph) -> list[np.ndarray]:
    generator = np.random.default_rng(6)
    return [np.asarray(generator.normal(size=graph.avals[v].shape)) for v in graph.inputs]


@pytest.mark.accept("AG-01", "VER-03")
def test_mlp_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    forward, ids = mlp()
    arrays = arrays_of(forward)
    wrt = [ids["w1"], ids["b1"], ids["w2"], ids["x"]]
    ours = reference.run(opgen.gradient_graph(forward, wrt), [*arrays, np.ones(())])
    x, w1, b1, w2, t = (torch.tensor(a, requires_grad=True) for a in arrays)
    (((x @ w1 + b1).tanh() @ w2 - t) ** 2).mean().backward()
    for our, their in zip(ours, (w1.grad, b1.grad, w2.grad, x.grad), strict=True):
        np.testing.assert_allclose(our, their.numpy(), rtol=1e-12)


def test_only_what_is_asked_for_is_computed() -> None:
    """The gradient of w2 alone needs one matmul and no derivative of tanh."""
    forward, ids = mlp()
    graph, _ = differentiate(forward, [ids["w2"]])
    assert count(graph, "matmul") == 1 + count(forward, "matmul")  # the forward's are computed again: no values given
    assert sorted(readers(forward, forward.outputs, [ids["w2"]])) == [ids["hidden"], ids["error"], ids["scale"]]
    full = sorted(readers(forward, forward.outputs, [ids["w1"], ids["w2"]]))
    assert full == [ids["x"], ids["w2"], ids["hidden"], ids["error"], ids["scale"]]


def test_residuals_are_inputs_and_kept_results() -> None:
    forward, ids = mlp()
    kept = residuals(forward, forward.outputs, [ids["w1"], ids["w2"]])
    producers = forward.producers()
    assert all(v in forward.inputs or producers[v].op.keep for v in kept)
    matmuls = {n.results[0] for n in forward.nodes if n.op.name == "matmul"}
    assert set(kept) == matmuls | {ids[name] for name in ("x", "b1", "w2", "t")}


def test_backward_from_residuals_has_the_same_bits() -> None:
    """Values that were not kept are computed again; the gradient does not notice."""
    forward, ids = mlp()
    wrt = [ids["w1"], ids["b1"], ids["w2"]]
    arrays = arrays_of(forward)
    whole = reference.run(opgen.gradient_graph(forward, wrt), [*arrays, np.ones(())])
    kept = residuals(forward, forward.outputs, wrt)
    builder = GraphBuilder()
    values = {v: builder.input(forward.avals[v]) for v in kept}
    seed = builder.input(forward.avals[forward.outputs[0]])
    found = vjp(builder, forward, values, {forward.outputs[0]: seed}, wrt)
    builder.graph.outputs = [v.id for v in found if v is not None]
    assert count(builder.graph, "tanh") == 1
    probe = Graph(forward.avals, forward.inputs, forward.nodes, kept)
    parts = reference.run(builder.graph, [*reference.run(probe, arrays), np.ones(())])
    assert all(opgen.same_bits(a, b) for a, b in zip(whole, parts, strict=True))


def test_missing_input_is_named() -> None:
    forward, ids = mlp()
    builder = GraphBuilder()
    seed = builder.input(forward.avals[forward.outputs[0]])
    with pytest.raises(KeyError, match=r"input \d+ of the graph is read by a gradient but was not given"):
        vjp(builder, forward, {}, {forward.outputs[0]: seed}, [ids["w1"]])


def test_shared_values_add_up_from_the_last_use_to_the_first() -> None:
    """y = x*a + x*b + x*c: the cotangents of x are ((ct*c) + (ct*b)) + (ct*a), to the bit."""
    builder, (x, a, b, c) = program((), (), (), ())
    builder.graph.outputs = [((x * a + x * b) + x * c).id]
    arrays = [np.asarray(v) for v in (1.0, 0.1, 0.2, 0.3)]
    (gradient,) = reference.run(opgen.gradient_graph(builder.graph, [x.id]), [*arrays, np.ones(())])
    assert gradient == (0.3 + 0.2) + 0.1
    assert (0.3 + 0.2) + 0.1 != (0.1 + 0.2) + 0.3


def test_operands_of_one_node_add_from_left_to_right() -> None:
    builder, (x,) = program(())
    builder.graph.outputs = [find("div")(x, x).id]
    graph, _ = differentiate(builder.graph, [x.id])
    (first,) = [n for n in graph.nodes if n.op.name == "add"]
    left = graph.producers()[first.operands[0]]
    assert left.op.name == "div" and first.results[0] == graph.outputs[0]


def test_given_cotangents_are_added_to_first() -> None:
    """A value may be an output and an operand: both parts arrive. `wrt` may name it, too."""
    builder, (x,) = program((3,))
    y = x * 2.0
    z = y * y
    builder.graph.outputs = [y.id, z.id]
    graph, _ = differentiate(builder.graph, [x.id, y.id, z.id])
    ct_y, ct_z = np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])
    to_x, to_y, to_z = reference.run(graph, [np.ones(3), ct_y, ct_z])
    assert to_y.tolist() == (ct_y + ct_z * 4).tolist() and to_x.tolist() == (2 * to_y).tolist()
    assert to_z is ct_z or to_z.tolist() == ct_z.tolist()


def test_nothing_flows_where_nothing_depends() -> None:
    builder, (x, y) = program((3,), (3,))
    builder.graph.outputs = [(x * 2.0).id]
    assert [v is None for v in differentiate(builder.graph, [x.id, y.id])[1]] == [False, True]


def test_integers_and_booleans_get_no_cotangents() -> None:
    """A path through an int64 cast or a comparison is no path."""
    builder, (x,) = program((3,))
    index = x.cast(I64).cast(F64)
    mask = (x > 0).cast(F64)
    y = x * mask + index
    builder.graph.outputs = [y.id]
    assert index.id not in requires_gradient(builder.graph, [x.id]) and y.id in requires_gradient(builder.graph, [x.id])
    graph, _ = differentiate(builder.graph, [x.id])
    (gradient,) = reference.run(graph, [np.array([1.0, -1.0, 2.0]), np.ones(3)])
    assert gradient.tolist() == [1.0, 0.0, 1.0]


def test_stop_gradient_cuts_the_path_and_what_is_read() -> None:
    import flambeau.dialects.history  # noqa: F401

    builder, (x, y) = program((3,), (3,))
    hidden = find("exp")(find("stop_gradient")(x * y))
    builder.graph.outputs = [(hidden * y).id]
    assert hidden.id not in requires_gradient(builder.graph, [x.id, y.id])
    assert sorted(readers(builder.graph, builder.graph.outputs, [x.id, y.id])) == [hidden.id]
    assert [v is None for v in differentiate(builder.graph, [x.id, y.id])[1]] == [True, False]


def test_casts_between_floats_pass() -> None:
    builder, (x,) = program((2,))
    builder.graph.outputs = [x.cast(F32).id]
    graph, (gradient,) = differentiate(builder.graph, [x.id])
    assert gradient is not None and gradient.dtype is F64
    assert reference.run(graph, [np.ones(2), np.array([3.0, 0.5], np.float32)])[0].tolist() == [3.0, 0.5]


def test_emitted_nodes_carry_the_forward_line() -> None:
    builder, (x,) = program((2,))
    builder.loc = Loc("model.py", 7)
    y = find("exp")(x)
    builder.loc = Loc("model.py", 8)
    builder.graph.outputs = [(y * y).id]
    graph, _ = differentiate(builder.graph, [x.id])
    lines = {node.loc.line for node in graph.nodes if node.loc}
    assert lines == {7, 8} and all(node.loc for node in graph.nodes)


def test_an_op_without_gradient_is_refused_by_name_and_line() -> None:
    name = "opaque_for_a_test"
    opaque = OpRecord(
        name=name,
        kind=Kind.VIEW,
        attrs=(),
        infer=lambda x: x,
        reference=lambda x: x,
        vjp=NoGradient("nobody knows it"),
        lower=None,
        dtypes=(F64,),
    )
    try:
        builder, (x,) = program((2,))
        builder.loc = Loc("model.py", 3)
        builder.graph.outputs = [opaque(x).id]
        with pytest.raises(RuntimeError) as caught:
            differentiate(builder.graph, [x.id])
    finally:
        del REGISTRY[name]
    text = "[opaque_for_a_test] has no gradient: nobody knows it. Detach its operands (model.py:3)."
    assert str(caught.value) == text


def test_a_wrong_vjp_is_refused() -> None:
    name = "wrong_for_a_test"
    fields = dict(kind=Kind.VIEW, attrs=(), infer=lambda x: x, reference=lambda x: x, lower=None, dtypes=(F64,))
    wrong = OpRecord(name=name, vjp=lambda ct, r, x: (find("sum")(ct, axes=(0,)),), **fields)
    try:
        builder, (x,) = program((2,))
        builder.graph.outputs = [wrong(x).id]
        with pytest.raises(RuntimeError, match=r"\[wrong_for_a_test\] its vjp gives f64 for an operand of type 2xf64"):
            differentiate(builder.graph, [x.id])
    finally:
        del REGISTRY[name]


@pytest.mark.accept("AG-01")
def test_third_order() -> None:
    """d3/dx3 of sum(x^4) is 24x, by differentiating three times."""
    builder, (x,) = program((3,))
    builder.graph.outputs = [find("sum")((x * x) * (x * x), axes=(0,)).id]
    graph, arrays = builder.graph, [np.array([1.0, -2.0, 0.5])]
    for _ in range(3):
        arrays += [np.ones(graph.avals[v].shape) for v in graph.outputs]
        graph = opgen.gradient_graph(graph, graph.inputs[:1])
    assert reference.run(graph, arrays)[0].tolist() == [24.0, -48.0, 12.0]


def test_long_chains_do_not_recurse() -> None:
    builder, (x,) = program(())
    y = x
    for _ in range(5000):
        y = find("neg")(y)
    builder.graph.outputs = [(y * y).id]
    graph, _ = differentiate(builder.graph, [x.id])
    assert reference.run(graph, [np.asarray(3.0), np.ones(())])[0] == 6.0
    assert sorted(readers(builder.graph, builder.graph.outputs, [x.id])) == [y.id]
    assert residuals(builder.graph, builder.graph.outputs, [x.id]) == [x.id]
