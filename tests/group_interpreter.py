"""Groups run by NumPy, nest by nest: parallel loops at once, the elements of a fold one after the other, by their places.

That is the order `sequential` for every fold: what a rewrite does to the numbering of elements is seen, trees are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from flambeau.compiler.groups.form import REDUCTION, Body, BodyOp, Call, Generic, Group
from flambeau.compiler.groups.slices import limits
from flambeau.compiler.groups.verify_bodies import _place as place_of
from flambeau.dialects.dtypes import by_mlir
from flambeau.dialects.orders import folded_loops
from flambeau.dialects.record import find
from flambeau.dialects.size import evaluate

_WINDOWS = ("flambeau.window", "flambeau.put", "flambeau.pick", "flambeau.fold_windows")
_UNSIGNED = {"int8": np.uint8, "int16": np.uint16, "int32": np.uint32, "int64": np.uint64}


def numpy_type(element: str) -> np.dtype:
    return np.dtype(np.int64) if element == "index" else by_mlir(element).numpy


def number(literal: str, element: str) -> Any:
    """A literal's value: floats are spelled by their bits."""
    type_ = numpy_type(element)
    if literal in ("true", "false"):
        return np.bool_(literal == "true")
    if literal.startswith("0x"):
        return np.array(int(literal, 16), f"u{type_.itemsize}").view(type_)[()]
    return type_.type(int(literal))


def table(literal: str, type_: str) -> np.ndarray:
    element = type_.removesuffix(">").rpartition("x")[2]
    return np.array([number(n, element) for n in literal.removeprefix("dense<[").removesuffix("]>").split(", ")])


# ---- bodies -------------------------------------------------------------------------------------------------------


def _wide(x: Any) -> Any:
    return np.asarray(x).astype(np.float64)


def _unsigned(x: Any) -> Any:
    x = np.asarray(x)
    return x.view(_UNSIGNED[x.dtype.name]) if x.dtype.name in _UNSIGNED else x


def _saturated(x: Any, type_: np.dtype) -> Any:
    info = np.iinfo(type_)
    inside = np.clip(np.nan_to_num(_wide(x), nan=0.0), float(info.min), float(np.nextafter(float(info.max), 0)))
    return np.where(_wide(x) >= float(info.max), info.max, inside.astype(type_))


#: ops whose operands and result have one type; those of math are computed in float64, whose last bits do not show
_UNIFORM = {
    "arith.addf": np.add,
    "arith.subf": np.subtract,
    "arith.mulf": np.multiply,
    "arith.divf": np.divide,
    "arith.maximumf": np.maximum,
    "arith.addi": np.add,
    "arith.subi": np.subtract,
    "arith.muli": np.multiply,
    "arith.andi": np.bitwise_and,
    "arith.ori": np.bitwise_or,
    "math.exp": lambda x: np.exp(_wide(x)),
    "math.tanh": lambda x: np.tanh(_wide(x)),
    "math.sqrt": lambda x: np.sqrt(_wide(x)),
    "math.floor": np.floor,
    "math.fma": lambda x, y, z: _wide(x) * _wide(y) + _wide(z),
}
_COMPARE = {
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
_CONVERT = (
    "arith.index_cast",
    "arith.truncf",
    "arith.extf",
    "arith.sitofp",
    "arith.trunci",
    "arith.extsi",
    "arith.extui",
)


class Lanes:
    """What a body computes for many points: `indices` along the loops, failures where `mask` holds."""

    def __init__(self, indices: Sequence[Any], sizes: Sequence[int], failures: set[int]) -> None:
        self.indices, self.sizes, self.failures = indices, sizes, failures

    def run(self, body: Body, arguments: Sequence[Any], mask: Any = True) -> list[Any]:
        values = list(arguments)
        for op in body.ops:
            values += self._op(op, [values[k] for k in op.operands], mask)
        return [values[k] for k in body.results]

    def _op(self, op: BodyOp, given: list[Any], mask: Any) -> list[Any]:
        if op.name == "flambeau.check":
            if np.any(given[0] & mask):
                self.failures.add(op.attribute)
            return []
        if op.name == "scf.if":
            return self._if(op, given, mask)
        if op.name == "scf.while":
            return self._while(op, given, mask)
        return [np.asarray(self._scalar(op, given)).astype(self._type(op.types[0]))]

    def _type(self, type_: str) -> Any:
        return numpy_type(type_.removesuffix(">").rpartition("x")[2]) if "tensor" in type_ else numpy_type(type_)

    def _scalar(self, op: BodyOp, given: list[Any]) -> Any:
        if op.name in _UNIFORM:
            return _UNIFORM[op.name](*given)
        if op.name == "arith.constant":
            tensor = str(op.attribute).startswith("dense")
            return table(op.attribute, op.types[0]) if tensor else number(op.attribute, op.types[0])
        if op.name == "linalg.index":
            return self.indices[op.attribute]
        if op.name == "affine.apply":
            return sum(given[k] * c for k, c in op.attribute.terms) + op.attribute.constant
        if op.name == "flambeau.size":
            return evaluate(op.attribute, self.sizes)
        if op.name in ("flambeau.fold", "flambeau.any_lane"):
            return given[0]
        if op.name.startswith("arith.cmp"):
            sign, predicate = op.attribute[0], op.attribute[-2:]
            x, y = (
                map(_unsigned, given) if op.name == "arith.cmpi" and sign == "u" and len(op.attribute) == 3 else given
            )
            return _COMPARE[predicate](x, y)
        if op.name == "arith.select":
            return np.where(*given)
        if op.name == "tensor.extract":
            at = tuple(np.clip(k, 0, n - 1) for k, n in zip(given[1:], given[0].shape))
            return given[0][at]
        if op.name == "llvm.fptosi.sat":
            return _saturated(given[0], self._type(op.types[0]))
        if op.name == "arith.bitcast":
            return np.asarray(given[0]).view(self._type(op.types[0]))
        if op.name in _CONVERT:
            return given[0]
        raise NotImplementedError(op.name)

    def _if(self, op: BodyOp, given: list[Any], mask: Any) -> list[Any]:
        condition, *free = given
        outcomes = [self.run(r, free, mask & c) for r, c in zip(op.regions, (condition, ~np.asarray(condition)))]
        return [np.where(condition, x, y) for x, y in zip(*outcomes)] if op.types else []

    def _while(self, op: BodyOp, given: list[Any], mask: Any) -> list[Any]:
        count = len(given) - (len(op.regions[1].types) - len(op.types))
        state, free = given[:count], given[count:]
        going = np.asarray(True)
        result = state
        while np.any(going):
            more, *passed = self.run(op.regions[0], [*state, *free], mask & going)
            result = passed if result is state else [np.where(going, x, y) for x, y in zip(passed, result)]
            going = going & more
            after = self.run(op.regions[1], [*passed, *free], mask & going)
            state = [np.where(going, x, y) for x, y in zip(after, state)]
        return result


# ---- ops ----------------------------------------------------------------------------------------------------------


class Run:
    def __init__(self, group: Group, sizes: Sequence[int]) -> None:
        self.group, self.sizes, self.failures = group, sizes, set[int]()
        self.values: list[Any] = []

    def shape(self, sizes: Sequence[Any]) -> tuple[int, ...]:
        return tuple(evaluate(n, self.sizes) for n in sizes)

    def outputs(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.values = list(inputs)
        for op in self.group.ops:
            self.values += self._generic(op) if isinstance(op, Generic) else [self._call(op)]
        return [self.values[v] for v in self.group.outputs]

    def _generic(self, op: Generic) -> list[np.ndarray]:
        extents = self.shape(op.extents)
        reductions = [k for k, kind in enumerate(op.iterators) if kind == REDUCTION]
        parallel = [k for k in range(len(extents)) if k not in reductions]
        grid = np.meshgrid(*(np.arange(extents[k]) for k in parallel), indexing="ij", sparse=False)
        results = self._starts(op, [extents[k] for k in parallel])
        for point in itertools.product(*(range(extents[k]) for k in self._order(op, reductions))):
            fixed = dict(zip(self._order(op, reductions), point))
            indices = [fixed[k] if k in fixed else grid[parallel.index(k)] for k in range(len(extents))]
            results = self._points(op, indices, results)
        return [self._stored(op, k, r, parallel) for k, r in enumerate(results)]

    def _order(self, op: Generic, reductions: list[int]) -> tuple[int, ...]:
        """The folded loops, outermost first."""
        fold = next((o for o in op.body.ops if o.name == "flambeau.fold"), None)
        if fold is None:
            return tuple(reductions)
        places = [place_of(op.body, k) for k in fold.operands[1:]]
        return folded_loops(places, dict(enumerate(op.extents)), reductions)

    def _starts(self, op: Generic, shape: list[int]) -> list[np.ndarray]:
        starts = []
        for v, init in zip(op.results, op.inits):
            dtype = self.group.avals[v].dtype
            starts.append(np.full(shape, number(init, dtype.mlir) if init else 0, dtype.numpy))
        return starts

    def _points(self, op: Generic, indices: list[Any], results: list[np.ndarray]) -> list[np.ndarray]:
        elements = [self._element(self.values[v], m, indices) for v, m in zip(op.operands, op.maps)]
        lanes = Lanes(indices, self.sizes, self.failures)
        found = lanes.run(op.body, [*elements, *results, *(self.values[v] for v in op.captures)])
        return [np.broadcast_to(x, r.shape).astype(r.dtype) for x, r in zip(found, results)]

    def _element(self, x: Any, map_: Any, indices: list[Any]) -> Any:
        at = tuple(sum(indices[d] * c for d, c in e.terms) + e.constant for e in map_)
        return np.asarray(x)[at] if at else x

    def _stored(self, op: Generic, k: int, result: np.ndarray, parallel: list[int]) -> np.ndarray:
        """A result's axes in the order of its map, units where that has constants."""
        map_ = op.maps[len(op.operands) + k]
        loops = [e.terms[0][0] for e in map_ if e.terms]
        moved = result.transpose([parallel.index(d) for d in loops])
        return moved.reshape(self.shape(self.group.avals[op.results[k]].shape))

    def _call(self, op: Call) -> Any:
        given, attrs, aval = [self.values[v] for v in op.operands], op.attribute, self.group.avals[op.results[0]]
        shape = self.shape(aval.shape)
        if op.name == "arith.constant":
            tensor = attrs["value"].startswith("dense")
            return table(attrs["value"], aval.mlir) if tensor else number(attrs["value"], aval.dtype.mlir)
        if op.name == "flambeau.size":
            return np.int64(evaluate(attrs["size"], self.sizes))
        if op.name == "tensor.empty":
            return np.zeros(shape, aval.dtype.numpy)
        if op.name == "tensor.extract":
            return given[0][()]
        if op.name in ("tensor.collapse_shape", "tensor.expand_shape"):
            return given[0].reshape(shape)
        if op.name == "tensor.concat":
            return np.concatenate(given, attrs["dim"])
        if op.name == "tensor.pad":
            around = list(zip(self.shape(attrs["low"]), self.shape(attrs["high"])))
            return np.pad(given[0], around, constant_values=given[1])
        if op.name == "tensor.extract_slice":
            return given[0][self._window(op, given[0].shape, shape, given[1:])]
        if op.name == "tensor.insert_slice":
            result = given[1].copy()
            result[self._window(op, result.shape, given[0].shape, given[2:])] = given[0]
            return result
        if op.name in ("flambeau.argsort", "flambeau.topk", "flambeau.searchsorted"):
            record = find(op.name.removeprefix("flambeau."))
            return record.reference(*given, *(attrs[name] for name in record.attrs))
        if op.name.startswith("flambeau.convolution"):
            how = [self.shape(attrs[name]) for name in ("stride", "padding", "dilation")]
            record = find(op.name.removeprefix("flambeau."))
            return record.run_reference(given, (shape[2:], *how, attrs["groups"]))[0]
        if op.name in ("flambeau.scan", "flambeau.recurrence"):
            return self._scan(op, *given)
        if op.name in _WINDOWS:
            return self._window_op(op, given, shape)
        return self._scatter(op, *given)

    def _window(self, op: Call, whole: tuple, window: tuple, starts: list[Any]) -> tuple[slice, ...]:
        places, steps, given = op.attribute["starts"], op.attribute["steps"], iter(starts)
        found = []
        for place, step, limit, n in zip(places, steps, limits(whole, window, steps), window):
            begin = min(max(int(next(given)), 0), limit) if place == "clamped" else evaluate(place, self.sizes)
            found.append(slice(begin, begin + (n - 1) * step + 1 if n else begin, step))
        return tuple(found)

    def _window_op(self, op: Call, given: list, shape: tuple) -> np.ndarray:
        """By the reference of the record that the op is."""
        attrs, axis = op.attribute, op.attribute["axis"]
        numbers = [attrs[name] for name in ("size", "step", "low", "dilation")] if op.name == "flambeau.window" else []
        if op.name == "flambeau.window":
            record = ("pool_" if any(numbers) else "adaptive_") + attrs["how"]
            return find(record).reference(given[0], shape[axis:], *(numbers if any(numbers) else ()))
        if op.name == "flambeau.put":
            return find("put").reference(*given, shape[axis:], attrs["how"] == "add")
        if op.name == "flambeau.pick":
            return find("pick").reference(*given, len(shape) - axis)
        return find("fold").reference(given[0], axis, shape[axis], attrs["step"], attrs["dilation"])

    def _scan(self, op: Call, *given: Any) -> np.ndarray:
        """One element after the other: inputs are shorter than a block of prefixes."""
        axis = op.attribute["axis"]
        turn = lambda x: np.moveaxis(np.flip(x, axis) if op.attribute["reverse"] else x, axis, 0)  # noqa: E731
        result = given[-1].copy()
        found, operands = turn(result), [turn(x) for x in given]
        for k in range(1, len(found)):
            for at in np.ndindex(found.shape[1:]):
                elements = [x[(k, *at)] for x in operands]
                (found[(k, *at)],) = Lanes((), self.sizes, self.failures).run(
                    op.regions[0], [found[(k - 1, *at)], *elements]
                )
        return result

    def _scatter(self, op: Call, x: Any, index: Any, updates: Any) -> np.ndarray:
        result, axis = x.copy(), op.attribute["axis"]
        for at in np.ndindex(index.shape):
            to = (*at[:axis], index[at], *at[axis + 1 :])
            (result[to],) = Lanes((), self.sizes, self.failures).run(op.regions[0], [result[to], updates[at]])
        return result


def inputs_of(group: Group, sizes: Sequence[int]) -> list[np.ndarray]:
    """Random inputs; integers are small enough for indices."""
    generator = np.random.default_rng(5)
    arrays = []
    for v in group.inputs:
        aval = group.avals[v]
        shape = tuple(evaluate(n, sizes) for n in aval.shape)
        real = generator.uniform(-3, 3, shape) if aval.dtype.is_floating_point else generator.integers(0, 8, shape)
        arrays.append(np.asarray(real).astype(aval.dtype.numpy))
    return arrays


def same(one: Group, two: Group) -> bool:
    """Whether two groups give the same bits and failures on random inputs. `one` knows the values of sizes."""
    inputs, outcomes = inputs_of(one, one.sizes), []
    for group in (one, two):
        run = Run(group, one.sizes)
        with np.errstate(all="ignore"):
            outputs = run.outputs(inputs)
        outcomes.append(([np.ascontiguousarray(o).tobytes() for o in outputs], run.failures))
    return outcomes[0] == outcomes[1]
