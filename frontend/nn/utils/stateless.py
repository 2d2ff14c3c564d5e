"""The old home of `func.functional_call`.

In: a module, and values for its parameters. Out: what the module computes with them. Next: `../../func.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.runtime.recorder import Tensor


def functional_call(
    module: Any,
    parameters_and_buffers: dict[str, Tensor],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """See `func.functional_call`."""
    from flambeau.func import functional_call as call  # that module imports this one

    return call(module, parameters_and_buffers, args, kwargs, tie_weights=tie_weights, strict=strict)
