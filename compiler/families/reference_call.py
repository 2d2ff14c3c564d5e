"""Calls of references: a step of the plan that runs an op's NumPy reference on the plan's memory.

In: the cluster of one op. Out: a call (`host_calls/reference_kernel.py`). Next: `passes/reference_calls.py`.
"""

from __future__ import annotations

from flambeau.compiler.families.control import stored
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.host_calls import reference_kernel
from flambeau.compiler.kernel import Cluster, Lowered
from flambeau.compiler.plans.control import Compile


def steps(cluster: Cluster, compile_region: Compile) -> Lowered:
    return reference_kernel.lower(cluster)


RULES = Rules("reference_call", steps=steps, stored=stored)
