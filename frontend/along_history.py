"""Derivatives recorded op by op along a history, beyond one gradient: those of a batch of weights, and forward mode.

In: tensors with history, and a batch of weights, or tangents. Out: gradients, or the tangents of results, as tensors, themselves
differentiable with `create_graph`. Next: `inline.py`, `func.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.dialects.builder import Value
from flambeau.engine import GRAD_MODE
from flambeau.inline import Tape, flush_point, seed
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor


def gradients_of_batch(
    name: str,
    outputs: Sequence[Tensor],
    grad_outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    n: int,
    create_graph: bool,
) -> list[Tensor | None]:
    """As `gradients` for each of `n` weights of every output, which are in front, as are the results; the graph is kept.

    Nothing is done `n` times: the gradient is recorded once, with the weights as a batch. Its hooks would have to be called `n`
    times, so there must be none (`tensor_hooks.hooked`).
    """

    def prepared() -> tuple[Callable[[], list[Value | None]], Tape]:
        tape = Tape(name, outputs, inputs)
        tape.of_batch(n)
        seeds: dict[int, Value] = {}
        for t, root, gradient in zip(outputs, tape.roots, grad_outputs, strict=True):
            value, ct = tape.value_at(root), seed(tape, t, gradient, many=True)
            seeds[value] = seeds[value] + ct if value in seeds else ct
        return tape.prepared(seeds, [v for v in tape.targets if v is not None], [], True), tape

    with recorder.ModeScope(GRAD_MODE, GRAD_MODE if create_graph else 0):
        run, tape = recorder.held(prepared)
        reached = iter(run())
        cts = [None if v is None else next(reached) for v in tape.targets]
        found = [None if ct is None else tape.tensor(ct) for ct in cts]
    flush_point()
    return found


def tangents(
    name: str,
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    given: Sequence[Tensor | None],
    create_graph: bool,
    n: int | None = None,
) -> list[Tensor | None]:
    """The derivatives of outputs along tangents of the inputs, recorded op by op beside what was computed; None where nothing
    flows. With `n`, each tangent, and each result, is a batch of as many."""

    def prepared() -> tuple[Callable[[], list[Value | None]], Tape]:
        tape = Tape(name, outputs, inputs)
        if n is not None:
            tape.of_batch(n)
        pairs = [(v, t) for v, t in zip(tape.targets, given, strict=True) if v is not None and t is not None]
        return tape.advanced({v: tape.value(t, n is not None) for v, t in pairs}), tape

    with recorder.ModeScope(GRAD_MODE, GRAD_MODE if create_graph else 0):
        run, tape = recorder.held(prepared)
        found = [None if t is None else tape.tensor(t) for t in run()]
    flush_point()
    return found
