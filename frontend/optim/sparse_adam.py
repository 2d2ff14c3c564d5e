"""`SparseAdam`: Adam for gradients in sparse layouts, of which there are none here.

In: options and parameters, checked as PyTorch checks them. Out: `step` says of a gradient what PyTorch says of a dense one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flambeau.optim.counted import check_betas
from flambeau.optim.optimizer import Optimizer
from flambeau.runtime.recorder import Tensor


class SparseAdam(Optimizer):
    """Adam that leaves alone what a sparse gradient does not name. Gradients are dense here, so `step` raises RuntimeError as
    PyTorch's does for these: use `Adam`.

    Raises ValueError for an `lr` or `eps` that is not above 0, for betas outside of [0, 1) and for complex parameters.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        for name in ("lr", "eps"):
            if not group[name] > 0.0:
                raise ValueError(f"[SparseAdam] {name} is {group[name]}. Use a number above 0.")
        check_betas("SparseAdam", group["betas"])
        for p in group["params"]:
            if p.dtype.is_complex:
                raise ValueError(f"[SparseAdam] a parameter is {p.dtype.name}. Give complex ones to another optimizer.")

    def _updates(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Callable[[], Any]]:
        if not params:
            return []
        raise RuntimeError("[SparseAdam] a gradient is dense, as all are here. Use Adam.")
