"""Sizes that differ from run to run: one recording and one program for all of them, with the bits of each by itself."""

import math
import threading

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import nn
from flambeau.runtime import recorder
from support import arrays, every_size_by_itself

LENGTHS = [5, 9, 3, 12, 7, 2, 64, 65, 33, 8, 100, 17]


def check(program, least_patterns=1):
    """`program()` yields (tensors) per round: the bits are those of every size by itself, and rounds stop to miss."""
    with every_size_by_itself():
        fb.manual_seed(3)
        expected = [[np.asarray(x.detach().numpy()).copy() for x in found] for found in program()]
    recorder.clear()
    fb.manual_seed(3)
    costs, before = [], recorder.stats()
    for wanted, found in zip(expected, program(), strict=True):
        for w, x in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(x.detach().numpy(), w)
        now = recorder.stats()
        costs.append((now["misses"] - before["misses"], now["builds"] - before["builds"]))
        before = now
    assert recorder.stats()["patterns"] >= least_patterns
    assert costs[-3:] == [(0, 0)] * 3, costs


# ---- whole programs -------------------------------------------------------------------------------------------


def attention(q, k, v):
    return F.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1) @ v


class Decoder(nn.Module):
    """Layers of attention over all that came before, kept in a cache."""

    def __init__(self, layers=2, heads=4, width=32, vocabulary=50):
        super().__init__()
        self.heads = heads
        self.table = nn.Parameter(fb.randn(vocabulary, width))
        self.projections = nn.Sequential(*(nn.Linear(width, 3 * width) for _ in range(layers)))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, token, cache):
        x, grown = self.table.index_select(0, token)[None], []
        for layer, (k, v) in zip(self.projections, cache):
            q, new_k, new_v = (t.view(1, 1, self.heads, -1).transpose(1, 2) for t in layer(x).chunk(3, dim=-1))
            k, v = fb.cat([k, new_k], dim=2), fb.cat([v, new_v], dim=2)
            x = x + attention(q, k, v).transpose(1, 2).reshape(1, 1, -1)
            grown.append((k, v))
        return self.head(x)[0, 0], grown


def test_a_growing_cache_is_compiled_once():
    def program():
        fb.manual_seed(0)
        model = Decoder()
        cache = [(fb.randn(1, 4, 1, 8), fb.randn(1, 4, 1, 8)) for _ in range(2)]
        token = fb.tensor([7])
        with fb.no_grad():
            for _ in range(24):
                scores, cache = model(token, cache)
                token = fb.tensor([int(scores.argmax())])
                yield scores, cache[0][0]

    check(program)


def test_a_growing_part_of_a_cache_made_before():
    def program():
        cache = fb.zeros(2, 40, 8)
        with fb.no_grad():
            for t in range(20):
                x = fb.tensor(arrays(2, 1, 8, seed=t))
                cache[:, t : t + 1] = x
                seen = cache[:, : t + 1]
                yield (attention(x, seen, seen),)

    check(program)


def language_model(length, width=16, vocabulary=20):
    return {
        "table": fb.tensor(arrays(vocabulary, width), requires_grad=True),
        "places": fb.tensor(arrays(128, width, seed=1), requires_grad=True),
        "mix": fb.tensor(arrays(width, width, seed=2) * 0.3, requires_grad=True),
        "gain": fb.ones(width, requires_grad=True),
    }


def test_training_on_sequences_of_all_lengths():
    """Embeddings, positions, a causal mask, attention, layer norm, dropout, cross-entropy, AdamW."""

    def program():
        p = language_model(16)
        optimizer = fb.optim.AdamW(p.values(), lr=0.01)
        mask = fb.tril(fb.ones(128, 128))
        for step, length in enumerate(LENGTHS + LENGTHS[::-1]):
            rng = np.random.default_rng(step)
            tokens = fb.tensor(rng.integers(0, 20, (3, length)))
            x = F.embedding(tokens, p["table"]) + p["places"].index_select(0, fb.arange(length))
            x = F.layer_norm(x, (16,), p["gain"])
            scores = x @ (x @ p["mix"]).transpose(1, 2)
            scores = scores.masked_fill(mask[:length, :length] == 0, float("-inf"))
            x = F.dropout(F.softmax(scores, -1) @ x, 0.1)
            logits = x @ p["table"].t()
            loss = F.cross_entropy(logits.reshape(-1, 20), tokens.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss, p["table"], p["gain"]

    check(program)


def test_training_on_batches_of_all_sizes():
    def program():
        fb.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.LayerNorm(32), nn.Dropout(0.2), nn.Linear(32, 4))
        optimizer = fb.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        for step, size in enumerate(LENGTHS + LENGTHS):
            x, y = fb.tensor(arrays(size, 6, seed=step)), fb.tensor(np.arange(size) % 4)
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss, model[0].weight, model[0].weight.grad

    check(program)


def test_a_loss_read_before_its_backward():
    """The forward is a trace of its own: backward goes on in one that imports it, with symbols of its own."""

    def program():
        w = fb.tensor(arrays(5, 5), requires_grad=True)
        for step, size in enumerate(LENGTHS + LENGTHS):
            x = fb.tensor(arrays(size, 5, seed=step))
            loss = (fb.tanh(x @ w) ** 2).mean()
            loss.item()
            w.grad = None
            loss.backward()
            yield loss, w.grad

    check(program)


def test_second_order_and_hooks():
    def program():
        w = fb.tensor(arrays(4, 4), requires_grad=True)
        for step, size in enumerate(LENGTHS + LENGTHS):
            x = fb.tensor(arrays(size, 4, seed=step), requires_grad=True)
            y = fb.sigmoid(x @ w)
            y.register_hook(lambda g: g * 2)
            (gradient,) = fb.autograd.grad(y.sum(), x, create_graph=True)
            w.grad = None
            ((gradient * gradient).sum() + y.mean()).backward()
            yield gradient, w.grad

    check(program, least_patterns=1)


def test_sizes_that_change_independently():
    def program():
        for step in range(24):
            rows, columns = LENGTHS[step % 5], LENGTHS[(step * 7) % 11]
            x = fb.tensor(arrays(rows, columns, seed=step))
            y = fb.cat([x, x.flip(1)], dim=1).t().reshape(-1, 2 * rows)
            yield F.softmax(y, -1), y.sum(0), x.mean(), fb.zeros(rows, columns) + x.amax(1, keepdim=True)

    with every_size_by_itself():
        expected = [[x.numpy().copy() for x in found] for found in program()]
    recorder.clear()
    for wanted, found in zip(expected, program(), strict=True):
        for w, x in zip(wanted, found, strict=True):
            np.testing.assert_array_equal(x.numpy(), w)
    assert recorder.stats()["builds"] < 24


def test_two_sizes_that_were_equal_by_chance():
    def run(n, m):
        x, y = fb.tensor(arrays(n, 3)), fb.tensor(arrays(m, 3, seed=1))
        return (x.sum(0) * y.sum(0), fb.cat([x, y]))

    for n, m in [(2, 5), (3, 7), (4, 4), (5, 5), (6, 6), (4, 7), (9, 3), (8, 8), (2, 2), (3, 5)]:
        total, joined = run(n, m)
        np.testing.assert_allclose(total.numpy(), arrays(n, 3).sum(0) * arrays(m, 3, seed=1).sum(0), rtol=1e-4)
        np.testing.assert_array_equal(joined.numpy(), np.concatenate([arrays(n, 3), arrays(m, 3, seed=1)]))


def test_random_numbers_are_those_of_every_size_by_itself():
    def program():
        for size in LENGTHS + LENGTHS:
            yield fb.rand(size, 3), F.dropout(fb.ones(size), 0.5), fb.randn(2, size)

    check(program)


def test_in_the_background(monkeypatch):
    def program():
        for step, size in enumerate(LENGTHS * 4):
            x = fb.tensor(arrays(size, 6, seed=step))
            yield F.softmax(x @ x.t(), -1), x.mean(0)

    with fb.compiler_options(mode="background"):
        check(program)


def test_in_threads():
    errors = []

    def work(seed):
        try:
            total = fb.tensor(arrays(1, 4, seed=seed))
            for t in range(40):
                total = fb.cat([total, fb.tensor(arrays(1, 4, seed=t))])
                wanted = np.concatenate([arrays(1, 4, seed=seed)] + [arrays(1, 4, seed=i) for i in range(t + 1)])
                np.testing.assert_array_equal((total * 2).numpy(), wanted * 2)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert errors == []


# ---- which sizes become symbols -------------------------------------------------------------------------------


def patterns_of(sizes):
    recorder.clear()
    for size in sizes:
        x = fb.tensor(arrays(size, 3))
        np.testing.assert_allclose((x * 2).sum(0).numpy(), arrays(size, 3).sum(0) * 2, rtol=1e-5, atol=1e-6)
    return recorder.stats()["patterns"]


def test_two_sizes_are_specialised_and_a_third_becomes_a_symbol():
    assert patterns_of([64, 40, 64, 40]) == 0
    assert patterns_of([64, 40, 32]) == 1
    assert patterns_of([64, 40, 32, 16, 8]) == 1
    assert patterns_of([2, 1, 0]) == 0, "0 and 1 never are symbols"


def test_explain_names_the_call_whose_sizes_became_symbols():
    recorder.clear()
    before = recorder.explain_log()
    for size in [3, 4, 5, 6]:
        fb.zeros(size).add(1.0).numpy()
    said = [key for key in recorder.explain_log() if key not in before and "from now on for all of them" in key[4]]
    assert [key[3] for key in said] == ["zeros"]


def test_other_lines_do_not_count():
    recorder.clear()
    a = (fb.tensor(arrays(4, 3)) * 2).numpy()
    b = (fb.tensor(arrays(5, 3)) * 2).numpy()
    c = (fb.tensor(arrays(6, 3)) * 2).numpy()
    assert recorder.stats()["patterns"] == 0 and (len(a), len(b), len(c)) == (4, 5, 6)


@pytest.mark.accept("ERR-01")
def test_errors_name_the_sizes_at_hand():
    w = fb.tensor(arrays(4, 2))
    for size in [3, 5, 6, 7]:
        (fb.tensor(arrays(size, 4)) @ w).numpy()
    for size in [5, 7, 9]:
        with pytest.raises(RuntimeError, match=rf"\({size}, 3\).*cannot be multiplied"):
            fb.tensor(arrays(size, 3)) @ w
        np.testing.assert_allclose(
            (fb.tensor(arrays(size, 4)) @ w).numpy(), arrays(size, 4) @ arrays(4, 2), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("mode", ["background", "off", "blocking"])
def test_what_holds_by_a_guard_alone_runs_op_by_op(mode):
    """That groups divide the channels is known of the sizes at hand, not of their expressions."""
    x = np.linspace(-1, 1, 2 * 4 * 36, dtype=np.float32).reshape(2, 4, 6, 6)
    with fb.compiler_options(mode=mode):
        for channels in (4, 8, 12, 16, 20, 12, 24):
            w = np.linspace(-1, 1, channels * 9, dtype=np.float32).reshape(channels, 1, 3, 3)
            y = fb.nn.functional.conv2d(fb.tensor(x), fb.tensor(w), groups=4).numpy()
            windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
            wanted = np.einsum("ngyxij,gmij->ngmyx", windows, w.reshape(4, -1, 3, 3)).reshape(y.shape)
            np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
