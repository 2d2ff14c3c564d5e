"""The compiler processes of this process: started when first needed, at most one per core but one.

In: requests, from any thread. Out: `Job`s, whose `done` says when to look at `result` or `error`. One daemon thread
feeds the workers, reaps them, and kills what takes too long. A job whose worker crashed or hung fails, once, and the
next worker serves the others. After a fork the child has no pool and the jobs of its parent are `lost`.
Next: `worker.py`, the other end of the pipes; `build.py`, which asks for whole programs.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from flambeau.compiler import worker as worker_module
from flambeau.compiler.options import Options
from flambeau.compiler.worker import _HEADER, Request

#: Seconds one request may take.
LIMIT = 120.0
#: Seconds after which a worker that has nothing to do goes.
IDLE = 30.0
_START_LIMIT = 60.0  # seconds until a new process must have said hello


class Job:
    """A request and, once `done`, its outcome. `crash` says how the worker died, if it did. A worker that is started for
    the job lowers its priority by `nice`."""

    def __init__(self, request: Request, finished: Callable[[Job], None] | None = None, nice: int = 10) -> None:
        self.request, self.nice = request, nice
        self.result: Any = None
        self.error: str | None = None
        self.crash: str | None = None
        self.lost = False
        self.seconds = 0.0
        self._finished = finished
        self._event = threading.Event()

    @property
    def done(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._event.wait(timeout)

    def fail(self, crash: str) -> None:
        """Done, without a reply."""
        self.crash = self.error = crash
        self.finish()

    def finish(self) -> None:
        if self._finished:
            self._finished(self)
        self._event.set()


class _Worker:
    """One process, the job it works on, and the bytes of its reply so far."""

    def __init__(self, nice: int) -> None:
        self.stderr = tempfile.TemporaryFile()
        with contextlib.ExitStack() as undo:
            undo.enter_context(self.stderr)
            self.process = subprocess.Popen(
                [sys.executable, "-P", worker_module.__file__, str(IDLE), str(nice)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.stderr,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the parent
                env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path)},
            )
            undo.pop_all()
        pipes: Any = self.process
        self.requests, self.replies = pipes.stdin, pipes.stdout
        os.set_blocking(self.replies.fileno(), False)
        self.ready = False
        self.job: Job | None = None
        self.timed_out = False
        self.deadline = time.monotonic() + _START_LIMIT
        self.buffer = bytearray()

    def give(self, job: Job) -> None:
        self.job = job
        self.deadline = time.monotonic() + job.request.limit + 2  # its own alarm comes first
        data = pickle.dumps(job.request, protocol=pickle.HIGHEST_PROTOCOL)
        rest = memoryview(_HEADER.pack(len(data)) + data)
        with contextlib.suppress(BrokenPipeError):  # its end is seen on the other pipe
            while rest:
                rest = rest[self.requests.write(rest) :]

    def read(self) -> tuple[list[Any], bool]:
        """The replies that have arrived, and whether the worker is gone."""
        gone = False
        while True:
            try:
                part = self.replies.read(1 << 20)
            except BlockingIOError:
                break
            if part is None:
                break
            if not part:
                gone = True
                break
            self.buffer += part
        replies = []
        while len(self.buffer) >= _HEADER.size:
            (size,) = _HEADER.unpack_from(self.buffer)
            if len(self.buffer) < _HEADER.size + size:
                break
            replies.append(pickle.loads(self.buffer[_HEADER.size : _HEADER.size + size]))
            del self.buffer[: _HEADER.size + size]
        return replies, gone

    def close(self) -> str:
        """Kill and reap; returns how it ended and the last lines it wrote to standard error."""
        with contextlib.suppress(OSError):
            self.process.kill()
        code = self.process.wait()
        self.stderr.seek(0)
        said = self.stderr.read()[-2000:].decode(errors="replace").strip()
        self.forget()
        ending = _ending(code, self.timed_out)
        return f"{ending}: {said}" if said else ending

    def forget(self) -> None:
        for stream in (self.requests, self.replies, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()


def _ending(code: int, timed_out: bool) -> str:
    if timed_out or code == -signal.SIGALRM:
        return "took too long"
    if code >= 0:
        return f"exited with code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


class Pool:
    """Workers and the jobs that wait for one. `submit` may be called from any thread."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.started = 0  # processes started so far
        self._waiting: deque[Job] = deque()
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()
        self._closing = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
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
    ) -> Job:
        """Queue a request. `finished` is called on the pool's thread just before the job is done."""
        job = Job(Request(kind, what, options, limit or LIMIT), finished, nice)
        with self._lock:
            self._waiting.append(job)
        self._wake()
        return job

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
        for key, _ in selector.select(self._patience()):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            elif self._hear(key.data):
                selector.unregister(key.fileobj)
                self._bury(key.data)
        self._stop_late()
        self._assign(selector)

    def _patience(self) -> float | None:
        """Seconds until a worker is late."""
        deadlines = [w.deadline for w in self._workers if w.job or not w.ready]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _hear(self, worker: _Worker) -> bool:
        """Take what the worker says. True when it is gone."""
        replies, gone = worker.read()
        for reply in replies:
            if not worker.ready:
                worker.ready = True
                continue
            job, worker.job = worker.job, None
            if job is not None:
                job.result, job.error, job.seconds = reply
                job.finish()
        return gone

    def _bury(self, worker: _Worker) -> None:
        """A worker that ends while idle has gone home; one that ends at work has crashed, and its job fails."""
        job, ready = worker.job, worker.ready
        ending = worker.close()
        self._workers.remove(worker)
        if job is None and not ready:
            job = self._next()  # it never came up: somebody must be told
        if job is None:
            return
        if ready and ending.startswith("exited with code 0"):
            with self._lock:
                self._waiting.appendleft(job)  # it left before it saw the request
            return
        job.fail(f"the compiler process {ending}")

    def _next(self) -> Job | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _stop_late(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if (worker.job or not worker.ready) and now >= worker.deadline:
                worker.timed_out = True
                worker.process.kill()
                worker.deadline = now + 60

    def _assign(self, selector: selectors.BaseSelector) -> None:
        """Give jobs to idle workers; start workers while jobs outnumber those that will be free."""
        for worker in self._workers:
            if worker.ready and worker.job is None and (job := self._next()):
                worker.give(job)
        starting = sum(not w.ready for w in self._workers)
        while len(self._waiting) > starting and len(self._workers) < self.most:
            try:
                worker = _Worker(min((job.nice for job in list(self._waiting)), default=0))
            except OSError as error:
                if job := self._next():
                    job.fail(f"the compiler process did not start ({error})")
                return
            self.started += 1
            starting += 1
            self._workers.append(worker)
            selector.register(worker.replies, selectors.EVENT_READ, worker)


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
