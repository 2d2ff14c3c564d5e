"""Which reshapes share storage and which copy: strides and aliasing are those of PyTorch."""

import copy
import random

import flambeau as fb
import numpy as np
import pytest


def chain(r, x):
    """Some random views of x; the same ones for equal states of r."""
    for _ in range(r.randint(0, 4)):
        kind = r.random()
        if kind < 0.35 and x.ndim > 1:
            x = x.transpose(r.randrange(x.ndim), r.randrange(x.ndim))
        elif kind < 0.6 and x.ndim:
            d = r.randrange(x.ndim)
            start, step = r.randint(0, 1), r.choice([1, 1, 2])
            x = x[(slice(None),) * d + (slice(start, None, step),)]
        elif kind < 0.7 and x.ndim:
            x = x[(slice(None),) * r.randrange(x.ndim) + (0,)] if 0 not in tuple(x.shape) else x
        elif kind < 0.8:
            x = x.unsqueeze(r.randint(0, x.ndim))
        elif kind < 0.9:
            x = x.expand(r.choice([1, 2]), *x.shape)
        else:
            x = x.permute(*r.sample(range(x.ndim), x.ndim)) if x.ndim else x
    return x


def stretched(r, x):
    """Whether the chain expands a dimension: such views cannot be written to."""
    copies = []

    class Spy:
        randint, random, randrange, sample = r.randint, r.random, r.randrange, r.sample

        def choice(self, options):
            copies.append(r.choice(options) if options == [1, 2] else 1)
            return copies[-1] if options == [1, 2] else r.choice(options)

    chain(Spy(), x)
    return max(copies, default=1) > 1


def target(r, n):
    """A random shape of n elements."""
    shape = []
    while n > 1 and len(shape) < 3:
        f = r.choice([k for k in range(1, n + 1) if n % k == 0])
        shape.append(f)
        n //= f
    return (*shape, n) if n else (0, 3)


@pytest.mark.accept("SHP-01", "SHP-02", "SHP-18")
@pytest.mark.parametrize("seed", range(150))
def test_strides_views_and_copies(seed):
    torch = pytest.importorskip("torch")
    shape = random.Random(seed).choice([(4, 6), (2, 3, 4), (6,), (3, 1, 4), (2, 2, 2, 3), (1, 5)])
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    base, other_base = fb.tensor(array), torch.tensor(array)
    ours, theirs = chain(random.Random(seed), base), chain(random.Random(seed), other_base)
    if theirs.numel():
        steps = [s for n, s in zip(theirs.shape, theirs.stride()) if n > 1]
        assert [s for n, s in zip(ours.shape, ours.stride()) if n > 1] == steps
    assert ours.is_contiguous() == theirs.is_contiguous()
    new = target(random.Random(seed), theirs.numel())
    mine, other = ours.reshape(new), theirs.reshape(new)
    np.testing.assert_array_equal(mine.numpy(), other.numpy())
    try:
        theirs.view(new)
        viewable = True
    except RuntimeError:
        viewable = False
    if viewable:
        assert ours.view(*new).shape == new
    else:
        with pytest.raises(RuntimeError, match=r"\[view\] shape .* cannot be a view"):
            ours.view(new)
    if not stretched(random.Random(seed), torch.tensor(array)):
        mine.add_(100.0), other.add_(100.0)
        np.testing.assert_array_equal(base.numpy(), other_base.numpy())
    assert (ours.contiguous() is ours) == (theirs.contiguous() is theirs)
    np.testing.assert_array_equal(ours.contiguous().numpy(), theirs.contiguous().numpy())


@pytest.mark.accept("SHP-01", "SHP-08")
def test_reshaping_a_transposed_matrix_copies():
    x = fb.arange(6).reshape(2, 3)
    flat = x.t().reshape(-1)
    flat.zero_()
    x.t().flatten().zero_()
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    x.flatten().zero_()
    assert x.sum().item() == 0


def test_views_that_are_copied_together_share_a_storage_again():
    x = fb.arange(6.0).reshape(2, 3)
    for order in ((0, 1, 2), (2, 1, 0)):
        given = [x, x[1:], x.T]
        made = dict(zip(order, copy.deepcopy([given[k] for k in order]), strict=True))
        made[0][1, 2] = 9
        assert made[1].tolist() == [[3, 4, 9]] and made[2].tolist() == [[0, 3], [1, 4], [2, 9]]
        assert x.tolist() == [[0, 1, 2], [3, 4, 5]] and made[2].stride() == (1, 3)
    alone = copy.deepcopy(x.T)
    alone[0, 0] = 7
    assert x[0, 0].item() == 0 and not alone.requires_grad
    parts = copy.deepcopy({"a": fb.ones(2, requires_grad=True), "b": fb.zeros(0), "c": fb.ones(1).expand(3)})
    assert parts["a"].requires_grad and parts["b"].shape == (0,) and parts["c"].stride() == (0,)


def test_sizes_are_compared():
    assert fb.is_same_size(fb.ones(2, 3), fb.zeros(2, 3)) and not fb.ones(2).is_same_size(fb.ones(2, 1))
