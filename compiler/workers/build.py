"""Programs made in the background: lowered by one worker, their kernels compiled by all of them.

In: a graph and `Options`. Out: a `Build` that is `done` once the parent has only to link. Next: `pool.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from flambeau.compiler.baseline.waiting import Waiting
from flambeau.compiler.caches import kernel_cache
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.plans.program import Program
from flambeau.compiler.workers import pool
from flambeau.compiler.workers.pool import Job
from flambeau.dialects.graph import Graph


class Build:
    """Work on one program. When `done`: `program` and `objects` (code by kernel text), or `error`. Somebody waits for what
    is `urgent`: it comes before what is not. Who is `waiting` is told, on the pool's thread."""

    def __init__(
        self,
        graph: Graph,
        options: Options,
        program: Program | None = None,
        urgent: bool = False,
        waiting: Waiting | None = None,
    ) -> None:
        self.graph, self.options, self.urgent = graph, options, urgent
        self.program: Any = program
        self.objects: dict[str, bytes] = {}
        self.error: str | None = None
        self.crash: str | None = None
        self.blamed = ""  # what of a plug-in ran when the worker died
        self.pin: tuple[tuple[int, ...], str] | None = None  # sizes that the program is for, and why no others
        self.seconds = 0.0  # of workers' time
        self._waiting = waiting or Waiting(len(graph.nodes))
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        self._missing = 0
        if program is None:
            self._submit("program", graph, self._lowered)
        else:
            self._compile_kernels()

    @property
    def done(self) -> bool:
        return self._event.is_set()

    @property
    def lost(self) -> bool:
        """Whether a fork left the work behind, in the parent."""
        return any(job.lost for job in self._jobs)

    def wait(self, timeout: float | None = None) -> bool:
        return self._event.wait(timeout)

    def withdraw(self) -> None:
        """Nobody waits any more: ask for nothing that no worker has begun."""
        for job in self._jobs:
            pool.shared().withdraw(job)

    def link(self) -> list[int]:
        """The addresses of the kernels, once the build is done."""
        cache = kernel_cache.shared()
        for source in self.program.kernels:
            if source.text in self.objects:
                cache.insert(source, self.options, self.objects[source.text])
        return cache.get(self.program.kernels, self.options)

    def _lowered(self, job: Job) -> None:
        self.seconds += job.seconds
        if job.error is not None:
            self._fail(job)
            return
        self.program = job.result
        self._compile_kernels()

    def _compile_kernels(self) -> None:
        missing = [k for k in self.program.kernels if not known(k, self.options)]
        self._missing = len(missing)
        if not missing:
            self._end()
        for source in missing:
            self._submit("kernel", source, self._compiled)

    def _submit(self, kind: str, what: Any, finished: Callable[[Job], None]) -> None:
        job = pool.shared().submit(kind, what, self.options, finished, urgent=self.urgent, heat=self._waiting.heat)
        self._jobs.append(job)

    def _compiled(self, job: Job) -> None:
        with self._lock:
            self.seconds += job.seconds
            self._missing -= 1
            last = self._missing == 0
        if job.error is not None:
            self._fail(job)
            return
        self.objects[job.request.what.text] = job.result
        if last:
            self._end()

    def _fail(self, job: Job) -> None:
        self.error, self.crash, self.blamed = job.error, job.crash, job.blamed
        self._end()

    def _end(self) -> None:
        self._event.set()
        self._waiting.tell()


def known(source: KernelSource, options: Options) -> bool:
    """Whether a kernel is in memory or on disk."""
    return kernel_cache.shared().find(source, options) is not None
