"""Loaders with workers: contents, orders, seeds, errors, memory, and that nothing remains."""

import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from multiprocessing import resource_tracker
from pathlib import Path

import flambeau as fb
import numpy as np
import pytest
from flambeau.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate, get_worker_info
from flambeau.data import blocks as blocks_module
from flambeau.runtime import recorder
from support import against_numpy, rounds

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


class Rows(Dataset):
    """Arrays large enough to lie in blocks, and small things beside them."""

    def __len__(self):
        return 23

    def __getitem__(self, i):
        return {"x": np.full((40, 40), i, np.float32), "i": i, "name": str(i), "small": np.arange(2) + i}


class Failing(Rows):
    def __getitem__(self, i):
        if i == 13:
            raise KeyError(f"no sample {i}")
        return super().__getitem__(i)


class Counting(IterableDataset):
    """0 to n - 1, shared among the workers."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        info = get_worker_info()
        return iter(range(info.id, self.n, info.num_workers) if info else range(self.n))


def children():
    return multiprocessing.active_children()


@pytest.fixture(autouse=True)
def nothing_remains():
    resource_tracker.ensure_running()  # spawning keeps a file open for it
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    yield
    gc.collect()
    assert not children() and not blocks_module.settle()
    if files:
        assert len(os.listdir("/proc/self/fd")) <= files


@pytest.mark.accept("DAT-04", "DAT-07", "T-20")
@pytest.mark.parametrize("options", [{}, {"persistent_workers": True}, {"prefetch_factor": 5}])
def test_workers_give_what_one_process_gives(options):
    def epochs(**more):
        loader = DataLoader(Rows(), 4, shuffle=True, generator=fb.Generator().manual_seed(3), **more)
        assert len(loader) == 6
        return [list(loader), list(loader)]

    for mine, wanted in zip(epochs(num_workers=2, **options), epochs()):
        assert len(mine) == len(wanted) == 6
        for a, b in zip(mine, wanted):
            assert a["name"] == b["name"] and list(a) == list(b)
            for key in ("x", "i", "small"):
                against_numpy(a[key], b[key].numpy())


@pytest.mark.accept("DAT-04")
def test_tensor_datasets_and_tensors_as_samples():
    x, y = fb.randn(50, 30, 30), fb.arange(50)
    pairs = list(DataLoader(TensorDataset(x, y), 16, num_workers=2))
    assert fb.cat([b[0] for b in pairs]).equal(x) and fb.cat([b[1] for b in pairs]).equal(y)

    class Halves(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, i):
            return x[i] / 2  # computed in the worker

    assert fb.cat(list(DataLoader(Halves(), 2, num_workers=2))).equal(x[:5] / 2)
    singles = list(DataLoader(Halves(), None, num_workers=2))
    assert len(singles) == 5 and singles[4].equal(x[4] / 2)


@pytest.mark.accept("DAT-04")
def test_batches_lie_where_the_worker_wrote_them_and_may_be_written_to():
    loader = DataLoader(Rows(), 5, num_workers=1, persistent_workers=True)
    for number, batch in enumerate(loader):
        assert blocks_module.settle() == 1 and batch["x"].is_contiguous()
        before = recorder.stats()["copied"]
        view = batch["x"].numpy()
        assert recorder.stats()["copied"] == before and np.shares_memory(view, batch["x"].numpy())
        assert view[:, 0, 0].tolist() == batch["i"].tolist()
        del view
        total = (batch["x"] * 2).sum().item()
        batch["x"].add_(1)
        assert batch["x"].sum().item() == total / 2 + batch["x"].numel(), number
        del batch
    kept = list(loader)
    assert [b["x"][0, 0, 0].item() for b in kept] == [0, 5, 10, 15, 20]
    list(loader)
    assert [b["x"][0, 0, 0].item() for b in kept] == [0, 5, 10, 15, 20], "blocks in use are not filled again"


def test_no_more_blocks_are_lent_than_may_be(monkeypatch):
    monkeypatch.setattr(blocks_module, "MOST_LENT", 2)
    kept = list(DataLoader(Rows(), 2, num_workers=2))
    assert blocks_module.settle() == 2
    assert [b["x"][0, 0, 0].item() for b in kept] == list(range(0, 23, 2))


def test_arrays_of_other_collates_and_large_objects():
    def collate(samples):
        return np.stack([s["x"] for s in samples]), "text" * 100_000, [s["i"] for s in samples], samples[0]["x"][:0]

    for k, (x, text, i, none) in enumerate(DataLoader(Rows(), 8, num_workers=2, collate_fn=collate)):
        assert x.dtype == np.float32 and x[:, 3, 3].tolist() == i and i[0] == 8 * k
        x += 1
        assert len(text) == 400_000 and none.shape == (0, 40)

    def twice(samples):
        x = default_collate(samples)["x"]
        return x, x, x[1:], x.view(-1), x.to(fb.bfloat16), x > 3

    for x, again, rest, flat, narrow, mask in DataLoader(Rows(), 8, num_workers=1, collate_fn=twice):
        assert again is x and rest.equal(x[1:]) and flat.equal(x.view(-1)) and narrow.equal(x.to(fb.bfloat16))
        assert mask.dtype is fb.bool and mask.equal(x > 3)


@pytest.mark.accept("DAT-01", "DAT-04")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_streams_are_shared_out(workers):
    batches = [b.tolist() for b in DataLoader(Counting(10), 2, num_workers=workers)]
    wanted = {0: [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]], 1: [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]}
    assert batches == wanted.get(workers, [[0, 3], [1, 4], [2, 5], [6, 9], [7], [8]])
    dropped = [b.tolist() for b in DataLoader(Counting(10), 2, num_workers=workers, drop_last=True)]
    assert dropped == [b for b in batches if len(b) == 2]
    assert sorted(DataLoader(Counting(5), None, num_workers=workers)) == list(range(5))
    assert list(DataLoader(Counting(0), 2, num_workers=workers)) == []


@pytest.mark.accept("DAT-05", "T-20")
def test_seeds_follow_from_generator_epoch_and_worker():
    class Drawn(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return [random.random(), float(np.random.rand()), fb.rand(()).item(), get_worker_info().seed % 1000, i]

    def epochs(seed, **more):
        options = {"num_workers": 2, "generator": fb.Generator().manual_seed(seed), **more}
        loader = DataLoader(Drawn(), None, **options)
        return [[tuple(row) for row in loader] for _ in range(2)]

    first = epochs(1)
    assert epochs(1) == first == epochs(1, persistent_workers=True)
    numbers = [x for epoch in first for row in epoch for x in row[:3]]
    assert len(set(numbers)) == len(numbers), "workers and epochs draw different numbers"
    assert epochs(2)[0] != first[0]


@pytest.mark.accept("DAT-04", "T-08")
def test_errors_name_the_sample_and_show_the_workers_traceback():
    seen = []
    with pytest.raises(KeyError) as caught:
        for batch in DataLoader(Failing(), 4, num_workers=2):
            seen.append(batch["i"].tolist())
    text = str(caught.value)
    assert text.startswith("[DataLoader] worker 1 raised KeyError at sample 13: no sample 13\nIts traceback:\n")
    assert "in __getitem__" in text and 'raise KeyError(f"no sample {i}")' in text
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    with pytest.raises(KeyError, match="no sample 13") as here:
        list(DataLoader(Failing(), 4))
    assert here.value.__notes__ == ["[DataLoader] this was at sample 13."]


@pytest.mark.accept("T-08")
def test_iteration_goes_on_after_an_error():
    loader = DataLoader(Failing(), 1, num_workers=2)
    it, found = iter(loader), []
    while True:
        try:
            found.append(next(it)["i"].item())
        except KeyError:
            found.append("failed")
        except StopIteration:
            break
    assert found == [*range(13), "failed", *range(14, 23)]


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)


@pytest.mark.parametrize("where", ["init", "collate", "class"])
def test_errors_elsewhere_in_a_worker(where):
    def fail(*args):
        raise Odd(1, 2) if where == "class" else ValueError("this cannot be")

    options = {"worker_init_fn": fail} if where == "init" else {"collate_fn": fail}
    kind, text = (ValueError, "this cannot be") if where in ("init", "collate") else (RuntimeError, "raised Odd")
    with pytest.raises(kind, match=text):
        list(DataLoader(Rows(), 4, num_workers=1, **options))


def test_a_worker_that_is_killed():
    class Killed(Rows):
        def __getitem__(self, i):
            if i == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return i

    with pytest.raises(RuntimeError, match=r"\[DataLoader\] worker 0 \(process \d+\) was killed by SIGKILL"):
        list(DataLoader(Killed(), 4, num_workers=2))

    class Left(Rows):
        def __getitem__(self, i):
            os._exit(7)

    with pytest.raises(RuntimeError, match="ended with status 7"):
        list(DataLoader(Left(), 4, num_workers=2))


def test_timeout_and_stuck_workers(monkeypatch):
    from flambeau.data import worker

    monkeypatch.setattr(worker, "GRACE", 0.3)

    class Slow(Rows):
        def __getitem__(self, i):
            time.sleep(60)

    with pytest.raises(RuntimeError, match=r"\[DataLoader\] no batch came within 0.2 seconds"):
        next(iter(DataLoader(Slow(), 4, num_workers=1, timeout=0.2)))


def test_tasks_larger_than_a_channel_holds():
    loader = DataLoader(range(400_000), 100_000, num_workers=1, prefetch_factor=4, collate_fn=lambda rows: rows)
    assert [rows[0] for rows in loader] == [0, 100_000, 200_000, 300_000]


def test_order_may_be_left_to_chance():
    class Uneven(Rows):
        def __getitem__(self, i):
            time.sleep(0.3 if i == 0 else 0)
            return i

    found = [b.item() for b in DataLoader(Uneven(), 1, num_workers=2, in_order=False)]
    assert sorted(found) == list(range(23)) and found[0] != 0
    assert [b.item() for b in DataLoader(Uneven(), 1, num_workers=2)] == list(range(23))


@pytest.mark.accept("DAT-08")
def test_leaving_early_and_iterating_anew():
    loader = DataLoader(Rows(), 2, num_workers=2, persistent_workers=True)
    first = iter(loader)
    workers = {p.pid for p in children()}
    assert next(first)["i"].tolist() == [0, 1] and next(first)["i"].tolist() == [2, 3]
    for _ in range(5):
        assert next(iter(loader))["i"].tolist() == [0, 1]
    assert {p.pid for p in children()} == workers
    with pytest.raises(RuntimeError, match="a newer one took them"):
        next(first)
    assert len(list(loader)) == 12
    for _ in DataLoader(Rows(), 2, num_workers=2):
        break
    del loader, first
    gc.collect()
    assert not children()


def test_an_interrupt_ends_the_workers():
    class Interrupting(Rows):
        def __getitem__(self, i):
            if i == 6:
                os.kill(os.getppid(), signal.SIGINT)
                time.sleep(0.5)
            return i

    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # it may be ignored where tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            list(DataLoader(Interrupting(), 2, num_workers=2, persistent_workers=True))
    finally:
        signal.signal(signal.SIGINT, before)
    gc.collect()
    assert not children()


def test_workers_have_one_thread_and_forks_inherit_no_channel():
    class Asked(Rows):
        def __getitem__(self, i):
            return fb.get_num_threads(), get_worker_info().num_workers, os.getpid()

    assert get_worker_info() is None
    found = list(DataLoader(Asked(), None, num_workers=2, worker_init_fn=lambda i: random.seed(i)))
    assert {tuple(row[:2]) for row in found} == {(1, 2)} and len({row[2] for row in found}) == 2
    loader = DataLoader(Rows(), 2, num_workers=1, persistent_workers=True)
    next(iter(loader))
    child = os.fork()
    if child == 0:  # what it inherits is closed, and its end is not the workers'
        os._exit(0 if not [e for e in loader._crew.members if e.end.end.fileno() != -1] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(loader)) == 12


@pytest.mark.accept("DAT-08")
def test_closing_ends_workers_that_persist():
    with DataLoader(Rows(), 2, num_workers=2, persistent_workers=True) as loader:
        first = iter(loader)
        next(first)
        assert len(children()) == 2
        loader.close()
        assert not children() and len(list(loader)) == 12 and len(children()) == 2
        with pytest.raises(RuntimeError, match="the workers of this iteration are gone"):
            list(first)
    assert not children()


def test_forked_workers_use_no_device():
    class Placed(Rows):
        def __getitem__(self, i):
            return fb.ones(2).to("cuda:0").sum().item()

    with pytest.raises(RuntimeError, match="cannot use the devices of its parent"):
        list(DataLoader(Placed(), 4, num_workers=1))


def test_spawned_workers():
    loader = DataLoader(TensorDataset(fb.randn(6, 40, 40)), 3, num_workers=1, multiprocessing_context="spawn")
    assert fb.cat([b[0] for b in loader]).equal(loader.dataset.tensors[0])


def test_what_a_loader_fixes():
    loader = DataLoader(Rows(), 2)
    with pytest.raises(ValueError, match=r"\[DataLoader\] batch_size is fixed"):
        loader.batch_size = 3
    loader.pin_memory = True


@pytest.mark.accept("T-08")
def test_nothing_remains_of_programs_that_are_interrupted_or_killed():
    """By a script of its own, since it takes over the processes of those that end."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no fork on this system")
    script = Path(__file__).parent / "loading_victims.py"
    count = rounds(15, 200, 2000)
    command = [sys.executable, str(script), str(count), "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 2 * count)
    assert done.returncode == 0 and "nothing remains" in done.stdout, done.stdout + done.stderr
