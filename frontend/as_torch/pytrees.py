"""`torch.utils._pytree`, which libraries use though it is not public: nested containers as a list of leaves and a form.

In: dicts, lists, tuples, and classes that libraries register. Out: leaves and a `TreeSpec`; and back. Next: `stand_ins.py`.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

_Flatten = Callable[[Any], tuple[list[Any], Any]]
_Unflatten = Callable[[Iterable[Any], Any], Any]

_registered: dict[type, tuple[_Flatten, _Unflatten]] = {}


@dataclass(frozen=True, eq=True)
class TreeSpec:
    """A nesting without its leaves: a class, what it needs beside its children, and their nestings. A leaf has no class."""

    type: type | None
    context: Any
    children_specs: list[TreeSpec]

    @property
    def num_leaves(self) -> int:
        return 1 if self.type is None else sum(child.num_leaves for child in self.children_specs)

    def is_leaf(self) -> bool:
        return self.type is None


LEAF = TreeSpec(None, None, [])


def register_pytree_node(cls: type, flatten_fn: _Flatten, unflatten_fn: _Unflatten, **kwargs: Any) -> None:
    """Take objects of a class for containers."""
    _registered[cls] = (flatten_fn, unflatten_fn)


def _opened(tree: Any) -> tuple[list[Any], Any] | None:
    """Children and context of a container; None of a leaf."""
    kind = type(tree)
    if kind in _registered:
        children, context = _registered[kind][0](tree)
        return list(children), context
    if kind in (dict, OrderedDict, defaultdict):
        return list(tree.values()), list(tree)
    if kind in (list, tuple) or hasattr(tree, "_fields"):
        return list(tree), None
    return None


def _closed(spec: TreeSpec, children: list[Any]) -> Any:
    kind: Any = spec.type
    if kind in _registered:
        return _registered[kind][1](children, spec.context)
    if issubclass(kind, dict):
        pairs = zip(spec.context, children)
        return dict(pairs) if kind is not OrderedDict else OrderedDict(pairs)
    return kind(*children) if hasattr(kind, "_fields") else kind(children)


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves, in order, and what is around them."""
    opened = None if is_leaf is not None and is_leaf(tree) else _opened(tree)
    if opened is None:
        return [tree], LEAF
    parts = [tree_flatten(child, is_leaf) for child in opened[0]]
    return [leaf for leaves, _ in parts for leaf in leaves], TreeSpec(type(tree), opened[1], [s for _, s in parts])


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> Any:
    """A container of this nesting with these leaves."""
    return _filled(treespec, iter(leaves))


def _filled(spec: TreeSpec, left: Any) -> Any:
    return next(left) if spec.is_leaf() else _closed(spec, [_filled(child, left) for child in spec.children_specs])


def tree_map(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Callable[[Any], bool] | None = None) -> Any:
    """The container with `func` of each leaf, and of the leaves of other containers at its place."""
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [tree_leaves(rest, is_leaf) for rest in rests]
    return tree_unflatten([func(*each) for each in zip(leaves, *others)], spec)


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    return tree_flatten(tree, is_leaf)[0]


def tree_map_only(kind: Any, func: Callable[[Any], Any], tree: Any, is_leaf: Any = None) -> Any:
    """`tree_map` for leaves of a class."""
    return tree_map(lambda leaf: func(leaf) if isinstance(leaf, kind) else leaf, tree, is_leaf=is_leaf)


def _flat(tree: Any) -> tuple[list[Any], Any]:
    return _opened(tree) or ([tree], None)


def _with_keys(tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
    children, context = _flat(tree)
    return list(zip(context or range(len(children)), children)), context


def names() -> dict[str, Any]:
    """What stands in the module."""
    kinds: tuple[tuple[str, Callable[..., Any]], ...] = (
        ("dict", lambda values, context: dict(zip(context, values))),
        ("list", lambda values, context: list(values)),
        ("tuple", lambda values, context: tuple(values)),
    )
    return {
        **{f"_{kind}_flatten": _flat for kind, _ in kinds},
        **{f"_{kind}_flatten_with_keys": _with_keys for kind, _ in kinds},
        **{f"_{kind}_unflatten": make for kind, make in kinds},
        "tree_flatten": tree_flatten, "tree_unflatten": tree_unflatten, "tree_map": tree_map, "tree_leaves": tree_leaves,
        "tree_iter": lambda tree, is_leaf=None: iter(tree_leaves(tree, is_leaf)), "tree_map_only": tree_map_only,
        "tree_structure": lambda tree, is_leaf=None: tree_flatten(tree, is_leaf)[1], "TreeSpec": TreeSpec,
        "register_pytree_node": register_pytree_node, "_register_pytree_node": register_pytree_node, "Context": Any,
        "LeafSpec": lambda: LEAF, "PyTree": Any, "KeyEntry": Any, "MappingKey": type("MappingKey", (), {}),
        "tree_all": lambda pred, tree: all(map(pred, tree_leaves(tree))),
        "tree_any": lambda pred, tree: any(map(pred, tree_leaves(tree))),
    }  # fmt: skip
