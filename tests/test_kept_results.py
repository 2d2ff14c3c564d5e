"""What a program makes of weights that stay the same is made once: never of other contents, and never longer than these last.

In: convolutions whose kernel is turned before (`plan_kept.c`), run again and again; weights changed in every way. Out: results
equal to the bit to those of a fresh tensor of the same values, and memory that is counted and given back.
"""

import copy
import ctypes
import gc
import threading

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import nn
from flambeau.programs import compiler_options
from support import arrays

RUNS = 4


@pytest.fixture(autouse=True)
def blocking():
    with compiler_options(mode="blocking"):
        yield


def image(seed=0):
    return fb.tensor(arrays(1, 32, 12, 12, seed=seed))


def layer(seed=1):
    conv = nn.Conv2d(32, 64, 3, bias=False)
    with fb.no_grad():
        conv.weight.copy_(fb.tensor(arrays(64, 32, 3, 3, seed=seed)))
    fb.flush()
    return conv


def run(conv, x):
    with fb.no_grad():
        return np.array(conv(x).numpy())


def fresh(weight, x):
    """The result for a weight that nothing can be known of."""
    with fb.no_grad():
        return np.array(F.conv2d(x, fb.tensor(np.array(weight.detach().tolist(), np.float32))).numpy())


def kept_after(conv, x):
    """Bytes that runs leave behind, beyond the result of one that has gone."""
    gc.collect()
    before = fb.memory_stats()["live_bytes"]
    for _ in range(RUNS):
        run(conv, x)
    gc.collect()
    return fb.memory_stats()["live_bytes"] - before


def test_kernels_that_stay_the_same_are_turned_once_and_counted():
    conv, x = layer(), image()
    run(conv, x)
    assert kept_after(conv, x) >= 64 * 32 * 9 * 4
    assert kept_after(conv, x) == 0
    assert run(conv, x).tobytes() == fresh(conv.weight, x).tobytes()


def by_view(w):
    w[3:40, 5] = 2.0


def by_optimizer(w):
    w.grad = fb.ones_like(w)
    fb.optim.SGD([w], lr=0.5).step()


def by_data(w):
    w.data = fb.tensor(arrays(64, 32, 3, 3, seed=9))


def by_numpy(w):
    array = w.detach().numpy()
    array[...] += 1


CHANGES = {
    "in place": lambda w: w.add_(1),
    "from another": lambda w: w.copy_(fb.tensor(arrays(64, 32, 3, 3, seed=8))),
    "by a view": by_view,
    "by an optimizer": by_optimizer,
    "data": by_data,
    "through NumPy": by_numpy,
}


@pytest.mark.parametrize("how", CHANGES)
def test_changed_weights_are_turned_again(how):
    conv, x = layer(), image()
    begun = fresh(conv.weight, x)
    for _ in range(3):
        for _ in range(RUNS):
            assert run(conv, x).tobytes() == fresh(conv.weight, x).tobytes()
        with fb.no_grad():
            CHANGES[how](conv.weight)
        assert run(conv, x).tobytes() == fresh(conv.weight, x).tobytes() != begun.tobytes()


def test_memory_that_numpy_may_write_is_never_remembered():
    conv, x = layer(), image()
    array = conv.weight.detach().numpy()
    for k in range(RUNS):
        array[...] = k
        assert run(conv, x).tobytes() == fresh(conv.weight, x).tobytes()
    assert kept_after(conv, x) == 0


def test_memory_whose_address_was_told_is_never_remembered():
    conv, x = layer(), image()
    run(conv, x)
    first = ctypes.c_float.from_address(conv.weight.data_ptr())
    for k in range(RUNS):
        first.value = k
        for _ in range(RUNS):
            assert run(conv, x).tobytes() == fresh(conv.weight, x).tobytes()
    assert kept_after(conv, x) == 0


def test_weights_that_were_numpys_alone_are_remembered():
    conv, x = nn.Conv2d(32, 64, 3, bias=False), image()
    conv.load_state_dict({"weight": fb.from_numpy(arrays(64, 32, 3, 3))})
    run(conv, x)
    assert kept_after(conv, x) >= 64 * 32 * 9 * 4
    assert run(conv, x).tobytes() == fresh(conv.weight, x).tobytes()


def test_what_is_made_of_weights_goes_with_them():
    conv, x = layer(), image()
    run(conv, x)
    size = kept_after(conv, x)
    before = fb.memory_stats()["live_bytes"]
    del conv
    gc.collect()
    assert fb.memory_stats()["live_bytes"] <= before - size - 64 * 32 * 9 * 4


def test_training_remembers_nothing_and_goes_on_in_place():
    conv, x = layer(), image()
    opt = fb.optim.SGD(conv.parameters(), lr=0.01)

    def step():
        opt.zero_grad()
        loss = conv(x).square().mean()
        loss.backward()
        loss.item()  # the update is a program of its own
        opt.step()
        fb.flush()

    for _ in range(RUNS):
        step()
    gc.collect()
    before = fb.memory_stats()["live_bytes"]
    for _ in range(RUNS):
        step()
    gc.collect()
    assert fb.memory_stats()["live_bytes"] <= before


def test_memory_that_is_needed_is_given_back():
    conv, x = layer(), image()
    run(conv, x)
    size = kept_after(conv, x)
    base = fb.memory_stats()["live_bytes"] - size
    try:
        fb.set_memory_limit(base + (8 << 20) + size // 2)
        assert kept_after(conv, x) == size
        more = fb.zeros(8 << 20, dtype=fb.uint8)
        fb.flush()
        assert fb.memory_stats()["live_bytes"] == base + (8 << 20)
        del more
    finally:
        fb.set_memory_limit(None)
    assert run(conv, x).tobytes() == fresh(conv.weight, x).tobytes()


def test_threads_share_what_is_kept_while_weights_change():
    conv, x = layer(), image()
    wanted = {fresh(conv.weight, x).tobytes()}
    other = fb.tensor(arrays(64, 32, 3, 3, seed=5))
    wanted.add(fresh(other, x).tobytes())
    found, failed = set(), []

    def work():
        try:
            for _ in range(60):
                found.add(run(conv, x).tobytes())
        except Exception as e:  # told below
            failed.append(e)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    first = fb.tensor(arrays(64, 32, 3, 3, seed=1))
    for k in range(20):
        with fb.no_grad():
            conv.weight.copy_(other if k % 2 == 0 else first)
        fb.flush()
    for t in threads:
        t.join()
    assert not failed and found <= wanted


@pytest.mark.parametrize("trained", [True, False])
def test_what_copies_and_files_read_is_remembered(trained, tmp_path):
    """A copy of a model, or a file of its weights, is made without telling anybody where these lie."""
    conv, x = layer().requires_grad_(trained), image()
    copied = copy.deepcopy(conv)
    fb.save(conv.state_dict(), tmp_path / "weights.pt")
    run(conv, x)
    assert kept_after(conv, x) >= 64 * 32 * 9 * 4
    with fb.no_grad():
        copied.weight.zero_()
    assert run(conv, x).tobytes() == fresh(conv.weight, x).tobytes() and not run(copied, x).any()
