"""One compiler process, as its parent sees it: what it was given, what it said, whether it gets anywhere.

In: jobs, given by the thread of the pool. Out: the messages that arrived, and how the process ended. Nothing here waits
for the process: pipes are read and written as far as they go, for it may be stopped at any moment. Next: `pool.py`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from flambeau.compiler.workers import worker as worker_module
from flambeau.compiler.workers.worker import HEADER, Progress, Request, packed

#: Of what a process says on standard error, this many bytes are kept.
_KEPT = 4000
_LOWEST = 19  # priority that there is
_FRAME = re.compile(r'File "([^"]*)", line (\d+)')


class Job:
    """A request and, once `done`, its outcome. `crash` says how the worker died, if it did, and `blamed` which plug-in's
    code it was running then. `heat` says how much of what it costs doing without it has cost so far; from 1 on, and where
    `nice` is 0, it is worth a worker of normal priority. Somebody waits for what is `urgent`."""

    def __init__(
        self,
        request: Request,
        finished: Callable[[Job], None] | None = None,
        nice: int = 10,
        urgent: bool = False,
        heat: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.request, self.urgent = request, urgent
        self._nice, self._heat = nice, heat
        self.result: Any = None
        self.error: str | None = None
        self.crash: str | None = None
        self.blamed = ""
        self.lost = False
        self.again = False  # a worker that got nowhere was relieved of it once
        self.seconds = 0.0
        self._finished = finished
        self._event = threading.Event()

    @property
    def done(self) -> bool:
        return self._event.is_set()

    @property
    def rank(self) -> tuple[bool, float]:
        """What comes first has the largest."""
        return self.urgent, self._heat()

    @property
    def nice(self) -> int:
        """By how much a worker that is started for it lowers its priority."""
        return 0 if self._heat() >= 1 else self._nice

    def wait(self, timeout: float | None = None) -> bool:
        return self._event.wait(timeout)

    def fail(self, crash: str, blamed: str = "") -> None:
        """Done, without a reply."""
        if self.done:  # another worker had it, too
            return
        self.crash = self.error = crash
        self.blamed = blamed
        self._finish()

    def answer(self, result: Any, error: str | None, seconds: float) -> None:
        """Done, with a worker's reply: the first one's, where several had it."""
        if self.done:
            return
        self.result, self.error, self.seconds = result, error, seconds
        self._finish()

    def _finish(self) -> None:
        if self._finished:
            self._finished(self)
        self._event.set()


class Process:
    """A worker, the job it works on, and the bytes that are under way. Times are the pool's, in seconds. It lowers its priority by
    `nice` after `grace` of its own."""

    def __init__(self, nice: int, idle: float, now: float, start_limit: float, grace: float = 0.0) -> None:
        import subprocess  # a start from the caches does without: it and what it needs take a tenth of the driver's import

        self._nice = nice
        self.process = subprocess.Popen(
            [sys.executable, "-P", worker_module.__file__, str(idle), str(nice), str(os.getpid()), str(grace)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the parent
            env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path)},
        )
        pipes: Any = self.process
        self.requests, self.replies, self.stderr = pipes.stdin, pipes.stdout, pipes.stderr
        for stream in (self.requests, self.replies, self.stderr):
            os.set_blocking(stream.fileno(), False)
        self.ready = False
        self.job: Job | None = None
        self.seen = False  # whether it has read the request
        self.running = ""  # the plug-in's code that it said it would run
        self.why_killed = ""
        self.deadline = now + start_limit
        self._grace = grace
        self._moved = now
        self._used = ""
        self._outbox = memoryview(b"")
        self._inbox = bytearray()
        self._said = bytearray()

    @property
    def nice(self) -> int:
        """By how much it has lowered its priority, or soon will."""
        if self._grace and self.process.poll() is None:
            with contextlib.suppress(OSError):
                own = os.getpriority(os.PRIO_PROCESS, 0)
                lowered = os.getpriority(os.PRIO_PROCESS, self.process.pid) - own
                if lowered < min(self._nice, _LOWEST - own):
                    return lowered
                self._grace = 0.0  # it stays so
        return self._nice

    @property
    def busy(self) -> bool:
        return self.job is not None or not self.ready

    # ---- both ways

    def give(self, job: Job, now: float) -> None:
        """Let it do `job`, as far as the pipe takes the request; `write` sends the rest."""
        self.job, self.seen, self.running = job, False, ""
        self.deadline = now + job.request.limit + 2  # its own alarm comes first
        self._moved = now
        self._outbox = memoryview(packed(job.request))
        self.write()

    def write(self) -> bool:
        """Send what can be sent; whether there is more."""
        try:
            while self._outbox and (sent := self.requests.write(self._outbox)):
                self._outbox = self._outbox[sent:]
        except BrokenPipeError:  # its end is seen on the other pipe
            self._outbox = memoryview(b"")
        return bool(self._outbox)

    def read(self) -> tuple[list[Any], bool]:
        """The replies that have arrived, and whether the worker is gone."""
        self._said += self._take(self.stderr)[0]
        del self._said[:-_KEPT]
        part, gone = self._take(self.replies)
        self._inbox += part
        messages = []
        try:
            while (message := self._message()) is not None:
                messages.append(message)
        except Exception as error:  # a plug-in wrote there, or its classes do not load here
            self.why_killed = f"sent what cannot be read ({type(error).__name__}: {error})"
            gone = True
        return messages, gone

    def _take(self, stream: Any) -> tuple[bytes, bool]:
        parts: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while (part := stream.read(1 << 20)) is not None:
                if not part:
                    return b"".join(parts), True
                parts.append(part)
                if stream is self.stderr:  # it may write faster than we read
                    break
        return b"".join(parts), False

    def _message(self) -> Any:
        """The next message that is not `Progress`, if it is complete."""
        while len(self._inbox) >= HEADER.size:
            (size,) = HEADER.unpack_from(self._inbox)
            end = HEADER.size + size
            if len(self._inbox) < end:
                return None
            message = pickle.loads(self._inbox[HEADER.size : end])
            del self._inbox[:end]
            if not isinstance(message, Progress):
                return message
            self.seen, self.running = True, message.running
        return None

    # ---- whether it gets anywhere

    def is_stalled(self, now: float, patience: float) -> bool:
        """Whether it has work, and for `patience` seconds has used no processor and waited for none: it is stopped,
        frozen, or waits for what does not come."""
        state, used = _activity(self.process.pid)
        if state == "R" or used != self._used or not self.busy:
            self._moved, self._used = now, used
        return now - self._moved >= patience

    def kill(self, why: str) -> None:
        self.why_killed = why
        self.process.kill()

    def close(self) -> str:
        """Kill and reap; returns how it ended and the last lines it wrote to standard error."""
        with contextlib.suppress(OSError):
            self.process.kill()
        code = self.process.wait()
        with contextlib.suppress(OSError, ValueError):
            self._said += self._take(self.stderr)[0]
        self.forget()
        said = bytes(self._said[-2000:]).decode(errors="replace").strip()
        ending = self.why_killed or _ending(code)
        if code == -signal.SIGPROF and (at := _FRAME.search(said)):  # its innermost frame comes first
            return f"{ending} at {os.path.basename(at[1])}:{at[2]}"
        return f"{ending}: {said}" if said else ending

    def forget(self) -> None:
        for stream in (self.requests, self.replies, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()


def _ending(code: int) -> str:
    if code == -signal.SIGPROF:
        return "took too long"
    if code >= 0:
        return f"exited with code {code}"
    with contextlib.suppress(ValueError):
        return f"was killed by {signal.Signals(-code).name}"
    return f"was killed by signal {-code}"


def _activity(pid: int) -> tuple[str, str]:
    """The state of a process ("R": it runs, or waits for a processor) and the time it has used, or ("R", "") where the
    system does not say."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return "R", ""
    return fields[0], f"{fields[11]} {fields[12]}"  # user and system time
