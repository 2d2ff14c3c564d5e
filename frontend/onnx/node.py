"""One node of an ONNX graph, as rules see it, and the table of rules.

In: a node's kind, name and attributes. Out: `RULES`: by kind of node, the function that computes it with our ops, put there by
`@rule`. Next: `rules/`, a module per family; `program.py`, which calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class OnnxNode(NamedTuple):
    """kind        ONNX calls it the type of the op: "Conv".
    name        of the node, as messages say it.
    version     of ONNX's set of ops, by which meanings differ.
    attributes  by name, as Python values.
    results     how many are wanted.
    """

    kind: str
    name: str
    version: int
    attributes: Mapping[str, Any]
    results: int

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def ints(self, name: str, given: np.ndarray | None = None) -> list[int] | None:
        """Whole numbers that older sets have as an attribute and newer ones as an input; None where there are none."""
        found = self.attributes.get(name) if given is None else given.reshape(-1).tolist()
        return None if found is None else [int(x) for x in found]

    def lacks(self, what: str) -> NotImplementedError:
        """The error for a variant of an op that we do not have."""
        return NotImplementedError(f"[onnx] {self.kind} (node '{self.name}') {what}, which Flambeau does not have.")


class Rule(NamedTuple):
    """call  (node, inputs...) -> a result, or a tuple of results; an input that is left out is None.
    host  positions of inputs that are passed as NumPy arrays, since the form of what is computed depends on them.
    raw   inputs are passed as they come, NumPy arrays where they are known without computing, tensors elsewhere.
    """

    call: Callable[..., Any]
    host: tuple[int, ...]
    raw: bool


RULES: dict[str, Rule] = {}


def rule(kinds: str, *, host: Sequence[int] = (), raw: bool = False) -> Callable[[Callable], Callable]:
    """A decorator: this function computes nodes of these kinds."""

    def define(call: Callable) -> Callable:
        RULES.update({kind: Rule(call, tuple(host), raw) for kind in kinds.split()})
        return call

    return define
