"""Gradients as entries: backward and grad on hits, across flushes, freed graphs, leaves, grafts, modes."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import recorder_toy as T
import recorder_toy_grad as G
from flambeau.runtime import recorder as R

X = np.float32([[1, 2], [3, 4]])
W = np.float32([[1, 0.5], [2, 1]])


@pytest.fixture(autouse=True)
def toy():
    with G.installed():
        yield


def model():
    return T.tensor(X), T.tensor(W, requires_grad=True)


def loss_of(x, w):
    h = x @ w
    return (h * h).sum()


def expected(x=X, w=W):
    return 2 * x.T @ x @ w


def no_grad(fn):
    old = R.set_mode(0)
    try:
        return fn()
    finally:
        R.set_mode(old)


def test_backward_is_one_entry_and_no_python_runs_the_second_time():
    x, w = model()
    last: dict = {}
    for k in range(4):
        loss = loss_of(x, w)
        R.backward(loss)
        np.testing.assert_allclose(T.value(w.grad), (k + 1) * expected())
        counts = dict(T.counts)
        if k >= 2:
            assert counts["expand"] == last["expand"] and counts["build"] == last["build"]
        last = counts
    assert [e[0] for e in T.last_export].count("backward") == 1
    assert w.grad.dtype is T.f32 and not w.grad.requires_grad and w.grad.is_leaf


def test_whether_a_leaf_has_a_gradient_is_part_of_the_key():
    x, w = model()
    for _ in range(2):
        w.grad = None
        R.backward(loss_of(x, w))
        R.backward(loss_of(x, w))
        np.testing.assert_allclose(T.value(w.grad), 2 * expected())
        held = w.grad
        R.backward(loss_of(x, w))
        np.testing.assert_allclose(T.value(held), 3 * expected())  # accumulated in place


def test_two_losses_of_the_same_types_with_different_graphs():
    x, w = model()
    a, b = (x @ w).sum(), ((x @ w) * 3.0).sum()
    R.backward(a)
    first = T.value(w.grad)
    w.grad = None
    R.backward(b)
    np.testing.assert_allclose(T.value(w.grad), 3 * first)


def test_backward_after_the_forward_was_flushed():
    x, w = model()
    for _ in range(3):
        loss = loss_of(x, w)
        T.value(loss)
        R.backward(loss)
        np.testing.assert_allclose(T.value(w.grad), expected())
        w.grad = None
        counts = dict(T.counts)
    loss = loss_of(x, w)
    T.value(loss)
    R.backward(loss)
    np.testing.assert_allclose(T.value(w.grad), expected())
    assert T.counts["expand"] == counts["expand"] and T.counts["build"] == counts["build"]


def test_history_through_several_flushed_traces():
    x, w = model()
    v = T.tensor(W, requires_grad=True)
    for _ in range(3):
        h = x @ w
        T.value(h)
        k = h * v
        T.value(k)
        loss = (k * h).sum()
        T.value(loss)
        R.backward(loss)
        hv = X @ W
        np.testing.assert_allclose(T.value(v.grad), hv * hv)
        np.testing.assert_allclose(T.value(w.grad), X.T @ (2 * hv * W), rtol=1e-6)
        w.grad = v.grad = None


def test_a_leaf_updated_between_forward_and_backward_keeps_the_old_values_in_its_history():
    x, w = model()
    loss = loss_of(x, w)
    T.value(loss)
    no_grad(lambda: w.add_(1.0))
    R.backward(loss)
    np.testing.assert_allclose(T.value(w.grad), expected())
    np.testing.assert_allclose(T.value(w), W + 1)


def test_training_steps_hit_from_the_second_on():
    x, w = model()
    current = W.copy()
    for k in range(6):
        w.grad = None
        R.backward(loss_of(x, w))
        gradient = expected(w=current)
        no_grad(lambda: w.add_(w.grad * -0.01))
        R.flush()
        current = current - 0.01 * gradient
        np.testing.assert_allclose(T.value(w), current, rtol=1e-4)
        if k == 2:
            counts = dict(T.counts)
    assert T.counts["build"] == counts["build"] and T.counts["expand"] == counts["expand"]


def test_freed_graphs_are_refused():
    x, w = model()
    for flush_between in (False, True):
        loss = loss_of(x, w)
        R.backward(loss, retain_graph=True)
        R.backward(loss)
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"\[backward\] the graph of this tensor was freed"):
                R.backward(loss)
            if flush_between:
                R.flush()
        w.grad = None
    loss = loss_of(x, w)
    T.value(loss)
    R.backward(loss)
    R.flush()
    with pytest.raises(RuntimeError, match="a second time"):
        R.backward(loss)
    shared = x @ w
    a, b = shared.sum(), (shared * shared).sum()
    R.backward(a)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        R.backward(b)


def test_what_has_no_history_is_refused():
    x, w = model()
    for wrong in (x.sum(), w.detach().sum(), no_grad(lambda: loss_of(x, w))):
        with pytest.raises(RuntimeError, match="does not require grad"):
            R.backward(wrong)
    with pytest.raises(TypeError, match="expected a Tensor, got int"):
        R.backward(3)


def test_modes_and_detach_cut_history():
    x, w = model()
    h = x @ w
    loss = (h * h.detach()).sum()
    R.backward(loss)
    np.testing.assert_allclose(T.value(w.grad), X.T @ (X @ W))
    assert not no_grad(lambda: x @ w).requires_grad
    assert (x @ w).requires_grad


def test_data_changed_outside_of_history_is_grafted():
    x, w = model()
    h = x @ w
    no_grad(lambda: h.mul_(2.0))
    assert h.requires_grad
    R.backward((h * h).sum())
    np.testing.assert_allclose(T.value(w.grad), X.T @ (2 * 2 * (X @ W)))
    w.grad = None
    h = x @ w
    R.flush()
    h.detach().mul_(2.0)
    R.flush()
    R.backward((h * h).sum())
    np.testing.assert_allclose(T.value(w.grad), X.T @ (2 * 2 * (X @ W)))


def test_writes_after_a_flush_are_reported_to_the_backward():
    x, w = model()
    for write in (False, True, False):
        h = x @ w
        loss = (h * h).sum()
        T.value(loss)
        if write:
            h.add_(1.0)
            R.flush()
        R.backward(loss)
        assert [e for e in R.trace_export() if e[0] == "modified"] == ([("modified", (8,))] if write else [])
        R.flush()


def test_in_place_operations_have_history():
    x, w = model()
    y = x + 0.0
    y += w
    assert y.requires_grad and not y.is_leaf
    y *= y
    R.backward(y.sum())
    np.testing.assert_allclose(T.value(w.grad), 2 * (X + W))


def test_views_of_leaves_share_their_history():
    w = T.tensor(np.ones(4), requires_grad=True)
    v = w.reshape(2, 2)
    assert v.requires_grad and not v.is_leaf and v.grad is None
    R.backward((v * v).sum())
    np.testing.assert_allclose(T.value(w.grad), np.full(4, 2))


def test_gradients_go_to_living_leaves_only():
    x, w = model()
    loss = (x @ w).sum()
    seen = weakref.ref(w)
    del w
    gc.collect()
    assert seen() is None
    R.backward(loss)
    R.flush()
    segments = (x @ model()[1]).sum()
    T.value(segments)
    R.backward(segments)


def test_leaves_can_be_chosen():
    x, w = model()
    v = T.tensor(W, requires_grad=True)
    loss = ((x @ w) * v).sum()
    R.backward(loss, leaves_hint=[v], retain_graph=True)
    assert w.grad is None
    np.testing.assert_allclose(T.value(v.grad), X @ W)


def test_gradients_passed_in():
    x, w = model()
    h = x @ w
    R.backward(h, T.tensor(np.full((2, 2), 3)))
    np.testing.assert_allclose(T.value(w.grad), X.T @ np.full((2, 2), 3))


def test_grad_returns_gradients_of_leaves_and_inner_values():
    x, w = model()
    for flushed in (False, True, True):
        h = x @ w
        if flushed:
            T.value(h)
        loss = (h * h).sum()
        if flushed:
            T.value(loss)
        dh, dw, dx = R.grad_entry([loss], [h, w, T.tensor(X, requires_grad=True)])
        np.testing.assert_allclose(T.value(dh), 2 * X @ W)
        np.testing.assert_allclose(T.value(dw), expected())
        assert dx is None and w.grad is None
    with pytest.raises(ValueError, match="1 outputs have 2 grad_outputs"):
        R.grad_entry([loss], [w], [None, None])


@pytest.mark.runtime
def test_grad_slots_and_tensors_for_them():
    x, w = model()
    h = x @ w
    loss = (h * h).sum()
    entries = R.trace_export()
    assert [e[0] for e in entries] == ["input", "input", "leaf", "call", "call", "call"]
    slot = R.slot_for_tensor(h)
    again = R.tensor_for_slot(slot)
    assert R.same_storage(again, h) and again.requires_grad
    leaf = R.tensor_for_slot(R.slot_for_tensor(w))
    leaf.grad = T.tensor(W)
    assert w.grad is not None
    product = R.tensor_for_slot(R.slot_for_tensor(loss) - 1)  # h * h, which has no handle
    np.testing.assert_allclose(T.value(product), (X @ W) ** 2)
    with pytest.raises(ValueError, match="slot 99 holds no tensor"):
        R.tensor_for_slot(99)


def test_assigning_gradients_is_checked():
    x, w = model()
    with pytest.raises(TypeError, match="must be a Tensor or None, got int"):
        w.grad = 3
    with pytest.raises(RuntimeError, match="the gradient has shape"):
        w.grad = T.tensor([1.0])
    with pytest.raises(RuntimeError, match="only a leaf"):
        x.grad = T.tensor(X)
    with pytest.raises(RuntimeError, match="its own gradient"):
        w.grad = w
    w.grad = T.tensor(X)
    del w.grad
    assert w.grad is None


def test_a_running_total_with_history_does_not_recompile_forever():
    x, w = model()
    total = T.tensor(0.0)
    for k in range(12):
        loss = loss_of(x, w)
        total = total + loss
        T.value(total)
        R.backward(loss)
        R.flush()
        w.grad = None
        if k == 4:
            builds = T.counts["build"]
    assert T.counts["build"] == builds


def test_long_chains_of_flushed_history_are_released_without_recursion():
    x, w = model()
    live = R.stats()["live_cells"]
    total = (x @ w).sum()
    for _ in range(20_000):
        total = total + 1.0
        R.flush()
    del total
    assert R.stats()["live_cells"] <= live


def test_loops_that_accumulate_gradients_are_cut_after_a_backward():
    R.set_limits(soft_ops=30)
    x, w = model()
    for _ in range(40):
        R.backward(loss_of(x, w))
    np.testing.assert_allclose(T.value(w.grad), 40 * expected())
    assert 5 < R.stats()["flushes"] < 20 and R.stats()["programs"] <= 3


def test_memory_is_flat_over_training_with_flushed_forwards():
    x, w = model()

    def step():
        loss = loss_of(x, w)
        T.value(loss)
        R.backward(loss)
        no_grad(lambda: w.add_(w.grad * 0.0))
        w.grad = None
        R.flush()

    for _ in range(10):
        step()
    before = R.stats()
    for _ in range(300):
        step()
    after = R.stats()
    assert {k: after[k] for k in ("live_cells", "states", "programs", "builds", "types")} == {
        k: before[k] for k in ("live_cells", "states", "programs", "builds", "types")
    }
