"""`GradScaler`: losses times a factor, so that gradients of float16 do not vanish, and steps left out where they overflow.

In: a loss; an optimizer whose parameters have gradients of the scaled loss. Out: a step, made or left out by a choice within its
program: whether a gradient was infinite is a tensor, which nobody reads. Next: `optim/optimizer.py`.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from flambeau import cuda
from flambeau.autograd import no_grad
from flambeau.dialects.dtypes import float16, float32, int32
from flambeau.function import Operand, Tensor_, Tensors, inplace
from flambeau.functions.common import ops
from flambeau.functions.create import full
from flambeau.functions.transfer import moved
from flambeau.optim.optimizer import Optimizer
from flambeau.runtime.recorder import Tensor


@inplace(name="unscale_", writes="grads,found_inf")
def _unscale(grads: Tensors, found_inf: Tensor_, scale: Tensor_):
    """The gradients over `scale`; `found_inf` is 1 where one of them is infinite or NaN."""
    inverse, bad = (1.0 / scale).cast(float32), found_inf > 0.0
    new = []
    for g in grads:
        wide = g.cast(g.dtype.accumulation)
        strange = (wide - wide).ne(0.0)
        bad = ops.or_(bad, ops.any(strange, axes=tuple(range(len(g.shape)))) if g.shape else strange)
        new.append((wide * inverse.cast(wide.dtype).expand(g.shape)).cast(g.dtype))
    return [*new, bad.cast(float32)]


@inplace(name="update", writes="scale,tracker")
def _update(scale: Tensor_, tracker: Tensor_, found_inf: Tensor_, growth: Operand, backoff: Operand, interval: Operand):
    """The next scale, and how many steps in a row were good. A scale that would be infinite stays."""
    bad, count = found_inf > 0.0, tracker + 1
    is_due = count.eq(interval.cast(int32))
    grown = scale * growth.cast(float32)
    grown = ops.select((grown - grown).eq(0.0), grown, scale)
    new = ops.select(bad, scale * backoff.cast(float32), ops.select(is_due, grown, scale))
    return [new, ops.select(ops.or_(bad, is_due), tracker.like(0), count)]


def _sum(found: list[Tensor]) -> Tensor:
    total = found[0]
    for x in found[1:]:
        total = total + x
    return total


def _everywhere(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """By device, whether a gradient on any of them is not finite."""
    if len(found) == 1:
        return found
    with no_grad():
        return {place: _sum([moved(x, place) for x in found.values()]) for place in found}


class _State:
    """What a scaler knows of an optimizer since the last `update`."""

    def __init__(self) -> None:
        self.is_unscaled = self.is_stepped = False
        self.found: dict[str, Tensor] = {}  # by device: whether a gradient is not finite


class GradScaler:
    """Scales losses, unscales gradients, leaves out steps with gradients that are not finite, and adapts its scale: times
    `backoff_factor` after such a step, times `growth_factor` after `growth_interval` others.

        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    A step reads nothing back: it is left out by a choice within its program. One for GPUs is disabled, with a warning, where there
    are none. Raises AssertionError for factors on the wrong side of 1.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._device, self._enabled = device, enabled
        if enabled and device == "cuda" and not cuda.is_available():
            warnings.warn("[GradScaler] there is no GPU: it is disabled. Use GradScaler('cpu').", stacklevel=2)
            self._enabled = False
        if self._enabled and not (growth_factor > 1.0 and backoff_factor < 1.0):
            raise AssertionError(
                f"[GradScaler] growth_factor is {growth_factor}, backoff_factor {backoff_factor}. "
                "Use one above 1 and one below."
            )
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval, self._init_scale, self._init_growth_tracker = growth_interval, init_scale, 0
        self._scale: Tensor | None = None
        self._growth_tracker: Tensor | None = None
        self._states: defaultdict[int, _State] = defaultdict(_State)

    # ---- a step ----------------------------------------------------------------------------------------

    def scale(self, outputs: Any) -> Any:
        """A tensor, or a list, tuple or iterable of tensors, times the scale. Raises ValueError for what is none of these."""
        if not self._enabled:
            return outputs
        if isinstance(outputs, Tensor):
            if self._scale is None:
                self._scale = full((), self._init_scale, dtype=float32, device=outputs.device)
                self._growth_tracker = full((), self._init_growth_tracker, dtype=int32, device=outputs.device)
            return outputs * moved(self._scale, outputs._place)
        if isinstance(outputs, list | tuple):
            return type(outputs)(self.scale(each) for each in outputs)
        if isinstance(outputs, Iterable):
            return map(self.scale, outputs)
        raise ValueError(f"[GradScaler.scale] outputs is a {type(outputs).__name__}. Pass tensors.")

    def _needed(self, op: str) -> tuple[Tensor, Tensor]:
        if self._scale is None or self._growth_tracker is None:
            raise AssertionError(f"[GradScaler.{op}] nothing was scaled yet. Call scaler.scale(loss).backward() first.")
        return self._scale, self._growth_tracker

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the scale, to look at or clip them before `step`.

        Raises RuntimeError for the second time since `update`, and after `step`; ValueError for gradients of float16.
        """
        if not self._enabled:
            return
        scale, _ = self._needed("unscale_")
        state = self._states[id(optimizer)]
        if state.is_unscaled or state.is_stepped:
            when = "after step()" if state.is_stepped else "twice"
            raise RuntimeError(
                f"[GradScaler.unscale_] it was called {when} since the last update(). Call it once, before step()."
            )
        params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if any(p.grad.dtype is float16 for p in params):
            raise ValueError(
                "[GradScaler.unscale_] a gradient is of float16. Keep parameters in float32, and use autocast."
            )
        with no_grad():
            for place in dict.fromkeys([p._place for p in params]):
                grads = list({id(p.grad): p.grad for p in params if p._place == place}.values())
                found = full((), 0.0, dtype=float32, device=place)
                _unscale(grads, found, moved(scale, place))
                state.found[place] = found
        state.is_unscaled = True

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`unscale_`, unless that was done, and `optimizer.step(*args, **kwargs)`, which changes nothing where a gradient is not
        finite.

        Raises RuntimeError for a closure, and for the second time since `update`; AssertionError without gradients.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs or args:
            raise RuntimeError(
                "[GradScaler.step] steps with a closure cannot be left out. Call optimizer.step without it."
            )
        self._needed("step")
        state = self._states[id(optimizer)]
        if state.is_stepped:
            raise RuntimeError(
                "[GradScaler.step] it was called twice since the last update(). Call update() in between."
            )
        if not state.is_unscaled:
            self.unscale_(optimizer)
        if not state.found:
            raise AssertionError(
                "[GradScaler.step] no parameter of the optimizer has a gradient. Call backward() first."
            )
        found = _everywhere(state.found)
        state.is_stepped = True
        if type(optimizer).step is not Optimizer.step:  # a step of its own, which can only be left out by looking
            return None if next(iter(found.values())).item() else optimizer.step(**kwargs)
        optimizer._skipped_if = found
        try:
            return optimizer.step(**kwargs)
        finally:
            optimizer._skipped_if = None

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapt the scale, at the end of an iteration, or set it. Raises AssertionError before the first `step` or `unscale_`."""
        if not self._enabled:
            return
        scale, tracker = self._needed("update")
        with no_grad():
            if new_scale is not None:
                scale.copy_(new_scale) if isinstance(new_scale, Tensor) else scale.fill_(new_scale)
            else:
                found = [moved(x, scale._place) for state in self._states.values() for x in state.found.values()]
                if not found:
                    raise AssertionError("[GradScaler.update] no gradients were looked at. Call step() first.")
                _update(scale, tracker, _sum(found), self._growth_factor, self._backoff_factor, self._growth_interval)
        self._states.clear()

    # ---- asking and setting ----------------------------------------------------------------------------

    def get_scale(self) -> float:
        """The scale, 1 where it is disabled. Reads it."""
        if not self._enabled:
            return 1.0
        return self._init_scale if self._scale is None else self._scale.item()

    def _get_growth_tracker(self) -> int:
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else self._growth_tracker.item()

    def get_growth_factor(self) -> float:
        """By what the scale grows."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set by what the scale grows."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """By what the scale shrinks."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set by what the scale shrinks."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """After how many good steps the scale grows."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set after how many good steps the scale grows."""
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """Scale, factors, interval and the count of good steps, as PyTorch's; empty where it is disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self.get_scale(),
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._get_growth_tracker(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave. Raises RuntimeError for an empty one."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("[GradScaler.load_state_dict] the state is empty. It may be that of a disabled scaler.")
        self._init_scale, self._init_growth_tracker = state_dict["scale"], state_dict["_growth_tracker"]
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._scale = self._growth_tracker = None

    def __getstate__(self) -> dict[str, Any]:
        if self._states:
            raise AssertionError("[GradScaler] it can be pickled after update(), not in the middle of an iteration.")
        now = {"_init_scale": self.get_scale(), "_init_growth_tracker": self._get_growth_tracker()}
        return {**self.__dict__, **(now if self._enabled else {}), "_scale": None, "_growth_tracker": None}
