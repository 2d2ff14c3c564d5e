"""The kernels of one program, compiled by this process and by the workers at once.

In: kernels, `offer`ed as they are lowered. Out: their addresses. Kernels wait in one queue, from which this process and
the workers take the longest first. What a worker fails to compile, dies over, or does not answer while this process
has nothing else to do, is left to this process. Without spare cores, with little to compile, or when stages are
dumped, nothing is handed out. Next: `pool.py`.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import threading
import warnings
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

from flambeau.compiler.caches import kernel_cache
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.workers import pool
from flambeau.dialects.aval import CPU
from flambeau.runtime import progress

if TYPE_CHECKING:
    from flambeau.compiler.workers.pool import Job

#: Seconds of work that pay for starting a worker, and for handing anything to one that runs.
START, HAND_OUT = 0.15, 0.02
#: Seconds a worker may take over one kernel while this process waits.
LIMIT = 20.0
#: Seconds that this process waits for the next answer of a worker before it does the work itself.
PATIENCE = 2.0


def cost(source: KernelSource) -> float:
    """About how many seconds a kernel takes to compile."""
    return 0.003 + 1.3e-6 * len(source.text)


class Crew:
    """Use it in a `with` statement, at whose end nothing more is handed out."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.seconds = 0.0  # of workers' time, less what this process spent waiting for them
        self._most = 0 if options.dump else len(os.sched_getaffinity(0)) - 1
        self._offered: set[str] = set()
        self._queue: list[tuple[float, str, KernelSource]] = []  # a heap, the longest first
        self._backlog = 0.0  # seconds of work in the queue
        self._out: list[Job] = []
        self._back: list[Job] = []
        self._changed = threading.Condition()
        self._bar = progress.Bar("compiling", "kernel")

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._bar.__exit__()
        with self._changed:
            self._queue.clear()
        while self._out and self._withdraw() is not None:
            pass

    def offer(self, source: KernelSource) -> None:
        """A kernel that will be asked for. Workers may begin with it now."""
        if source.device != CPU or source.text in self._offered:  # code for another device is loaded by this process
            return
        self._offered.add(source.text)
        if kernel_cache.shared().holds(source, self.options):
            return
        self._bar.grow()
        if self._most <= 0:
            return
        with self._changed:
            self._push(source)
            if len(self._queue) > 1:  # one is for this process
                self._hand_out()

    def addresses(self, sources: Sequence[KernelSource]) -> list[int]:
        """The address of each kernel. Raises CompileError."""
        for source in sources:
            self.offer(source)
        made = self._compile({s.text for s in sources}) if self._out or self._back else {}
        return [(made.get(s.text) if s.device == CPU else None) or self._made(s) for s in sources]

    def _made(self, source: KernelSource) -> int:
        """The address of a kernel, compiled here if it is not there yet."""
        address = kernel_cache.shared().get([source], self.options)[0]
        self._bar.advance()
        return address

    # ---- this process

    def _compile(self, wanted: set[str]) -> dict[str, int]:
        """Addresses by text of what was compiled together; what failed is missing."""
        cache = kernel_cache.shared()
        made: dict[str, int] = {}
        while True:
            for job in self._returned():
                source = job.request.what
                if job.error is None:
                    made[source.text] = cache.adopt(source, self.options, job.result)
                    self._bar.advance()
            source = self._take() or self._withdraw()
            if source is None:
                if not self._wait():
                    return made
            elif source.text in wanted and source.text not in made:
                with contextlib.suppress(Exception):  # whoever asks for its address will meet it again
                    made[source.text] = self._made(source)

    def _take(self) -> KernelSource | None:
        with self._changed:
            return self._longest() if self._queue else None

    def _push(self, source: KernelSource) -> None:
        heapq.heappush(self._queue, (-cost(source), source.text, source))
        self._backlog += cost(source)

    def _longest(self) -> KernelSource:
        source = heapq.heappop(self._queue)[2]
        self._backlog -= cost(source)
        return source

    def _withdraw(self) -> KernelSource | None:
        """A kernel that is meant for a worker which has yet to come up."""
        with self._changed:
            for job in self._out:
                if pool.shared().withdraw(job):
                    self._out.remove(job)
                    return job.request.what
        return None

    def _returned(self) -> list[Job]:
        """The jobs that came back, with a warning for one that ended its worker."""
        with self._changed:
            jobs, self._back = self._back, []
        for job in jobs:
            self.seconds += job.seconds
            if job.crash is not None:
                warnings.warn(
                    f"[compile] {job.crash}. Kernel '{job.request.what.label}' is compiled by this process.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return jobs

    def _wait(self) -> bool:
        """Wait for a worker; False when none has work. What none answers goes back into the queue."""
        start = perf_counter()
        with self._changed:
            if not self._out and not self._back:
                return False
            if not self._changed.wait_for(lambda: self._back, PATIENCE):
                self._most = 0
                for job in self._out:
                    self._push(job.request.what)
                self._out.clear()
        self.seconds -= perf_counter() - start
        return True

    # ---- the workers

    def _hand_out(self) -> None:
        """Give the workers one kernel each, as far as there is work for so many."""
        running = len(pool.processes())
        if self._backlog < (HAND_OUT if running else START):
            return
        most = min(self._most, max(running, int(self._backlog / START)))
        with contextlib.suppress(RuntimeError):  # no thread can be started when Python ends
            while self._queue and len(self._out) < most:
                source = self._longest()
                self._out.append(pool.shared().submit("object", source, self.options, self._finished, LIMIT, nice=0))

    def _finished(self, job: Job) -> None:
        """A worker is done: the next kernel follows at once. On the pool's thread."""
        with self._changed:
            if job in self._out:  # else this process has taken the work over, but an answer is welcome
                self._out.remove(job)
            self._back.append(job)
            if job.crash is None:
                self._hand_out()
            else:
                self._most = 0  # this program has had its warning
            self._changed.notify()
