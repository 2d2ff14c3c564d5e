"""Loops of a given length: `scan`, `map`, `fori_loop`.

In: functions of one turn, and what they go through. Out: what is carried at the end, and what each turn gave, stacked. A turn is
recorded once; how many there are changes neither what is recorded nor, but for a first other number, what is compiled. Gradients
of any order go back through the turns, in the program, too. Next: `dialects/loops.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from flambeau import debug
from flambeau.declarations import declared
from flambeau.dialects.graph import Region
from flambeau.dialects.loops import ScanParts
from flambeau.dialects.record import Sample, find
from flambeau.functions.control import placeholders, same_nesting, while_loop
from flambeau.functions.create import zeros
from flambeau.functions.from_data import as_tensor
from flambeau.functions.ramps import arange
from flambeau.regions import joined, rebuilt, record, trace
from flambeau.runtime.recorder import Tensor
from flambeau.samples import call, calls, data


class _Turn(NamedTuple):
    """What a function of a turn recorded: its region, of the carried values, the slices and `fixed`, what it reads from outside;
    how many values are carried, with a token if it has effects; and what it gives for each turn, nested."""

    region: Region
    carried: list[Tensor]
    fixed: list[Tensor]
    given: Any
    has_effect: bool


def _leaves(name: str, what: str, x: Any) -> list[Tensor]:
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, (tuple, list, dict)):
        return [leaf for item in (x.values() if isinstance(x, dict) else x) for leaf in _leaves(name, what, item)]
    raise TypeError(f"[{name}] {what} has a {type(x).__name__}. Pass tensors, alone or in tuples, lists and dicts.")


def _through(name: str, xs: Any, dim: int) -> list[Tensor]:
    """What a loop goes through, along the first axis of each."""
    found = _leaves(name, "xs", xs)
    if not found:
        raise RuntimeError(f"[{name}] there is nothing to go through. Pass xs.")
    for x in found:
        if not -x.ndim <= dim < x.ndim:
            raise RuntimeError(f"[{name}] dim is {dim} for xs of shape {tuple(x.shape)}. Name one of its axes.")
    moved = [x.movedim(dim, 0) for x in found]
    if any(x.shape[0] != moved[0].shape[0] for x in moved):
        shown = ", ".join(str(tuple(x.shape)) for x in found)
        raise RuntimeError(f"[{name}] xs have shapes {shown}. Make their extents along dim {dim} equal.")
    return moved


def _slice(x: Tensor) -> Tensor:
    """What stands for a slice while a turn is recorded: one of that shape."""
    return (x if x.shape[0] else zeros((1, *x.shape[1:]), dtype=x.dtype, device=x.device))[0]


def _recorded(name: str, function: Callable[[Any, Any], Any], init: Any, xs: Any, through: Sequence[Tensor]) -> _Turn:
    """One turn: `function` of what is carried and slices gives what is carried anew, and a result."""
    carried = _leaves(name, "init", init)
    kept: dict[str, Any] = {}

    def run(*places: Tensor) -> list[Tensor]:
        left = iter(places)
        pair = function(rebuilt(init, left), rebuilt(xs, left))
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise RuntimeError(
                f"[{name}] the function returns a {type(pair).__name__}. Return a pair: what is carried on, and a result."
            )
        if not same_nesting(pair[0], init):
            raise RuntimeError(
                f"[{name}] what the function carries on is nested otherwise than what it gets. "
                "Return as many tensors, nested alike."
            )
        for x, place in zip(_leaves(name, "init", pair[0]), places):
            if x.shape != place.shape or x.dtype != place.dtype:
                raise RuntimeError(
                    f"[{name}] the function carries on {x.dtype.name} of shape {tuple(x.shape)} for {place.dtype.name} of shape "
                    f"{tuple(place.shape)}. Return what is carried in the shape and dtype that it begins with."
                )
        kept["given"] = pair[1]
        stacked = [] if pair[1] is None else _leaves(name, "the result of a turn", pair[1])
        return [*_leaves(name, "init", pair[0]), *stacked]

    with placeholders(name, [*carried, *[_slice(x) for x in through], debug.token()]) as (*places, token):
        body = trace(name, run, places, token)
    n = len(carried)
    first = [*places[:n], *([token] if body.has_effect else []), *places[n:]]
    if body.has_effect:  # behind what is carried
        outputs = body.graph.outputs
        body.graph.outputs = [*outputs[:n], outputs[-1], *outputs[n:-1]]
        carried = [*carried, debug.token()]
    values, (region,) = joined([body], first)
    return _Turn(region, carried, values[len(first) :], kept["given"], body.has_effect)


def _repeated(turn: _Turn, init: Any, through: Sequence[Tensor], reverse: bool) -> tuple[Any, Any]:
    n = len(turn.carried)
    operands = [*turn.carried, *through, *turn.fixed]
    loop = ScanParts(turn.region, n, len(through), 0, reverse)
    n_results = len(turn.region.outputs)
    if any(x.requires_grad for x in operands):
        loop = loop.keeping()
    if not n_results:
        return init, turn.given
    found = list(record(find("scan"), operands, (n, len(through), 0, reverse, loop.body))[:n_results])
    if turn.has_effect:
        debug.follow(found.pop(n - 1))
        n -= 1
    given = None if turn.given is None else rebuilt(turn.given, iter(found[n:]))
    return rebuilt(init, iter(found)), given


# ---- what users call ------------------------------------------------------------------------------------------


def _samples_of_scan() -> list[Sample]:
    h, xs = data(3), data(4, 3)

    def decayed(h: Tensor, x: Tensor) -> Any:
        return h * 0.5 + x, (h * x).sin()

    def nested(h: Any, x: Any) -> Any:
        return (h[0] + x[0] * x[1], h[1]), None

    return [
        call(decayed, h, xs),
        call(decayed, h, xs, reverse=True),
        call(decayed, data(4), xs, dim=-1),
        call(decayed, h, data(0, 3)),
        call(nested, (h, data(2)), (xs, data(4, 3, low=0.5))),
        call(
            lambda h, x: (x.sum(), h),
            h,
            xs,
            error=(
                RuntimeError,
                "[scan] the function carries on float32 of shape () for",
            ),
        ),
        call(lambda h, x: h, h, xs, error=(RuntimeError, "[scan] the function returns a Tensor. Return a pair")),
        call(lambda h, x: ((h, h), x), h, xs, error=(RuntimeError, "[scan] what the function carries on is nested")),
        call(decayed, h, (xs, data(5, 3)), error=(RuntimeError, "[scan] xs have shapes (4, 3), (5, 3). Make their")),
        call(
            decayed, h, xs, dim=2, error=(RuntimeError, "[scan] dim is 2 for xs of shape (4, 3). Name one of its axes.")
        ),
        call(decayed, 1.0, xs, error=(TypeError, "[scan] init has a float. Pass tensors")),
        call(decayed, h, (), error=(RuntimeError, "[scan] there is nothing to go through.")),
    ]


@declared(free="flambeau", samples=calls(_samples_of_scan))
def scan(
    combine_fn: Callable[[Any, Any], tuple[Any, Any]], init: Any, xs: Any, *, dim: int = 0, reverse: bool = False
) -> tuple[Any, Any]:
    """What is carried at the end, and what the turns gave, stacked along `dim`: `carry, y = combine_fn(carry, x)` for one slice `x`
    of `xs` along `dim` after the other, or from the last one on if `reverse`, beginning with `init`.

    `init`, `xs`, and what the function returns are tensors, alone or nested in tuples, lists and dicts; what it carries on has the
    shapes and dtypes of `init`; instead of results it may return None. It is recorded once, with the tensors that it reads from
    outside, which get gradients, too. Another number of turns is the same program. Gradients need what each turn began with, and
    results of products and folds in it: these are kept, and all else is computed again.

    Raises RuntimeError where that is not so, and where the function does more than compute: reads a value, changes a tensor from
    outside, draws random numbers. TypeError for what are no tensors.
    """
    through = _through("scan", xs, dim)
    turn = _recorded("scan", combine_fn, init, xs, through)
    last, given = _repeated(turn, init, through, reverse)
    dim %= _leaves("scan", "xs", xs)[0].ndim
    if dim == 0 or given is None:
        return last, given
    stacked = _leaves("scan", "the result", given)
    for y in stacked:
        if y.ndim <= dim:
            raise RuntimeError(
                f"[scan] a result of shape {tuple(y.shape[1:])} for each turn cannot be stacked along dim {dim}. Give it more axes."
            )
    return last, rebuilt(given, iter([y.movedim(0, dim) for y in stacked]))


def _samples_of_map() -> list[Sample]:
    xs, y = data(4, 3), data(3)

    return [
        call(lambda x, y: (x * y).exp(), xs, y),
        call(lambda x: (x[0].sum(), x[1] * 2), (xs, data(4, 2))),
        call(lambda x: x * 2, data(0, 3)),
        call(lambda x: 1, xs, error=(TypeError, "[map] the result of a turn has a int. Pass tensors")),
        call(lambda x: x, (xs, y), error=(RuntimeError, "[map] xs have shapes (4, 3), (3,). Make their")),
        call(lambda x: x, np.float32(1), error=(TypeError, "[map] xs has a")),
    ]


@declared(free="flambeau", samples=calls(_samples_of_map))
def map(f: Callable[..., Any], xs: Any, *args: Any) -> Any:
    """`f(x, *args)` of each slice `x` of `xs` along the first axis, stacked along a new first axis: one slice after the other, in
    one loop (`vmap` computes all at once). Tensors may be nested in tuples, lists and dicts. Raises as `scan` does."""
    through = _through("map", xs, 0)
    turn = _recorded("map", lambda _, x: ((), f(x, *args)), (), xs, through)
    return _repeated(turn, (), through, False)[1]


def _samples_of_fori() -> list[Sample]:
    x, low, high = data(2, 3), np.array(1, np.int64), np.array(4, np.int64)

    def step(i: Tensor, x: Tensor) -> Tensor:
        return x * 0.5 + i

    return [
        call(0, 3, step, x),
        call(2, 2, step, x),
        call(
            3,
            1,
            lambda i, x: x[0],
            [x, x],
            error=(RuntimeError, "[fori_loop] what the function carries on is nested otherwise"),
        ),
        call(low, high, step, x),
        call(0, high, lambda i, x: (x[0] + i, x[1] * 2), (x, data(3))),
        call(
            0,
            3,
            lambda i, x: x.sum(),
            x,
            error=(
                RuntimeError,
                "[fori_loop] the function carries on float32 of shape () for",
            ),
        ),
        call(0.5, 3, step, x, error=(TypeError, "[fori_loop] lower is a float. Pass an int, or a 0-d tensor of ints.")),
    ]


@declared(free="flambeau", samples=calls(_samples_of_fori))
def fori_loop(lower: int | Tensor, upper: int | Tensor, body_fun: Callable[[Tensor, Any], Any], init_val: Any) -> Any:
    """`val = body_fun(i, val)` for i from `lower` up to, not including, `upper`, beginning with `init_val`: tensors, maybe nested.

    JAX's `lax.fori_loop`. `i` is a 0-d int64 tensor. With bounds that are ints it is a `scan`; a bound that is a tensor is not
    read, and the loop is a `while_loop` then, whose gradients take longer. Raises as these do.
    """
    for name, bound in (("lower", lower), ("upper", upper)):
        if isinstance(bound, bool) or not isinstance(bound, int | Tensor):
            raise TypeError(f"[fori_loop] {name} is a {type(bound).__name__}. Pass an int, or a 0-d tensor of ints.")
    if isinstance(lower, int) and isinstance(upper, int):
        places = [x.device for x in _leaves("fori_loop", "init_val", init_val)]
        xs = [arange(lower, max(lower, upper), device=places[0] if places else None)]
        turn = _recorded("fori_loop", lambda val, i: (body_fun(i[0], val), None), init_val, xs, xs)
        return _repeated(turn, init_val, xs, False)[0]
    carried = _leaves("fori_loop", "init_val", init_val)
    where = next(bound.device for bound in (lower, upper) if isinstance(bound, Tensor))
    first = as_tensor(lower, device=where) if isinstance(lower, int) else lower.reshape(()).long()
    end = upper if isinstance(upper, int) else upper.reshape(())

    def body(i: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        found = body_fun(i, rebuilt(init_val, iter(values)))
        if not same_nesting(found, init_val):
            raise RuntimeError(
                "[fori_loop] what the function carries on is nested otherwise than what it gets. "
                "Return as many tensors, nested alike."
            )
        return i + 1, *_leaves("fori_loop", "what the function returns", found)

    return rebuilt(init_val, iter(while_loop(lambda i, *_: i < end, body, (first, *carried))[1:]))
