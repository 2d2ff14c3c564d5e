"""`grad_fn`: nodes by the names of functions, before and after a look; anomaly mode; hooks on several tensors."""

import flambeau as fb
import numpy as np
import pytest
from flambeau import autograd
from flambeau.autograd import graph
from flambeau.runtime import recorder

W, X = fb.ones(3, 2, requires_grad=True), fb.ones(4, 3)


def names(node):
    """The history as nested tuples of names."""
    if node is None:
        return None
    return (node.name(), *[names(before) for before, _ in node.next_functions])


@pytest.mark.parametrize("look", [False, True])
def test_nodes_are_named_by_the_functions_that_were_called(look):
    hidden = X @ W
    y = (hidden.sin() * 2 + hidden).T.sum()
    if look:
        y.item()
    before = recorder.stats()["pending_ops"]
    product = ("MatmulBackward0", None, ("AccumulateGrad",))
    expected = (
        "SumBackward0",
        ("TBackward0", ("AddBackward0", ("MulBackward0", ("SinBackward0", product), None), product)),
    )
    found = names(y.grad_fn)
    assert found == expected or found == ("SumBackward0", (expected[1][0], expected[1][1]))
    assert recorder.stats()["pending_ops"] == before
    assert y.grad_fn == y.grad_fn and y.grad_fn != hidden.grad_fn and repr(hidden.grad_fn) == "<MatmulBackward0>"
    assert repr(y).endswith("grad_fn=<SumBackward0>)")
    file, line = y.grad_fn.line
    assert file.endswith("test_graph_nodes.py") and line > 0


def test_leaves_and_what_has_no_history_have_no_node():
    assert W.grad_fn is None and X.grad_fn is None and (W * 2).detach().grad_fn is None
    with fb.no_grad():
        assert (W * 2).grad_fn is None
    y = W * 2
    y.add_(1)
    assert names(y.grad_fn) == ("AddBackward0", ("MulBackward0", ("AccumulateGrad",), None), None)


@pytest.mark.parametrize("look", [False, True])
def test_nodes_of_sizes_that_change(look):
    recorder.clear()
    for rows in (
        3,
        5,
        4,
        2,
        6,
    ):  # 4 is also the number of columns: another pattern, in which one is asked for the other
        x, layer, leaf = fb.tensor([[1.0] * 4] * rows, requires_grad=True), fb.nn.BatchNorm1d(4), ("AccumulateGrad",)
        hidden = layer(x)
        if look:
            hidden.sum().item()
        y = hidden.exp().sum()
        assert names(y.grad_fn)[1] == ("ExpBackward0", ("BatchNormBackward0", leaf, leaf, leaf, None))
        y.backward()
        assert layer.running_mean.tolist() == [fb.tensor(0.1).item()] * 4
    assert recorder.stats()["patterns"] > 0


def test_results_of_one_call_are_told_apart():
    values, _ = (W * 1).sort(0)
    y = values.exp()
    ((node, number),) = y.grad_fn.next_functions
    assert node.name().startswith("Sort") and number == 0


def test_anomaly_mode_names_op_and_line():
    x = fb.tensor([0.0, 4.0], requires_grad=True)

    def step():
        return (x.sqrt() * 0).sum()  # 0 * inf

    step().backward()
    assert x.grad[0].isnan().item()
    with (
        autograd.detect_anomaly(),
        pytest.raises(RuntimeError, match=r"\[backward\] the gradient of \w+ by its operand 0 has NaN"),
    ):
        step().backward()
    with autograd.detect_anomaly(check_nan=False):
        step().backward()
    with autograd.set_detect_anomaly(True):
        with pytest.raises(RuntimeError, match=r"test_graph_nodes\.py"):
            autograd.grad(step(), x)
        (found,) = autograd.grad((x * 3).sum(), x)
        assert found.tolist() == [3.0, 3.0]
    step().backward()


def test_hooks_on_several_tensors():
    a, b, c = (fb.ones(2, requires_grad=True) for _ in range(3))
    seen = []
    handle = graph.register_multi_grad_hook(
        [a, b, c], lambda g: seen.append([x if x is None else x.tolist() for x in g])
    )
    for _ in range(2):
        (a * 2 + b * 3).sum().backward()
    assert seen == [[[2.0, 2.0], [3.0, 3.0], None]] * 2
    handle.remove()
    (a * 2).sum().backward()
    assert len(seen) == 2
    first = []
    handle = graph.register_multi_grad_hook([a, b], lambda g: first.append(g.tolist()), mode="any")
    (a * 2 + b * 2).sum().backward()
    assert first == [[2.0, 2.0]]
    handle.remove()
    with pytest.raises(ValueError, match=r"\[register_multi_grad_hook\] mode is 'some'"):
        graph.register_multi_grad_hook([a], print, mode="some")
    with pytest.raises(RuntimeError, match=r"\[register_multi_grad_hook\] a tensor does not require grad"):
        graph.register_multi_grad_hook([X], print)


def test_classes_of_nodes_are_named_and_leaves_are_found():
    class Twice(autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2

    x = fb.ones(2, requires_grad=True)
    y = Twice.apply(x * 3)
    node = y.grad_fn
    assert type(node).__name__ == node.name() == "TwiceBackward" and isinstance(node, graph.Node)
    product = [before for before, _ in node.next_functions if before][-1]
    leaf = product.next_functions[0][0]
    assert (type(product).__name__, type(leaf).__name__) == ("MulBackward0", "AccumulateGrad")
    assert leaf.next_functions == ()
    y.sum().backward()
    assert x.grad.tolist() == [6, 6]


def test_retains_grad_says_whose_gradient_is_kept():
    x = fb.ones(2, requires_grad=True)
    y, z = x * 2, x * 3
    y.retain_grad(), x.retain_grad()
    assert (x.retains_grad, y.retains_grad, z.retains_grad, fb.ones(1).retains_grad) == (False, True, False, False)


def test_asking_for_a_node_computes_nothing_of_an_imported_trace():
    """What a derivative has imported, and a second backward left in the trace, is not to be computed for the sake of nodes."""
    a, b = (fb.ones(4).requires_grad_() for _ in range(2))

    def derive():
        t = a.tanh()
        t.detach().tolist()
        w = a.exp()
        loss = (t * t.detach().cos()).sum() + (w * w.detach()).sum() + a.sum()
        (g,) = fb.autograd.grad(loss, a, create_graph=True)
        fb.autograd.grad((g * g).sum(), a)[0].tolist()
        with pytest.raises(RuntimeError, match="second time"):
            (t.mean() + w.mean()).backward()

    derive()
    node = b.tanh().grad_fn  # it holds what it knows
    assert np.allclose(b.sin().tolist(), np.sin(1)) and names(node) == ("TanhBackward0", ("AccumulateGrad",))


def test_nodes_lead_on_where_a_derivative_has_imported_only_a_part_of_a_trace():
    a, b = (fb.ones(4).requires_grad_() for _ in range(2))
    x, y = a.sin(), b.exp()
    x.detach().tolist()
    u, v = x.tanh(), y.cos()
    u.detach().tolist()
    (g,) = fb.autograd.grad((u * u).sum(), a, create_graph=True)
    assert names(v.grad_fn) == ("CosBackward0", ("ExpBackward0", ("AccumulateGrad",)))
    assert np.allclose(v.tolist(), np.cos(np.e)) and g.requires_grad


def test_edges_stand_for_tensors():
    x = fb.ones(3, requires_grad=True)
    y = x.exp() * 2
    leaf, result = graph.get_gradient_edge(x), graph.get_gradient_edge(y)
    assert (leaf.node.name(), result.node.name()) == ("AccumulateGrad", "MulBackward0")
    assert leaf.output_nr == 0 and leaf.ownership_token is x and result.node == y.grad_fn
    edge = graph.get_gradient_edge(y.sum())
    (found,) = autograd.grad(edge, leaf, retain_graph=True)
    np.testing.assert_allclose(found.numpy(), 2 * np.e, rtol=1e-6)
    autograd.backward(y.sum(), inputs=[leaf])
    np.testing.assert_allclose(x.grad.numpy(), 2 * np.e, rtol=1e-6)
    assert graph.get_gradient_edge(fb.ones(4, requires_grad=True).split(2)[1].max(0)[0]).output_nr == 0
    with pytest.raises(RuntimeError, match=r"\[get_gradient_edge\] the tensor does not require grad\."):
        graph.get_gradient_edge(fb.ones(1))
