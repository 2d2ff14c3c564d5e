"""Small programs for every kind of schedule, and schedules drawn at random that fit them.

In: a kind, a random generator. Out: `Case`s, each one unit of a cluster with its machine, and schedules for them.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from functools import cache, cached_property

import execute
import gpu_programs
import gpu_simulator
import group_checks
import numpy as np
from flambeau.compiler import targets
from flambeau.compiler.codegen.units import Cut, Unit
from flambeau.compiler.groups import generate
from flambeau.compiler.kernel import Cluster, Lowered
from flambeau.compiler.passes.cluster import kind_of
from flambeau.compiler.schedules import ScheduleError
from flambeau.compiler.schedules.choose import choose
from flambeau.compiler.schedules.fitting import obstacle
from flambeau.compiler.schedules.form import Schedule
from flambeau.compiler.schedules.kinds import KINDS
from flambeau.dialects.dtypes import float32, int32
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import find
from flambeau.dialects.tape.reduce import restore
from gpu_programs import floats, layer, layer_norm, matmul, permute, softmax

GPU = "sm_80"


def op(name, *args, **attrs):
    return find(name)(*args, **attrs)


def _exp_and_sum(axis):
    def program(x):
        e = op("exp", x)
        return [e, op("sum", e, axes=(axis,))]

    return program


def _heavy_twice(x):
    """An element that costs much, in two passes: it is kept, or computed again."""
    e = op("exp", op("tanh", x))
    return e / restore(op("sum", e, axes=(1,)), x.shape, (1,))


def _computed(x, y):
    """Both sides of a product are computed."""
    return matmul(op("maximum", x, x.like(0.0)), y * y.like(2.0))


def _scattered(base, index, updates):
    return op("scatter_add", base, index, updates, axis=0)


def _scanned(name, axis, reverse=False):
    return lambda *x: op(name, *x, axis=axis, reverse=reverse)


def _sorted(axis, descending=False):
    return lambda x: op("argsort", x, axis=axis, descending=descending)


def _first(axis, k):
    return lambda x: op("topk", x, axis=axis, k=k, largest=True)


def _searched(axis):
    return lambda x, values: op("searchsorted", x, values, axis=axis, right=True)


def _windowed(name, **window):
    return lambda *x: op(name, *x, **window)


def _turned(x, y):
    return permute(1, 0)(x) * y


def _indices(*shape, most):
    return np.random.default_rng(0).integers(0, most, shape)


#: Programs, and their operands.
LOOPS = {
    "flat": (lambda x, y: op("exp", x) + y, floats(1024), floats(1024, seed=1)),
    "rows of points": (lambda x, y: x * y.expand(x.shape), floats(6, 160), floats(160)),
    "long rows": (lambda x, y: x * y.expand(x.shape), floats(3, 1000), floats(3, 1)),
    "short rows": (lambda x, y: x + y.expand(x.shape), floats(30, 20), floats(20)),
    "doubles": (lambda x, y: x - y.expand(x.shape), floats(9, 64).astype(float), floats(64).astype(float)),
    "turned": (_turned, floats(70, 33), floats(33, 70, seed=1)),
}
ROWS = {
    "softmax": (softmax, floats(5, 300)),
    "layer norm": (layer_norm, floats(9, 50)),
    "kept": (_heavy_twice, floats(4, 200)),
    "chunks": (_exp_and_sum(1), floats(2, 8200)),
    "streamed": (_exp_and_sum(1), floats(4, 160)),
    "doubles": (_exp_and_sum(1), floats(3, 130).astype(np.float64)),
}
COLUMNS = {
    "sum": (lambda x: op("sum", x, axes=(0,)), floats(150, 130)),
    "narrow": (lambda x: op("max", x, axes=(0,)), floats(70, 20)),
    "elements": (_exp_and_sum(0), floats(65, 96)),
    "batch": (_exp_and_sum(1), floats(3, 20, 32)),
}
PRODUCTS = {
    "plain": (matmul, floats(37, 70), floats(70, 100)),
    "long": (matmul, floats(20, 300), floats(300, 64)),
    "layer": (layer, floats(40, 33), floats(50, 33, seed=1), floats(50)),
    "computed": (_computed, floats(24, 270), floats(270, 60, seed=1)),
    "doubles": (matmul, floats(17, 40).astype(np.float64), floats(40, 30).astype(np.float64)),
    "batch": (matmul, floats(2, 9, 12), floats(2, 12, 20)),
}
VECTORS = {
    "matrix times vector": (matmul, floats(37, 300), floats(300, 1)),
    "vector times matrix": (matmul, floats(1, 130), floats(130, 100)),
    "computed": (_computed, floats(1, 100), floats(100, 70, seed=1)),
    "long": (matmul, floats(5, 4200), floats(4200, 1)),
    "many": (matmul, floats(203, 150), floats(150, 1)),
    "doubles": (matmul, floats(9, 65).astype(np.float64), floats(65, 1).astype(np.float64)),
}


def _integers(*shape, dtype=np.int8):
    limits = np.iinfo(dtype)
    return np.random.default_rng(7).integers(limits.min, limits.max + 1, shape).astype(dtype)


def _dots(x, y):
    """8-bit integers, whose products are added up in int32, of lines that both lie along k."""
    wide = [op("cast", v, dtype=int32) for v in (x, y)]
    return op("cast", matmul(wide[0], permute(1, 0)(wide[1])), dtype=float32) * 0.5


DOTS = {
    "signed": (_dots, _integers(9, 130), _integers(37, 130)),
    "unsigned": (_dots, _integers(5, 70, dtype=np.uint8), _integers(70, 70, dtype=np.uint8)),
    "both": (_dots, _integers(1, 200, dtype=np.uint8), _integers(65, 200)),
    "turned": (_dots, _integers(3, 64), _integers(17, 64, dtype=np.uint8)),
}
SCATTERS = {
    "rows": (_scattered, floats(12, 40), _indices(30, 40, most=12), floats(30, 40, seed=1)),
    "elements": (_scattered, floats(12), _indices(30, most=12), floats(30, seed=1)),
}


def _convolved_quads(size, stride=1, padding=1, groups=1):
    how = dict(sizes=size, stride=(stride,) * 2, padding=(padding,) * 2, dilation=(1, 1), groups=groups)

    def program(x, w):
        kernel = op("cast", permute(0, 3, 1, 2)(w), dtype=int32)
        y = op("convolution", op("cast", x, dtype=int32), kernel, **how)
        return op("cast", y, dtype=float32) * 0.5

    return program


QUADS = {
    "signed": (_convolved_quads((9, 13)), _integers(2, 6, 9, 13), _integers(11, 3, 3, 6)),
    "unsigned": (_convolved_quads((5, 7), 2, 1, 2), _integers(1, 8, 9, 13, dtype=np.uint8), _integers(6, 3, 3, 4)),
    "points": (_convolved_quads((6, 9), 1, 0), _integers(3, 5, 6, 9, dtype=np.uint8), _integers(9, 1, 1, 5)),
}


def _convolved(name, size, stride=1, padding=1, groups=1):
    how = dict(stride=(stride,) * 2, padding=(padding,) * 2, dilation=(1, 1), groups=groups)
    return lambda a, b: op(name, a, b, sizes=size, **how)


def _convolved_layer(groups):
    def layer(x, w, bias):
        y = _convolved("convolution", (12, 11), groups=groups)(x, w)
        return op("maximum", y + restore(bias, y.shape, (0, 2, 3)), y.like(0.0))

    return layer


def _convolved_back(stride):
    """The gradient by the maps, with a bias for each channel, where another map of its shape is positive."""

    def layer(y, w, bias, x):
        found = _convolved("convolution_input", x.shape[2:], stride)(y, w) + restore(bias, x.shape, (0, 2, 3))
        return op("select", op("gt", x, x.like(0.0)), found, x.like(0.0))

    return layer


def _convolved_weight(x, y, w):
    """A step along the gradient by the kernel."""
    return w - _convolved("convolution_weight", w.shape[2:], 2, 1, 2)(x, y) * w.like(0.5)


CONVOLUTIONS = {
    "layer": (_convolved_layer(1), floats(2, 30, 12, 11), floats(20, 30, 3, 3, seed=1), floats(20)),
    "groups": (_convolved("convolution", (5, 6), 2, 1, 2), floats(3, 8, 9, 11), floats(12, 4, 3, 3, seed=1)),
    "input": (_convolved("convolution_input", (7, 20)), floats(2, 40, 7, 20), floats(40, 9, 3, 3, seed=1)),
    "input by phases": (_convolved("convolution_input", (9, 12), 2), floats(2, 70, 5, 6), floats(70, 11, 3, 3, seed=1)),
    "input layer by phases": (
        _convolved_back(2),
        floats(2, 70, 5, 21),
        floats(70, 11, 3, 3, seed=1),
        floats(11),
        floats(2, 11, 9, 41, seed=2),
    ),
    "input layer by other phases": (
        _convolved_back(3),
        floats(2, 70, 3, 9),
        floats(70, 5, 3, 3, seed=1),
        floats(5),
        floats(2, 5, 7, 25, seed=2),
    ),
    "weight": (_convolved("convolution_weight", (3, 3)), floats(3, 7, 9, 13), floats(3, 10, 9, 13, seed=1)),
    "weight of groups": (
        _convolved_weight,
        floats(3, 8, 9, 21),
        floats(3, 40, 5, 11, seed=1),
        floats(40, 4, 3, 3, seed=2),
    ),
    "doubles": (_convolved("convolution", (6, 5)), floats(2, 3, 6, 5).astype(float), floats(9, 3, 3, 3).astype(float)),
}
DIRECT = {
    "layer": (_convolved_layer(3), floats(2, 3, 12, 11), floats(3, 1, 3, 3, seed=1), floats(3)),
    "stride": (_convolved("convolution", (5, 10), 2, 1, 4), floats(2, 4, 9, 20), floats(8, 1, 3, 3, seed=1)),
    "channels": (_convolved("convolution", (9, 20), 1, 2, 2), floats(1, 6, 9, 20), floats(4, 3, 5, 5, seed=1)),
    "input": (_convolved("convolution_input", (14, 14), 1, 1, 3), floats(2, 6, 14, 14), floats(6, 1, 3, 3, seed=1)),
    "input of many": (
        _convolved("convolution_input", (9, 8), 1, 2, 20),
        floats(2, 20, 9, 8),
        floats(20, 1, 5, 5, seed=1),
    ),
    "input by phases": (
        _convolved("convolution_input", (9, 37), 2, 1, 3),
        floats(2, 3, 5, 19),
        floats(3, 1, 3, 3, seed=1),
    ),
    "input by phases of many": (
        _convolved("convolution_input", (10, 38), 2),
        floats(2, 20, 5, 19),
        floats(20, 3, 4, 4, seed=1),
    ),
    "doubles": (
        _convolved("convolution", (3, 20), 3, 0, 2),
        floats(1, 2, 9, 60).astype(float),
        floats(2, 1, 3, 3).astype(float),
    ),
}
DIRECT_WEIGHTS = {
    "blocks": (_convolved("convolution_weight", (3, 3), 1, 1, 18), floats(3, 18, 9, 13), floats(3, 18, 9, 13, seed=1)),
    "stride": (_convolved("convolution_weight", (3, 2), 2, 1, 9), floats(2, 9, 9, 37), floats(2, 18, 5, 19, seed=1)),
    "channels": (_convolved("convolution_weight", (2, 5), 1, 2, 5), floats(1, 10, 4, 20), floats(1, 10, 7, 20, seed=1)),
    "doubles": (
        _convolved("convolution_weight", (7, 7), 1, 3, 9),
        floats(2, 9, 6, 5).astype(float),
        floats(2, 9, 6, 5).astype(float),
    ),
}
SCANS = {
    "rows": (_scanned("cumsum", 1), floats(7, 50)),
    "columns": (_scanned("cumprod", 0, True), floats(30, 37)),
    "blocks": (_scanned("cumsum", 1, True), floats(2, 3100)),
    "blocks of columns": (_scanned("cummax", 0), floats(2100, 19)),
    "recurrence": (_scanned("recurrence", 1), floats(5, 40, 3), floats(5, 40, 3, seed=1)),
    "doubles": (_scanned("cummin", 0), floats(1030).astype(np.float64)),
}
WHOLE = np.random.default_rng(2).integers(-(1 << 40), 1 << 40, 700)
SORTS = {
    "rows": (_sorted(1), floats(7, 50)),
    "columns": (_sorted(0, True), floats(120, 5)),
    "doubles": (_sorted(0), floats(400).astype(np.float64)),
    "integers": (_sorted(0), WHOLE),
    "near each other": (_sorted(0, True), WHOLE % 50),
}
FIRST = {
    "rows": (_first(1, 3), floats(7, 90)),
    "columns": (_first(0, 40), floats(120, 5)),
    "doubles": (_first(0, 30), floats(400).astype(np.float64)),
    "rising": (_first(0, 5), np.arange(700)),
}
SEARCHES = {
    "line": (_searched(0), np.sort(floats(50)), floats(37, seed=1)),
    "columns": (_searched(0), np.sort(floats(40, 3), 0), floats(9, 3, seed=1)),
}
_PADDED = dict(shape=(5, 19), size=(3, 3), step=(2, 2), low=(1, 1), dilation=(1, 1))
WINDOWS = {
    "rows": (_windowed("pool_max", **_PADDED), floats(3, 10, 38)),
    "adjacent": (_windowed("pool_sum", shape=(35,), size=(3,), step=(1,), low=(0,), dilation=(1,)), floats(4, 37)),
    "places": (_windowed("pool_argmax", **_PADDED), floats(3, 10, 38)),
    "every second": (_windowed("pool_max", **{**_PADDED, "low": (0, 0)}), floats(3, 11, 39)),
    "every third": (_windowed("pool_max", **{**_PADDED, "step": (2, 3)}), floats(3, 10, 56)),
    "margins": (_windowed("pool_argmax", **{**_PADDED, "step": (1, 1), "dilation": (1, 2)}), floats(3, 5, 21)),
    "adaptive": (_windowed("adaptive_max", shape=(3, 5)), floats(2, 7, 11)),
    "planes": (_windowed("pool_spread", **{**_PADDED, "shape": (10, 38)}), floats(2, 5, 19)),
    "put": (_windowed("put", shape=(40,), add=True), floats(3, 30), _indices(3, 30, most=40)),
    "pick": (_windowed("pick", rank=1), floats(3, 40), _indices(3, 30, most=40)),
    "lines": (_windowed("fold", axis=0, extent=20, step=2, dilation=1), floats(9, 5, 3)),
}
ON_GPUS = {
    "gpu-points": LOOPS,
    "gpu-rows": {name: ROWS[name] for name in ("softmax", "layer norm", "chunks")},
    "gpu-columns": COLUMNS,
    "gpu-product": {name: PRODUCTS[name] for name in ("plain", "long", "layer", "doubles", "batch")},
    "gpu-vector-product": {name: VECTORS[name] for name in ("matrix times vector", "vector times matrix", "long")},
}
PROGRAMS = {
    "points": LOOPS, "rows": ROWS, "columns": COLUMNS, "scatter": SCATTERS, "scan": SCANS,
    "sort": SORTS, "topk": FIRST, "search": SEARCHES, "windows": WINDOWS,
    "product": PRODUCTS, "vector-product": VECTORS, "dot-product": DOTS,
    "convolution": CONVOLUTIONS, "direct": DIRECT, "direct-weight": DIRECT_WEIGHTS,
    "quads": QUADS,
    **ON_GPUS,
}  # fmt: skip

#: Values to draw from, beside those that are true of every kind.
_SMALL = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 1024)
VALUES = {
    "lanes": (1, 2, 4, 8, 16, 32, 64), "unroll": (1, 2, 3, 4, 7), "part": (0, 32, 64, 96, 128), "tile": (0, 16, 24, 32, 48, 64, 96),
    "streamed": ((), (0,), (1,)), "grain": (1, 50, 1000, 100_000), "interleave": (1, 2, 4, 8, 16, 32),
    "recompute": (0, 1, 6, 20, 35, 100), "block": _SMALL, "rows": (1, 2, 3, 4, 6, 8), "vectors": (1, 2, 3, 4),
    "steps": (1, 2, 4, 8), "m_block": _SMALL, "n_block": _SMALL, "pack_rows": (1, 8, 64, 1 << 30), "ahead": (0, 1, 16),
    "a_lines": ("none", "row", "column", "tile"), "b_lines": ("none", "row", "column"),
    "a_unroll": (1, 2, 4), "b_unroll": (1, 2, 4),
    "a_pitch": (0, 264, 272, 288, 320), "group": _SMALL, "depth": (1, 2, 4, 8, 16, 32), "rounds": (1, 2, 3, 8),
    "threads": (32, 64, 128, 192, 256, 512), "each": (1, 2, 3, 4, 8), "chains": (1, 2, 3, 4, 8), "pad": (0, 1, 2, 3, 4, 8, 12, 16),
    "groups": tuple(range(1, 17)), "band": _SMALL, "bits": (0, 1, 4, 8, 11),
    "room": tuple(range(1, 49)), "width": (8, 16, 32, 64), "workers": (1, 2, 4, 8, 16),
    "along": ("k", "output", "neither", "row", "channels"), "tap_rows": (1, 2, 3, 4, 7), "columns": _SMALL,
}  # fmt: skip
for flagged in ("resident", "chunks", "b_in_tile", "panels", "kept", "turned", "narrows"):
    VALUES[flagged] = (False, True)


@dataclass(frozen=True)
class Case:
    """A program whose one cluster has a unit of the kind."""

    kind: str
    name: str
    target: str

    @cached_property
    def graph(self) -> Graph:
        function, *arrays = PROGRAMS[self.kind][self.name]
        return gpu_programs.graph_of(function, arrays)

    @cached_property
    def part(self) -> Cluster:
        graph = self.graph
        return Cluster(kind_of(graph), graph, tuple(graph.inputs), tuple(graph.outputs))

    @cached_property
    def cut(self) -> Cut:
        return generate.cut(generate.group_of(self.part), targets.find(self.target))

    @property
    def unit(self) -> Unit:
        return next(u for u in self.cut.units if u.kind is KINDS[self.kind])

    @cached_property
    def default(self) -> Schedule:
        return choose(self.unit, targets.find(self.target))

    def lowered(self, schedule: Schedule) -> Lowered:
        machine = targets.find(self.target)
        schedules = [schedule if u is self.unit else choose(u, machine) for u in self.cut.units]
        return self.cut.lower(schedules, machine)

    def described(self, schedule: Schedule) -> str:
        """The calls as text."""
        lowered = self.lowered(schedule)
        return json.dumps(group_checks.described(lowered, lowered.graph))

    def run(self, schedule: Schedule) -> list[bytes]:
        """The bits of the outputs."""
        _, *arrays = PROGRAMS[self.kind][self.name]
        lowered = self.lowered(schedule)
        if not self.kind.startswith("gpu"):
            return [x.tobytes() for x in execute.run_lowered(self.part, lowered, list(arrays))]
        graph = lowered.graph
        memory = {v: np.array(x, order="C") for v, x in zip(graph.inputs, arrays, strict=True)}
        memory.update({v: np.full(graph.avals[v].shape, 77, graph.avals[v].dtype.numpy) for v in graph.outputs})
        for launch in lowered.calls:
            gpu_simulator.run(launch, [memory[o.index] for o in launch.operands])
        return [memory[v].tobytes() for v in graph.outputs]

    @cached_property
    def wanted(self) -> list[bytes]:
        return self.run(self.default)

    def fits(self, schedule: Schedule) -> bool:
        return obstacle(self.unit, schedule, targets.find(self.target)) is None


@cache
def cases(kind: str) -> list[Case]:
    return [Case(kind, name, GPU if kind.startswith("gpu") else "host") for name in PROGRAMS[kind]]


def drawn(case: Case, rng: random.Random) -> Schedule | None:
    """A schedule with some fields fixed at random and the others chosen for them; None where it fits no nest of the case."""
    names = list(KINDS[case.kind].forms())
    fixed = {name: rng.choice(VALUES[name]) for name in rng.sample(names, rng.randint(1, len(names)))}
    try:
        schedule = choose(case.unit, targets.find(case.target), fixed)
    except (ScheduleError, ValueError):
        return None
    return schedule if case.fits(schedule) else None


def changed(schedule: Schedule, name: str, value: object) -> Schedule | None:
    """The schedule with one field changed; None where that breaks a rule."""
    try:
        return replace(schedule, **{name: value})
    except ScheduleError:
        return None
