"""`autograd.anomaly_mode`: PyTorch's module of that name, for programs that import from it.

In: nothing. Out: what `anomaly.py` defines. Next: `anomaly.py`.
"""

from flambeau.anomaly import detect_anomaly, set_detect_anomaly

__all__ = ["detect_anomaly", "set_detect_anomaly"]
