"""Programs that have GPU kernels, of every family of code generators, and how to run them by one launch each.

Next: `test_ptx.py`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import ptx_interpreter
from flambeau.compiler import stages
from flambeau.compiler.backend import object_code
from flambeau.compiler.kernel import Cluster, Launch, Lowered
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import kind_of
from flambeau.compiler.passes.legalise_devices import has_kernels
from flambeau.dialects import dtypes, reference
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.graph import Graph
from flambeau.dialects.record import REGISTRY, find
from flambeau.dialects.tape.reduce import restore


def floats(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


# ---- programs -------------------------------------------------------------------------------------------------


def softmax(x):
    m = restore(find("max")(x, axes=(1,)), x.shape, (1,))
    e = find("exp")(x - m)
    return e / restore(find("sum")(e, axes=(1,)), x.shape, (1,))


def layer_norm(x):
    mean = find("sum")(x, axes=(1,)) / float(x.shape[1])
    centred = x - restore(mean, x.shape, (1,))
    variance = find("sum")(centred * centred, axes=(1,)) / float(x.shape[1])
    return [centred / restore(find("sqrt")(variance + 1e-5), x.shape, (1,)), mean]


def shared_by_rows(x, weight, scale):
    """An operand that all rows read, and one that some of them share, of which every column reads one element."""
    y = x * weight.expand(x.shape) + scale.expand(x.shape)
    return [find("sum")(y, axes=(2,)), y]


def permute(*perm):
    return lambda x: find("permute")(x, perm=perm)


def matmul(x, y):
    return find("matmul")(x, y)


def layer(x, w, bias):
    y = matmul(x, permute(1, 0)(w))
    return find("maximum")(y + bias.expand(y.shape), y.like(0.0))


def noise(x, seed, offset):
    bits = find("random_bits")(seed, offset, shape=x.shape)
    return x * bits.cast(dtypes.float32) + find("iota")(shape=x.shape, dim=1, dtype=dtypes.float32, builder=x.builder)


ELEMENTWISE = {
    "add": (lambda x, y: x + y, floats(1000), floats(1000, seed=1)),
    "one element": (lambda x: x + 1.0, floats(1)),
    "0-d": (lambda x: find("exp")(x), np.float32(2)),
    "bias": (lambda x, y: find("tanh")(x + y.expand(x.shape)), floats(37, 70), floats(70)),
    "column": (lambda x, y: x * y.expand(x.shape), floats(37, 70), floats(37, 1)),
    "middle": (lambda x, y: x * y.expand(x.shape), floats(3, 5, 7), floats(3, 1, 7)),
    "scalar": (lambda x, y: x / y.expand(x.shape), floats(300), np.float32(3)),
    "several results": (lambda x: [x * 2.0, (x < 0.0), x.cast(dtypes.int64)], floats(513)),
    "bools": (lambda x, y: find("select")(x, y, -y), floats(300) > 0, floats(300, seed=1)),
    "f64": (lambda x: find("log")(find("exp")(x) + 1.0), floats(300).astype(np.float64)),
    "slices": (
        lambda x: find("slice")(x, starts=(1, 3), sizes=(4, 5), steps=(2, 3)) + find("flip")(
            find("slice")(x, starts=(0, 0), sizes=(4, 5), steps=(1, 1)), axes=(1,)
        ),
        floats(9, 20),
    ),
    "noise": (noise, floats(9, 33), np.int64(7), np.int64(100)),
}  # fmt: skip
ROWS = {
    "sum": (lambda x: find("sum")(x * x, axes=(1,)), floats(37, 700)),
    "sum of all": (lambda x: find("sum")(x, axes=(0, 1)), floats(9, 11)),
    "short rows": (lambda x: find("max")(x, axes=(1,)), floats(300, 3)),
    "one chunk": (lambda x: find("sum")(x, axes=(1,)), floats(3, 4096)),
    "a chunk and one": (lambda x: find("sum")(x, axes=(1,)), floats(3, 4097)),
    "many chunks": (lambda x: find("sum")(x * x, axes=(1,)), floats(2, 45000)),
    "several folds": (lambda x: [find("sum")(x, axes=(1,)), find("min")(x, axes=(1,))], floats(5, 100)),
    "integers": (lambda x: find("sum")(x.cast(dtypes.int64), axes=(1,)), floats(5, 100) * 9),
    "f64": (lambda x: find("sum")(x, axes=(1,)), floats(5, 100).astype(np.float64)),
    "argmax": (lambda x: find("argmax")(x, axes=(1,)), floats(5, 100)),
    "softmax": (softmax, floats(37, 100)),
    "long softmax": (softmax, floats(3, 5000)),
    "layer norm": (layer_norm, floats(9, 130)),
    "several folds of many chunks": (
        lambda x: [find("sum")(x, axes=(1,)), find("min")(x, axes=(1,)), find("max")(x, axes=(1,))],
        floats(2, 9000),
    ),
    "stretched inside": (lambda x, y: find("sum")(x * y.expand(x.shape), axes=(1, 2)), floats(3, 5, 64), floats(5, 1)),
    "shared by rows": (shared_by_rows, floats(3, 5, 70), floats(70), floats(5, 1)),
    "turned": (lambda x, y: find("sum")(permute(1, 0)(x) * y, axes=(1,)), floats(100, 7), floats(7, 100)),
    "one row": (lambda x, y: find("sum")(x * y.expand(x.shape), axes=(1,)), floats(1, 100), floats(1, 1)),
    "no columns": (lambda x, y: find("sum")(x * y.expand(x.shape), axes=(1,)), floats(3, 0), floats(3, 1)),
}
COLUMNS = {
    "columns": (lambda x: find("sum")(x * x, axes=(0,)), floats(700, 70)),
    "few rows": (lambda x: find("max")(x, axes=(0,)), floats(5, 70)),
    "middle": (lambda x: [find("sum")(x * x, axes=(1,)), x * x], floats(3, 70, 37)),
    "stretched inside": (lambda x, y: find("sum")(x * y.expand(x.shape), axes=(0, 1)), floats(6, 5, 7), floats(5, 1)),
    "shared by rows": (
        lambda x, y, z: find("sum")(x * y.expand(x.shape) + z.expand(x.shape), axes=(1,)),
        floats(3, 70, 37),
        floats(3, 1, 37),
        floats(70, 1),
    ),
    "one batch": (lambda x, y: find("sum")(x * y.expand(x.shape), axes=(0,)), floats(70, 37), floats(70, 1)),
}
TRANSPOSE = {
    "transpose": (permute(1, 0), floats(67, 130)),
    "narrow": (permute(1, 0), floats(2, 33)),
    "batched": (lambda x, y: permute(0, 2, 1)(x) * 2.0 + y, floats(3, 67, 35), floats(3, 35, 67)),
    "two": (lambda x, y: permute(1, 0)(x) - find("exp")(permute(1, 0)(y)), floats(40, 33), floats(40, 33, seed=1)),
    "rotated": (permute(2, 0, 1), floats(4, 5, 6)),
    "f64": (permute(1, 0), floats(33, 40).astype(np.float64)),
}
PRODUCTS = {
    "matmul": (matmul, floats(33, 290), floats(290, 70)),
    "one tile": (matmul, floats(64, 16), floats(16, 64)),
    "small": (matmul, floats(2, 3), floats(3, 5)),
    "layer": (layer, floats(33, 30), floats(65, 30), floats(65)),
    "left transposed": (lambda x, y: matmul(permute(1, 0)(x), y), floats(30, 33), floats(30, 65)),
    "batched": (matmul, floats(3, 33, 20), floats(3, 20, 17)),
    "nothing along k": (matmul, floats(3, 0), floats(0, 4)),
    "f64": (matmul, floats(20, 30).astype(np.float64), floats(30, 20).astype(np.float64)),
    "vector": (matmul, floats(1, 300), floats(300, 90)),
    "long dot": (matmul, floats(1, 9000), floats(9000, 1)),
    "batched vectors": (matmul, floats(3, 40, 70), floats(3, 70, 1)),
    "computed operands": (lambda x, y: matmul(x * 0.5, permute(1, 0)(-y)), floats(33, 30), floats(40, 30)),
    "computed matrix": (lambda x, y: matmul(find("exp")(x), y), floats(40, 70), floats(70, 1)),
    "sums of -0": (
        matmul,
        np.full((3, 3), -1e-30, np.float32),
        np.full((3, 5), 1e-30, np.float32),
    ),  # of what underflows
}
FAMILIES = {"elementwise": ELEMENTWISE, "rows": ROWS, "columns": COLUMNS, "transpose": TRANSPOSE, "matmul": PRODUCTS}
PROGRAMS = {f"{family}: {name}": case for family, cases in FAMILIES.items() for name, case in cases.items()}
#: One of each kind, for what is asked of every architecture.
KINDS = [f"{family}: {name}" for family, name in (
    ("elementwise", "bias"), ("rows", "softmax"), ("rows", "many chunks"), ("columns", "columns"),
    ("transpose", "batched"), ("matmul", "matmul"), ("matmul", "layer"), ("matmul", "long dot"),
)]  # fmt: skip


@cache
def program(name: str) -> tuple[Graph, list[np.ndarray]]:
    function, *arrays = PROGRAMS[name]
    return graph_of(function, arrays), [np.asarray(a) for a in arrays]


def graph_of(function, arrays) -> Graph:
    builder = GraphBuilder()
    results = function(*(builder.input(reference.aval_of(np.asarray(a))) for a in arrays))
    builder.graph.outputs = [v.id for v in (results if isinstance(results, (list, tuple)) else [results])]
    return builder.graph


def elementwise_records() -> list[str]:
    """Those that kernels have: ops on complex numbers are others by then."""
    found = (r for r in REGISTRY.values() if r.family.is_pointwise and not r.fallible)
    return sorted(r.name for r in found if any(map(has_kernels, r.dtypes)))


def samples(record):
    """The good calls of at least a few elements, data in each of its dtypes."""
    for sample in record.samples():
        if sample.error is None and all(np.size(x) >= 8 for x in sample.operands):
            for dtype in (d for d in record.dtypes if has_kernels(d)):
                yield (
                    sample,
                    [find("cast").reference(x, dtype) if x.dtype == np.float64 else x for x in sample.operands],
                )
            return


def launches(graph: Graph, target: str = "sm_90") -> list[Launch]:
    return lowered(graph, target).calls


def lowered(graph: Graph, target: str) -> Lowered:
    options = Options(target=target)
    group = stages.group_of(Cluster(kind_of(graph), graph), options)
    return stages.lower(stages.scheduled(group, options), target)


def run(graph: Graph, arrays, execute_launch, target: str = "sm_90") -> list[np.ndarray]:
    """The outputs of `graph`, where `execute_launch(launch, operands)` runs its one kernel."""
    found = lowered(graph, target)
    graph = found.graph or graph
    memory = {v: np.array(x, order="C") for v, x in zip(graph.inputs, arrays, strict=True)}
    memory.update({v: np.full(graph.avals[v].shape, 77, graph.avals[v].dtype.numpy) for v in graph.outputs})
    for launch in found.calls:
        execute_launch(launch, [memory[o.index] for o in launch.operands])
    return [memory[v] for v in graph.outputs]


def ptx(launch: Launch, target: str) -> str:
    return object_code.compile_assembly(launch.source, Options(target=target))


def interpret(target: str, launch: Launch, operands: list[np.ndarray]) -> None:
    """Run the PTX of a launch."""
    text = ptx(launch, target)
    assert ".extern" not in text
    ptx_interpreter.run(launch, text, operands)
