"""Nested dicts, lists and tuples, walked in C: order, types, errors, and that nothing is held afterwards."""

import gc
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Mapping

import flambeau as fb
import pytest
from flambeau import trees

pytestmark = pytest.mark.accept("AG-15")

Pair = namedtuple("Pair", "x y")


class Items(list):
    """A list of a class of its own."""


class Table(Mapping):
    """A mapping that is no dict."""

    def __init__(self, held):
        self.held = held

    def __getitem__(self, key):
        return self.held[key]

    def __iter__(self):
        return iter(self.held)

    def __len__(self):
        return len(self.held)


def nested():
    a, b, c, d, e = (fb.tensor(float(k)) for k in range(5))
    return (a, [b, "text", Pair(c, None)], {"d": (d, 3), "t": Table({"e": e})}), [a, b, c, d, e]


def test_tensors_come_in_order():
    tree, tensors = nested()
    assert all(x is y for x, y in zip(trees.leaves(tree), tensors, strict=True))
    assert trees.leaves(tensors[2]) == [tensors[2]]
    assert trees.leaves(({}, [], None, 1.5)) == []


class Rows(Table):
    """A mapping whose items are lists."""

    def items(self):
        return [[key, value] for key, value in self.held.items()]


def test_items_of_mappings_are_any_pairs():
    assert trees.mapped(lambda t: t.item(), Rows({"a": fb.tensor(2.0)})) == {"a": 2.0}


def test_nesting_and_its_types_are_kept():
    tree, tensors = nested()
    names = iter("abcde")
    found = trees.mapped(lambda t: next(names), tree)
    assert found == ("a", ["b", "text", Pair("c", None)], {"d": ("d", 3), "t": {"e": "e"}})
    assert type(found[1][2]) is Pair
    assert type(trees.mapped(id, Items(tensors))) is Items
    assert type(trees.mapped(id, OrderedDict(x=tensors[0]))) is dict
    assert trees.filled(tree, "vwxyz")[1][0] == "w"
    assert trees.mapped(lambda t: 7, tensors[0]) == 7


def test_all_leaves_are_changed_where_asked():
    tree, _ = nested()
    seen = []
    assert trees.changed(seen.append, tree) == (
        None,
        [None, None, Pair(None, None)],
        {"d": (None, None), "t": {"e": None}},
    )
    assert [x for x in seen if not isinstance(x, fb.Tensor)] == ["text", None, 3]


def test_errors_come_through():
    tree, _ = nested()
    with pytest.raises(ZeroDivisionError):
        trees.mapped(lambda t: 1 / 0, tree)
    endless = []
    endless.append(endless)
    for walk in (trees.leaves, lambda tree: trees.mapped(id, tree)):
        with pytest.raises(RecursionError):
            walk(endless)
    with pytest.raises(TypeError, match="takes a function and a tree"):
        trees.mapped(id)


def test_nothing_is_held():
    tree, tensors = nested()
    held = [tree, tree[1], tree[2], *tensors]

    def walk():
        trees.leaves(tree)
        trees.mapped(id, tree)
        trees.changed(id, tree)
        with pytest.raises(ZeroDivisionError):
            trees.changed(lambda leaf: 1 / 0 if leaf == 3 else leaf, tree)

    walk()
    gc.collect()
    before = [sys.getrefcount(x) for x in held]
    for _ in range(20):
        walk()
    gc.collect()
    assert [sys.getrefcount(x) for x in held] == before
