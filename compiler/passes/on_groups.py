"""Passes on fusion groups: as functions on our objects, on modules of MLIR's Python bindings, or as pipelines of MLIR's own passes.

In: a `Group`. Out: one that stands for the same kernel: operands, results and what may fail stay as they are, to the bit. What a
pass gives is verified, and every kernel is made of it. Next: `pipeline.py`, which runs those of plug-ins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from flambeau.compiler.backend import mlir
from flambeau.compiler.groups import reading
from flambeau.compiler.groups.form import Call, Generic, Group, GroupError
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.groups.verify import verify
from flambeau.compiler.passes import Pass


@dataclass(frozen=True)
class GroupPass(Pass):
    """A pass on one fusion group at a time: `__call__(group)` gives a `Group`."""

    after: ClassVar[str] = "linalg"


@dataclass(frozen=True)
class ModulePass(GroupPass):
    """A pass on a group as MLIR's Python bindings show it: `rewrite(module)` changes a module with one `func.func` in place.

    It runs inside of the module's context. Named ops of `linalg` are generalized afterwards; loops over tiles become hints
    for the op's schedule. One that is `on_modules` is for `flambeau-opt`, and works on what is no group yet.
    """

    on_modules: ClassVar[bool] = False

    def rewrite(self, module: Any) -> None:
        raise NotImplementedError

    def __call__(self, graph: Any) -> Group:
        module = reading.module(self.text(graph))
        with mlir.context():
            self.rewrite(module)
        (found,) = reading.read(module).values()
        return replace(found, sizes=graph.sizes)

    def text(self, group: Group) -> str:
        """What the module is parsed from."""
        return print_group(group, notes=True)


@dataclass(frozen=True)
class PipelinePass(ModulePass):
    """Passes of MLIR's own: `pipeline` in MLIR's spelling, without its `builtin.module(...)`.

    `script` is text in the `transform` dialect, a `transform.named_sequence` that `transform-interpreter` runs on the group.
    """

    pipeline: ClassVar[str] = ""
    script: ClassVar[str] = ""

    def text(self, group: Group) -> str:
        text = super().text(group)
        if not self.script:
            return text
        head, body = text.split("{", 1)
        return f"{head}attributes {{transform.with_named_sequence}} {{{body.rstrip().removesuffix('}')}\n{self.script}\n}}\n"

    def rewrite(self, module: Any) -> None:
        whole = f"builtin.module({self.pipeline})"
        mlir.prepare(whole)
        mlir.run(module, whole)


def check(before: Group, after: object) -> None:
    """Raise GroupError unless what a pass gave is a group that can stand for the one before."""
    if not isinstance(after, Group):
        raise GroupError(f"[group] a pass gave {type(after).__name__}. A pass on groups gives a Group.")
    verify(after)
    for what in ("inputs", "outputs"):
        types = [[g.avals[v].mlir for v in getattr(g, what)] for g in (before, after)]
        if types[0] != types[1]:
            were, are = (", ".join(t) or "none" for t in types)
            raise GroupError(f"[group] its {what} were {were} and are {are}. Keep them.")
    codes = [sorted(failures(g), key=repr) for g in (before, after)]
    if codes[0] != codes[1]:
        raise GroupError(f"[group] its checks were those of {codes[0]} and are those of {codes[1]}. Keep every check.")


def failures(group: Group) -> set[Any]:
    """The numbers of what may fail in a group."""
    found: set[Any] = set()
    for op in group.ops:
        found.update({op.attribute["code"]} if isinstance(op, Call) and "code" in op.attribute else ())
        for body in (op.body,) if isinstance(op, Generic) else op.regions:
            found.update(o.attribute for o in body.ops if o.name == "flambeau.check")
    return found
