"""The loader's side of workers: starts them, hands out tasks, puts batches in order, ends them.

In: a loader. Out: a `WorkerPool`, and `Epoch`, an iterator over batches that they load. Workers are forked where that can
be (a dataset is then shared as it is, however large, and need not be pickled): what was recorded is run before, locks, threads
and compiler processes are renewed in the child (docs/architecture.md), which has a channel of its own and nothing of other
workers'. `multiprocessing_context` names other ways. Next: `worker.py`, `channel.py`, `blocks.py`.
"""

from __future__ import annotations

import _thread
import multiprocessing
import os
import pickle
import select
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from flambeau.data import worker as workers
from flambeau.data.blocks import Lent
from flambeau.data.channel import LoaderEnd
from flambeau.data.interrupts import held_back
from flambeau.runtime import progress
from flambeau.runtime.recorder import flush_all, flush_point


def context_of(chosen: Any) -> Any:
    """The multiprocessing context. Raises ValueError for a way to start that there is not, TypeError for what is none."""
    ways = multiprocessing.get_all_start_methods()
    if chosen is None:
        return multiprocessing.get_context("fork" if "fork" in ways and sys.platform != "darwin" else None)
    if isinstance(chosen, str) and chosen not in ways:
        raise ValueError(f"[DataLoader] multiprocessing_context is '{chosen}'. Use one of {', '.join(ways)}.")
    if isinstance(chosen, str):
        return multiprocessing.get_context(chosen)
    if not isinstance(chosen, multiprocessing.context.BaseContext):
        raise TypeError(
            f"[DataLoader] multiprocessing_context is of type {type(chosen).__name__}. Use a context, or its name."
        )
    return chosen


class _Member:
    """A worker, as the loader sees it."""

    def __init__(self, process: Any, end: LoaderEnd) -> None:
        self.process, self.end, self.blocks = process, end, Lent()

    def post(self, kind: str, *rest: Any) -> None:
        """Send a task, and which blocks are free again."""
        self.end.post(pickle.dumps((kind, self.blocks.take_released(), *rest)))

    def receive(self) -> Any:
        """(kind, epoch, number, body, places in blocks) of the next message, None if none has come. Raises EOFError where the
        worker is gone."""
        with held_back():  # files that came belong to nobody until their blocks are mapped
            if (found := self.end.pull()) is None:
                return None
            kind, epoch, number, body, placed, new, gone = pickle.loads(found[0])
            self.blocks.arrived(new, gone, found[1])
        return kind, epoch, number, body, placed


class WorkerPool:
    """The workers of a loader, as long as somebody holds this."""

    def __init__(self, loader: Any) -> None:
        self.members: list[_Member] = []
        self.epoch = -1
        #: What came and was not taken yet: number of the task -> (worker, kind, batch or error, its arrays' blocks).
        self.came: dict[int, tuple[int, str, bytes, list[tuple[int, int]]]] = {}
        self._end = weakref.finalize(self, _let_go, self.members, os.getpid())
        context = context_of(loader.multiprocessing_context)
        flush_all()  # a fork would do it, where what is imported for the first time cannot ask to be told of the fork
        for number in range(loader.num_workers):
            self._start(context, loader, number)

    @property
    def is_open(self) -> bool:
        return self._end.alive

    def close(self) -> None:
        """End the workers."""
        if self._end.detach() is not None:
            _end_all(self.members, os.getpid())

    def _start(self, context: Any, loader: Any, number: int) -> None:
        is_forked = context.get_start_method() == "fork"
        work = workers.Work(
            loader.dataset, loader._fetcher, number, loader.num_workers, loader.worker_init_fn, is_forked
        )
        with held_back():  # until it ignores them, the child would be interrupted like this process
            ours, theirs = socket.socketpair(socket.AF_UNIX)
            end = LoaderEnd(ours)
            process = context.Process(target=workers.main, args=(theirs, work), daemon=True, name=f"loader-{number}")
            self.members.append(_Member(process, end))
            try:
                process.start()
            except BaseException:
                self.members.pop()
                raise
            finally:
                theirs.close()

    def begin(self, seed: int) -> int:
        """The number of a new epoch, which all workers have been told of."""
        self.epoch += 1
        for came in self.came.values():
            self.unpack(*came)  # nobody will: its blocks are free
        self.came.clear()
        for member in self.members:
            member.post("begin", self.epoch, seed)
        return self.epoch

    def messages(self, timeout: float | None) -> Iterator[tuple[int, Any]]:
        """(worker, message) of those that came, after a wait for the first. Raises RuntimeError where a worker has ended."""
        poll = select.poll()
        members = {m.end.end.fileno(): i for i, m in enumerate(self.members)}
        for file, i in members.items():
            poll.register(file, select.POLLIN | (select.POLLOUT if self.members[i].end.has_unsent else 0))
        for file, _ in poll.poll(None if timeout is None else max(0.0, timeout) * 1000):
            member = self.members[members[file]]
            member.end.push()
            try:
                while (message := member.receive()) is not None:
                    yield members[file], message
            except EOFError:
                raise self._ended(members[file]) from None

    def unpack(self, worker: int, kind: str, body: bytes, placed: list[tuple[int, int]]) -> Any:
        """The batch that a worker sent, None if it sent none."""
        return self.members[worker].blocks.unpack(body, placed) if kind == "batch" else None

    def _ended(self, i: int) -> RuntimeError:
        process = self.members[i].process
        process.join(1.0)
        code, pid = process.exitcode, process.pid
        self.close()
        how = f"ended with status {code}"
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        hint = " It may have run out of memory." if code in (-signal.SIGKILL, -signal.SIGBUS) else ""
        return RuntimeError(
            f"[DataLoader] worker {i} (process {pid}) {how} while it was needed.{hint} With num_workers=0 the dataset is read "
            "in this process."
        )


def _let_go(members: list[_Member], pid: int) -> None:
    """End the workers of a crew that nobody holds. Python would only print an interrupt that comes here: it comes again soon
    after."""
    try:
        _end_all(members, pid)
    except KeyboardInterrupt:
        threading.Timer(0.001, _thread.interrupt_main).start()


def _end_all(members: list[_Member], pid: int) -> None:
    """End the workers: they stop when their channels are closed; who does not within the time is killed."""
    if os.getpid() != pid:  # a copy, in a forked child
        return
    with held_back():
        for member in members:
            member.end.close()
        until = time.monotonic() + workers.GRACE + 1.0
        for member in members:
            member.process.join(max(0.0, until - time.monotonic()))
            if member.process.exitcode is None:
                member.process.kill()
                member.process.join()
            member.process.close()


class Epoch:
    """Batches that workers load, in order or as they come."""

    def __init__(self, loader: Any, crew: WorkerPool, keeps: bool) -> None:
        self._crew, self._keeps, self._in_order = crew, keeps, loader.in_order
        self._timeout, self._ahead = loader.timeout or None, loader.prefetch_factor or 2
        self._tasks = enumerate(loader._tasks())
        self._where: dict[int, int] = {}  # tasks that are with a worker
        self._came = crew.came
        self._active = list(range(len(crew.members)))
        self._turn = self._next = 0
        self._number = crew.begin(loader._seed())
        for _ in range(self._ahead * len(crew.members)):
            self._hand_out()

    def __iter__(self) -> Epoch:
        return self

    def __next__(self) -> Any:
        flush_point()
        try:
            return self._take()
        except StopIteration:
            self._finish()
            raise
        except BaseException as error:
            if not isinstance(error, Exception):  # an interrupt: who knows what was read
                self._crew.close()
            raise

    def _take(self) -> Any:
        if self._crew.epoch != self._number or not self._crew.is_open:
            if not self._where and (self._crew.epoch != self._number or not self._came):
                raise StopIteration
            raise RuntimeError(
                "[DataLoader] the workers of this iteration are gone: they ended, or a newer one took them. Iterate anew."
            )
        while (number := self._ready()) is not None:
            worker, kind, body, placed = self._came.pop(number)
            self._next = number + 1
            if kind == "end" and worker in self._active:
                self._active.remove(worker)  # here, so that what others load next does not depend on who was faster
            self._hand_out()
            if kind == "failed":
                raise workers.untold(body)
            if kind == "batch":
                return self._crew.unpack(worker, kind, body, placed)
        raise StopIteration

    def _ready(self) -> int | None:
        """The task that is next, when it is done; None after the last one."""
        with progress.Bar("waiting for a batch") as bar:
            until = None if self._timeout is None else time.monotonic() + self._timeout
            while self._where and not self._is_next_here():
                self._receive(until)
                bar.tick()
        if not self._is_next_here():
            return None
        return self._next if self._in_order else next(iter(self._came))

    def _is_next_here(self) -> bool:
        return self._next in self._came if self._in_order else bool(self._came)

    def _receive(self, until: float | None) -> None:
        """What comes next. Raises RuntimeError where nothing comes in time."""
        left = None if until is None else until - time.monotonic()
        if left is not None and left < 0:
            raise RuntimeError(f"[DataLoader] no batch came within {self._timeout} seconds. Raise timeout.")
        if progress.watched():
            left = min(left or 0.5, 0.5)
        for worker, (kind, epoch, number, body, placed) in self._crew.messages(left):
            if epoch != self._number:  # of an earlier iteration
                self._crew.unpack(worker, kind, body, placed)
                continue
            del self._where[number]
            self._came[number] = (worker, kind, body, placed)

    def _hand_out(self) -> None:
        """Give one more task to the worker whose turn it is, or, if order does not matter, to the one that has the fewest."""
        if not self._active:
            return
        task = next(self._tasks, None)
        if task is None:
            return
        number, indices = task
        if self._in_order:
            worker = self._active[self._turn % len(self._active)]
            self._turn += 1
        else:
            held = list(self._where.values())
            worker = min(self._active, key=held.count)
        self._where[number] = worker
        self._crew.members[worker].post("load", self._number, number, indices)

    def _finish(self) -> None:
        if not self._keeps:
            self._crew.close()
