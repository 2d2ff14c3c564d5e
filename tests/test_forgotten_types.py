"""Types and static arguments are forgotten when there are many that nothing has; what has them never notices."""

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


def counts():
    stats = recorder.stats()
    return stats["types"], stats["statics"]


@pytest.mark.accept("VER-06")
def test_types_and_static_arguments_are_bounded():
    churn(0, 600)
    types, statics = counts()
    for first in range(600, 3000, 600):
        churn(first, 600)
        assert counts()[0] <= 2 * types + 50 and counts()[1] <= 2 * statics + 50, (types, statics, counts())


def test_what_lives_long_does_not_make_collections_ever_rarer():
    churn(0, 600)
    before = counts()[0]
    live = [fb.ones(n, 1, 1) for n in range(1, 301)]
    for first in range(0, 6000, 600):
        churn(first, 600)
        assert counts()[0] <= 3 * (before + len(live)) + 50, (first, before, counts())
    assert [x.shape for x in live] == [(n, 1, 1) for n in range(1, 301)]


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


class Busy:
    """A number that waits, when it is asked, until another thread has made many shapes."""

    asked = 0

    def __float__(self):
        Busy.asked += 1
        thread = threading.Thread(target=churn, args=(1000 * Busy.asked, 80))
        thread.start()
        thread.join()
        return 2.5


def test_static_arguments_may_be_forgotten_while_a_call_is_bound():
    x = fb.ones(3, 4)
    for n in range(2, 6):
        assert fb.full((n, 3), Busy()).sum().item() == 2.5 * n * 3
        assert (x * Busy()).sum().item() == 30.0
    assert Busy.asked >= 8


def test_complex_constants_stay_right():
    x = fb.ones(3)
    for n in range(1, 40):
        assert (x * complex(n, -n)).sum().item() == complex(3 * n, -3 * n)
        churn(10 * n, 5)


@pytest.mark.accept("VER-06")
def test_threads_forget_nothing_of_each_other():
    failures = []

    def work(number):
        try:
            kept = [fb.full((number + 2, n), float(n)) for n in range(1, 12)]
            for round_ in range(rounds(4, 20, 200)):
                churn(300 * number + 40 * round_, 40)
                for n, x in enumerate(kept, 1):
                    assert x.shape == (number + 2, n)
                    x += x[:, :1].sum() * 0 + 1
                    assert x.sum().item() == (n + round_ + 1) * n * (number + 2)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    churn(0, 200)
    assert counts()[0] < 3000
