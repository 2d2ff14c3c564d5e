"""What `autograd.grad` takes beside outputs and inputs: batches of weights, inputs that do not matter."""

import flambeau as fb
import numpy as np
import pytest


@pytest.mark.parametrize("hooked", [False, True])
def test_gradients_for_a_batch_of_weights(hooked):
    """`is_grads_batched`: one gradient for each of the weights, as by a loop; with a hook somewhere, by one."""
    data, weights = np.random.default_rng(0).normal(size=3), np.random.default_rng(1).normal(size=(4, 3))
    x, unused = fb.tensor(data, requires_grad=True), fb.ones(2, requires_grad=True)
    y, z = x**3, x.sum() * x
    seen = []
    handle = x.register_hook(seen.append) if hooked else None
    ws = fb.tensor(weights)
    (found,) = fb.autograd.grad([y, z], x, [ws, ws], is_grads_batched=True, create_graph=True)
    rows = [3 * data**2 * w + w * data.sum() + (w * data).sum() for w in weights]
    np.testing.assert_allclose(found.detach().numpy(), rows, rtol=1e-10)
    assert len(seen) == (4 if hooked else 0)
    (second,) = fb.autograd.grad(found.sum(), x, retain_graph=True)
    np.testing.assert_allclose(
        second.numpy(), 6 * data * weights.sum(0) + weights.sum() + 3 * weights.sum(0), rtol=1e-10
    )
    if handle:
        handle.remove()
    with pytest.raises(RuntimeError, match="as many of each"):
        fb.autograd.grad([y, z], x, [ws, ws[:2]], is_grads_batched=True)
    _, zeros = fb.autograd.grad(y, [x, unused], ws, is_grads_batched=True, materialize_grads=True)
    assert zeros.tolist() == [0.0, 0.0]


def test_unused_inputs_get_zeros_if_asked_for():
    x, unused = fb.ones(3, requires_grad=True), fb.ones(2, requires_grad=True)
    found = fb.autograd.grad((x * 2).sum(), (x, unused), materialize_grads=True, only_inputs=True)
    assert [g.tolist() for g in found] == [[2.0] * 3, [0.0] * 2]
    with pytest.raises(RuntimeError, match="input 1 was not used"):
        fb.autograd.grad((x * 2).sum(), (x, unused))
    with pytest.raises(ValueError, match="allow_unused is False"):
        fb.autograd.grad((x * 2).sum(), (x, unused), materialize_grads=True, allow_unused=False)
