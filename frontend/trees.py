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


def alike(tree: Any, other: Any) -> bool:
    """Whether two trees are nested in the same way: kinds, lengths, and keys in their order."""
    if isinstance(tree, Mapping):
        same = type(other) is type(tree) and list(other) == list(tree)
        return same and all(alike(tree[key], other[key]) for key in tree)
    if isinstance(tree, tuple | list):
        return type(other) is type(tree) and len(other) == len(tree) and all(map(alike, tree, other))
    return not isinstance(other, Mapping | tuple | list)


def nesting(tree: Any) -> str:
    """How a tree is nested, in Python's words with `*` for what it holds: `{'a': (*, *)}`."""
    if isinstance(tree, Mapping):
        return "{" + ", ".join(f"{key!r}: {nesting(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(nesting, tree)) + "]"
    if isinstance(tree, tuple):
        return "(" + ", ".join(map(nesting, tree)) + ("," if len(tree) == 1 else "") + ")"
    return "*"


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
