"""A compiler process: `python worker.py IDLE NICE PARENT GRACE`, started and fed by `pool.py`.

In: requests on standard input. Out: notes and replies on standard output; all are length-prefixed pickles. It compiles
and stores, it never runs what it made. It goes when its input ends, with its parent, when it was idle for `IDLE` seconds,
and, by an alarm that no library can hold up, when one request takes more processor time than its limit. Run as a file,
it leaves the frontend alone until a plug-in asks for it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.util
import os
import pickle
import select
import signal
import struct
import sys
import traceback
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

HEADER = struct.Struct("<Q")


class Request(NamedTuple):
    """`kind` "program": `what` is a Graph, the result a Program. "kernel": a KernelSource, the result object code.
    "object": the same, and the disk is left to the parent."""

    kind: str
    what: Any
    options: Any
    limit: float  # seconds of processor time


class Progress(NamedTuple):
    """A word on the way: the request was read, and the code of a plug-in that runs next, if any."""

    running: str = ""


class Reply(NamedTuple):
    """`result`, or the text of the error. `seconds` is what it took."""

    result: Any
    error: str | None
    seconds: float


def packed(request: Request) -> bytes:
    """A request as bytes. Its limit stands outside, for it holds already while plug-ins are imported to read the rest."""
    return _framed((request.limit, pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)))


def _framed(message: Any) -> bytes:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(data)) + data


def send(stream: Any, message: Any) -> None:
    stream.write(_framed(message))
    stream.flush()


def receive(stream: Any) -> tuple[float, bytes]:
    """The next request: its limit, and itself. Raises EOFError when the other side is gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    (size,) = HEADER.unpack(header)
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return pickle.loads(data)


def main(idle: float = 30.0, nice: float = 10, parent: float = 0, grace: float = 0) -> None:
    if parent:
        from flambeau.compiler.workers import lifeline  # found once the package is set up

        lifeline.die_with(int(parent))
    source, sink = _own_streams()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    faulthandler.register(signal.SIGPROF, file=2, all_threads=False, chain=True)  # says where it was, and ends it
    _give_way(int(nice), float(grace))
    _prepare()
    _announce(sink)
    try:
        send(sink, Reply(os.getpid(), None, 0.0))
        while select.select([source], [], [], idle)[0]:
            limit, data = receive(source)
            send(sink, Progress())
            signal.setitimer(signal.ITIMER_PROF, limit)
            reply = serve(data)
            signal.setitimer(signal.ITIMER_PROF, 0)
            send(sink, reply)
    except (EOFError, BrokenPipeError):
        pass
    os._exit(0)  # whatever threads a plug-in may have left


def _give_way(nice: int, grace: float) -> None:
    """Lower the priority once so many seconds of processor time are used up."""
    if grace <= 0:
        os.nice(nice)
        return
    signal.signal(signal.SIGVTALRM, lambda *_: os.nice(nice))
    signal.setitimer(signal.ITIMER_VIRTUAL, grace)


def _announce(sink: BinaryIO) -> None:
    """Tell the parent before code of a plug-in runs, and give it a time of its own."""
    from flambeau.compiler.plugins import boundary  # found once the package is set up

    @contextlib.contextmanager
    def watch(name: str, seconds: float) -> Iterator[None]:
        send(sink, Progress(name))
        left, _ = signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, left)
            send(sink, Progress())

    boundary.watch = watch


def serve(data: bytes) -> Reply:
    """Do what is asked; whatever is raised becomes the reply's error."""
    from time import perf_counter

    from flambeau.runtime._binding import uncollected  # found once the package is set up

    start = perf_counter()
    try:
        result, error = uncollected(_do, data), None
    except BaseException as e:  # plug-ins raise SystemExit, too
        words = str(e)
        result, error = None, words if words.startswith("[") else "".join(traceback.format_exception_only(e)).strip()
    return Reply(result, error, perf_counter() - start)


def _prepare() -> None:
    """Load MLIR and LLVM before the first word to the parent: until then it may still do the work itself."""
    from flambeau.compiler.backend import object_code  # found once the package is set up

    with contextlib.suppress(Exception):  # the first request will say what is wrong
        object_code.prepare("host")


def _do(data: bytes) -> Any:
    from flambeau.compiler.backend import object_code  # found once the package is set up
    from flambeau.compiler.caches import kernel_cache  # found once the package is set up

    request: Request = pickle.loads(data)
    if request.kind == "object":
        return object_code.compile_object(request.what, request.options)
    if request.kind == "kernel":
        return kernel_cache.shared().compile_and_store(request.what, request.options)
    from flambeau.compiler import stages  # found once the package is set up
    from flambeau.compiler.caches import plan_cache  # found once the package is set up

    graph = request.what
    program = stages.run(graph, request.options).program
    plan_cache.shared().insert(plan_cache.key(graph, request.options), program, graph.sizes)
    return program


def _own_streams() -> tuple[_Exact, BinaryIO]:
    """The pipes to the parent, out of reach of anything that prints or reads."""
    source, sink = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return _Exact(source), sink


class _Exact:
    """An unbuffered stream whose `read(n)` returns n bytes or what is left: what `select` sees is what `read` gets."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def fileno(self) -> int:
        return self.raw.fileno()

    def read(self, size: int) -> bytes:
        parts = []
        while size and (part := self.raw.read(min(size, 1 << 20))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


# ---- without the frontend -------------------------------------------------------------------------------------

_PARTS = ("compiler", "dialects", "runtime")  # what a compiler process is made of


class _Frontend:
    """The package `flambeau` with its own module not yet run, which takes longer than a kernel takes to compile. It is
    run as soon as code of a plug-in imports a module of the frontend or looks for a name in the package."""

    def __init__(self) -> None:
        spec: Any = importlib.util.find_spec("flambeau")
        self.spec, self.package = spec, importlib.util.module_from_spec(spec)
        vars(self.package)["__getattr__"] = self.look
        sys.modules["flambeau"] = self.package
        sys.meta_path.insert(0, self)  # type: ignore[arg-type]

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Asked before any module is imported; finds none."""
        package, _, rest = name.partition(".")
        if package == "flambeau" and rest.partition(".")[0] not in _PARTS:
            self.run()

    def look(self, name: str) -> Any:
        self.run()
        return getattr(self.package, name)

    def run(self) -> None:
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        del vars(self.package)["__getattr__"]
        self.spec.loader.exec_module(self.package)


if __name__ == "__main__":
    if "flambeau" not in sys.modules:
        _Frontend()
    from flambeau.compiler.workers import worker  # so that messages pickle under the name the parent knows

    worker.main(*map(float, sys.argv[1:5]))
