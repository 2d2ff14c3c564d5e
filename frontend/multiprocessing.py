"""`multiprocessing` for tensors: Python's module, whose queues and pipes hand over memory instead of copies once this is imported.

In: functions and what they are called with. Out: processes. A tensor that is sent is moved to memory that processes share
(`share_memory_`), unless it has a gradient history, which is refused. Next: `functions/sharing.py`.
"""

from __future__ import annotations

import multiprocessing as _processes
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import *  # noqa: F403  (all that Python's has)
from multiprocessing import connection as _connection
from typing import Any

from flambeau import border as _border
from flambeau.functions.sharing import share_what_is_sent

_STRATEGIES = ("file_descriptor", "file_system")
_chosen = [_STRATEGIES[0]]


def get_all_sharing_strategies() -> set[str]:
    """The names that `set_sharing_strategy` takes."""
    return set(_STRATEGIES)


def get_sharing_strategy() -> str:
    """The name that was chosen last, "file_descriptor" before."""
    return _chosen[0]


def set_sharing_strategy(new_strategy: str) -> None:
    """Take note of a name. Tensors always go as descriptors of files that have no name: there is nothing to clean up, and a tensor
    that is alive takes one descriptor. Raises AssertionError for another name."""
    if new_strategy not in _STRATEGIES:
        raise AssertionError(
            f"[set_sharing_strategy] there is no strategy {new_strategy!r}. Use one of {', '.join(_STRATEGIES)}."
        )
    _chosen[0] = new_strategy


# ---- processes that belong together -----------------------------------------------------------------------


class ProcessException(Exception):
    """A process of `spawn` has failed: `error_index` says which, `pid` the system's number of it."""

    def __init__(self, msg: str, error_index: int, pid: int) -> None:
        super().__init__(msg)
        self.msg, self.error_index, self.pid = msg, error_index, pid

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.msg, self.error_index, self.pid)


class ProcessRaisedException(ProcessException):
    """Its function raised; the message has the traceback."""


class ProcessExitedException(ProcessException):
    """It ended with the code `exit_code`, or by the signal `signal_name`."""

    def __init__(
        self, msg: str, error_index: int, error_pid: int, exit_code: int, signal_name: str | None = None
    ) -> None:
        super().__init__(msg, error_index, error_pid)
        self.exit_code, self.signal_name = exit_code, signal_name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.msg, self.error_index, self.pid, self.exit_code, self.signal_name)


def _run(fn: Callable[..., Any], i: int, args: Sequence[Any], told: str) -> None:
    """What a process does: `fn(i, *args)`; what that raises is written down."""
    try:
        fn(i, *args)
    except KeyboardInterrupt:
        pass  # the parent has it, too
    except Exception:
        with open(told, "w", encoding="utf-8") as file:
            file.write(traceback.format_exc())
        sys.exit(1)


class ProcessContext:
    """Processes that `spawn(join=False)` and `start_processes(join=False)` have started."""

    def __init__(self, processes: Sequence[Any], error_files: Sequence[str]) -> None:
        self.processes, self.error_files = list(processes), list(error_files)
        self._running = {process.sentinel: index for index, process in enumerate(self.processes)}

    def pids(self) -> list[int]:
        """The system's numbers of the processes."""
        return [int(process.pid) for process in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """Wait until a process ends, at most `timeout` seconds; whether all have ended. If one failed, the others are told to end,
        and killed after `grace_period` seconds (None: 30).

        Raises ProcessRaisedException where its function raised, ProcessExitedException where it ended otherwise.
        """
        if not self._running:
            return True
        ended: list[Any] = list(_connection.wait(list(self._running), timeout))
        failed = None
        for sentinel in ended:
            index = self._running.pop(sentinel)
            self.processes[index].join()
            if self.processes[index].exitcode != 0:
                failed = index if failed is None else failed
        if failed is None:
            if not self._running:
                self._forget()
            return not self._running
        self._end_others(30 if grace_period is None else grace_period)
        raise self._failure(failed)

    def _end_others(self, seconds: float) -> None:
        left = [process for process in self.processes if process.is_alive()]
        for process in left:
            process.terminate()
        until = time.monotonic() + seconds
        for process in left:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    def _failure(self, index: int) -> ProcessException:
        process = self.processes[index]
        with open(self.error_files[index], encoding="utf-8") as file:
            told = file.read()
        self._forget()
        if told:
            return ProcessRaisedException(f"[spawn] process {index} raised:\n\n{told}", index, process.pid)
        code = process.exitcode
        if code < 0:
            name = signal.Signals(-code).name
            return ProcessExitedException(
                f"[spawn] process {index} was ended by {name}.", index, process.pid, code, name
            )
        return ProcessExitedException(f"[spawn] process {index} ended with code {code}.", index, process.pid, code)

    def _forget(self) -> None:
        for path in self.error_files:
            if os.path.exists(path):
                os.unlink(path)


SpawnContext = ProcessContext


def start_processes(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """Call `fn(i, *args)` in `nprocs` processes, i from 0, started by "spawn", "fork" or "forkserver", and wait for all; if
    not `join`, give a `ProcessContext` at once. `fn` and `args` have to be picklable where processes are not forked.

    Raises, if `join`, what `ProcessContext.join` raises.
    """
    context, processes, files = _processes.get_context(start_method), [], []
    for i in range(nprocs):
        handle, told = tempfile.mkstemp("flambeau-process")
        os.close(handle)
        process = context.Process(target=_run, args=(fn, i, args, told), daemon=daemon)  # type: ignore[attr-defined]
        process.start()
        processes.append(process)
        files.append(told)
    made = ProcessContext(processes, files)
    if not join:
        return made
    while not made.join():
        pass
    return None


def spawn(
    fn: Callable[..., Any],
    args: Sequence[Any] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """`start_processes`, by the method "spawn" unless another is named."""
    return start_processes(fn, args, nprocs, join, daemon, start_method)


def init_reductions() -> None:
    """Have queues and pipes hand over tensors' memory; importing this module has done so."""
    share_what_is_sent()


init_reductions()

_OWN = [
    "ProcessContext",
    "ProcessException",
    "ProcessExitedException",
    "ProcessRaisedException",
    "SpawnContext",
    "get_all_sharing_strategies",
    "get_sharing_strategy",
    "init_reductions",
    "set_sharing_strategy",
    "spawn",
    "start_processes",
]
__all__ = [*_processes.__all__, *_OWN]  # type: ignore[attr-defined]

_border.publish(globals(), _OWN)
