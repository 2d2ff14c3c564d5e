"""Calls of the host: a step of the plan that writes operands down.

In: the cluster of one op. Out: a call of parts (`compiler/plans/control.py`). Next: `dialects/effects.py`.
"""

from __future__ import annotations

from flambeau.compiler.families.control import stored
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.kernel import Cluster, Lowered
from flambeau.compiler.plans.control import Compile, Lowering, MemoryCopy, Note, Part, lower


def steps(cluster: Cluster, compile_region: Compile) -> Lowered:
    return lower(cluster, compile_region, _host_call)


def _host_call(work: Lowering) -> list[Part]:
    token, *operands = work.reads
    (result,) = work.results
    noted = Note(tuple(operands), tuple(map(work.bytes, operands)))
    return [noted, MemoryCopy(result, token, work.bytes(result))]


RULES = Rules("host_call", steps=steps, stored=stored)
