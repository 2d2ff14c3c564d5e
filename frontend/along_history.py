"""Derivatives recorded op by op along a history, beyond one gradient: those of a batch of weights, and forward mode.

In: tensors with history, and a batch of weights, or tangents. Out: gradients, or the tangents of results, as tensors, themselves
differentiable with `create_graph`. Next: `replays.py`, `inline.py`, `func.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from flambeau import replays
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
    times, so there must be none (`tensor_hooks.meets`).
    """

    def start(tape: Tape) -> Callable[[], list[Tensor | None]]:
        seeds: dict[int, Value] = {}
        for t, root, gradient in zip(outputs, tape.roots, grad_outputs, strict=True):
            value, ct = tape.value_at(root), seed(tape, t, gradient, many=True)
            seeds[value] = seeds[value] + ct if value in seeds else ct
        run = tape.prepared(seeds, [v for v in tape.targets if v is not None], [], True)

        def found() -> list[Tensor | None]:
            reached = iter(run())
            cts = [None if v is None else next(reached) for v in tape.targets]
            return [None if ct is None else tape.tensor(ct) for ct in cts]

        return found

    return _followed(_Asked("gradients", name, outputs, inputs, grad_outputs, n, start), create_graph)


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

    def start(tape: Tape) -> Callable[[], list[Tensor | None]]:
        pairs = [(v, t) for v, t in zip(tape.targets, given, strict=True) if v is not None and t is not None]
        run = tape.advanced({v: tape.value(t, n is not None) for v, t in pairs})
        return lambda: [None if t is None else tape.tensor(t) for t in run()]

    return _followed(_Asked("tangents", name, outputs, inputs, given, n, start), create_graph)


@dataclass(frozen=True)
class _Asked:
    """What derivatives are asked for; `kind` says which, `name` by whom, `start` begins to record them."""

    kind: str
    name: str
    outputs: Sequence[Tensor]
    inputs: Sequence[Tensor]
    given: Sequence[Tensor | None]
    n: int | None
    start: Callable[[Tape], Callable[[], list[Tensor | None]]]


def _followed(asked: _Asked, create_graph: bool) -> list[Tensor | None]:
    """What `start` of the trace gives, recorded anew, or by the calls of the last time where the trace is as it was."""

    with recorder.ModeScope(GRAD_MODE, GRAD_MODE if create_graph else 0):
        found = recorder.held(_prepared, asked)()
    flush_point()
    return found


def _prepared(asked: _Asked) -> Callable[[], list[Tensor | None]]:
    given = asked.given
    key = replays.key(asked.kind, asked.outputs, asked.inputs, given, asked.n)
    if (replay := replays.known(key)) is not None:
        return partial(replay.run, [*replay.sources(), *[t for t in given if t is not None]])
    tape = Tape(asked.name, asked.outputs, asked.inputs)
    log = None if key is None else replays.Log()
    if log is not None:
        tape.logged(log)
    if asked.n is not None:
        tape.of_batch(asked.n)
    return partial(_noted, asked.start(tape), log, key, given)


def _noted(
    run: Callable[[], list[Tensor | None]], log: replays.Log | None, key: Any, given: Sequence[Tensor | None]
) -> list[Tensor | None]:
    found = run()
    if log is not None:
        replays.remember(key, log.replay(given, found))
    return found
