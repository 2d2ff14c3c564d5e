"""What the acceptance table says of memory and threads: peaks, counts, limits, donation, what gradients keep."""

import gc

import flambeau as fb
import numpy as np
import pytest

N = 1 << 18
BYTES = N * 4  #: of the tensors here


@pytest.fixture(autouse=True)
def blocking():
    gc.collect()
    fb.flush()
    with fb.compiler_options(mode="blocking"):
        yield


def buffers_of(call):
    """How many tensors' bytes a call takes at most, beside what was there; the second time, when everything is compiled."""
    call()
    fb.flush()
    fb.reset_peak()
    before = fb.memory_stats()["live_bytes"]
    call()
    fb.flush()
    return (fb.memory_stats()["peak_bytes"] - before) / BYTES


@pytest.mark.accept("DEV-12", "DEV-10")
def test_statistics_of_memory_follow_every_tensor():
    fb.trim()
    fb.reset_peak()
    before = fb.memory_stats()
    assert before["peak_bytes"] == before["live_bytes"] == before["reserved_bytes"]
    x, y = fb.zeros(N), fb.ones(N)
    fb.flush()
    both = fb.memory_stats()
    assert both["live_bytes"] - before["live_bytes"] == 2 * BYTES == both["peak_bytes"] - before["peak_bytes"]
    assert both["live_buffers"] - before["live_buffers"] == 2 == both["allocations"] - before["allocations"]
    view = y[1:]
    del x, y
    one = fb.memory_stats()
    assert one["live_bytes"] - before["live_bytes"] == BYTES and one["live_buffers"] - before["live_buffers"] == 1
    assert one["peak_bytes"] == both["peak_bytes"] and one["reserved_bytes"] == both["reserved_bytes"]
    fb.reset_peak()
    assert fb.memory_stats()["peak_bytes"] == one["live_bytes"]
    del view
    assert fb.trim() >= 2 * BYTES
    after = fb.memory_stats()
    assert after["live_bytes"] == before["live_bytes"] == after["reserved_bytes"]
    assert after["live_buffers"] == before["live_buffers"]


@pytest.mark.accept("DEV-09")
def test_intermediates_are_released_at_their_last_use():
    """Twenty steps need as much as three; fused, no more than the result takes. Nothing of them is left."""
    x = fb.ones(N)
    x[0].item()

    def chain(steps):
        y = x
        for _ in range(steps):
            y = (y * 0.5).exp()
        assert y.sum().item() > 0  # of which y is still there when it is computed

    before = fb.memory_stats()["live_bytes"]
    with fb.compiler_options(mode="blocking", fuse=False):
        assert abs(buffers_of(lambda: chain(20)) - buffers_of(lambda: chain(3))) < 0.01
    assert buffers_of(lambda: chain(20)) < 1.1
    assert fb.memory_stats()["live_bytes"] == before


@pytest.mark.accept("DEV-11", "ERR-06")
def test_a_limit_is_kept_and_work_goes_on():
    x = fb.ones(N)
    fb.flush()
    fb.trim()
    fb.set_memory_limit(fb.memory_stats()["live_bytes"] + BYTES + 4096)
    try:
        assert (x * 2).sum().item() == 2 * N
        with pytest.raises(fb.OutOfMemory, match=r"\[memory\] cannot allocate \d+ bytes: .* the limit is \d+ bytes"):
            kept = [x * k for k in (2.0, 3.0, 4.0)]
            fb.flush()
        del kept
        y = x + 1
        assert y[0].item() == 2 and fb.memory_stats()["limit_bytes"] > 0
    finally:
        fb.set_memory_limit(None)
    assert sum((x * k)[0].item() for k in (2.0, 3.0, 4.0)) == 9 and fb.memory_stats()["limit_bytes"] == 0


@pytest.mark.accept("DEV-15")
def test_writing_in_place_gives_the_memory_away():
    x, y = fb.ones(N), fb.ones(N)
    fb.flush()
    place = x.data_ptr()

    def step():
        x.mul_(0.5).add_(y)
        x[:] = x * 2 - y

    assert buffers_of(step) < 0.01
    assert x.data_ptr() == place and x[3].item() == 2 * (2 * (1 * 0.5 + 1) - 1) * 0.5 + 1

    def reader():
        before = x * 1  # somebody reads the old value: x goes to another place, and the old one is given back
        x.add_(1)
        assert x[0].item() == before[0].item() + 1

    assert 0.9 < buffers_of(reader) < 1.1


WRITES = {
    "index_copy_": lambda x, at, new: x.index_copy_(0, at, new),
    "index_add_": lambda x, at, new: x.index_add_(0, at, new),
    "scatter_": lambda x, at, new: x.scatter_(0, at[:, None].expand(new.shape), new),
    "index_put_": lambda x, at, new: x.index_put_((at,), new, accumulate=True),
    "setitem": lambda x, at, new: x.__setitem__(at, new),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.accept("DEV-15")
def test_rows_are_written_where_they_lie_and_a_wrong_index_changes_none(write):
    """Caches of keys and values are written so, one row per token: a copy of them would cost what attention costs."""
    x, new = fb.zeros(N // 64, 64), fb.ones(2, 64)
    place = x.data_ptr()

    def step(*rows):
        WRITES[write](x, fb.tensor(rows), new)
        return (x[: rows[0] + 2] * 2).sum().item()

    assert step(3, 1) == 256
    place = x.data_ptr()
    assert buffers_of(lambda: step(3, 1)) < 0.01 and x.data_ptr() == place
    before = x.numpy().copy()
    with pytest.raises(IndexError, match="out of range"):
        step(1, N)
    after = x.numpy()
    assert after.tobytes() == before.tobytes()


@pytest.mark.accept("DEV-15", "OPT-10")
def test_an_optimizer_writes_where_its_parameters_and_averages_lie():
    w = fb.zeros(N, requires_grad=True)
    optimizer = fb.optim.Adam([w], lr=0.1)

    def step():
        optimizer.zero_grad()
        ((w - 1) ** 2).sum().backward()
        optimizer.step()

    step()
    place = w.data_ptr()
    assert buffers_of(step) <= 1.01  # the gradient, which `w.grad` holds afterwards
    assert w.data_ptr() == place and 0.1 < w[0].item() < 0.5


@pytest.mark.accept("AG-11")
def test_what_gradients_keep_is_counted():
    x = fb.ones(N, requires_grad=True)
    (x.exp()).sum().item()
    gc.collect()
    before = fb.explain().kept
    losses = []
    for k in range(3):
        losses.append((x * x.sin()).sum() * (k + 1))
        losses[-1].item()
        kept = fb.explain().kept
        assert kept.recordings - before.recordings == k + 1
    held = kept.bytes - before.bytes
    assert kept.values > before.values and held >= 0
    assert f"Gradients keep {kept.values} values ({kept.bytes} bytes) of {kept.recordings} recordings." in str(
        fb.explain()
    )
    losses = [loss.item() for loss in losses]
    assert fb.explain().kept == before
    y = x.exp()
    y[0].item()
    assert fb.explain().kept.bytes - before.bytes >= BYTES  # the gradient reads exp(x)
    y.sum().backward()
    x.grad[0].item()
    del y
    assert fb.explain().kept == before
    with fb.no_grad():
        y = x.exp()
        y[0].item()
    assert fb.explain().kept == before


#: What shows the elements of a result, and nothing of where it came from.
CUT = {
    "detach": lambda y: y.detach(),
    "data": lambda y: y.data,
    "a view of it": lambda y: y.detach()[1:].view(-1, 1),
    "a view without gradients": fb.no_grad()(lambda y: y[3:]),
    "a leaf": lambda y: y.detach().requires_grad_(),
    "detach_": lambda y: y.detach_(),
}


@pytest.mark.accept("AG-11", "AG-05", "DEV-09")
@pytest.mark.parametrize("look", ["before", "after", "between"])
@pytest.mark.parametrize("how", CUT)
def test_what_is_detached_keeps_no_history(how, look):
    """Also where the trace runs before the result is detached, or while both are there."""
    x = fb.ones(N, requires_grad=True)
    fb.flush()
    before, kept = fb.explain().kept, []
    for k in range(3):
        y = (x * (k + 1.0)).exp().sin()
        if look == "before":
            y[0].item()
        if how == "detach_" and look == "between":
            continue  # there are never both
        found = CUT[how](y)
        if look == "between":
            assert y[5].item() == found.reshape(-1)[5 - (N - found.numel())].item()
            assert fb.explain().kept.recordings > before.recordings
        kept.append(found)
        del y, found
        fb.flush()
        assert fb.explain().kept == before
    for k, found in enumerate(kept):
        np.testing.assert_allclose(found.detach().numpy().ravel(), np.sin(np.exp(k + 1.0)), rtol=1e-4)


@pytest.mark.accept("AG-05")
def test_what_others_need_of_a_detached_result_is_there():
    """The history of a result whose last handle goes stays with those that came from it; its detached alias may be written."""
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    for look in (False, True):
        x.grad = None
        y = x * x
        if look:
            y[0].item()
        z = y * 3
        d = y.detach()
        del y
        assert [n.name() for n, _ in z.grad_fn.next_functions[0][0].next_functions] == ["AccumulateGrad"] * 2
        d.add_(1)  # nobody's gradient reads the elements
        w = z + d
        d[0] = 7.0
        w.sum().backward()
        assert x.grad.tolist() == [6.0, 12.0] and w.tolist() == [5.0, 17.0] and d.tolist() == [7.0, 5.0]
        assert not d.requires_grad and (d * 1).grad_fn is None


@pytest.mark.accept("AG-05", "AG-07")
def test_a_detached_leaf_that_is_none_any_more_has_no_history():
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    d = y.detach().requires_grad_()
    (d * d).sum().backward()
    assert d.grad.tolist() == [4.0, 8.0] and x.grad is None
    d.requires_grad = False
    assert not d.requires_grad and d.is_leaf and d.grad_fn is None and (d * 2).grad_fn is None
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


@pytest.mark.accept("DEV-08")
def test_the_number_of_threads_changes_no_bit():
    before = fb.get_num_threads()
    x = fb.tensor(np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32))
    found = []
    try:
        for n in (1, 2, 3):
            fb.set_num_threads(n)
            assert fb.get_num_threads() == n
            y = (x @ x.T).exp()
            found.append((y.numpy().tobytes(), y.sum().item(), y.cumsum(1)[:, -1].numpy().tobytes()))
    finally:
        fb.set_num_threads(before)
    assert found[0] == found[1] == found[2]
    for n in (0, 257, -1):
        with pytest.raises(ValueError, match=rf"\[set_num_threads\] .*{n}"):
            fb.set_num_threads(n)
    assert fb.get_num_threads() == before
