"""A leading axis of samples added to any operands of any op gives the stack of single calls, to the bit.

Generated from the records' samples: every op's fusion group is batched by the rule that follows from its form, verified, and run
as machine code.
"""

import functools
import itertools

import numpy as np
import opgen
import pytest
from execute import lower_group
from flambeau.compiler import families, targets
from flambeau.compiler.baseline.op_by_op import exported, to_array
from flambeau.compiler.caches import kernel_cache
from flambeau.compiler.groups import generate
from flambeau.compiler.groups.batching import batched
from flambeau.compiler.groups.builder import from_cluster
from flambeau.compiler.groups.form import Group
from flambeau.compiler.groups.verify import verify
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import LOOPS
from flambeau.compiler.plans import devices, plan
from flambeau.dialects.graph import Graph
from support import rounds

OPTIONS = Options(mode="blocking")
N = 3
RECORDS = [r for r in opgen.records() if families.rules(r).structure is not None]


def run(group: Group, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What a group gives as machine code."""
    lowered = lower_group(group, targets.find(OPTIONS.target))
    inner = lowered.graph
    whole = Graph([group.avals[v] for v in (*group.inputs, *group.outputs)], list(range(len(group.inputs))))
    whole.outputs = list(range(len(group.inputs), len(whole.avals)))
    cluster = Cluster(LOOPS, inner, tuple(whole.inputs), tuple(whole.outputs))
    program = plan.build(whole, [(cluster, lowered)])
    linked = devices.link(program, kernel_cache.shared().get(program.kernels, OPTIONS))
    found = linked.run([exported(np.ascontiguousarray(x).reshape(x.shape)) for x in arrays], ())
    return [to_array(x, whole.avals[v]) for x, v in zip(found, whole.outputs, strict=True)]


def samples_of(case: opgen.Case) -> list[list[np.ndarray]]:
    """The operands of N calls: those of the sample, in another order."""
    rolled = lambda x, k: np.roll(x, k) if x.ndim else x  # noqa: E731
    return [[rolled(x, k) for x in case.arrays] for k in range(N)]


@functools.cache
def cases(record):
    """Calls of an op, small ones first; one per shape."""
    found = [
        c for c in opgen.cases(record, narrow=False) if all(x.size for x in c.arrays) and not generate.is_empty(c.graph)
    ]
    first = {tuple(x.shape for x in c.arrays): c for c in reversed(found)}
    by_size = sorted(first.values(), key=lambda c: sum(x.size for x in c.arrays))
    return by_size[1:] + by_size[:1]  # not that of one element, where there is another


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_a_batch_gives_what_its_samples_give(record):
    for case in cases(record)[: rounds(1, 4, 1000)]:
        group = from_cluster(case.graph)
        calls = samples_of(case)
        for many in itertools.product((False, True), repeat=len(case.arrays)):
            if not any(many):
                continue
            given = [[call if m else calls[0][k] for k, (m, call) in enumerate(zip(many, c))] for c in calls]
            operands = [np.stack([c[k] for c in given]) if m else given[0][k] for k, m in enumerate(many)]
            whole = batched(group, {k for k, m in enumerate(many) if m}, N)
            verify(whole)
            found = run(whole, operands)
            expected = [np.stack(x) for x in zip(*(run(group, c) for c in given), strict=True)]
            for x, y in zip(found, expected, strict=True):
                assert x.shape == y.shape and x.tobytes() == y.tobytes(), (case.id, many)
