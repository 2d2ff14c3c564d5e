"""Mixed precision: `autocast`, in whose blocks products are computed in bfloat16 or float16, and `GradScaler`.

In: a model and its optimizer. Out: the same, trained in less precision where PyTorch's lists say so. Next: `autocast_mode.py`,
`grad_scaler.py`.
"""

import sys
from importlib import import_module
from typing import Any

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.amp.autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]

_border.publish(globals(), ["custom_bwd", "custom_fwd", "is_autocast_available"])


def __getattr__(name: str) -> Any:
    if name == "GradScaler":  # imported when first used: it brings the optimizers
        cls = import_module("flambeau.amp.grad_scaler").GradScaler
        _border.publish_class(cls)
        return cls
    raise _missing.error("flambeau.amp", name, sys.modules[__name__])
