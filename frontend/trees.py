"""Dicts, lists and tuples of tensors: their tensors in order, and the same nesting of other ones.

In: trees. Out: trees. Next: `func.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flambeau.runtime.recorder import Tensor


def mapped(change: Callable[[Tensor], Any], tree: Any) -> Any:
    """The tree with its tensors changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    return changed(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def changed(change: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with its leaves changed, whatever they are."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {k: changed(change, v) for k, v in tree.items()}
    if isinstance(tree, tuple | list):
        made = [changed(change, v) for v in tree]
        return type(tree)(*made) if hasattr(tree, "_fields") else type(tree)(made)
    return change(tree)


def leaves(tree: Any) -> list[Tensor]:
    """The tensors in it, in order."""
    found: list[Tensor] = []
    mapped(found.append, tree)
    return found


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
