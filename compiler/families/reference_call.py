"""Calls of references: a step of the plan that runs an op's NumPy reference on the plan's memory.

In: the cluster of one op. Out: a call (`compiler/host_kernel.py`). Next: `compiler/passes/reference_calls.py`.
"""

from __future__ import annotations

from flambeau.compiler import host_kernel
from flambeau.compiler.control import Compile
from flambeau.compiler.families.control import stored
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.kernel import Cluster, Lowered


def steps(cluster: Cluster, compile_region: Compile) -> Lowered:
    return host_kernel.lower(cluster)


RULES = Rules("reference_call", steps=steps, stored=stored)
