"""`flambeau.distributions`: probability distributions as in `torch.distributions`. Start with `distribution.py`.

The distributions are those that the files beside this one define: a file put here, or a class put into one, is found by itself.
"""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.declarations import classes as _classes
from flambeau.distributions import constraints, transforms
from flambeau.distributions.constraint_registry import biject_to, transform_to
from flambeau.distributions.distribution import Distribution
from flambeau.distributions.kl import kl_divergence, register_kl
from flambeau.distributions.transforms import Transform

_CLASSES = _classes(__name__, __path__, Distribution, Transform)
globals().update(_CLASSES)
__all__ = [*_CLASSES, "biject_to", "constraints", "kl_divergence", "register_kl", "transform_to", "transforms"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.distributions")
