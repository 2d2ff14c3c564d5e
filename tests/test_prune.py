"""Pruning: masks on parameters, one way after the other, over several parameters, and for good."""

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest
from flambeau.nn.utils import prune

W = np.float32([[3, -1, 2, 5], [0.5, -4, 6, -2], [1.5, 2.5, -3.5, 0.25]])


def layer(lib=fb):
    made = lib.nn.Linear(4, 3)
    with lib.no_grad():
        made.weight.copy_(lib.tensor(W))
        made.bias.copy_(lib.tensor([1.1, -0.1, 0.3]))
    return made


def same_everywhere(run):
    """What `run(library, prune, layer)` gives, here and with PyTorch where that is installed."""
    found = run(fb, prune)
    try:
        import torch
        from torch.nn.utils import prune as theirs
    except ImportError:
        return found
    assert found == run(torch, theirs)
    return found


def test_the_least_elements_go_and_stay_away():
    def run(lib, prune):
        net = layer(lib)
        prune.l1_unstructured(net, "weight", 3)
        first, names = net.weight.tolist(), list(net.state_dict())
        prune.l1_unstructured(net, "weight", 0.5)  # of those that are left
        y = net(lib.ones(1, 4))
        y.sum().backward()
        pruned, is_pruned = net.weight.tolist(), prune.is_pruned(net)
        grad = net.weight_orig.grad.tolist()
        prune.remove(net, "weight")
        return (
            first,
            names,
            pruned,
            is_pruned,
            grad,
            net.weight.tolist(),
            prune.is_pruned(net),
            sorted(net.state_dict()),
        )

    first, names, pruned, was, grad, left, now, state = same_everywhere(run)
    np.testing.assert_array_equal(first, np.where(np.isin(np.abs(W), [0.25, 0.5, 1]), 0, W))
    assert names == ["bias", "weight_orig", "weight_mask"] and was and not now and state == ["bias", "weight"]
    assert np.count_nonzero(pruned) == 5 and left == pruned  # 4.5 is rounded to 4
    np.testing.assert_array_equal(grad, np.asarray(pruned) != 0)


@pytest.mark.parametrize("dim,n", [(0, 2), (1, 1), (-1, float("inf"))])
def test_the_least_channels_go(dim, n):
    def run(lib, prune):
        net = prune.ln_structured(layer(lib), "weight", amount=1, n=n, dim=dim)
        one = net.weight.tolist()
        return one, prune.ln_structured(net, "weight", amount=0.5, n=n, dim=dim).weight.tolist()

    one, more = same_everywhere(run)
    gone = np.asarray(one) == 0
    assert gone.all(1 if dim == 0 else 0).sum() == 1 and gone.sum() == W.shape[1 if dim == 0 else 0]
    assert (np.asarray(more) == 0).sum() > gone.sum()


def test_by_chance_by_mask_and_over_several_parameters():
    net = prune.random_unstructured(layer(), "weight", 5)
    assert (net.weight_mask == 0).sum().item() == 5
    assert (prune.random_structured(layer(), "weight", 2, dim=1).weight.abs().sum(0) == 0).sum().item() == 2
    kept = prune.identity(layer(), "bias")
    assert kept.bias_mask.tolist() == [1, 1, 1]

    def run(lib, prune):
        a = layer(lib)
        prune.custom_from_mask(a, "bias", lib.tensor([1, 0, 1]))
        prune.global_unstructured([(a, "weight"), (a, "bias")], prune.L1Unstructured, amount=4)
        return a.weight.tolist(), a.bias.tolist(), prune.L1Unstructured(2).prune(lib.tensor([1.0, -3.0, 2.0])).tolist()

    weight, bias, plain = same_everywhere(run)
    assert np.count_nonzero(weight) == 9 and np.count_nonzero(bias) == 1 and plain == [0, -3, 0]


def test_what_pruning_refuses():
    net = layer()
    for amount, error in ((-1, ValueError), (1.5, ValueError), ("a", TypeError), (99, ValueError)):
        with pytest.raises(error, match=r"\[prune\] amount is"):
            prune.l1_unstructured(net, "weight", amount)
    with pytest.raises(ValueError, match="has no channels"):
        prune.ln_structured(net, "bias", 1, 2, 0)
    with pytest.raises(IndexError, match="dim 3 is out of range"):
        prune.ln_structured(net, "weight", 1, 2, 3)
    with pytest.raises(AssertionError, match="scores have shape"):
        prune.l1_unstructured(net, "weight", 1, fb.ones(2))
    with pytest.raises(TypeError, match="LnStructured is not unstructured"):
        prune.global_unstructured([(net, "weight")], prune.LnStructured, amount=1, n=2)
    with pytest.raises(ValueError, match="'weight' of Linear is not pruned"):
        prune.remove(net, "weight")
    assert list(net.state_dict()) == ["weight", "bias"] and isinstance(net.weight, nn.Parameter)
