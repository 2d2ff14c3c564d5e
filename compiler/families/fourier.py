"""Fourier transforms: steps of the plan that hand every line of a batch to NumPy's pocketfft, without Python.

In: the cluster of one op. Out: a call of one of the runtime's kernels (`runtime/binding/fourier.c`). Next:
`host_calls/fourier.py`, for where the kernels are.
"""

from __future__ import annotations

import json
from math import prod

from flambeau.compiler.families.control import stored
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Lowered, Operand
from flambeau.compiler.plans.control import Compile
from flambeau.dialects.size import maximum

#: Numbers that are worth a thread's while.
_GRAIN = 1 << 13


def steps(cluster: Cluster, compile_region: Compile) -> Lowered:
    (node,) = cluster.graph.nodes
    values = (*node.operands, *node.results)
    x = cluster.graph.avals[values[0]]
    name, n = node.op.name.removeprefix("fourier_"), node.attrs[0]
    kernel = name if name != "complex" else ("backward" if node.attrs[1] else "forward")
    lines = x.shape[:-1] if name == "real" else x.shape[:-2]
    description = {"host kernel": 1, "fourier": kernel, "dtype": x.dtype.name}  # as `kernel.HOST_KERNEL` says
    call = KernelCall(
        KernelSource(json.dumps(description), node.op.name),
        tuple(Operand("value", v) for v in values),
        (x.shape[len(lines)], n),
        n=prod(lines),
        grain=maximum(1, _GRAIN // maximum(1, n)),
        writes=(1,),
    )
    return Lowered([call])


RULES = Rules("fourier", steps=steps, stored=stored)
