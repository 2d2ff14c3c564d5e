"""Dicts, lists and tuples of tensors: their tensors in order, and the same nesting of other ones.

In: trees. Out: trees. They are walked in C. Next: `func.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flambeau.runtime import recorder

#: `mapped(change, tree)`: the tree with its tensors changed.
mapped = recorder.tree_mapped
#: `changed(change, tree)`: the tree with its leaves changed, whatever they are.
changed = recorder.tree_changed
#: `leaves(tree)`: the tensors in it, in order.
leaves = recorder.tree_tensors


def filled(tree: Any, values: Sequence[Any]) -> Any:
    """The tree with these in place of its tensors."""
    left = iter(values)
    return mapped(lambda t: next(left), tree)


def spread(value: Any, tree: Any, fits: Callable[[Any], bool]) -> list[Any] | None:
    """For each leaf of the tree what `value` has there, a prefix of its nesting with what `fits` as leaves; None if it is none."""
    if fits(value):
        found: list[Any] = []
        changed(lambda leaf: found.append(value), tree)
        return found
    if isinstance(value, Mapping) and isinstance(tree, Mapping) and list(value) == list(tree):
        pairs = [(value[k], tree[k]) for k in tree]
    elif isinstance(value, tuple | list) and isinstance(tree, tuple | list) and len(value) == len(tree):
        pairs = list(zip(value, tree))
    else:
        return None
    parts = [spread(v, t, fits) for v, t in pairs]
    return None if any(p is None for p in parts) else [x for p in parts for x in p or ()]
