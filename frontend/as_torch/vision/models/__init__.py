"""Models of images under torchvision's names, whose state dicts have torchvision's keys; weights are loaded from files, never
downloaded.

Next: `resnet.py`, `plain.py`, `weights.py`.
"""

from flambeau.as_torch.vision.models import plain, resnet
from flambeau.as_torch.vision.models.plain import *  # noqa: F403
from flambeau.as_torch.vision.models.resnet import *  # noqa: F403
from flambeau.as_torch.vision.models.weights import Names

__all__ = [*plain.__all__, *resnet.__all__]

_weights = Names({**vars(plain), **vars(resnet)}, __all__)
__getattr__ = _weights.find
