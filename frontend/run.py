"""`flambeau run train.py ARGS`, or `python -m flambeau.run train.py ARGS`: a script written for PyTorch, unchanged.

In: the path of a script, or `-m` and a module, and its arguments. Out: what `python train.py ARGS` would do, where `import torch`
means Flambeau. Next: `as_torch/finder.py`.
"""

from __future__ import annotations

import io
import os
import runpy
import sys
from types import ModuleType, TracebackType
from typing import Any

_USAGE = "usage: flambeau run [-m] SCRIPT [ARGUMENTS]\nRuns a Python program with Flambeau under the name torch."


def run(arguments: list[str]) -> int:
    """Run a script with `arguments` (its path first, or "-m" and a module's name). Returns the exit code 2 where there is none."""
    if not arguments or arguments[0] in ("-h", "--help") or (arguments[0] == "-m" and len(arguments) < 2):
        print(_USAGE, file=sys.stdout if arguments[:1] in (["-h"], ["--help"]) else sys.stderr)
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    from flambeau.as_torch import install  # the usage needs no stand-in

    install()
    sys.excepthook = _without_us(sys.excepthook)
    if arguments[0] == "-m":
        sys.argv[:] = arguments[1:]
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    return _run_file(arguments)


def _run_file(arguments: list[str]) -> int:
    path = os.path.abspath(arguments[0])
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        print(f"flambeau: can't open file '{arguments[0]}': [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        return 2
    sys.argv[:] = arguments
    sys.path[0] = os.path.dirname(os.path.realpath(path))
    main = ModuleType("__main__")
    vars(main).update(__file__=path, __builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = main
    exec(compile(source, path, "exec", dont_inherit=True), vars(main))
    return 0


def _without_us(hook: Any) -> Any:
    """A hook for exceptions that shows the program's frames, as if Python had started it."""

    def show(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
        first = tb
        while first is not None and _is_ours(first.tb_frame.f_code.co_filename):
            first = first.tb_next
        if first is None and isinstance(error, SyntaxError):
            error = error.with_traceback(None)
        hook(kind, error.with_traceback(first), first)

    return show


def _is_ours(filename: str) -> bool:
    name = os.path.basename(filename)
    return filename == __file__ or name in ("flambeau", "<frozen runpy>") or name == "runpy.py"


def command() -> int:
    """The program `flambeau`: `run` is its one command."""
    if len(sys.argv) < 2 or sys.argv[1] != "run":
        print(_USAGE, file=sys.stderr)
        return 2
    return run(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
