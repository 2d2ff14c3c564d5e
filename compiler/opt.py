"""`flambeau-opt`: run passes or a range of stages on a text file, and print what comes out.

    flambeau-opt program.mlir --simplify --cse
    flambeau-opt program.mlir --cluster=max_ops=50
    flambeau-opt program.mlir --to kernels

In: programs in the `tape` dialect, several separated by `// -----`. Out: the same after each named pass in order (or
every kernel's text after a stage). Exit code 1 and the error on standard error when a program or a pass is refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from flambeau.compiler.passes import Pass, registry
from flambeau.dialects.graph import Graph
from flambeau.dialects.irdl import parse_graph, print_graph

SEPARATOR = "// -----"


class _AppendPass(argparse.Action):
    """Remembers the passes in the order in which they were named."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.passes.append((self.dest, values or ""))


def _option(text: str, type_: Any) -> Any:
    if type_ in (bool, "bool"):
        return text.lower() in ("1", "true", "yes")
    return {"int": int, "float": float}.get(getattr(type_, "__name__", type_), str)(text)


def make_pass(name: str, options: str) -> Pass:
    """The pass called `name` with its fields set from "field=value,field=value"."""
    cls = registry.find(name)
    types = {f.name: f.type for f in fields(cls)}
    settings = dict(item.split("=", 1) for item in options.split(",") if item)
    unknown = settings.keys() - types.keys()
    if unknown:
        raise ValueError(f"[{name}] has no option '{min(unknown)}'. Its options: {', '.join(types) or 'none'}.")
    return cls(**{k: _option(v, types[k]) for k, v in settings.items()})


def _show(result: Any) -> str:
    if isinstance(result, Graph):
        return print_graph(result)
    return "".join(f"// {c.kind} cluster\n{print_graph(c.graph)}" for c in result)


def run(text: str, passes: Sequence[Pass], stage: str = "") -> str:
    """Every program in `text` after `passes`, or after the stages up to `stage`."""
    shown = []
    for part in text.split(SEPARATOR):
        result: Any = parse_graph(part)
        for each in passes:
            result = each(result)
        shown.append(_stages(result, stage) if stage else _show(result))
    return f"{SEPARATOR}\n".join(shown)


def _stages(graph: Graph, stage: str) -> str:
    from flambeau.compiler import stages

    return stages.text_after(graph, stage)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "flambeau-opt", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", default="-", help="the program; - is standard input")
    parser.add_argument("--to", default="", metavar="STAGE", help="run the stages up to this one")
    parser.add_argument("--list-passes", action="store_true")
    parser.add_argument("--list-stages", action="store_true")
    parser.set_defaults(passes=[])
    for name in registry.names():
        parser.add_argument(f"--{name}", dest=name, nargs="?", metavar="OPTIONS", action=_AppendPass)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    if args.list_passes:
        print("\n".join(registry.names()))
        return 0
    if args.list_stages:
        from flambeau.compiler import stages

        print("\n".join(stages.names()))
        return 0
    try:
        text = sys.stdin.read() if args.file == "-" else open(args.file).read()
        sys.stdout.write(run(text, [make_pass(n, o) for n, o in args.passes], args.to))
    except (ValueError, TypeError, RuntimeError, OSError) as e:
        print(f"flambeau-opt: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
