"""`summary(model, x)`: what a model is made of, and what a call of it computes.

In: a model and inputs. Out: a table of its modules: shapes of results, parameters, floating-point operations. The model is called
once, as in an export: that records what it computes, runs nothing and changes nothing. Next: `capture.py`, `dialects/cost.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flambeau.autograd import no_grad
from flambeau.capture import captured
from flambeau.declarations import Unsampled, declared
from flambeau.dialects.cost import flops
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor


@dataclass
class ModuleRow:
    """One module: `name` is its dotted path, `parameters` are those of the whole module below it, each once. `flops` are those of
    all `calls` together, a multiply-add counting as two."""

    name: str
    kind: str
    depth: int
    parameters: int
    output: Any = None
    flops: int = 0
    calls: int = 0


@dataclass
class Summary:
    """What `summary` found. Its text is a table."""

    rows: list[ModuleRow] = field(default_factory=list)
    parameters: int = 0
    trainable: int = 0
    parameter_bytes: int = 0
    buffer_bytes: int = 0
    flops: int = 0

    def __repr__(self) -> str:
        table = [("module", "output", "parameters", "FLOPs")]
        table += [
            (_label(r), _shown(r.output), f"{r.parameters:,}", f"{r.flops:,}" if r.calls else "-") for r in self.rows
        ]
        widths = [max(len(line[i]) for line in table) for i in range(4)]
        lines = [
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in table
        ]
        lines.insert(1, "-" * (sum(widths) + 6))
        lines.append(lines[1])
        lines.append(f"parameters: {self.parameters:,} ({self.trainable:,} trainable), {_bytes(self.parameter_bytes)}")
        lines.append(f"buffers: {_bytes(self.buffer_bytes)}; FLOPs of a call: {self.flops:,}")
        return "\n".join(lines)


def _label(row: ModuleRow) -> str:
    name = row.name.rpartition(".")[2]
    return "  " * row.depth + (f"{name}: {row.kind}" if name else row.kind)


def _shown(output: Any) -> str:
    if isinstance(output, tuple) and output and not all(isinstance(n, int) for n in output):
        return ", ".join(map(_shown, output))
    return "-" if output is None else str(tuple(output))


def _bytes(count: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count} {unit}"
        count = count / 1000  # type: ignore[assignment]
    return f"{count:.3g} GB"


def _shapes(output: Any) -> Any:
    """The shapes of the tensors in what a module returned."""
    if isinstance(output, Tensor):
        return tuple(output.shape)
    if isinstance(output, dict):
        return tuple(_shapes(x) for x in output.values())
    return tuple(_shapes(x) for x in output) if isinstance(output, list | tuple) else None


class _ModuleCalls:
    """The calls of the modules of a model while it is recorded."""

    def __init__(self, rows: dict[int, ModuleRow]) -> None:
        self.rows = rows
        self.starts: list[int] = []
        self.counted: list[int] = []  # of each entry of the trace, what it computes

    def _now(self) -> int:
        """How many entries the trace has; those that are new are counted."""
        entries = recorder.trace_export()
        self.counted += [flops(e[1].graph) if e[0] == "call" else 0 for e in entries[len(self.counted) :]]
        return len(entries)

    def enter(self, module: Any, args: Any) -> None:
        self.starts.append(self._now())

    def leave(self, module: Any, args: Any, output: Any) -> None:
        row, start, end = self.rows[id(module)], self.starts.pop(), self._now()
        row.flops += sum(self.counted[start:end])
        row.calls += 1
        row.output = _shapes(output)


def _named(module: Any, name: str, depth: int, seen: set[int]) -> Iterator[tuple[str, Any, int]]:
    """(path, module, depth) of a tree, each module once."""
    if id(module) in seen:
        return
    seen.add(id(module))
    yield name, module, depth
    for child, each in module.named_children():
        yield from _named(each, f"{name}.{child}" if name else child, depth + 1, seen)


@declared(free="flambeau", samples=Unsampled("of models, not of tensors"))
def summary(model: Any, *args: Any, depth: int | None = None, **kwargs: Any) -> Summary:
    """What `model(*args, **kwargs)` is made of: a table of its modules, down to `depth` (all by default), with the shapes of their
    results, their parameters and the floating-point operations of a call in the mode that it is in.

    Nothing is run, and nothing changes: neither buffers nor random numbers. Raises TypeError for what is no module, RuntimeError
    where the model looks at a value of what it computes.
    """
    if not hasattr(model, "named_modules"):
        raise TypeError(f"[summary] the model is a {type(model).__name__}. Pass a Module.")
    found, rows = list(_named(model, "", 0, set())), {}
    for name, module, level in found:
        rows[id(module)] = ModuleRow(name, type(module).__name__, level, sum(p.numel() for p in module.parameters()))
    watch = _ModuleCalls(rows)
    handles: list[Any] = []
    try:
        for _, module, _ in found:
            handles.append(module.register_forward_pre_hook(watch.enter))
            handles.append(module.register_forward_hook(watch.leave, prepend=True))
        with captured(model), no_grad():
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    parameters, buffers = list(model.parameters()), list(model.buffers())
    return Summary(
        [row for row in rows.values() if depth is None or row.depth <= depth],
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(math.prod(p.shape) * p.dtype.itemsize for p in parameters),
        sum(math.prod(b.shape) * b.dtype.itemsize for b in buffers),
        rows[id(model)].flops,
    )
