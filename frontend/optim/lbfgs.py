"""L-BFGS. Nocedal and Wright, "Numerical optimization" (2006), algorithms 7.4 and 7.5, with the line search for the strong Wolfe
conditions of algorithms 3.5 and 3.6 by cubic interpolation. Scales, guesses and tolerances are those of minFunc, as PyTorch's are.

All parameters are one vector. Every iteration looks at the loss, at slopes and at the largest elements of vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from flambeau.autograd import enable_grad, no_grad
from flambeau.functions.assemble import cat
from flambeau.functions.create import zeros_like
from flambeau.optim.optimizer import Optimizer
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

#: Of the Wolfe conditions: how much of the decrease that the slope promises is enough, how much of the slope may be left.
_DECREASE, _SLOPE = 1e-4, 0.9


class _Point(NamedTuple):
    """What is known at a distance along the direction of search: the loss, its gradient, and its slope along the direction."""

    at: float
    loss: float
    gradient: Tensor
    slope: float


def _minimum(a: _Point, b: _Point, low: float | None = None, high: float | None = None) -> float:
    """The minimum of the cubic through two points with their slopes, kept within [low, high], which is between them by default."""
    first, last = (a, b) if a.at <= b.at else (b, a)
    low, high = first.at if low is None else low, last.at if high is None else high
    d1 = first.slope + last.slope - 3.0 * (first.loss - last.loss) / (first.at - last.at)
    square = d1 * d1 - first.slope * last.slope
    if not square >= 0.0:
        return (low + high) / 2.0
    d2 = math.sqrt(square)
    divisor = last.slope - first.slope + 2.0 * d2
    if divisor == 0.0:
        return high
    return min(max(last.at - (last.at - first.at) * ((last.slope + d2 - d1) / divisor), low), high)


class _LineSearch:
    """The search for a step along a direction. `evaluate(t)` gives the loss and the gradient at a distance."""

    def __init__(self, evaluate: Callable[[float], tuple[float, Tensor]], direction: Tensor, start: _Point, most: int):
        self.evaluate, self.direction, self.start, self.most = evaluate, direction, start, most
        self.evaluations = 0

    def point(self, at: float) -> _Point:
        self.evaluations += 1
        loss, gradient = self.evaluate(at)
        return _Point(at, loss, gradient, float(gradient.dot(self.direction)))

    def falls_short(self, p: _Point) -> bool:
        """Whether the loss has not decreased enough."""
        return p.loss > self.start.loss + _DECREASE * p.at * self.start.slope

    def is_flat(self, p: _Point) -> bool:
        return abs(p.slope) <= -_SLOPE * self.start.slope

    def find(self, at: float, tolerance: float) -> _Point:
        """A point that meets the conditions, or the best one known when evaluations run out or the bracket gets too small."""
        low, high = self.bracket(at)
        return low if high is None else self.zoom(low, high, tolerance)

    def bracket(self, at: float) -> tuple[_Point, _Point | None]:
        """Two points with one between them that meets the conditions, the one of less loss first; or one that does, and None."""
        before, here = self.start, self.point(at)
        while self.evaluations <= self.most:
            rounds = self.evaluations - 1
            if self.falls_short(here) or (rounds > 1 and here.loss >= before.loss):
                return _ordered(before, here)
            if self.is_flat(here):
                return here, None
            if here.slope >= 0.0:
                return _ordered(before, here)
            least, largest = here.at + 0.01 * (here.at - before.at), here.at * 10.0
            before, here = here, self.point(_minimum(before, here, least, largest))
        return _ordered(self.start, here)

    def zoom(self, low: _Point, high: _Point, tolerance: float) -> _Point:
        """Narrow a bracket. Of three steps in a row, one goes well inside, so that the bracket shrinks from both ends."""
        size, is_stuck = float(self.direction.abs().max()), False
        while self.evaluations <= self.most and abs(high.at - low.at) * size >= tolerance:
            left, right = min(low.at, high.at), max(low.at, high.at)
            at, margin = _minimum(low, high), 0.1 * (right - left)
            if min(right - at, at - left) < margin:
                if is_stuck or at >= right or at <= left:
                    at = right - margin if abs(at - right) < abs(at - left) else left + margin
                    is_stuck = False
                else:
                    is_stuck = True
            else:
                is_stuck = False
            here = self.point(at)
            if self.falls_short(here) or here.loss >= low.loss:
                low, high = _ordered(low, here)
                continue
            if self.is_flat(here):
                return here
            if here.slope * (high.at - low.at) >= 0.0:
                high = low
            low = here
        return low


def _ordered(a: _Point, b: _Point) -> tuple[_Point, _Point]:
    return (a, b) if a.loss <= b.loss else (b, a)


def _direction(state: dict[str, Any], gradient: Tensor, most: int) -> Tensor:
    """Minus the gradient, multiplied by the inverse of the Hessian that the last steps and changes of gradients tell of. Of `most`
    that may be remembered, the weights found on the way are the first in `al`."""
    steps, changes, inverses = state["old_stps"], state["old_dirs"], state["ro"]
    q, weights = -gradient, []
    for s, y, inverse in zip(reversed(steps), reversed(changes), reversed(inverses)):
        weights.append(s.dot(q) * inverse)
        q = q - weights[-1] * y
    found = q * state["H_diag"]
    weights.reverse()
    for s, y, inverse, weight in zip(steps, changes, inverses, weights):
        found = found + (weight - y.dot(found) * inverse) * s
    state["al"] = weights + [None] * (most - len(weights))
    return found


class LBFGS(Optimizer):
    """Limited-memory BFGS, for losses that are the same at every evaluation. `step` needs a closure that computes the loss and its
    gradients, and calls it up to `max_eval` times in up to `max_iter` iterations. It ends where the largest element of the
    gradient is at most `tolerance_grad`, and where steps or losses change by less than `tolerance_change`. `history_size` vectors
    of all parameters are kept twice. `line_search_fn` is "strong_wolfe" or None: steps of length `lr`.

    Raises ValueError for a negative `lr` and for more than one group of parameters, RuntimeError for other line searches.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if line_search_fn not in (None, "strong_wolfe"):
            raise RuntimeError(f"[LBFGS] line_search_fn is {line_search_fn!r}. Use 'strong_wolfe' or None.")
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )
        if len(self.param_groups) != 1:
            raise ValueError(f"[LBFGS] there are {len(self.param_groups)} groups of parameters. Pass one.")

    def _gradient(self) -> Tensor:
        """The gradients of all parameters as one vector; 0 for those that have none."""
        params = self._all_params()
        return cat([(zeros_like(p) if p.grad is None else p.grad.detach()).reshape(-1) for p in params])

    def _move(self, start: list[Tensor], distance: float, direction: Tensor) -> None:
        """Put the parameters at a distance from `start`."""
        at = 0
        for p, from_ in zip(self._all_params(), start):
            n = p.numel()
            p.copy_(from_ + distance * direction[at : at + n].reshape(p.shape))
            at += n

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take up to `max_iter` iterations. Returns the loss that `closure` computed first, at the parameters as they were."""
        if closure is None:
            raise TypeError("[LBFGS] step() needs a closure that computes the loss and its gradients. Pass one.")
        if self._step_pre_hooks is not None:
            self._run_hooks(self._step_pre_hooks)
        with no_grad():
            loss = self._iterate(closure)
        recorder.flush()
        if self._step_hooks is not None:
            self._run_hooks(self._step_hooks)
        return loss

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        group, state = self.param_groups[0], self.state[self._all_params()[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        def evaluate() -> tuple[Any, Tensor]:
            with enable_grad():
                loss = closure()
            state["func_evals"] += 1
            evaluations[0] += 1
            return loss, self._gradient()

        evaluations = [0]
        first, gradient = evaluate()
        if recorder.capturing() and (outside := self._outside()):  # a model that is being exported keeps its parameters
            recorder.capture_note("LBFGS.step", outside)
            return first
        loss, is_done = float(first), self._is_flat(gradient)
        for i in range(group["max_iter"]):
            if is_done:
                break
            direction, t = self._next(state, group, gradient)
            slope = float(gradient.dot(direction))
            state.update(d=direction, t=t, prev_flat_grad=gradient, prev_loss=loss)
            if slope > -group["tolerance_change"]:
                break
            before, start = loss, [p.detach().clone() for p in self._all_params()]
            if group["line_search_fn"] is not None:

                def along(at: float, start=start, direction=direction) -> tuple[float, Tensor]:
                    self._move(start, at, direction)
                    new, gradient = evaluate()
                    return float(new), gradient

                search = _LineSearch(
                    along, direction, _Point(0.0, loss, gradient, slope), group["max_eval"] - evaluations[0]
                )
                t, loss, gradient, _ = search.find(float(t), 1e-9)
                self._move(start, t, direction)
            else:
                self._move(start, t, direction)
                if i + 1 < group["max_iter"]:  # a gradient after the last step would not be used
                    new, gradient = evaluate()
                    loss = float(new)
            state["t"] = t
            is_done = evaluations[0] >= group["max_eval"] or self._is_flat(gradient)
            is_done = is_done or float((direction * t).abs().max()) <= group["tolerance_change"]
            is_done = is_done or abs(loss - before) < group["tolerance_change"]
        return first

    def _is_flat(self, gradient: Tensor) -> bool:
        return float(gradient.abs().max()) <= self.param_groups[0]["tolerance_grad"]

    def _next(self, state: dict[str, Any], group: dict[str, Any], gradient: Tensor) -> tuple[Tensor, Any]:
        """The direction of the next step and the distance to try first; what the last step told is remembered."""
        state["n_iter"] += 1
        lr = group["lr"]
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return -gradient, min(1.0, 1.0 / float(gradient.abs().sum())) * lr
        changes, steps = state["old_dirs"], state["old_stps"]
        change, step = gradient - state["prev_flat_grad"], state["d"] * state["t"]
        curvature = change.dot(step)
        if curvature > 1e-10:
            if len(changes) == group["history_size"]:
                del changes[0], steps[0], state["ro"][0]
            changes.append(change)
            steps.append(step)
            state["ro"].append(1.0 / curvature)
            state["H_diag"] = curvature / change.dot(change)
        return _direction(state, gradient, group["history_size"]), lr
