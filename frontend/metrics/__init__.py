"""`flambeau.metrics`: how good predictions are, over many batches and without waiting for any. Start with `metric.py`.

The metrics are the classes that the files beside this one define, and each that reads predictions is a function, too.
"""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import classes as _classes
from flambeau.metrics.functional import (
    accuracy,
    auroc,
    average_precision,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    perplexity,
    precision,
    r2_score,
    recall,
    topk_accuracy,
)
from flambeau.metrics.metric import Metric, MetricCollection

_CLASSES = _classes(__name__, __path__, Metric, MetricCollection)
globals().update(_CLASSES)
__all__ = [
    *_CLASSES,
    "accuracy",
    "auroc",
    "average_precision",
    "confusion_matrix",
    "f1_score",
    "mean_absolute_error",
    "mean_squared_error",
    "perplexity",
    "precision",
    "r2_score",
    "recall",
    "topk_accuracy",
]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.metrics")
