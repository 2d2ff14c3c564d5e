"""Types, static arguments and views are forgotten when there are many that nothing has; what has them never notices."""

import gc
import threading

import flambeau as fb
import numpy as np
import pytest
from flambeau.runtime import recorder
from support import rounds

#: So many are remembered in these tests; what collections leave is at most about two times that, and what is in use.
FEW, DEFAULT = 20, 1 << 14


@pytest.fixture(autouse=True)
def few():
    fb.set_limits(max_types=FEW)
    yield
    fb.set_limits(max_types=DEFAULT)


def churn(first, count=60):
    """Tensors of `count` shapes from number `first` on, which are gone at once."""
    for number in range(first, first + count):
        rows, columns = 2 + number % 7, 2 + number // 7
        assert (fb.ones(rows, columns) * 2 + 1).sum().item() == 3 * rows * columns
        assert fb.full((columns, rows), 2.0).sum().item() == 2 * rows * columns


def churn_views(first, count=60):
    """Views of tensors of `count` shapes from number `first` on, which are gone at once."""
    for number in range(first, first + count):
        rows, columns = 2 + number % 7, 2 + number // 7
        x = fb.zeros(rows, columns)
        x.t()[1:] += 1
        assert x[1:].t()[0].expand(3, rows - 1).sum().item() == 0
        assert x.reshape(-1)[1:].sum().item() == rows * (columns - 1)


def counts():
    stats = recorder.stats()
    return [stats[what] for what in ("types", "statics", "views")]


def learnt():
    """`left()`, when recordings of these shapes are known: they keep the sizes that they were made of."""
    churn(0, 300)
    churn_views(0, 300)
    return left()


def left():
    """How many are left when all that nothing has is gone: those of neighbours that live in this process, too."""
    gc.collect()
    for number in range(3):  # what nobody has is doomed, and then goes
        fb.set_limits(max_types=FEW)  # the next end of a trace looks
        churn(number, 1)
    return counts()


@pytest.mark.accept("VER-06")
def test_types_and_static_arguments_and_views_are_bounded():
    live = learnt()
    for first in range(0, 3000, 600):
        churn(first, 300)
        churn_views(first + 300, 300)
        assert all(now <= 3 * before + 100 for now, before in zip(counts(), live, strict=True)), (live, counts())
    assert all(now <= before + 50 for now, before in zip(left(), live, strict=True))


def test_what_lives_long_does_not_make_collections_ever_rarer():
    before = learnt()
    live = [fb.ones(n, 1, 1) for n in range(1, 301)]
    views = [x[0] for x in live]
    for first in range(0, 6000, 600):
        churn(first, 300)
        churn_views(first + 300, 300)
        most = [3 * (n + len(live)) + 100 for n in before]
        assert all(now <= n for now, n in zip(counts(), most, strict=True)), (first, before, counts())
    assert [x.shape for x in live] == [(n, 1, 1) for n in range(1, 301)]
    assert {v.shape for v in views} == {(1, 1)}


def test_tensors_of_old_shapes_stay_right():
    old = [fb.arange(6 * n).reshape(6, n) for n in range(1, 30)]
    shapes = [x.shape for x in old]
    views = [x[1:3] for x in old]
    for round_ in range(3):
        churn(100 * round_)
        for n, (x, view, shape) in enumerate(zip(old, views, shapes), 1):
            want = np.arange(6 * n).reshape(6, n) + round_
            assert x.shape == shape == (6, n) and view.shape == (2, n)
            np.testing.assert_array_equal(x.numpy(), want)
            np.testing.assert_array_equal(view.numpy(), want[1:3])
            np.testing.assert_array_equal((x + view.sum()).numpy(), want + want[1:3].sum())
            x += 1


def test_histories_and_gradients_stay_right():
    leaves = [fb.ones(n, 3, requires_grad=True) for n in range(2, 20)]
    results = [(w * fb.full((3,), float(n))).exp() for n, w in enumerate(leaves, 2)]
    sums = [y.sum().item() for y in results]
    churn(0, 200)
    for n, (w, y, total) in enumerate(zip(leaves, results, sums), 2):
        y.sum().backward()
        churn(200 + 3 * n, 30)
        want = np.full((n, 3), n * np.exp(np.float64(n)))
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-5)
        np.testing.assert_allclose(total, want.sum() / n, rtol=1e-5)


def test_a_trace_that_waits_keeps_what_it_stands_on():
    waiting = [fb.zeros(n, 2) + n for n in range(2, 40)]
    churn(0, 200)
    again = [x * x for x in waiting]
    churn(200, 200)
    assert [y.sum().item() for y in again] == [2.0 * n**3 for n in range(2, 40)]


def test_views_of_views_outlive_those_in_between():
    bases = [fb.arange(12 * n).reshape(12, n) for n in range(1, 20)]
    views = [x[1:][::2].t()[:, 1:] for x in bases]
    wants = [np.arange(12 * n).reshape(12, n)[1:][::2].T[:, 1:] for n in range(1, 20)]
    for round_ in range(3):
        churn_views(100 * round_)
        for view, want in zip(views, wants, strict=True):
            np.testing.assert_array_equal(view.numpy(), want + round_)
            np.testing.assert_array_equal(view[0, 1:].numpy(), want[0, 1:] + round_)
            view += 1
    for n, x in enumerate(bases, 1):
        want = np.arange(12 * n).reshape(12, n)
        want[1:][::2][1:] += 3
        np.testing.assert_array_equal(x.numpy(), want)


def test_recordings_keep_their_views():
    """Operands were views whose handles have gone before the trace ran, or before its gradient was asked for."""
    leaves = [fb.ones(n, 4, requires_grad=True) for n in range(3, 20)]
    results = [(w[1:].t()[::2] * 2).exp() for w in leaves]
    in_another_thread(churn_views, 0, 200)
    sums = [y.sum() for y in results]
    in_another_thread(churn_views, 200, 200)
    assert [s.item() for s in sums] == [pytest.approx(2 * (n - 1) * np.exp(2), rel=1e-5) for n in range(3, 20)]
    churn_views(400, 200)
    for n, (w, s) in enumerate(zip(leaves, sums, strict=True), 3):
        s.backward()
        want = np.zeros((n, 4))
        want[1:, ::2] = 2 * np.exp(2)
        np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-5)


def test_a_call_that_comes_again_finds_its_views_anew():
    x = fb.arange(24).reshape(4, 6)
    want = np.arange(24).reshape(4, 6)
    for round_ in range(4):
        assert (x[1:, ::2].t() + 1).sum().item() == (want[1:, ::2] + 1).sum()
        assert x[2].tolist() == want[2].tolist()
        x.t()[1] = -round_
        want[:, 1] = -round_
        churn_views(100 * round_, 80)
        np.testing.assert_array_equal(x.numpy(), want)


def test_handles_that_change_what_they_show_count_for_what_they_show():
    before = learnt()[2]
    shown = [fb.zeros(2, n) for n in range(1, 40)]
    for n, x in enumerate(shown, 1):
        x.data = fb.arange(4 * n).reshape(4, n)[1:3]
    churn_views(0, 200)
    for n, x in enumerate(shown, 1):
        np.testing.assert_array_equal(x.numpy(), np.arange(4 * n).reshape(4, n)[1:3])
        x.data = fb.ones(3, n)
        assert x[1:].sum().item() == 2 * n
    del shown, x
    assert left()[2] <= before + 20


def in_another_thread(work, *arguments):
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    thread.join()


class Busy:
    """A number that waits, when it is asked, until another thread has made many shapes."""

    asked = 0

    def __float__(self):
        Busy.asked += 1
        in_another_thread(churn, 1000 * Busy.asked, 80)
        in_another_thread(churn_views, 1000 * Busy.asked, 80)
        return 2.5


def test_static_arguments_may_be_forgotten_while_a_call_is_bound():
    x = fb.ones(3, 4)
    for n in range(2, 6):
        assert fb.full((n, 3), Busy()).sum().item() == 2.5 * n * 3
        assert (x * Busy()).sum().item() == 30.0
        assert (x[1:, :n].t() * Busy()).sum().item() == 5.0 * min(n, 4)
    assert Busy.asked >= 12


class Swapping(Busy):
    """Puts the tensor on other memory meanwhile."""

    def __init__(self, view):
        self.view = view

    def __float__(self):
        self.view.data = fb.ones(3, 2)
        return super().__float__()


def test_views_of_operands_may_be_forgotten_while_a_call_is_bound():
    """What another thread assigned to `data` is what the call reads, or what was there before it."""
    for n in range(4, 8):
        view = fb.zeros(n, 9)[:3, 1:3]
        assert (view + Swapping(view)).tolist() in ([[2.5] * 2] * 3, [[3.5] * 2] * 3)
        assert view.tolist() == [[1.0] * 2] * 3


def test_complex_constants_stay_right():
    x = fb.ones(3)
    for n in range(1, 40):
        assert (x * complex(n, -n)).sum().item() == complex(3 * n, -3 * n)
        churn(10 * n, 5)


@pytest.mark.accept("VER-06")
def test_threads_forget_nothing_of_each_other():
    before = learnt()
    failures = []

    def work(number):
        try:
            kept = [fb.full((number + 2, n), float(n)) for n in range(1, 12)]
            views = [x.t()[:, 1:] for x in kept]
            for round_ in range(rounds(4, 20, 200)):
                churn(300 * number + 40 * round_, 20)
                churn_views(300 * number + 40 * round_ + 20, 20)
                for n, (x, view) in enumerate(zip(kept, views, strict=True), 1):
                    assert x.shape == (number + 2, n) and view.shape == (n, number + 1)
                    x += x[:, :1].sum() * 0 + 1
                    assert x.sum().item() == (n + round_ + 1) * n * (number + 2)
                    assert view.sum().item() == (n + round_ + 1) * n * (number + 1)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert all(now <= n + 50 for now, n in zip(left(), before, strict=True)), (before, left())
