"""The NumPy interpreter: runs a graph node by node on the records' references. It says what a program means.

In: a graph and one array per input. Out: one array per output. Next: `autodiff.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import from_numpy
from flambeau.dialects.graph import Graph, Node


def aval_of(array: np.ndarray) -> Aval:
    """Shape and dtype of an array. Raises TypeError for dtypes that have no equivalent."""
    return Aval(tuple(array.shape), from_numpy(array.dtype))


def run(graph: Graph, arrays: Sequence[np.ndarray], sizes: Sequence[int] = ()) -> list[np.ndarray]:
    """The outputs of `graph` for these inputs. `sizes` are the values of its symbols, by default those it was recorded at.

    Raises what the references raise (index out of range, division by zero), naming the line that recorded the op; and
    RuntimeError when arrays do not fit the inputs, or when a record's reference contradicts its own type rule.
    """
    if len(arrays) != len(graph.inputs):
        raise RuntimeError(
            f"[reference] the graph has {len(graph.inputs)} inputs, got {len(arrays)} arrays. Pass one each."
        )
    if graph.sizes:
        graph = graph.bind(sizes or graph.sizes)
    values: dict[int, np.ndarray] = {}
    for position, (value, array) in enumerate(zip(graph.inputs, arrays, strict=True)):
        values[value] = _checked(np.asarray(array), graph.avals[value], f"input {position}")
    for node in graph.nodes:
        values.update(zip(node.results, _run_node(graph, node, values), strict=True))
    return [values[v] for v in graph.outputs]


def fitted(result: Any, aval: Aval, op: str) -> np.ndarray:
    """What the reference of the op `op` gave, in the result's dtype. Raises RuntimeError for another shape, and what NumPy
    raises where it is no array of numbers."""
    array = np.asarray(result, aval.dtype.numpy)
    if array.shape != aval.shape:
        raise RuntimeError(
            f"[{op}] the NumPy reference gives shape {array.shape}, but the result has shape {aval.shape}. Mend the op."
        )
    return array


def _run_node(graph: Graph, node: Node, values: dict[int, np.ndarray]) -> list[np.ndarray]:
    try:
        results = node.op.run_reference([values[v] for v in node.operands], node.attrs)
    except Exception as error:
        if node.loc is not None:
            error.add_note(f"recorded at {node.loc}")
        raise
    avals = [graph.avals[v] for v in node.results]
    return [_checked(np.asarray(x), a, f"the reference of {node.op.name}") for x, a in zip(results, avals, strict=True)]


def _checked(array: np.ndarray, aval: Aval, what: str) -> np.ndarray:
    if array.shape != aval.shape or array.dtype != aval.dtype.numpy:
        raise RuntimeError(
            f"[reference] {what} is {array.dtype} of shape {array.shape}, "
            f"its type says {aval.dtype.name} of shape {aval.shape}. Report this as a bug unless you passed the array."
        )
    return array
