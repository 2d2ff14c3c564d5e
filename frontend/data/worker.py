"""A loader's worker: a process that loads the batches it is told of.

In: tasks, by a channel. Out: batches in blocks, or errors with what is known of them. It ends with its loader: when its channel
is closed it stops after the sample at hand, and soon in any case; when the loading process is gone, at once. Ctrl-C is for the
loading process, which decides; a worker ignores it. Next: `processes.py`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from flambeau import generator as generators
from flambeau.data import blocks, channel
from flambeau.runtime import _binding, devices, progress

#: Seconds that a worker may go on after its channel was closed, and seconds between looks at whether the loader is gone.
GRACE, _LOOK = 5.0, 0.1


@dataclass
class WorkerInfo:
    """What `get_worker_info` gives: the worker's `id`, how many there are, its seed, and its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """Which of the workers this process is; None in a process that is no worker."""
    return _info


@dataclass
class Work:
    """What a worker needs to know. `fetcher` makes what loads, anew for each epoch."""

    dataset: Any
    fetcher: Callable[[Any], Any]
    number: int
    count: int
    init: Callable[[int], Any] | None
    is_forked: bool


def main(end: socket.socket, work: Work) -> None:
    """The whole life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_watch, args=(end.fileno(), os.getppid()), name="flambeau-loader", daemon=True).start()
    _binding.set_num_threads(1)
    progress.DELAY = float("inf")  # the loading process shows that it waits
    if work.is_forked:
        devices.refuse("a worker that was forked cannot use the devices of its parent. Load on the CPU.")
    with contextlib.suppress(EOFError, ConnectionError):
        _Worker(channel.WorkerEnd(end), work).run()


def _watch(end: int, parent: int) -> None:
    """End this process when the loader is gone; when it only closed the channel, after a while."""
    poll = select.poll()
    poll.register(end, 0)  # hang-ups are told always
    while not poll.poll(1000.0):
        if os.getppid() != parent:
            os._exit(1)
    until = time.monotonic() + GRACE
    while os.getppid() == parent and time.monotonic() < until:
        time.sleep(_LOOK)
    os._exit(1)


class _Worker:
    def __init__(self, end: channel.WorkerEnd, work: Work) -> None:
        self._end, self._work = end, work
        self._blocks = blocks.fill_in_worker()
        self._epoch, self._fetcher, self._failed = -1, None, b""
        self._is_new = True

    def run(self) -> None:
        """Do what comes, until the channel is closed."""
        while True:
            kind, released, *rest = pickle.loads(self._end.receive())
            self._blocks.released(released)
            if kind == "begin":
                self._begin(*rest)
            elif rest[0] == self._epoch:
                self._load(*rest)

    def _begin(self, epoch: int, seed: int) -> None:
        """A new epoch, whose random numbers follow from its seed and the worker's number."""
        global _info
        number = self._work.number
        self._epoch, self._fetcher, self._failed = epoch, None, b""
        random.seed(seed + number)
        generators.default_generator.manual_seed((seed + number) % 2**63)
        np.random.seed(np.random.SeedSequence([seed, number]).generate_state(4))
        _info = WorkerInfo(number, self._work.count, seed + number, self._work.dataset)
        try:
            if self._is_new and self._work.init is not None:
                self._work.init(number)
            self._is_new = False
            self._fetcher = self._work.fetcher(self._work.dataset)
        except Exception as error:
            self._failed = _told(error, number)

    def _load(self, epoch: int, number: int, indices: Any) -> None:
        """One batch: sent, or why there is none."""
        body: blocks.Packed = (self._failed, [], [], [])
        kind, files = "failed", list[int]()
        if self._fetcher is not None:
            try:
                body, files = self._blocks.pack(self._fetcher.fetch(indices))
                kind = "batch"
            except StopIteration:
                kind, self._fetcher, self._failed = "end", None, b""
            except Exception as error:
                self._blocks.abandon()
                body = (_told(error, self._work.number), [], [], [])
        elif not self._failed:
            kind = "end"
        self._end.send(pickle.dumps((kind, epoch, number, *body)), files)
        self._blocks.sent()


def _told(error: Exception, worker: int) -> bytes:
    """An error for the loader: its class, where that can be pickled, and the text."""
    index = error.__dict__.get("_sample")
    place = "" if index is None else f" at sample {index}"
    trace = "".join(traceback.format_exception(error))
    words = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = f"[DataLoader] worker {worker} raised {type(error).__name__}{place}: {words}\nIts traceback:\n\n{trace}"
    try:
        return pickle.dumps((type(error), text))
    except Exception:
        return pickle.dumps((RuntimeError, text))


class _Text(str):
    """The text of a KeyError, which Python shows by its `repr`."""

    def __repr__(self) -> str:
        return str(self)


def untold(packed: bytes) -> Exception:
    """The error to raise in the loader: of the class that the worker's had, or RuntimeError where that is not made of a text."""
    kind, text = pickle.loads(packed)
    try:
        made = kind(_Text(text) if issubclass(kind, KeyError) else text)
    except Exception:
        made = None
    return made if isinstance(made, Exception) and not isinstance(made, StopIteration) else RuntimeError(text)
