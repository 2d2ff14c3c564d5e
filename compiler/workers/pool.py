"""The compiler processes of this process: started when first needed, of low priority, unless somebody waits (the first
one not at once), at most one per core but one.

In: requests, from any thread. Out: `Job`s, whose `done` says when to look at `result` or `error`. One daemon thread
feeds the workers, reaps them, and kills what takes too long or gets nowhere; it waits for none. A job whose worker
crashed or hung fails, once, and the next worker serves the others; one whose worker was stopped is given to another
first. What is small beside the time that doing without it has cost comes first; once it would have paid for itself, it gets a
worker of normal priority, of which there may be as many again, beside the one that a busy machine holds up. After a fork the
child has no pool and the jobs of its parent are `lost`. Next: `process.py`, one of them;
`worker.py`, the other end of the pipes; `build.py`, which asks for whole programs.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable
from typing import Any

from flambeau.compiler.options import Options
from flambeau.compiler.workers.process import Job, Process
from flambeau.compiler.workers.worker import Request

#: Seconds one request may take.
LIMIT = 120.0
#: Seconds after which a worker that has nothing to do goes.
IDLE = 30.0
#: Seconds without any progress after which a worker that has work is taken to be stopped.
STALLED = 5.0
#: Seconds of processor time before the first worker lowers its priority: what it takes to start and to compile something small. A
#: busy machine would hold that up for long, and until then all runs op by op.
GRACE = 1.0
_START_LIMIT = 60.0  # seconds until a new process must have said hello
_STOPPED = "made no progress"
_TICK = 0.5  # seconds between two looks at workers that have work


class Pool:
    """Workers and the jobs that wait for one. `submit` may be called from any thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.started = 0  # processes started so far
        self._waiting: list[Job] = []  # in order of arrival
        self._workers: list[Process] = []
        self._now, self._last = 0.0, time.monotonic()
        self._lock = threading.Lock()
        self._closing = False
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._thread = threading.Thread(target=self._run, name="flambeau-compile", daemon=True)
        self._thread.start()

    def submit(
        self,
        kind: str,
        what: Any,
        options: Options,
        finished: Callable[[Job], None] | None = None,
        limit: float = 0.0,
        nice: int = 10,
        urgent: bool = False,
        heat: Callable[[], float] = lambda: 0.0,
    ) -> Job:
        """Queue a request: `urgent` ones come first, then what has the largest `heat`. `finished` is called on the pool's thread
        just before the job is done."""
        job = Job(Request(kind, what, options, limit or LIMIT), finished, nice, urgent, heat)
        with self._lock:
            self._waiting.append(job)
        self._wake()
        return job

    def look(self) -> None:
        """The heat of a job has changed: see whether it is worth a worker of normal priority now."""
        self._wake()

    def withdraw(self, job: Job) -> bool:
        """Take back a job, if no worker has it yet. It will never be done."""
        with self._lock:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
            return True

    def processes(self) -> list[int]:
        """The process ids of the workers."""
        return [w.process.pid for w in list(self._workers)]

    def close(self) -> None:
        """Kill all workers and end the thread."""
        self._closing = True
        self._wake()
        self._thread.join(timeout=5)

    def abandon(self) -> None:
        """In a forked child: drop the parent's workers without touching them; their jobs are lost."""
        jobs = [*self._waiting, *(w.job for w in self._workers if w.job)]
        for w in self._workers:
            w.process.returncode = 0  # not our child
            w.forget()
        os.close(self._wake_read)
        os.close(self._wake_write)
        for job in jobs:
            job.lost = True

    # ---- the thread

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: the thread will wake up
            os.write(self._wake_write, b"x")

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_read, selectors.EVENT_READ)
                while not self._closing:
                    self._turn(selector)
        finally:  # whoever waits must hear that nobody works any more
            jobs = [*self._waiting, *(w.job for w in self._workers if w.job)]
            for worker in self._workers:
                worker.close()
            for job in jobs:
                job.fail("the compiler processes were shut down")

    def _turn(self, selector: selectors.BaseSelector) -> None:
        """Wait for something to happen, and deal with it."""
        is_busy = any(w.busy for w in self._workers)
        events = selector.select(_TICK if is_busy else None)
        self._count()
        heard = {id(key.data): key.data for key, _ in events if key.data is not None}
        if len(heard) < len(events):
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        for worker in list(self._workers):
            # A process that its plug-in forked may keep the pipes open.
            if id(worker) in heard or worker.process.poll() is not None:
                self._attend(worker, selector)
        self._stop_late()
        self._assign(selector)

    def _count(self) -> None:
        """Move the pool's clock on by what passed, but not by what a pause of the whole machine or of this process took:
        that makes no worker late."""
        now = time.monotonic()
        self._now, self._last = self._now + min(now - self._last, 2 * _TICK), now

    def _attend(self, worker: Process, selector: selectors.BaseSelector) -> None:
        is_over = worker.process.poll() is not None  # before what it said last is read
        if not worker.write():
            self._unregister(worker.requests, selector)
        if self._hear(worker) or is_over:
            for stream in (worker.requests, worker.replies, worker.stderr):
                self._unregister(stream, selector)
            self._bury(worker)

    def _unregister(self, stream: Any, selector: selectors.BaseSelector) -> None:
        with contextlib.suppress(KeyError):
            selector.unregister(stream)

    def _hear(self, worker: Process) -> bool:
        """Take what the worker says. True when it is gone."""
        replies, gone = worker.read()
        for reply in replies:
            if not worker.ready:
                worker.ready = True
                continue
            job, worker.job = worker.job, None
            if job is not None:
                job.answer(*reply)
        return gone

    def _bury(self, worker: Process) -> None:
        """A worker that ends while idle has gone home; one that ends at work has crashed, and its job fails."""
        job, ready = worker.job, worker.ready
        ending = worker.close()
        self._workers.remove(worker)
        if job is None and not ready:
            job = self._next()  # it never came up: somebody must be told
        if job is None or job.done or any(w.job is job for w in self._workers):
            return
        if ready and not worker.seen and ending.startswith("exited with code 0"):
            self._put_back(job)  # it left before it saw the request
        elif worker.why_killed == _STOPPED and not job.again:
            job.again = True
            self._put_back(job)
        else:
            job.fail(f"the compiler process {ending}", worker.running)

    def _put_back(self, job: Job) -> None:
        with self._lock:
            self._waiting.insert(0, job)

    def _next(self) -> Job | None:
        with self._lock:
            job = max(self._waiting, key=lambda j: j.rank, default=None)  # of equal ones the first
            if job is not None:
                self._waiting.remove(job)
            return job

    def _stop_late(self) -> None:
        for worker in self._workers:
            if worker.is_stalled(self._now, STALLED):
                worker.kill(_STOPPED)
            elif worker.busy and self._now >= worker.deadline:
                worker.kill("took too long")

    def _assign(self, selector: selectors.BaseSelector) -> None:
        """Give jobs to idle workers; start workers while jobs outnumber those that will be free."""
        for worker in self._workers:
            if worker.ready and worker.job is None and (job := self._next() or self._held_up(worker)):
                worker.give(job, self._now)
                if worker.write():
                    selector.register(worker.requests, selectors.EVENT_WRITE, worker)
        starting = sum(not w.ready for w in self._workers)
        while len(self._waiting) > starting and len(self._workers) < self.most:
            waiting = list(self._waiting)  # a process started for whom somebody waits must not be kept waiting itself
            if not self._start(min((0 if job.urgent else job.nice for job in waiting), default=0), selector):
                return
            starting += 1
        if self._is_held_up() and sum(w.nice == 0 for w in self._workers) < self.most:
            self._start(0, selector)

    def _held_up(self, worker: Process) -> Job | None:
        """A job that is worth more than the priority of the worker which has it, for one of normal priority to do as well."""
        return None if worker.nice else max(self._held(), key=lambda job: job.rank, default=None)

    def _is_held_up(self) -> bool:
        """Whether there is a job for a worker of normal priority, and none that is or will be free."""
        free = sum(w.nice == 0 and w.job is None for w in self._workers)
        waiting = [job for job in list(self._waiting) if job.nice == 0]
        return len(waiting) + len(self._held()) > free

    def _held(self) -> list[Job]:
        """Jobs that only workers of low priority have, and that are worth more."""
        done_as_well = [w.job for w in self._workers if not w.nice]
        held = [w.job for w in self._workers if w.nice and w.job and not w.job.done and w.job.nice == 0]
        return [job for job in held if job not in done_as_well]

    def _start(self, nice: int, selector: selectors.BaseSelector) -> bool:
        try:
            worker = Process(nice, IDLE, self._now, _START_LIMIT, grace=0.0 if self.started else GRACE)
        except OSError as error:
            if not self._workers and (job := self._next()):
                job.fail(f"the compiler process did not start ({error})")
            return False
        self.started += 1
        self._workers.append(worker)
        for stream in (worker.replies, worker.stderr):
            selector.register(stream, selectors.EVENT_READ, worker)
        return True


_pool: Pool | None = None
_lock = threading.Lock()


def shared() -> Pool:
    """The process's pool: one worker less than there are cores for this process, at least one."""
    global _pool
    with _lock:
        if _pool is None:
            _pool = Pool(max(1, len(os.sched_getaffinity(0)) - 1))
        return _pool


def processes() -> list[int]:
    """Process ids of the workers alive now."""
    return _pool.processes() if _pool else []


def shutdown() -> None:
    """End all workers. The next request starts new ones."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close()


def _after_fork() -> None:
    global _pool, _lock
    _lock = threading.Lock()
    pool, _pool = _pool, None
    if pool is not None:
        pool.abandon()


atexit.register(shutdown)
os.register_at_fork(after_in_child=_after_fork)
