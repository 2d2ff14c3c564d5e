"""`find_nan()`: a block in which the first NaN or infinity that an op makes of finite numbers is an error that names it.

In: programs, watched. Out: an error at the look that ran them, with the op, its line, the element and its operands there. Next:
`watching.py`; `anomaly.py` for gradients while they are recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flambeau.border import publish
from flambeau.dialects.aval import CPU
from flambeau.dialects.dtypes import is_inexact
from flambeau.dialects.graph import Graph, Node
from flambeau.programs import compiler_options
from flambeau.verifying import as_array
from flambeau.watching import ProgramRun, Watcher


class find_nan(Watcher):
    """`with find_nan():` an op that makes a NaN or an infinity of finite numbers raises RuntimeError when its value is computed,
    at the next look or at the block's end; the message has the op, the line that recorded it, the element, and the operands'
    elements there. Forward, backward and updates are looked at alike. With `infinity=False` only NaNs count that come of
    operands without one, infinities among them.

    Every op is computed once more by itself, so this is slow, and all values of a program are kept meanwhile.
    """

    def __init__(self, infinity: bool = True) -> None:
        super().__init__(compiler_options(mode="blocking"))
        self._is_bad: Callable[[np.ndarray], np.ndarray] = _not_finite if infinity else np.isnan

    def watch(self, run: ProgramRun, usual: Callable[..., list[Any]]) -> list[Any]:
        found = self._first(run.graph, run.op_by_op())
        if found is not None:
            raise RuntimeError(f"[find_nan] {found}")
        return usual()

    def _first(self, graph: Graph, values: dict[int, Any]) -> str | None:
        """The first op that makes what is looked for, in words."""
        arrays = {v: as_array(x, graph.avals[v]) for v, x in values.items() if graph.avals[v].device == CPU}
        bad = {v for v, x in arrays.items() if is_inexact(x) and self._is_bad(x).any()}
        for node in graph.nodes:
            if bad.isdisjoint(node.operands) and (made := bad.intersection(node.results)):
                return self._told(node, arrays, min(made))
        return None

    def _told(self, node: Node, arrays: dict[int, np.ndarray], v: int) -> str:
        result = arrays[v]
        place = tuple(map(int, np.argwhere(self._is_bad(result))[0]))
        operands = [arrays[x] for x in node.operands]
        there = ", ".join(str(x[place]) for x in operands if x.shape == result.shape)
        line = f", recorded at {node.loc}," if node.loc is not None else ""
        of = f" of {there}" if there else " of finite operands"
        return f"{node.op.name}{line} makes {result[place]} at {list(place)}{of}. Look at what it gets there."


def _not_finite(x: np.ndarray) -> np.ndarray:
    return ~np.isfinite(x)


publish(globals(), ["find_nan"])
