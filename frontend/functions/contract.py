"""Sums of products over named dimensions: einsum, tensordot, inner, kron.

In: tensors of one dtype. Out: tensors. Two operands at a time become one product of matrices (`contracted`), in the order that
`opt_einsum` finds cheapest for three or more. Next: `products.py`.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from flambeau.declarations import declared
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_
from flambeau.function import Static, Tensor_, Tensors, function
from flambeau.functions.arithmetic import mul
from flambeau.functions.common import canonical_dim, ops
from flambeau.functions.diagonals import _Diagonal
from flambeau.functions.linear import _same_dtype
from flambeau.functions.shape import _sizes
from flambeau.out import stored_in
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data

Labels = tuple[int, ...]

# ---- two operands -----------------------------------------------------------------------------------------


class Labelled:
    """A value with a label for each dimension."""

    def __init__(self, value: Value, labels: Labels) -> None:
        self.value, self.labels = value, labels

    def size(self, label: int) -> Any:
        return self.value.shape[self.labels.index(label)]

    def sizes(self, labels: Sequence[int]) -> tuple[Any, ...]:
        return tuple(self.size(n) for n in labels)

    def diagonal(self) -> Labelled:
        """Each label once: the diagonal of the dimensions that share one."""
        found = self
        while twice := [n for n in found.labels if found.labels.count(n) > 1]:
            label, labels = twice[0], found.labels
            first = labels.index(label)
            second = labels.index(label, first + 1)
            place = _Diagonal("einsum", found.value.shape, 0, first, second)
            kept = tuple(n for d, n in enumerate(labels) if d not in (first, second))
            found = Labelled(place.read(found.value), (*kept, label))
        return found

    def summed(self, keep: Sequence[int]) -> Labelled:
        """Added up over the labels that nobody wants."""
        axes = tuple(d for d, n in enumerate(self.labels) if n not in keep)
        labels = tuple(n for n in self.labels if n in keep)
        return Labelled(ops.sum(self.value, axes=axes), labels) if axes else self

    def without(self, labels: Sequence[int]) -> Labelled:
        """Without dimensions of size 1 that have one of the labels."""
        kept = tuple(n for n in self.labels if n not in labels)
        return self if kept == self.labels else Labelled(ops.reshape(self.value, shape=self.sizes(kept)), kept)

    def ordered(self, labels: Labels) -> Value:
        order = tuple(self.labels.index(n) for n in labels)
        return self.value if order == tuple(range(len(order))) else ops.permute(self.value, perm=order)


def contracted(x: Labelled, y: Labelled, keep: Sequence[int]) -> Labelled:
    """The sum of the products over the labels that are not to be kept: one product of matrices, or one multiplication where nothing
    is added up. A size of 1 stretches to the other's."""
    x = x.without([n for n in x.labels if n in y.labels and x.size(n) == 1 and y.size(n) != 1])
    y = y.without([n for n in y.labels if n in x.labels and y.size(n) == 1 and x.size(n) != 1])
    x, y = x.summed((*keep, *y.labels)), y.summed((*keep, *x.labels))
    batch = tuple(n for n in x.labels if n in y.labels and n in keep)
    inner = tuple(n for n in x.labels if n in y.labels and n not in keep)
    rows, columns = (tuple(n for n in v.labels if n not in batch + inner) for v in (x, y))
    b, k, m, n = x.sizes(batch), x.sizes(inner), x.sizes(rows), y.sizes(columns)
    left, right, labels = (
        x.ordered((*batch, *rows, *inner)),
        y.ordered((*batch, *inner, *columns)),
        (*batch, *rows, *columns),
    )
    shape = (*b, *m, *n)
    if not inner:
        spread = ops.reshape(left, shape=(*b, *m, *(1 for _ in n))).expand(shape)
        return Labelled(spread * ops.reshape(right, shape=(*b, *(1 for _ in m), *n)).expand(shape), labels)
    flat = (math.prod(b),) if b else ()
    made = ops.matmul(
        ops.reshape(left, shape=(*flat, math.prod(m), math.prod(k))),
        ops.reshape(right, shape=(*flat, math.prod(k), math.prod(n))),
    )
    return Labelled(ops.reshape(made, shape=shape), labels)


# ---- einsum -----------------------------------------------------------------------------------------------


@function(name="einsum")
def _einsum(operands: Tensors, labels: Static, output: Static, path: Static):
    _same_dtype("einsum", *operands)
    if operands[0].dtype is bool_:
        raise RuntimeError("[einsum] is not defined for bool tensors. Cast them first.")
    left = [Labelled(x, names).diagonal() for x, names in zip(operands, labels)]
    for pair in path:
        chosen = [left.pop(i) for i in sorted(pair, reverse=True)]
        wanted = {*output, *(n for v in left for n in v.labels)}
        y, x = chosen if len(chosen) == 2 else (None, chosen[0])
        left.append(x.summed(tuple(wanted)) if y is None else contracted(x, y, tuple(wanted)))
    (found,) = left
    return found.summed(output).ordered(output)


def _error(text: str) -> RuntimeError:
    return RuntimeError(f"[einsum] {text}")


def _labels(part: str, rank: int, what: str) -> list[str]:
    """The labels of one operand, with numbers for the dimensions that its `...` stands for, counted from the last."""
    before, dots, after = part.partition("...")
    for name in before + after:
        if name not in string.ascii_letters:
            raise _error(f"'{name}' is no label. Use letters, '...', ',' and '->'.")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise _error(f"'{part}' labels {len(before) + len(after)} dimensions, {what} has {rank}. Label each once.")
    return [*before, *(str(i) for i in reversed(range(hidden))), *after]


@lru_cache(256)
def _parsed(equation: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[tuple[Labels, ...], Labels, Any]:
    """(labels of each operand, labels of the result, path) for operands of these shapes."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    parts = inputs.split(",")
    if len(parts) != len(shapes):
        raise _error(f"'{equation}' names {len(parts)} operands, there are {len(shapes)}. Name each.")
    named = [_labels(p, len(s), f"operand {i}") for i, (p, s) in enumerate(zip(parts, shapes))]
    every = [n for names in named for n in names]
    dots = sorted({n for n in every if n.isdigit()}, key=int, reverse=True)
    if arrow:
        letters = output.replace("...", "")
        result = [n for c in output.replace("...", ".") for n in (dots if c == "." else [c])]
        for c in letters:
            if c not in every or letters.count(c) > 1:
                raise _error(
                    f"label '{c}' of the result is in no operand, or twice in the result. Name labels of operands once."
                )
    else:
        result = [*dots, *sorted({n for n in every if not n.isdigit() and every.count(n) == 1})]
    number = {n: i for i, n in enumerate(dict.fromkeys(every))}
    _check_sizes(named, shapes)
    labels = tuple(tuple(number[n] for n in names) for names in named)
    return labels, tuple(number[n] for n in result), _path(labels, tuple(number[n] for n in result), shapes)


def _check_sizes(named: list[list[str]], shapes: tuple[tuple[int, ...], ...]) -> None:
    sizes: dict[str, int] = {}
    for i, (names, shape) in enumerate(zip(named, shapes)):
        own: dict[str, int] = {}
        for name, n in zip(names, shape):
            if own.setdefault(name, n) != n:
                raise _error(f"label '{name}' of operand {i} has sizes {own[name]} and {n}. Make them equal.")
            if sizes.get(name, 1) != 1 and n not in (1, sizes[name]):
                raise _error(
                    f"label '{name}' has size {n} in operand {i} and {sizes[name]} before. Make them equal, or 1."
                )
            sizes[name] = max(n, sizes.get(name, 1)) if n else 0


def _path(labels: tuple[Labels, ...], output: Labels, shapes: tuple[tuple[int, ...], ...]) -> Any:
    """Which operands to contract after each other; results go to the end of the list."""
    if len(labels) < 3:
        return ((0, 1),) if len(labels) == 2 else ()
    import opt_einsum

    symbol = opt_einsum.get_symbol
    equation = ",".join("".join(map(symbol, names)) for names in labels) + "->" + "".join(map(symbol, output))
    sizes = {n: max(s[names.index(n)] for names, s in zip(labels, shapes) if n in names) for n in sum(labels, ())}
    full = [tuple(sizes[n] for n in names) for names in labels]
    found, _ = opt_einsum.contract_path(equation, *full, shapes=True, optimize="auto")
    steps, count = [], len(labels)
    for step in found:
        chosen = sorted(step)
        steps.append(tuple(chosen[:2]))
        for taken in range(2, len(chosen)):  # the result lies at the end
            steps.append((chosen[taken] - taken, count - taken))
        count -= len(chosen) - 1
    return tuple(steps)


def _from_lists(given: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """The equation and operands of the form `einsum(x, [0, 1], y, [1, 2], [0, 2])`."""
    lists = list(given[1::2])
    output = given[-1] if len(given) % 2 else None
    if output is not None:
        lists = list(given[1:-1:2])

    def text(items: Any) -> str:
        names = ("..." if n is Ellipsis else string.ascii_letters[n] for n in items)
        return "".join(names)

    try:
        parts = ",".join(map(text, lists))
        equation = parts if output is None else f"{parts}->{text(output)}"
    except (IndexError, TypeError):
        raise _error("a label of a list is no number from 0 to 51 and no Ellipsis. Use these.") from None
    return equation, list(given[0 : 2 * len(lists) : 2])


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call("ij,jk->ik", data(2, 3), data(3, 4)),
            call("bij,bkj", data(2, 3, 4), data(2, 2, 4)),
            call("ii->i", data(3, 3)),
            call("...ij->...ji", data(2, 2, 3)),
            call("i,ij,jk->k", data(2), data(2, 3), data(3, 4)),
            call("bi,bj->ij", data(2, 3), data(1, 2)),
            call("ij->", data(2, 3)),
            call(data(2, 3), [0, 1], data(3, 2), [1, 0], [0]),
            call("ij,jk->ik", data(2, 3), data(2, 4), error=(RuntimeError, "label 'j' has size 2 in operand 1 and 3")),
            call("ij->k", data(2, 3), error=(RuntimeError, "is in no operand")),
            call("i->i", data(2, 3), error=(RuntimeError, "labels 1 dimensions")),
        ]
    ),
)
def einsum(*args: Any) -> Tensor:
    """Sums of products over labelled dimensions: `einsum("bij,bjk->bik", x, y)`, or
    `einsum(x, [0, 1, 2], y, [0, 2, 3], [0, 1, 3])`.

    A label that is not in the result is added up; one that an operand has twice is its diagonal; `...` stands for further
    dimensions, which broadcast. Without "->" the result has the labels that are there once, in alphabetical order. Pairs of
    operands become products of matrices, in the order that `opt_einsum` finds.
    Raises RuntimeError for sizes and labels that do not fit, and for dtypes that differ.
    """
    if args and isinstance(args[0], str):
        equation, operands = args[0], list(args[1:])
        if len(operands) == 1 and isinstance(operands[0], tuple | list):
            operands = list(operands[0])
    else:
        equation, operands = _from_lists(args)
    if not operands:
        raise _error("there are no operands. Pass at least one tensor.")
    for t in operands:
        if not isinstance(t, Tensor):
            raise TypeError(f"[einsum] an operand is a {type(t).__name__}. Pass tensors.")
    labels, output, path = _parsed(equation, tuple(tuple(map(int, t.shape)) for t in operands))
    return _einsum(operands, labels, output, path)


# ---- by position ------------------------------------------------------------------------------------------


@function(name="tensordot")
def _tensordot(a: Tensor_, b: Tensor_, left: Static, right: Static):
    _same_dtype("tensordot", a, b)
    names = tuple(range(len(a.shape)))
    others = [len(names) + d for d in range(len(b.shape))]
    for i, j in zip(left, right):
        others[j] = names[i]
    keep = tuple(n for n in (*names, *others) if (n in names) != (n in others))
    return contracted(Labelled(a, names), Labelled(b, tuple(others)), keep).ordered(keep)


@declared(
    free="flambeau",
    samples=calls(
        lambda: [
            call(data(2, 3), data(3, 2), 1),
            call(data(2, 3, 4), data(4, 3), dims=([2, 1], [0, 1])),
            call(data(2), data(3), 0),
            call(data(2, 3), data(2, 3), 1, error=(RuntimeError, "must be equal")),
        ]
    ),
)
def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Tensor | None = None) -> Tensor:
    """Products added up over `dims`: that many last ones of `a` and first ones of `b`, or a list for each.

    Raises RuntimeError for sizes that differ and dims that do not exist.
    """
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise RuntimeError(
                f"[tensordot] dims is {dims}, for tensors of {a.ndim} and {b.ndim} dimensions. Use fewer."
            )
        dims = (tuple(range(a.ndim - dims, a.ndim)), tuple(range(dims)))
    left = tuple(canonical_dim("tensordot", d, a.ndim) for d in _sizes(dims[0]))
    right = tuple(canonical_dim("tensordot", d, b.ndim) for d in _sizes(dims[1]))
    sizes = [(a.shape[i], b.shape[j]) for i, j in zip(left, right)]
    if len(left) != len(right) or any(m != n and 1 not in (m, n) for m, n in sizes):
        raise RuntimeError(
            f"[tensordot] dims {left} and {right} of shapes {a.shape} and {b.shape} must be equal in number and size."
        )
    found = _tensordot(a, b, left, right)
    return found if out is None else stored_in("tensordot", out, found)


@function(
    free="flambeau",
    method=True,
    samples=calls(
        lambda: [
            call(data(2, 3), data(4, 3)),
            call(data(3), data(3)),
            call(data(2, 3), data()),
            call(data(2, 3), data(4), error=(RuntimeError, "last sizes must be equal")),
        ]
    ),
)
def inner(input: Tensor_, other: Tensor_):
    """Products added up over the last dimensions: [..., K] and [*, K] give [..., *]; a 0-d tensor multiplies.

    Raises RuntimeError for last sizes and dtypes that differ.
    """
    _same_dtype("inner", input, other)
    if not input.shape or not other.shape:
        return mul.rule(input, other)
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(f"[inner] shapes are {input.shape} and {other.shape}: the last sizes must be equal.")
    rows, columns = tuple(range(len(input.shape) - 1)), tuple(range(100, 99 + len(other.shape)))
    pair = Labelled(input, (*rows, -1)), Labelled(other, (*columns, -1))
    return contracted(*pair, (*rows, *columns)).ordered((*rows, *columns))


@function(
    free="flambeau", method=True, samples=calls(lambda: [call(data(2, 3), data(2, 2)), call(data(2), data(2, 2, 2))])
)
def kron(input: Tensor_, other: Tensor_):
    """The Kronecker product: each element of `input` times all of `other`, as one tensor whose sizes are the products of theirs."""
    rank = max(len(input.shape), len(other.shape))
    m, n = ((1,) * (rank - len(v.shape)) + v.shape for v in (input, other))
    between = tuple(size for pair in zip(m, n) for size in pair)
    left = ops.reshape(input, shape=tuple(size for k in m for size in (k, 1))).expand(between)
    right = ops.reshape(other, shape=tuple(size for k in n for size in (1, k))).expand(between)
    return ops.reshape(mul.rule(left, right), shape=tuple(a * b for a, b in zip(m, n)))
