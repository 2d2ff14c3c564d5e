"""Scatters that keep nothing of what was there: elements are handed on as they are. All else is as for other scatters.

In: a node. Out: flambeau.scatter, whose region yields the update. Next: `control.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.loops import scatter as loops_scatter
from flambeau.compiler.families.rules import Rules
from flambeau.compiler.families.scatter import fails_empty, stored, structure

RULES = Rules("put", structure, stored=stored, fails_empty=fails_empty, alone=loops_scatter.nests)
