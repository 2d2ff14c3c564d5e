"""Control flow that is recorded: a program chooses, or repeats, while it runs.

In: functions on tensors. Out: what they give. A Python `if` on a tensor reads it, which ends the recording; these do not.
Next: `regions.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from flambeau import debug
from flambeau.declarations import declared
from flambeau.dialects import dtypes
from flambeau.dialects.record import Sample, find
from flambeau.regions import joined, rebuilt, record, trace
from flambeau.runtime import recorder
from flambeau.runtime.recorder import REQUIRED, Function, Tensor
from flambeau.samples import call, calls, data


def _flag(name: str, pred: Tensor, what: str) -> Tensor:
    if pred.dtype is not dtypes.bool_ or pred.numel() != 1:
        raise RuntimeError(
            f"[{name}] {what} is {pred.dtype.name} of shape {tuple(pred.shape)}. Pass a bool with one element."
        )
    return pred.reshape(())


def same_nesting(x: Any, y: Any) -> bool:
    """Whether two nestings of tensors differ in their tensors only."""
    if isinstance(x, Tensor) or isinstance(y, Tensor):
        return isinstance(x, Tensor) and isinstance(y, Tensor)
    if isinstance(x, dict):
        return isinstance(y, dict) and list(x) == list(y) and all(same_nesting(x[k], y[k]) for k in x)
    return type(x) is type(y) and len(x) == len(y) and all(map(same_nesting, x, y))


def _samples_of_cond() -> list[Sample]:
    yes, no, x, y = np.array(True), np.array([False]), data(2, 3), data(2, 3, low=0.5)

    def then(x: Tensor, y: Tensor) -> Any:
        return (x * y).exp(), x.sum()

    def otherwise(x: Tensor, y: Tensor) -> Any:
        return x / y, y.sum()

    return [
        call(yes, then, otherwise, (x, y)),
        call(no, then, otherwise, (x, y)),
        call(yes, lambda x: x * 2, lambda x: x, [x]),
        call(x, then, otherwise, (x, y), error=(RuntimeError, "[cond] the predicate is float32 of shape (2, 3). Pass")),
        call(
            yes, then, lambda x, y: x, (x, y), error=(RuntimeError, "[cond] the functions return different structures")
        ),
        call(yes, lambda x: x, lambda x: x.sum(), (x,), error=(RuntimeError, "[cond] one branch gives (2x3xf32), the")),
        call(yes, lambda x: 1, lambda x: 2, (x,), error=(TypeError, "[cond] a function that it may run gives a int")),
        call(
            yes,
            lambda x: x.sum().item(),
            lambda x: x,
            (x,),
            error=(RuntimeError, "[cond] a function that it may run reads"),
        ),
    ]


@declared(free="flambeau", samples=calls(_samples_of_cond))
def cond(
    pred: bool | Tensor,
    true_fn: Callable[..., Any],
    false_fn: Callable[..., Any],
    operands: tuple | list = (),
) -> Any:
    """`true_fn(*operands)` where `pred` holds, else `false_fn(*operands)`; the other one does not run.

    `pred` is a bool, or a bool tensor with one element, which is not read: both functions are recorded, with what they read
    from outside, and the program chooses when it runs. They return tensors of equal shapes and dtypes, alone or nested in
    tuples, lists and dicts, and gradients flow through the one that ran.

    Raises RuntimeError for another `pred`, where the results differ in structure or type, and where a function does more than
    compute: reads a value, changes a tensor from outside, draws random numbers. TypeError if it returns anything else.
    """
    if isinstance(pred, bool):
        return (true_fn if pred else false_fn)(*operands)
    flag = _flag("cond", pred, "the predicate")
    branches = [trace("cond", function, operands) for function in (true_fn, false_fn)]
    if not same_nesting(branches[0].returned, branches[1].returned):
        raise RuntimeError(
            "[cond] the functions return different structures. Return as many tensors from both, nested alike."
        )
    has_effect = any(branch.has_effect for branch in branches)
    if not branches[0].results and not has_effect:
        return branches[0].returned
    for branch in branches if has_effect else ():
        branch.with_token(debug.token())
    values, regions = joined(branches)
    found = record(find("cond"), [flag, *values], regions)
    if has_effect:
        debug.follow(found[-1])
    return rebuilt(branches[0].returned, iter(found))


# ---- loops ----------------------------------------------------------------------------------------------------


_carried = Function(
    "while_loop", (("x", "tensor", REQUIRED, False),), "pure", lambda x: find("reshape")(x, shape=x.shape)
)


@contextmanager
def placeholders(name: str, values: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of the same types that stand for what a loop carries while its functions are recorded."""
    recorder.region_begin(name)
    try:
        yield [_carried(x) for x in values]
    finally:
        recorder.region_end()


def _samples_of_while() -> list[Sample]:
    zero, x = np.array(0, np.int64), data(2, 3)

    def below(i: Tensor, x: Tensor) -> Tensor:
        return i < 3

    def step(i: Tensor, x: Tensor) -> Any:
        return i + 1, x * 0.5 + 1

    return [
        call(below, step, (zero, x)),
        call(lambda i, x: i < 0, step, [zero, x]),
        call(lambda i, x: i, step, (zero, x), error=(RuntimeError, "[while_loop] the condition is int64 of shape ()")),
        call(below, lambda i, x: (x, i), (zero, x), error=(RuntimeError, "[while_loop] the body gives (2x3xf32, i64)")),
        call(below, lambda i, x: i, (zero, x), error=(RuntimeError, "[while_loop] the body returns 1 tensors")),
        call(below, step, (), error=(RuntimeError, "[while_loop] there are no carried tensors.")),
    ]


@declared(free="flambeau", samples=calls(_samples_of_while))
def while_loop(cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried_inputs: tuple | list) -> tuple:
    """`carried_inputs` replaced by `body_fn(*carried)` as long as `cond_fn(*carried)` holds, as a tuple.

    Both functions are recorded once, with what they read from outside, and the program repeats them while it runs: how often does
    not change what is compiled. `cond_fn` returns a bool tensor with one element, `body_fn` as many tensors as are carried, in
    their shapes and dtypes. Gradients of any order run it again, to count the rounds and for what was carried into each: four times
    for up to 1,024 rounds, in memory for 64 of them.

    Raises RuntimeError where that is not so, and where a function does more than compute: reads a value, changes a tensor
    from outside, draws random numbers. TypeError if it returns anything else.
    """
    carried = list(carried_inputs)
    if not carried:
        raise RuntimeError("[while_loop] there are no carried tensors. Pass what the body is to change.")
    with placeholders("while_loop", [*carried, debug.token()]) as (*places, token):
        test = trace("while_loop", lambda *xs: _flag("while_loop", cond_fn(*xs), "the condition"), places, token)
        body = trace("while_loop", body_fn, places, token)
    if len(body.results) != len(carried):
        raise RuntimeError(
            f"[while_loop] the body returns {len(body.results)} tensors, and {len(carried)} are carried. Return each one anew."
        )
    if test.has_effect:
        raise RuntimeError("[while_loop] the condition calls the host. Do that in the body.")
    if body.has_effect:
        places, carried = [*places, token], [*carried, debug.token()]
    values, regions = joined([test, body], places)
    found = record(find("while_loop"), [*carried, *values[len(carried) :]], regions)
    if body.has_effect:
        debug.follow(found[-1])
    return tuple(rebuilt(list(carried_inputs), iter(found)))
