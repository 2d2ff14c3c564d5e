"""`torch.utils._pytree`, which libraries use though it is not public: nested containers as a list of leaves and a form.

In: dicts, lists, tuples, and classes that libraries register. Out: leaves and a `TreeSpec`; and back. Next: `stand_ins.py`.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

_Flatten = Callable[[Any], tuple[list[Any], Any]]
_Unflatten = Callable[[Iterable[Any], Any], Any]


class NodeDef(NamedTuple):
    """How containers of a class are taken apart, and put together again."""

    type: Any
    flatten_fn: _Flatten
    unflatten_fn: _Unflatten
    keys: Callable[[Any], Iterable[Any]] | None = (
        None  #: those of the children, given the context; None: their positions
    )


def _items(tree: Any) -> tuple[list[Any], Any]:
    return list(tree.values()), list(tree)


def _defaults(tree: Any) -> tuple[list[Any], Any]:
    return list(tree.values()), [tree.default_factory, list(tree)]


_PLAIN: tuple[NodeDef, ...] = (
    NodeDef(dict, _items, lambda values, keys: dict(zip(keys, values)), list),
    NodeDef(list, lambda tree: (tree, None), lambda values, _: list(values)),
    NodeDef(tuple, lambda tree: (list(tree), None), lambda values, _: tuple(values)),
    NodeDef(namedtuple, lambda tree: (list(tree), type(tree)), lambda values, kind: kind(*values)),
    NodeDef(OrderedDict, _items, lambda values, keys: OrderedDict(zip(keys, values)), list),
    NodeDef(
        defaultdict,
        _defaults,
        lambda values, context: defaultdict(context[0], zip(context[1], values)),
        lambda context: context[1],
    ),
    NodeDef(deque, lambda tree: (list(tree), tree.maxlen), lambda values, length: deque(values, maxlen=length)),
)
#: Every class of containers.
SUPPORTED_NODES: dict[Any, NodeDef] = {node.type: node for node in _PLAIN}


@dataclass(frozen=True, eq=True)
class TreeSpec:
    """A nesting without its leaves: a class, what it needs beside its children, and their nestings. A leaf has no class."""

    type: type | None
    context: Any
    children_specs: list[TreeSpec]

    @property
    def num_leaves(self) -> int:
        return 1 if self.type is None else sum(child.num_leaves for child in self.children_specs)

    @property
    def num_children(self) -> int:
        return len(self.children_specs)

    def is_leaf(self) -> bool:
        return self.type is None

    def children(self) -> list[TreeSpec]:
        return list(self.children_specs)

    def child(self, index: int) -> TreeSpec:
        return self.children_specs[index]


LEAF = TreeSpec(None, None, [])


def register_pytree_node(cls: type, flatten_fn: _Flatten, unflatten_fn: _Unflatten, **kwargs: Any) -> None:
    """Take objects of a class for containers."""
    SUPPORTED_NODES[cls] = NodeDef(cls, flatten_fn, unflatten_fn)


def _node_type(tree: Any) -> Any:
    kind = type(tree)
    return namedtuple if issubclass(kind, tuple) and hasattr(kind, "_fields") else kind


def _opened(tree: Any) -> tuple[list[Any], Any] | None:
    """Children and context of a container; None of a leaf."""
    node = SUPPORTED_NODES.get(_node_type(tree))
    if node is None:
        return None
    children, context = node.flatten_fn(tree)
    return list(children), context


def _closed(spec: TreeSpec, children: list[Any]) -> Any:
    return SUPPORTED_NODES[spec.type].unflatten_fn(children, spec.context)


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves, in order, and what is around them."""
    opened = None if is_leaf is not None and is_leaf(tree) else _opened(tree)
    if opened is None:
        return [tree], LEAF
    parts = [tree_flatten(child, is_leaf) for child in opened[0]]
    return [leaf for leaves, _ in parts for leaf in leaves], TreeSpec(
        _node_type(tree), opened[1], [s for _, s in parts]
    )


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


def tree_flatten_with_path(tree: Any, is_leaf: Any = None) -> tuple[list[tuple[tuple[Any, ...], Any]], TreeSpec]:
    """The leaves, each with the keys and positions that lead to it, and what is around them."""
    leaves, spec = tree_flatten(tree, is_leaf)
    return list(zip(_paths(spec), leaves)), spec


def _paths(spec: TreeSpec) -> list[tuple[Any, ...]]:
    if spec.is_leaf():
        return [()]
    keys = SUPPORTED_NODES[spec.type].keys
    steps = range(spec.num_children) if keys is None else keys(spec.context)
    return [(step, *path) for step, child in zip(steps, spec.children_specs) for path in _paths(child)]


def tree_map_with_path(func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Any = None) -> Any:
    """`tree_map`, but that `func` is given the path of the leaf first."""
    found, spec = tree_flatten_with_path(tree, is_leaf)
    others = [tree_leaves(rest, is_leaf) for rest in rests]
    return tree_unflatten([func(path, leaf, *each) for (path, leaf), *each in zip(found, *others)], spec)


def _with_keys(tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
    children, context = _opened(tree) or ([tree], None)
    return list(zip(context or range(len(children)), children)), context


def names() -> dict[str, Any]:
    """What stands in the module."""
    kinds = {kind.__name__: SUPPORTED_NODES[kind] for kind in (dict, list, tuple)}
    return {
        **{f"_{kind}_flatten": node.flatten_fn for kind, node in kinds.items()},
        **{f"_{kind}_flatten_with_keys": _with_keys for kind in kinds},
        **{f"_{kind}_unflatten": node.unflatten_fn for kind, node in kinds.items()},
        "tree_flatten": tree_flatten, "tree_unflatten": tree_unflatten, "tree_map": tree_map, "tree_leaves": tree_leaves,
        "tree_iter": lambda tree, is_leaf=None: iter(tree_leaves(tree, is_leaf)), "tree_map_only": tree_map_only,
        "tree_structure": lambda tree, is_leaf=None: tree_flatten(tree, is_leaf)[1], "TreeSpec": TreeSpec,
        "register_pytree_node": register_pytree_node, "_register_pytree_node": register_pytree_node, "Context": Any,
        "LeafSpec": lambda: LEAF, "PyTree": Any, "KeyEntry": Any, "MappingKey": type("MappingKey", (), {}),
        "tree_all": lambda pred, tree: all(map(pred, tree_leaves(tree))), "NodeDef": NodeDef,
        "tree_any": lambda pred, tree: any(map(pred, tree_leaves(tree))), "SUPPORTED_NODES": SUPPORTED_NODES,
        "_get_node_type": _node_type, "tree_is_leaf": lambda tree, is_leaf=None: tree_flatten(tree, is_leaf)[1].is_leaf(),
        "tree_flatten_with_path": tree_flatten_with_path, "tree_map_with_path": tree_map_with_path,
        "tree_leaves_with_path": lambda tree, is_leaf=None: tree_flatten_with_path(tree, is_leaf)[0],
    }  # fmt: skip
