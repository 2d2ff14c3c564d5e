"""What many threads do to the same tensors at once, each scenario with what must come out.

`python thread_scenarios.py [--threads N] [--rounds N] [--seed N] [name ...]` runs scenarios in this process; `test_threads.py`
and `tools/tsan.sh` call it so. A scenario gets an `Arena`, starts threads on it, and returns nothing or raises. Threads
switch at every chance they have.
"""

import argparse
import collections
import contextlib
import faulthandler
import gc
import os
import queue
import random
import signal
import sys
import threading
import time
import warnings

import flambeau as fb
import numpy as np
from flambeau.compiler.tools import report
from flambeau.runtime import recorder

nn = fb.nn
scenarios = {}


def scenario(fn):
    scenarios[fn.__name__] = fn
    return fn


class Arena:
    """Runs functions in threads that start together; what any of them raises is raised in the end."""

    def __init__(self, threads, rounds, seed):
        self.threads, self.rounds, self.seed = threads, rounds, seed
        self.stop = threading.Event()
        self.errors = []

    def run(self, work, *others, threads=None):
        """`work(k, random)` in all threads, and `others` in one each until those are done."""
        n = threads or self.threads
        start = threading.Barrier(n + len(others))
        self.stop.clear()

        def body(fn, *args):
            try:
                start.wait()
                fn(*args)
            except BaseException as error:
                self.errors.append(error)

        main = [threading.Thread(target=body, args=(work, k, random.Random(self.seed * 1000 + k))) for k in range(n)]
        rest = [threading.Thread(target=body, args=(fn,)) for fn in others]
        for t in (*main, *rest):
            t.start()
        for t in main:
            t.join()
        self.stop.set()
        for t in rest:
            t.join()
        if self.errors:
            raise self.errors[0]


def network():
    fb.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def batches(n=4):
    fb.manual_seed(1)
    return [fb.randn(5, 6).tolist() for _ in range(n)]


def same(found, wanted, what):
    assert found == wanted, f"{what}: {found} instead of {wanted}"


def evaluate(model, x):
    with fb.no_grad():
        return model(x).tolist()


def gradients(model, x):
    loss = (model(x) ** 2).sum()
    return [loss.item(), *(g.tolist() for g in fb.autograd.grad(loss, list(model.parameters())))]


# ---- reading ----------------------------------------------------------------------------------------------


@scenario
def readers_of_one_model(arena):
    """Evaluation and gradients of shared parameters and inputs have the bits that one thread gets, warm and cold."""
    model, data = network(), batches()
    wanted = [(evaluate(model, fb.tensor(d)), gradients(model, fb.tensor(d))) for d in data]
    inputs = [fb.tensor(d) for d in data]

    def work(k, chance):
        for _ in range(arena.rounds):
            i = chance.randrange(len(data))
            x = inputs[i] if chance.random() < 0.5 else fb.tensor(data[i])
            if chance.random() < 0.5:
                same(evaluate(model, x), wanted[i][0], "evaluation")
            else:
                same(gradients(model, x), wanted[i][1], "gradients")

    arena.run(work)
    recorder.clear()
    arena.run(work)


@scenario
def training_on_one_input(arena):
    """Each thread trains a model of its own on shared inputs, as one thread would."""
    data = batches()
    inputs = [fb.tensor(d) for d in data]

    def train():
        model = start()
        optimizer = fb.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for x in inputs:
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            optimizer.step()
        return [p.tolist() for p in model.parameters()]

    state = network().state_dict()

    def start():
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        model.load_state_dict(state)
        return model

    wanted = train()
    arena.run(lambda k, chance: [same(train(), wanted, "parameters") for _ in range(max(1, arena.rounds // 8))])


@scenario
def readers_of_pending_values(arena):
    """Values that one thread has only recorded are computed for whoever reads them; they are replaced and dropped."""
    data = batches()
    base = [fb.tensor(d) for d in data]
    wanted = [(fb.tensor(d) * 3 + 1).tolist() for d in data]
    pending = [x * 3 + 1 for x in base]

    def work(k, chance):
        for _ in range(arena.rounds):
            i = chance.randrange(len(base))
            action = chance.randrange(4)
            if action == 0:
                pending[i] = base[i] * 3 + 1
            elif action == 1:
                same(pending[i].tolist(), wanted[i], "value")
            elif action == 2:
                same(pending[i][1:3].tolist(), wanted[i][1:3], "view")
            else:
                same((pending[i] + pending[i - 1]).sum().item(), sums[i], "sum")

    sums = [(pending[i] + pending[i - 1]).sum().item() for i in range(len(base))]
    arena.run(work)


@scenario
def results_that_cross(arena):
    """Every thread computes with what its neighbours have just recorded: traces are run for each other."""
    slots = [fb.zeros(4) for _ in range(arena.threads)]

    def work(k, chance):
        for r in range(arena.rounds):
            other = slots[chance.randrange(arena.threads)]
            slots[k] = (slots[k] * 0 + other * 0) + r
            if chance.random() < 0.3:
                same(slots[k].tolist(), [float(r)] * 4, "own value")

    arena.run(work)


@scenario
def sizes_that_differ(arena):
    """Batches of all sizes through one model at once: sizes become symbols while others record."""
    model = network()
    fb.manual_seed(2)
    data = {n: fb.randn(n, 6).tolist() for n in range(1, 12)}
    wanted = {n: (evaluate(model, fb.tensor(d)), gradients(model, fb.tensor(d))) for n, d in data.items()}
    recorder.clear()

    def work(k, chance):
        for _ in range(arena.rounds):
            n = chance.randrange(1, 12)
            same(evaluate(model, fb.tensor(data[n])), wanted[n][0], f"evaluation of {n}")
            if chance.random() < 0.3:
                same(gradients(model, fb.tensor(data[n])), wanted[n][1], f"gradients of {n}")

    arena.run(work)


# ---- writing ----------------------------------------------------------------------------------------------


def is_one_number(values, what):
    flat = np.asarray(values).ravel()
    assert (flat == flat[0]).all(), f"{what} is half written: {flat}"
    return float(flat[0])


@scenario
def one_writes_others_read(arena):
    """In place, through views, through `data`: a reader sees a value from before or after a write, and never an older one
    than it has seen already."""
    x = fb.zeros(64)

    def write():
        n = 0
        while not arena.stop.is_set():
            n += 1
            way = n % 5
            if way == 0:
                x.fill_(float(n))
            elif way == 1:
                x.copy_(fb.full((64,), float(n)))
            elif way == 2:
                x[:] = float(n)
            elif way == 3:
                x.data = fb.full((64,), float(n))
            else:
                x.add_(1.0)
            if n % 3 == 0:
                recorder.flush()

    def work(k, chance):
        last = 0.0
        for _ in range(arena.rounds):
            values = x.tolist() if chance.random() < 0.5 else (x * 1.0).tolist()
            now = is_one_number(values, "x")
            assert now >= last, f"{now} after {last}"
            last = now

    arena.run(work, write)


@scenario
def counters(arena):
    """In-place operations of several threads on one tensor are all there in the end."""
    x, rows = fb.zeros(8), fb.zeros(4, 3)

    def work(k, chance):
        for _ in range(arena.rounds):
            x.add_(1.0)
            rows[k % 4] += 1.0
            if chance.random() < 0.2:
                is_one_number(x.tolist(), "x")

    arena.run(work)
    total = float(arena.rounds * arena.threads)
    same(x.tolist(), [total] * 8, "x")
    share = [float(arena.rounds * len(range(k, arena.threads, 4))) for k in range(4)]
    same(rows.tolist(), [[s] * 3 for s in share], "rows")


@scenario
def one_trains_others_evaluate(arena):
    """An optimizer's steps and `load_state_dict` under readers: every parameter is one that training has gone through."""
    model = nn.Linear(7, 5)
    with fb.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    optimizer = fb.optim.SGD(model.parameters(), lr=0.5)
    x = fb.ones(2, 7)

    def train():
        while not arena.stop.is_set():
            for _ in range(4):
                optimizer.zero_grad()
                model(x).sum().backward()
                optimizer.step()
            model.load_state_dict(before)

    def work(k, chance):
        for _ in range(arena.rounds):
            weight, bias = model.weight.tolist(), model.bias.tolist()
            assert is_one_number(weight, "weight") in {1.0, 0.0, -1.0, -2.0, -3.0}
            assert is_one_number(bias, "bias") in {1.0, 0.0, -1.0, -2.0, -3.0}
            with fb.no_grad():
                is_one_number(model(x).tolist(), "output")

    arena.run(work, train)


@scenario
def gradients_add_up(arena):
    """backward() of several threads into the same leaves, with graphs of their own, with and without hooks."""
    w = fb.ones(3, requires_grad=True)
    v = fb.ones(3, requires_grad=True)
    hooked = []
    v.register_hook(lambda g: hooked.append(1))

    def work(k, chance):
        for _ in range(arena.rounds):
            x = fb.tensor([1.0, 2.0, 3.0])
            (w * x).sum().backward()
            if chance.random() < 0.2:
                w.grad.tolist()
        for _ in range(max(1, arena.rounds // 8)):
            (v * fb.tensor([1.0, 2.0, 3.0])).sum().backward()

    arena.run(work)
    n = float(arena.rounds * arena.threads)
    same(w.grad.tolist(), [n, 2 * n, 3 * n], "gradient")
    n = float(max(1, arena.rounds // 8) * arena.threads)
    same(v.grad.tolist(), [n, 2 * n, 3 * n], "gradient with a hook")
    same(len(hooked), int(n), "hooks")


@scenario
def one_graph_for_all(arena):
    """A history that all threads differentiate: with retain_graph all get the same; without it, the gradient or the error."""
    w = fb.tensor([[0.1, 0.2], [0.3, 0.4]], requires_grad=True)
    x = fb.tensor([[1.0, 2.0], [3.0, 4.0]])

    def hidden():
        return fb.tanh(x @ w)

    def slope(h, k, **how):
        return fb.autograd.grad((h * (k % 3 + 1)).sum(), [w], **how)[0].tolist()

    wanted = [slope(hidden(), k) for k in range(3)]
    shared, free = hidden(), [hidden()]
    second = fb.autograd.grad(slope_graph(w, x).sum(), [w])[0].tolist()
    counts = collections.Counter()

    def work(k, chance):
        for _ in range(max(1, arena.rounds // 2)):
            same(slope(shared, k, retain_graph=True), wanted[k % 3], "gradient")
            if chance.random() < 0.1:
                same(fb.autograd.grad(slope_graph(w, x).sum(), [w])[0].tolist(), second, "second derivative")
            if chance.random() < 0.1:
                free[0] = hidden()
            try:
                same(slope(free[0], k), wanted[k % 3], "gradient")
                counts["gradient"] += 1
            except RuntimeError as error:
                assert "retain_graph" in str(error), error
                counts["freed"] += 1

    arena.run(work)


def slope_graph(w, x):
    """First derivatives that are differentiable."""
    h = fb.tanh(x @ w)
    return fb.autograd.grad((h * h).sum(), [w], create_graph=True)[0]


# ---- lifetimes, errors, settings --------------------------------------------------------------------------


@scenario
def freed_elsewhere(arena):
    """Tensors made here and dropped there, computed or not; threads that end with work nobody has looked at."""
    line = queue.Queue(maxsize=64)
    left = []

    def work(k, chance):
        for _ in range(arena.rounds):
            x = fb.tensor([1.0, 2.0, 3.0], requires_grad=chance.random() < 0.5)
            y = (x * 2).sum() if chance.random() < 0.5 else x[1:] * 2
            with contextlib.suppress(queue.Full):
                line.put_nowait((x, y, y * 1.0))
            if chance.random() < 0.5:
                try:
                    x, y, z = line.get_nowait()
                    if chance.random() < 0.5:
                        z.detach().tolist()
                except queue.Empty:
                    pass
        left.append(fb.tensor([float(k)]) * 2)

    arena.run(work)
    same(sorted(t.item() for t in left), [2.0 * k for k in range(arena.threads)], "what ended threads have left")
    del left[:]
    while not line.empty():
        line.get_nowait()
    gc.collect()


@scenario
def errors_stay_where_they_are(arena):
    """An index out of range in one thread's trace: who reads its results gets the error, all others their values."""
    table = fb.tensor([[1.0], [2.0], [3.0]])
    model, data = network(), batches(1)[0]
    wanted = evaluate(model, fb.tensor(data))
    broken = [None] * arena.threads

    def work(k, chance):
        for _ in range(arena.rounds):
            x = fb.tensor([1.0, 2.0])
            good = x * 2
            broken[k] = (fb.nn.functional.embedding(fb.tensor([7]), table) + good.sum(), good)
            for bad, fine in filter(None, (broken[k], broken[chance.randrange(arena.threads)])):
                try:
                    bad.tolist()
                    raise AssertionError("no error")
                except IndexError:
                    pass
                with contextlib.suppress(IndexError):  # recorded in a trace after the error of an earlier round
                    same(fine.tolist(), [2.0, 4.0], "value before the error")
            same(evaluate(model, fb.tensor(data)), wanted, "evaluation")

    arena.run(work)


@scenario
def random_numbers(arena):
    """No number of the default generator is drawn twice."""
    fb.manual_seed(3)
    per = 4
    drawn = [[] for _ in range(arena.threads)]

    def work(k, chance):
        for _ in range(max(1, arena.rounds // 2)):
            drawn[k].append(fb.rand(per))

    arena.run(work)
    found = sorted(v for d in drawn for t in d for v in t.tolist())
    fb.manual_seed(3)
    wanted = sorted(v for _ in range(len(found) // per) for v in fb.rand(per).tolist())
    same(found, wanted, "numbers")


@scenario
def shared_with_numpy(arena):
    """Tensors on NumPy's memory, read by all threads, exported by some, written by one."""
    array = np.zeros(32, np.float32)
    x, y = fb.from_numpy(array), fb.arange(32).float()
    wanted = y.tolist()

    def write():
        n = 0
        while not arena.stop.is_set():
            n += 1
            x.fill_(float(n))
            recorder.flush()

    def work(k, chance):
        for _ in range(arena.rounds):
            is_one_number((x + 0.0).tolist(), "x")
            same((y * 1.0).tolist(), wanted, "y")
            if chance.random() < 0.3:
                same(y.numpy().tolist(), wanted, "exported")

    arena.run(work, write)


@scenario
def programs_are_forgotten(arena):
    """The trie is emptied, and options are changed, while others record and run."""
    model, data = network(), batches(2)
    wanted = [(evaluate(model, fb.tensor(d)), gradients(model, fb.tensor(d))) for d in data]

    def forget():
        while not arena.stop.is_set():
            recorder.clear()
            with fb.compiler_options(mode="off"):
                evaluate(model, fb.tensor(data[0]))
            time.sleep(0.001)

    def work(k, chance):
        for _ in range(arena.rounds):
            i = chance.randrange(2)
            same(evaluate(model, fb.tensor(data[i])), wanted[i][0], "evaluation")
            same(gradients(model, fb.tensor(data[i])), wanted[i][1], "gradients")
            gc.collect(0)

    arena.run(work, forget)


@scenario
def views_are_forgotten(arena):
    """Types, static arguments and views of ever new shapes are forgotten while all threads view, and write, the same tensors."""
    kept = [fb.arange(6 * n).reshape(6, n) for n in range(2, 8)]
    wanted = [x[1:].t()[1:].tolist() for x in kept]
    moving = [fb.zeros(4, 3)[1:]]
    before = recorder.stats()["views"]
    fb.set_limits(max_types=20)

    def work(k, chance):
        for r in range(arena.rounds):
            i = chance.randrange(len(kept))
            same(kept[i][1:].t()[1:].tolist(), wanted[i], "a view of a view")
            x = fb.zeros(2 + k, 2 + r)
            x.t()[1:] += 1
            same(x[1:].sum().item(), float((1 + k) * (1 + r)), "a written view")
            is_one_number(moving[0].tolist(), "a view that is put elsewhere")
            moving[0].data = fb.full((5, 2 + r), float(r))[chance.randrange(3) :]

    try:
        arena.run(work)
        recorder.clear()  # recordings, which have views, too
        for _ in range(3):  # what nothing has is doomed by one collection, and gone after the next
            fb.set_limits(max_types=20)
            fb.ones(1).add(1).tolist()
        after = recorder.stats()["views"]
        assert after - before <= 100, f"{after - before} views are left"
    finally:
        fb.set_limits(max_types=1 << 14)


@scenario
def signals_and_finalizers(arena):
    """A signal handler and finalizers of garbage compute with tensors in the middle of everything."""
    model, data = network(), batches(1)[0]
    x = fb.tensor(data)
    wanted = evaluate(model, x)
    seen = collections.Counter()

    class Finalizer:
        def __init__(self):
            self.me = self
            self.value = fb.tensor([1.0]) + 1.0

        def __del__(self):
            try:
                seen["finalized"] += (self.value * 2.0).tolist() == [4.0]
            except RuntimeError as error:
                assert "finalizer" in str(error), error

    def handle(number, frame):
        try:
            seen["handled"] += evaluate(model, x) == wanted
        except RuntimeError as error:
            assert "signal handler" in str(error), error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.002)

    def work(k, chance):
        for _ in range(max(1, arena.rounds // 2)):
            Finalizer()
            same(evaluate(model, fb.tensor(data)), wanted, "evaluation")
            gradients(model, x)

    before, often = signal.signal(signal.SIGALRM, handle), gc.get_threshold()
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    gc.set_threshold(50)  # while programs are built there are no collections, and else few in so short a time
    try:
        arena.run(work)
        recorder.clear()
        work(0, random)  # in the main thread, where handlers run
    finally:
        gc.set_threshold(*often)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen["finalized"] > 0 and seen["handled"] > 0, seen


@scenario
def forks(arena):
    """Processes that are forked in the middle of it all: the child has the values of what nobody was computing."""
    model, data = network(), batches(1)[0]
    x = fb.tensor(data)
    wanted = evaluate(model, x), gradients(model, x)
    for _ in range(200):  # a child that asked for compilers would start a thread, which ThreadSanitizer forbids
        evaluate(model, x), gradients(model, fb.tensor(data)), gradients(model, x)
        if all(program.tier == "fused" for program in report.programs()[-3:]):
            break
        time.sleep(0.05)

    def fork():
        while not arena.stop.is_set():
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                os._exit((evaluate(model, x), gradients(model, fb.tensor(data))) != wanted)
            same(os.waitpid(child, 0)[1], 0, "the child's status")

    def work(k, chance):
        for _ in range(arena.rounds):
            same(evaluate(model, fb.tensor(data)), wanted[0], "evaluation")
            same(gradients(model, x), wanted[1], "gradients")

    arena.run(work, fork)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--switch", type=float, default=1e-6, help="seconds after which threads switch")
    parser.add_argument(
        "--limit", type=float, default=300, help="seconds until all threads are shown and the process ends"
    )
    options = parser.parse_args()
    faulthandler.enable()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks in a process with threads
    sys.setswitchinterval(options.switch)
    for name in options.names or scenarios:
        faulthandler.dump_traceback_later(options.limit, exit=True)
        start = time.perf_counter()
        scenarios[name](Arena(options.threads, options.rounds, options.seed))
        print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
