"""Control flow: ops that run their regions, none, one or several times.

In: operands, and regions that take them (`graph.Region`): what a region reads from outside is an operand of the op. Out: a tuple
of results. Next: `dialects/region.py`, for how regions are made and differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from flambeau.dialects import loops, reference, unbounded_loops
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import bool_, float64, int64
from flambeau.dialects.graph import Region
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.region import (
    build,
    check_region,
    cotangents,
    reached,
    reads,
    typed,
    without_inputs,
)
from flambeau.dialects.tape.common import check_scalar, ops, random

Call = Callable[[Region, Sequence[Any]], Sequence[Any]]


def by_numpy(run: Callable[..., Any]) -> Callable[..., Any]:
    """The reference of an op with regions, from its `run`."""

    def call(region: Region, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        return reference.run(region.graph, arrays)

    return lambda *args: run(call, *args)


# ---- cond -----------------------------------------------------------------------------------------------------


def _infer_cond(pred: Aval, *rest: Any) -> tuple[Aval, ...]:
    *operands, then, otherwise = rest
    check_scalar("cond", pred, bool_, "the predicate")
    check_region("cond", "its region 'then'", then, operands)
    check_region("cond", "its region 'otherwise'", otherwise, operands)
    if then.outputs != otherwise.outputs:
        raise RuntimeError(
            f"[cond] one branch gives {typed(then.outputs)}, the other {typed(otherwise.outputs)}. "
            "Make them give equal shapes and dtypes."
        )
    return tuple(then.outputs)


def _run_cond(call: Call, pred: Any, *rest: Any) -> tuple[Any, ...]:
    *operands, then, otherwise = rest
    return tuple(call(then if pred else otherwise, operands))


def _reaches_cond(given: Sequence[bool], then: Region, otherwise: Region) -> list[bool]:
    return [False, *[any(flags) for flags in zip(reached(then, given), reached(otherwise, given), strict=True)]]


def _vjp_cond(cts: Sequence[Value | None], results: Any, pred: Value, *rest: Any) -> tuple[Value | None, ...]:
    """A cond whose branches are those of the gradients; each computes again what it needs of its forward."""
    *operands, then, otherwise = rest
    given = [ct is not None for ct in cts]
    branches = (then, otherwise)
    arrives = _reaches_cond(given, then, otherwise)[1:]
    if not any(arrives):
        return (None,) * (len(operands) + 1)
    there = [ct for ct in cts if ct is not None]
    values = [*operands, *there]
    made = [build([v.aval for v in values], _gradient(branch, given, arrives)) for branch in branches]
    keep = [any(flags) for flags in zip(*map(reads, made), strict=True)]
    read = [v for v, kept in zip(values, keep, strict=True) if kept]
    first, second = (without_inputs(region, keep) for region in made)
    found = iter(ops.cond(pred, *read, then=first, otherwise=second))
    return (None, *(next(found) if wanted else None for wanted in arrives))


def _gradient(branch: Region, given: Sequence[bool], arrives: Sequence[bool]) -> Callable[..., Sequence[Value]]:
    """The rule of a branch's gradient: of the operands and the given cotangents, for the operands that these reach in any
    branch. Where they do not in this one, it is 0."""

    def rule(*values: Value) -> list[Value]:
        xs, there = values[: len(branch.inputs)], iter(values[len(branch.inputs) :])
        found = cotangents(branch, xs, [next(there) if g else None for g in given])
        wanted = [(x, ct) for x, ct, arrives_there in zip(xs, found, arrives, strict=True) if arrives_there]
        return [x.like(0) if ct is None else ct for x, ct in wanted]

    return rule


def _samples_cond() -> list[Sample]:
    def branches(shape: Aval) -> dict[str, Region]:
        then = build([shape, shape], lambda x, y: [x * y + x, x * x])
        return {"then": then, "otherwise": build([shape, shape], lambda x, y: [x - y, y])}

    x, y = random((2, 3)), random((2, 3), seed=1)
    shape, long = Aval((2, 3), float64), Aval((67,), float64)
    attrs = branches(shape)
    yes, no = np.array(True), np.array(False)
    other = {**attrs, "otherwise": build([shape, shape], lambda x, y: [x - y])}
    return [
        Sample((yes, x, y), attrs),
        Sample((no, x, y), attrs),
        Sample((no, random((67,)), random((67,), seed=1)), branches(long), gradient=False),
        Sample((np.array(1), x, y), attrs, error=(RuntimeError, "[cond] the predicate is int64 of shape ().")),
        Sample(
            (yes, x), attrs, error=(RuntimeError, "[cond] its region 'then' takes (2x3xf64, 2x3xf64), its operands")
        ),
        Sample(
            (yes, x, y), other, error=(RuntimeError, "[cond] one branch gives (2x3xf64, 2x3xf64), the other (2x3xf64)")
        ),
        Sample((yes, x, y), {**attrs, "then": 1}, error=(RuntimeError, "[cond] its region 'then' is 1, not a region.")),
    ]


cond = OpRecord(
    name="cond",
    kind=Kind.CONTROL,
    attrs=("then", "otherwise"),
    infer=_infer_cond,
    reference=by_numpy(_run_cond),
    vjp=_vjp_cond,
    lower=None,
    dtypes=(float64,),  # of the samples: which types it takes says each region
    exact=False,
    keep=True,
    results=None,
    regions=("then", "otherwise"),
    run=_run_cond,
    reaches=_reaches_cond,
    samples=_samples_cond,
    doc="What `then` gives for the operands where the predicate holds, else what `otherwise` does; the other does not run.",
)


# ---- while_loop -----------------------------------------------------------------------------------------------


def _infer_while(*rest: Any) -> tuple[Aval, ...]:
    *operands, goes_on, body = rest
    check_region("while_loop", "its region 'goes_on'", goes_on, operands)
    check_region("while_loop", "its region 'body'", body, operands)
    if goes_on.outputs != [Aval((), bool_)]:
        raise RuntimeError(f"[while_loop] the condition gives {typed(goes_on.outputs)}. Make it give one 0-d bool.")
    carried = operands[: len(body.outputs)]
    if not carried or body.outputs != carried:
        raise RuntimeError(
            f"[while_loop] the body gives {typed(body.outputs)} for carried values {typed(operands)}. "
            "Make it give each one anew, in its shape and dtype."
        )
    return tuple(carried)


def _run_while(call: Call, *rest: Any) -> tuple[Any, ...]:
    *operands, goes_on, body = rest
    n = len(body.outputs)
    carried: Sequence[Any] = operands[:n]
    fixed = operands[n:]
    while call(goes_on, [*carried, *fixed])[0]:
        carried = call(body, [*carried, *fixed])
    return tuple(carried)


def _vjp_while(cts: Sequence[Value | None], results: Any, *rest: Any) -> tuple[Value | None, ...]:
    *operands, goes_on, body = rest
    return tuple(unbounded_loops.gradient(cts, operands, goes_on, body))


def _samples_while() -> list[Sample]:
    n = Aval((), int64)

    def regions(x: Aval) -> dict[str, Region]:
        goes_on = build([x, n, n, x], lambda y, i, n, x: [i < n])
        return {"goes_on": goes_on, "body": build([x, n, n, x], lambda y, i, n, x: [y * x + y, i + 1])}

    x = Aval((4,), float64)
    attrs = regions(x)
    zero, start, by = np.array(0), random((4,)), random((4,), -0.5, 0.5)
    more = random((67,)), random((67,), -0.5, 0.5)
    endless = {**attrs, "goes_on": build([x, n, n, x], lambda y, i, n, x: [i])}
    changing = {**attrs, "body": build([x, n, n, x], lambda y, i, n, x: [i, y])}
    return [
        *(Sample((start, zero, np.array(times), by), attrs) for times in (0, 1, 5)),
        Sample((more[0], zero, np.array(3), more[1]), regions(Aval((67,), float64)), gradient=False),
        Sample((start, zero, by), attrs, error=(RuntimeError, "[while_loop] its region 'goes_on' takes (4xf64, i64")),
        Sample(
            (start, zero, zero, by), endless, error=(RuntimeError, "[while_loop] the condition gives (i64). Make it")
        ),
        Sample((start, zero, zero, by), changing, error=(RuntimeError, "[while_loop] the body gives (i64, 4xf64) for")),
    ]


while_loop = OpRecord(
    name="while_loop",
    kind=Kind.CONTROL,
    attrs=("goes_on", "body"),
    infer=_infer_while,
    reference=by_numpy(_run_while),
    vjp=_vjp_while,
    lower=None,
    dtypes=(float64,),  # of the samples: which types it takes says each region
    exact=False,
    keep=True,
    results=None,
    regions=("goes_on", "body"),
    run=_run_while,
    reaches=lambda given, _, body: loops.reached_operands(body, len(body.outputs), given),
    samples=_samples_while,
    doc="The first operands, the carried values, replaced by what `body` gives for the operands, as long as `goes_on` holds.",
)
