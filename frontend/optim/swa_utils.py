"""Averages of models: of the last epochs (SWA; Izmailov and others, "Averaging weights leads to wider optima", 2018) or
faded (EMA; Polyak and Juditsky, 1992).

In: a model, again and again while it is trained. Out: a copy whose parameters are averages. Next: `lr_scheduler/swa.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

from flambeau.autograd import no_grad
from flambeau.border import publish
from flambeau.dialects.dtypes import int64
from flambeau.functions.from_data import tensor
from flambeau.nn.module import Module
from flambeau.optim.lr_scheduler.swa import SWALR
from flambeau.runtime.recorder import Tensor

__all__ = [
    "SWALR",
    "AveragedModel",
    "get_ema_avg_fn",
    "get_ema_multi_avg_fn",
    "get_swa_avg_fn",
    "get_swa_multi_avg_fn",
    "update_bn",
]

#: (average, parameter, how many were averaged) -> the new average
_Average = Callable[[Tensor, Tensor, Any], Tensor]
_Averages = Callable[[list[Tensor], list[Tensor], Any], None]


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"[swa_utils] decay is {decay}. Use a number from 0 to 1.")


def get_ema_avg_fn(decay: float = 0.999) -> _Average:
    """An `avg_fn` for exponential averages: decay * average + (1 - decay) * parameter. Raises ValueError outside of [0, 1]."""
    _check_decay(decay)

    def ema(average: Tensor, current: Tensor, count: Any) -> Tensor:
        return decay * average + (1 - decay) * current

    return ema


def get_swa_avg_fn() -> _Average:
    """An `avg_fn` for averages that weigh all models alike."""

    def swa(average: Tensor, current: Tensor, count: Any) -> Tensor:
        return average + (current - average) / (count + 1)

    return swa


def _of_all(one: _Average) -> _Averages:
    def update(averages: list[Tensor], current: list[Tensor], count: Any) -> None:
        with no_grad():
            for average, p in zip(averages, current):
                average.copy_(one(average, p, count))

    return update


def get_ema_multi_avg_fn(decay: float = 0.999) -> _Averages:
    """A `multi_avg_fn` for exponential averages. Raises ValueError for a `decay` outside of [0, 1]."""
    return _of_all(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> _Averages:
    """A `multi_avg_fn` for averages that weigh all models alike."""
    return _of_all(get_swa_avg_fn())


class AveragedModel(Module):
    """A copy of `model`, as `module`, whose parameters (and buffers, with `use_buffers`) become averages of those that
    `update_parameters` is given: all alike unless `avg_fn` says otherwise, or `multi_avg_fn`, which is given all of them and
    writes. The first update copies. Other buffers are copied each time.

    Raises AssertionError where both functions are given.
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: _Average | None = None,
        multi_avg_fn: _Averages | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("[AveragedModel] avg_fn and multi_avg_fn exclude each other. Pass one of them.")
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model gives."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: Module) -> None:
        """Take the parameters of `model` into the averages."""
        with no_grad():
            averages, current = (self._averaged(m) for m in (self.module, model))
            current = [p.to(average.device) for average, p in zip(averages, current, strict=True)]
            if self.n_averaged == 0:
                for average, p in zip(averages, current):
                    average.copy_(p)
            elif self.multi_avg_fn is not None:
                self.multi_avg_fn(averages, current, self.n_averaged)
            else:
                _of_all(self.avg_fn or get_swa_avg_fn())(averages, current, self.n_averaged)
            if not self.use_buffers:
                for copy, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
                    copy.detach().copy_(buffer.detach().to(copy.device))
            self.n_averaged += 1

    def _averaged(self, model: Module) -> list[Tensor]:
        found = chain(model.parameters(), model.buffers()) if self.use_buffers else model.parameters()
        return [p.detach() for p in found]


def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Compute the running statistics of the batch norms of `model` anew, over all batches of `loader`: inputs, or tuples that
    begin with them."""
    norms = [m for m in model.modules() if hasattr(m, "reset_running_stats") and hasattr(m, "momentum")]
    if not norms:
        return
    momenta, was_training = [m.momentum for m in norms], model.training
    model.train()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
    try:
        with no_grad():
            for batch in loader:
                x = batch[0] if isinstance(batch, (list, tuple)) else batch
                model(x if device is None else x.to(device))
    finally:
        for m, momentum in zip(norms, momenta):
            m.momentum = momentum
        model.train(was_training)


publish(globals(), __all__)
