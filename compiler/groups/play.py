"""Bodies played on an emitter that writes text: on scalars, vectors or GPU lanes, as if the lowering itself ran there.

In: a `Body`, and a value for each argument that is read. Out: the values that are wanted. A body knows no lanes: constants
are made as wide as what first reads them. Next: `replay.py`, which gives generators ops made of bodies.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.values import Val, dtype_of, register_type, spell_type
from flambeau.compiler.groups.form import Body, BodyOp

_CONVERSIONS = frozenset(
    f"arith.{name}" for name in ("bitcast", "extf", "truncf", "extsi", "extui", "trunci", "sitofp", "uitofp")
)
_APART = frozenset(("arith.constant", "flambeau.check"))
#: Ops that say where an element is, or what must hold: nothing is written for them.
_SILENT = frozenset(("linalg.index", "affine.apply", "flambeau.check", "flambeau.fold"))


class Score:
    """The ops of a body that some values need, ready to be played any number of times.

    `known` are numbers that the player gives. What `wanted` depend on is played in order; where the body is played as a
    `whole`, so are ops that nobody reads, but for those that only what is known or left `out` needs.
    """

    def __init__(
        self, body: Body, wanted: Sequence[int], known: Sequence[int] = (), out: Sequence[int] = (), whole: bool = True
    ) -> None:
        self.body, self.wanted = body, tuple(wanted)
        self.needed = needed = needs(body, wanted, known)
        left_out = needs(body, (*out, *known)) - needed if whole else frozenset[int]()
        self.ops = [
            (n, op)
            for n, op in zip(body.numbers(), body.ops, strict=True)
            if (n in needed or (whole and n not in left_out)) and n not in known
        ]
        self._steps = [(n, _writer(op), op) for n, op in self.ops if op.name not in _SILENT]
        self._has_sizes = any(op.name == "flambeau.size" for _, op in self.ops)
        self.arguments = [k for k in range(len(body.types)) if k in needed]
        self.is_short = sum(op.name not in _APART for op in body.ops) <= 1
        self._widths: dict[tuple[tuple[int, int], ...], dict[int, int]] = {}

    def play(self, b: Any, values: Mapping[int, Val]) -> list[Val]:
        """Write the ops; `values` are those of the arguments and of what is known, by number."""
        found: dict[int, Val] = dict(values)
        widths = self._lanes(found)
        for n, write, op in self._steps:
            if write is not None:
                found[n] = write(b, op, [found[x] for x in op.operands])
            elif op.name == "arith.constant":
                found[n] = _constant(b, op, widths[n])
            elif op.regions:
                found.update(enumerate(_structured(b, op, [found[x] for x in op.operands]), n))
            elif op.operands[0] in found:  # an index, as a number of another type
                found[n] = found[op.operands[0]]
            if self._has_sizes and widths[n] > 1 and n in found:  # what stands for a constant is as wide as one
                found[n] = b.splat(found[n], widths[n])
        return [found[n] for n in self.wanted]

    def _lanes(self, found: Mapping[int, Val]) -> dict[int, int]:
        key = tuple((n, v.lanes) for n, v in found.items())
        if key not in self._widths:
            self._widths[key] = widths(self.body, dict(key))
        return self._widths[key]


_MOST = 2048
_scores: OrderedDict[tuple[Hashable, ...], Score] = OrderedDict()


def score(
    body: Body, wanted: Sequence[int], known: Sequence[int] = (), out: Sequence[int] = (), whole: bool = True
) -> Score:
    """A `Score`, remembered by the body itself: bodies are shared, and long to compare."""
    key = (id(body), tuple(wanted), tuple(known), tuple(out), whole)
    found = _scores.get(key)
    if found is None or found.body is not body:
        found = _scores[key] = Score(body, wanted, known, out, whole)
        if len(_scores) > _MOST:
            _scores.popitem(last=False)
    return found


def needs(body: Body, wanted: Sequence[int], known: Sequence[int] = ()) -> frozenset[int]:
    """Every number that `wanted` depend on, themselves included; nothing below what is `known`."""
    live = set(wanted)
    for n, op in zip(reversed(body.numbers()), reversed(body.ops), strict=True):
        results = range(n, n + len(op.types))
        if not live.isdisjoint(results):
            live.update(results)
            if n not in known:
                live.update(op.operands)
    return frozenset(live)


# ---- one op -----------------------------------------------------------------------------------------------------


_Writer = Callable[[Any, BodyOp, list[Val]], Val]


def _writer(op: BodyOp) -> _Writer | None:
    """What writes a scalar op; None for constants, control flow and casts of indices."""
    if op.regions or op.name in ("arith.constant", "arith.index_cast"):
        return None
    return _WRITERS.get(op.name, _uniform)


def _uniform(b: Any, op: BodyOp, operands: list[Val]) -> Val:
    """Operands and result have one type: that of the operands, since folds play floats as integers; but the op says whether it
    is signed."""
    if len(operands) > 1:
        operands = b.unify(*operands)
    x, (type,) = operands[0], op.types
    is_same = register_type(type) == register_type(x.type)
    return b.op(op.name, operands, type if is_same else x.type, x.lanes)


def _compared(b: Any, op: BodyOp, operands: list[Val]) -> Val:
    x, y = b.unify(*operands)
    return b.op(op.name, [x, y], "i1", x.lanes, op.attribute)


def _converted(b: Any, op: BodyOp, operands: list[Val]) -> Val:
    return b.op(op.name, operands, op.types[0], operands[0].lanes)


def _chosen(b: Any, op: BodyOp, operands: list[Val]) -> Val:
    """Passes leave out casts between integers that registers do not tell apart: one that is signed may meet one that is not."""
    condition, x, y = operands
    if x.type != y.type and register_type(x.type) == register_type(y.type):
        x, y = (v._replace(type=op.types[0]) for v in (x, y))
    return b.select(condition, x, y)


def _saturated(b: Any, op: BodyOp, operands: list[Val]) -> Val:
    return b.saturated(operands[0], dtype_of(op.types[0]))


_WRITERS: dict[str, _Writer] = {
    **dict.fromkeys(_CONVERSIONS, _converted),
    **dict.fromkeys(("llvm.fptosi.sat", "llvm.fptoui.sat"), _saturated),
    "arith.bitcast": lambda b, op, operands: b.bitcast(operands[0], op.types[0]),
    "arith.cmpf": _compared,
    "arith.cmpi": _compared,
    "arith.select": _chosen,
    "arith.maximumf": lambda b, op, operands: b.maximum(*operands),  # lanes of a fold are integers in the same order
    "arith.minimumf": lambda b, op, operands: b.minimum(*operands),
    "flambeau.any_lane": lambda b, op, operands: b.any(operands[0]),
    "flambeau.size": lambda b, op, operands: b.size(op.attribute),
    "tensor.extract": lambda b, op, operands: b.gather(operands[0], operands[1], op.types[0]),
}


def _constant(b: Emitter, op: BodyOp, lanes: int) -> Val:
    (type,), literal = op.types, op.attribute
    assert isinstance(literal, str)
    if type.startswith("tensor<"):
        element = type[:-1].split("x")[-1]
        texts = literal.removeprefix("dense<[").removesuffix("]>").split(", ")
        return b.table([number(text, element) for text in texts], element)
    text = literal if lanes == 1 else f"dense<{literal}>"
    return Val(b.constant_name(text, spell_type(type, lanes)), type, lanes)


def number(literal: str, element: str) -> int | float | bool:
    """What `values.spell_number` spelled."""
    dtype = dtype_of(element)
    if dtype.is_bool:
        return literal == "true"
    if not dtype.is_floating_point:
        return int(literal)
    bits = int(literal, 0) & ((1 << dtype.bits) - 1)  # of a float that registers carry as an integer: signed
    if dtype.carrier:
        return float(np.array(bits, f"u{dtype.itemsize}").view(dtype.numpy))
    unsigned, floating = {16: ("<H", "<e"), 32: ("<I", "<f"), 64: ("<Q", "<d")}[dtype.bits]
    return float(struct.unpack(floating, struct.pack(unsigned, bits))[0])


def _structured(b: Any, op: BodyOp, operands: list[Val]) -> list[Val]:
    """Control flow: the regions' arguments are their own, then what they read from outside."""
    first, second = (score(region, region.results) for region in op.regions)
    own = 1 if op.name == "scf.if" else len(op.types)
    captured = operands[own:]

    def run(region: Score, arguments: Sequence[Val]) -> list[Val]:
        return region.play(b, dict(enumerate([*arguments, *captured])))

    if op.name == "scf.if":
        return list(b.if_else(operands[0], lambda: run(first, ()), lambda: run(second, ())))
    return list(b.while_(operands[:own], lambda *xs: run(first, xs)[0], lambda *xs: run(second, xs)))


# ---- how wide constants are ---------------------------------------------------------------------------------------


def widths(body: Body, lanes: dict[int, int]) -> dict[int, int]:
    """The lanes of every value, given those of arguments and known values. 0 stands for what has none of its own while
    this is found: constants, and what is computed of them alone; in the end these are as wide as their first reader."""
    lanes = dict(lanes)
    for n, op in zip(body.numbers(), body.ops, strict=True):
        if n in lanes:
            continue
        for k in range(len(op.types)):
            lanes[n + k] = _own(op, k, lanes)
    readers = _readers(body)
    for n, op in zip(reversed(body.numbers()), reversed(body.ops), strict=True):
        for v in range(n, n + len(op.types)):
            if lanes[v] == 0:
                lanes[v] = _wanted(body, readers.get(v), v, lanes)
    return lanes


def _own(op: BodyOp, k: int, lanes: Mapping[int, int]) -> int:
    if op.name == "flambeau.any_lane":
        return 1
    if op.name == "scf.while":
        return max(1, lanes[op.operands[k]])
    return max((lanes.get(x, 0) for x in op.operands), default=0)


def _readers(body: Body) -> dict[int, tuple[int, BodyOp]]:
    """The first op that reads each value, with the number of its first result."""
    found: dict[int, tuple[int, BodyOp]] = {}
    for n, op in zip(body.numbers(), body.ops, strict=True):
        for x in op.operands:
            found.setdefault(x, (n, op))
    return found


def _wanted(body: Body, reader: tuple[int, BodyOp] | None, v: int, lanes: Mapping[int, int]) -> int:
    if reader is None:  # nobody, or who reads the body's results
        return 1 if v in body.results else max([1, *(lanes.get(k, 0) for k in range(len(body.types)))])
    n, op = reader
    if op.name == "scf.while" and op.operands.index(v) < len(op.types):
        return 1
    if not op.types or op.name in ("scf.if", "scf.while", "flambeau.any_lane"):
        return max([1, *(lanes.get(x, 0) for x in op.operands)]) if op.regions else 1
    return max(1, lanes[n])


def combiner(region: Body) -> Callable[..., Val]:
    """A region that makes one element of several, as a function of the emitter and these: (b, old, new) -> combined."""
    part = score(region, region.results, whole=False)
    return lambda b, *given: part.play(b, dict(enumerate(given)))[0]
