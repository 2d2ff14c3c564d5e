"""`flambeau-opt`: run passes or a range of stages on a text file, and print what comes out.

    flambeau-opt program.mlir --simplify --cse
    flambeau-opt program.mlir --cluster=max_ops=50
    flambeau-opt program.mlir --to kernels --target x86-64-v3
    flambeau-opt kernel.mlir --from kernels --to assembly
    flambeau-opt groups.mlir --mlir-passes "func.func(linalg-fuse-elementwise-ops,canonicalize)"
    flambeau-opt groups.mlir --reduce "sh still-fails.sh"

In: programs in the `tape` dialect, or the text of the stage named by --from; several are separated by `// -----`. A
module's functions are programs of their own. Plans and fusion groups (linalg) are recognised. Out: the same after each named
pass in order, then after the stages up to --to. A part that is refused is reported on standard error with its line, the
others go on, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any

from flambeau.compiler import stages, targets
from flambeau.compiler.options import Options
from flambeau.compiler.passes import Pass, registry
from flambeau.compiler.plugins import boundary, foreign
from flambeau.compiler.schedules.kinds import KINDS, of_families
from flambeau.compiler.tools import reduce_text, stage_text
from flambeau.compiler.workers import lifeline
from flambeau.dialects import dtypes
from flambeau.dialects.plugins import PluginError

#: What bad input raises; anything else is a mistake of ours.
REFUSED = (ValueError, TypeError, RuntimeError, OSError)


# ---- passes and their options ---------------------------------------------------------------------------------


def _option(name: str, key: str, text: str, type_: Any) -> Any:
    """A pass's option from its text and its field's type."""
    kind = getattr(type_, "__name__", type_)
    try:
        if kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        raise ValueError(f"[{name}] option {key} is '{text}'. Give a value of type {kind}.") from None


def make_pass(name: str, options: str) -> Pass:
    """The pass called `name` with its fields set from "field=value,field=value"."""
    cls = registry.find(name)
    types = {f.name: f.type for f in fields(cls)}
    settings = {}
    for item in filter(None, options.split(",")):
        key, equals, value = item.partition("=")
        if key not in types:
            raise ValueError(f"[{name}] has no option '{key}'. Its options: {', '.join(types) or 'none'}.")
        if not equals:
            raise ValueError(f"[{name}] option {key} has no value. Write --{name}={key}=VALUE.")
        settings[key] = _option(name, key, value, types[key])
    return cls(**settings)


# ---- a limit for each pass ------------------------------------------------------------------------------------

#: Seconds after its limit that a pass has to come back to Python; then the process ends.
_GRACE = 2.0


def watching(limit: float) -> Callable[[str, float], AbstractContextManager[None]]:
    """A watch for `boundary.watch`, under which a pass that takes longer than `limit` seconds raises TooLong where it is.
    One that is then still busy in code that is no Python ends the process, which first says where that is."""

    def stop(*_: Any) -> None:
        raise boundary.TooLong(f"took longer than {limit:g} s")

    @contextmanager
    def watch(name: str, seconds: float) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, stop)
        faulthandler.dump_traceback_later(limit + _GRACE, exit=True, file=2)
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            signal.signal(signal.SIGALRM, before)

    return watch


@contextmanager
def _limited(limit: float) -> Iterator[None]:
    """Watch whatever passes run in this block."""
    before = boundary.watch
    boundary.watch = watching(limit)
    try:
        yield
    finally:
        boundary.watch = before


def _limit(text: str) -> float:
    """Seconds from the option's text."""
    seconds = float(text)
    if not 0 < seconds < 1e9:
        raise ValueError
    return seconds


# ---- one file -------------------------------------------------------------------------------------------------


def first_stage(part: str) -> str:
    """The stage whose form a text has that was given without --from."""
    if '"tape.' in part:
        return "tape"
    if '"plan.' in part:
        return "plan"
    if "flambeau.schedules" in part:
        return stage_text.SCHEDULE
    return stage_text.LINALG if _STRUCTURED.search(part) else "tape"


#: Ops of fusion groups.
_STRUCTURED = re.compile(r"\b(?:linalg|tensor|flambeau)\.\w")


def run(
    text: str,
    passes: Sequence[Pass],
    first: str,
    last: str,
    options: Options,
    refuse: Callable[[Exception], None],
    upstream: str = "",
) -> Iterator[str]:
    """What becomes of every part of `text` after `passes` and the stages up to `last`, with separators between them.
    `upstream` are passes of MLIR's own for fusion groups; `refuse` is told what a part raised."""
    return parts(text, first, lambda part, start: _convert(part, passes, start, last, options, upstream), refuse)


def parts(
    text: str, first: str, work: Callable[[str, str], tuple[str, str]], refuse: Callable[[Exception], None]
) -> Iterator[str]:
    """What `work` makes of every part of `text` and the stage whose form it has: a text, and the line that ends it."""
    separator = ""
    for part in stage_text.split(text):
        try:
            shown, after = work(part, first or first_stage(part))
        except Exception as e:
            refuse(e)
            continue
        yield separator + shown
        separator = after


def _convert(
    part: str, passes: Sequence[Pass], first: str, last: str, options: Options, upstream: str = ""
) -> tuple[str, str]:
    """`stage_text.convert`, without those passes that plug-ins add to the stages and that do not work; and the separator."""
    try:
        made = stage_text.convert(part, passes, first, last, options, upstream)
        return made, stage_text.separator(last or first, options.target)
    except PluginError as e:
        named = {each.name for each in passes}
        blamed = [o for o in foreign.passes(options) if foreign.named([o]) in str(e) and o.name not in named]
        if not blamed:
            raise
        _complain(f"{e} The stages run without it.")
        without = (*options.without, *(o.name for o in blamed))
        return _convert(part, passes, first, last, replace(options, without=without))


def describe(error: Exception, path: str) -> str:
    """The error for people, with the file's name where the parsers have none."""
    if isinstance(error, REFUSED):
        message = str(error).replace('loc("-":', f'loc("{path}":').replace('"-":', f"{path}:")
        return message.replace("<string>:", f"{path}:").rstrip()
    at = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(at.filename)}:{at.lineno}"
    return f"[internal] {type(error).__name__}: {error} ({place}). This is a bug there, not in the input. Report it."


def _complain(message: str) -> None:
    sys.stdout.flush()
    print(f"flambeau-opt: {message}", file=sys.stderr, flush=True)


# ---- the command ----------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Raises instead of ending the process with code 2."""

    def error(self, message: str) -> Any:
        raise ValueError(f"[opt] {message}. --help says what there is, --list-passes names the passes.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "flambeau-opt",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="flambeau-opt [FILE] [--PASS[=OPTION=VALUE,...]]... [--from STAGE] [--to STAGE] [--target TARGET] "
        "[--device NAME=TARGET]... [--limit SECONDS] [--dtype NAME]... [--reduce COMMAND]",
        epilog=f"passes: {', '.join(registry.names())}\nstages: {', '.join(stages.names())}",
    )
    parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="the text; - is standard input")
    parser.add_argument("--from", dest="first", default="", metavar="STAGE", help="the text is what this stage writes")
    parser.add_argument("--to", dest="last", default="", metavar="STAGE", help="run the stages up to this one")
    parser.add_argument(
        "--limit",
        type=_limit,
        default=60.0,
        metavar="SECONDS",
        help="end a pass that takes longer (default: %(default)g)",
    )
    parser.add_argument("--target", default="host", help="the machine to compile for (default: %(default)s)")
    parser.add_argument(
        "--device",
        dest="devices",
        action="append",
        default=[],
        metavar="NAME=TARGET",
        help="what a device that types name is, as in cuda:0=sm_90 (several times for several)",
    )
    parser.add_argument(
        "--mlir-passes",
        default="",
        metavar="PIPELINE",
        help="run passes of MLIR's own on fusion groups, before they are read",
    )
    parser.add_argument(
        "--reduce",
        default=None,
        metavar="COMMAND",
        help="make programs and fusion groups small as long as COMMAND, given a file, exits with 0 within --limit",
    )
    more = "take this dtype of the table as supported, before it is (several times for several)"
    parser.add_argument("--dtype", dest="dtypes", action="append", default=[], metavar="NAME", help=more)
    parser.add_argument("--list-passes", action="store_true", help="name the passes and where each comes from")
    parser.add_argument("--list-schedules", action="store_true", help="say what the fields of schedules mean")
    parser.add_argument("--list-stages", action="store_true", help="name the stages")
    return parser


#: The tool's own options, which no pass can take over.
_OPTIONS = frozenset(
    {
        "help",
        "from",
        "to",
        "target",
        "device",
        "limit",
        "reduce",
        "dtype",
        "mlir-passes",
        "list-passes",
        "list-schedules",
        "list-stages",
    }
)


def _passes_named(arguments: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(name, options) of the passes among the arguments, in order, and the other arguments."""
    known = set(registry.names()) - _OPTIONS
    passes, others = [], []
    for argument in arguments:
        name, _, options = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in known:
            passes.append((name, options))
        else:
            others.append(argument)
    return passes, others


def _pass_lines() -> list[str]:
    """Each pass and the package that it comes from."""
    origins = registry.origins()
    width = max(map(len, origins))
    return [f"{name:{width}}  {origin}" for name, origin in origins.items()]


def _schedule_lines() -> list[str]:
    """Every kind of schedule with its fields: what each means, and takes."""
    lines = []
    for cls in (*KINDS.values(), *of_families()):
        lines += [f"{cls.kind}: {' '.join((cls.__doc__ or '').split())}"]
        lines += [f"  {name:10}  {doc} ({cls.forms()[name].words})" for name, doc in cls.docs().items()]
    return lines


def _read(path: str) -> str:
    if path == "-":
        return sys.stdin.read()
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as e:
        raise ValueError(f"[opt] {path} is not text in UTF-8: {e}.") from None


def _dtype(name: str) -> dtypes.DType:
    known = {d.name: d for d in dtypes.ALL}
    if name not in known:
        raise ValueError(f"[opt] there is no dtype '{name}'. Use one of {', '.join(known)}.")
    return known[name]


def _device(text: str) -> str:
    name, equals, target = text.partition("=")
    if not (name and equals):
        raise ValueError(f"[opt] --device {text} names no target. Write it as in cuda:0=sm_90.")
    targets.find(target)
    return text


def _execute(arguments: Sequence[str]) -> int:
    named, others = _passes_named(arguments)
    args = _parser().parse_args(others)
    if args.list_schedules:
        print("\n".join(_schedule_lines()))
        return 0
    if args.list_passes or args.list_stages:
        print("\n".join(_pass_lines() if args.list_passes else stages.names()))
        return 0
    targets.find(args.target)
    stage_text.check_names(args.first, args.last)
    refused: list[Exception] = []

    def refuse(error: Exception) -> None:
        refused.append(error)
        _complain(describe(error, args.file))

    if args.reduce is not None:
        if named or args.last or args.mlir_passes:
            raise ValueError("[opt] --reduce works on the text as it is. Let the command run passes and stages.")
        work = partial(reduce_text.reduced, holds=reduce_text.by_command(args.reduce, args.limit))
        sys.stdout.writelines(parts(_read(args.file), args.first, work, refuse))
        return 1 if refused else 0
    options = Options(mode="blocking", target=args.target, devices=tuple(map(_device, args.devices)))
    with _limited(args.limit), dtypes.added(*map(_dtype, args.dtypes)):
        passes = [make_pass(name, settings) for name, settings in named]
        text = _read(args.file)
        sys.stdout.writelines(run(text, passes, args.first, args.last, options, refuse, args.mlir_passes))
    sys.stdout.flush()
    return 1 if refused else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. Without `arguments`, those of the process, in a child process."""
    if arguments is None:
        return _isolated(lambda: main(sys.argv[1:]))
    try:
        return _execute(arguments)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as e:  # --help
        sys.stdout.flush()
        return int(e.code or 0)
    except Exception as e:
        _complain(describe(e, "-"))
        return 1


def _isolated(work: Callable[[], int]) -> int:
    """`work` in a child process: MLIR and LLVM end the process on some misuse, and that too must be an error."""
    sys.stdout.flush()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        code = 1
        try:
            lifeline.die_with(parent)
            code = work()
            sys.stdout.flush()
        except KeyboardInterrupt:
            code = 130
        finally:
            os._exit(code)
    try:
        _, status = os.waitpid(child, 0)
    except KeyboardInterrupt:
        return 130
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        _complain(f"[opt] {_suspects()} ended its process with {name}: it aborts on some text. What it said is above.")
        return 1
    return os.waitstatus_to_exitcode(status)


def _suspects() -> str:
    found = [offer for registry_ in foreign.registries() for offer in registry_.offers()]
    packages = ", ".join(dict.fromkeys(o.package for o in found))
    return f"MLIR, LLVM or a plug-in ({packages})" if packages else "MLIR or LLVM"


if __name__ == "__main__":
    sys.exit(main())
