"""A window of an op's result, computed from windows of its operands, is what the whole has there, to the bit.

Generated from the records' samples, as in `test_batching.py`: the windows follow from the maps of the op's fusion group.
"""

import numpy as np
import opgen
import pytest
from flambeau.compiler import families
from flambeau.compiler.groups.builder import from_cluster
from flambeau.compiler.groups.form import Generic
from flambeau.compiler.groups.slicing import Window, sliced
from flambeau.compiler.groups.verify import verify
from support import rounds
from test_batching import cases, run

RECORDS = [r for r in opgen.records() if families.rules(r).structure is not None and r.is_single]


def part(x, windows):
    return x[tuple(slice(w.start, w.start + w.size) for w in windows)]


def windows_of(shape):
    """(axis, window) of a result: all but its first and last element, of two at least."""
    return [(axis, Window(1, n - 2)) for axis, n in enumerate(shape) if n >= 4]


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_a_window_is_computed_from_windows(record):
    wide = [c for c in cases(record) if windows_of(c.graph.avals[c.graph.outputs[0]].shape)]
    for case in wide[: rounds(1, 4, 1000)]:
        group = from_cluster(case.graph)
        (expected,) = run(group, case.arrays)
        for axis, window in windows_of(expected.shape):
            found = sliced(group, axis, window)
            verify(found.group)
            arrays = [part(x, w) for x, w in zip(case.arrays, found.inputs, strict=True)]
            (result,) = run(found.group, arrays)
            wanted = np.take(expected, range(window.start, window.start + window.size), axis)
            assert result.shape == wanted.shape and result.tobytes() == wanted.tobytes(), (case.id, axis)
            if record.family.is_pointwise and all(isinstance(op, Generic) for op in group.ops):
                assert all(w[axis] == window for w in found.inputs)


def test_a_shard_of_a_product_reads_its_rows_only():
    (case, *_) = [c for c in cases(opgen.REGISTRY["matmul"]) if min(c.graph.avals[c.graph.outputs[0]].shape) >= 4]
    group = from_cluster(case.graph)
    shape, k = group.avals[group.outputs[0]].shape, case.arrays[0].shape[-1]
    left, right = sliced(group, len(shape) - 2, Window(1, 2)).inputs
    assert left[-2:] == (Window(1, 2), Window(0, k)) and right[-2:] == (Window(0, k), Window(0, shape[-1]))
