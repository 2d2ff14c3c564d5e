"""Written by `python tools/stubs.py` from the declarations of public functions."""
from flambeau.optim.lr_scheduler.composed import ChainedScheduler as ChainedScheduler
from flambeau.optim.lr_scheduler.steps import ConstantLR as ConstantLR
from flambeau.optim.lr_scheduler.cosine import CosineAnnealingLR as CosineAnnealingLR
from flambeau.optim.lr_scheduler.cosine import CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts
from flambeau.optim.lr_scheduler.cycles import CyclicLR as CyclicLR
from flambeau.optim.lr_scheduler.steps import ExponentialLR as ExponentialLR
from flambeau.optim.lr_scheduler.scheduler import LRScheduler as LRScheduler
from flambeau.optim.lr_scheduler.steps import LambdaLR as LambdaLR
from flambeau.optim.lr_scheduler.steps import LinearLR as LinearLR
from flambeau.optim.lr_scheduler.steps import MultiStepLR as MultiStepLR
from flambeau.optim.lr_scheduler.steps import MultiplicativeLR as MultiplicativeLR
from flambeau.optim.lr_scheduler.cycles import OneCycleLR as OneCycleLR
from flambeau.optim.lr_scheduler.steps import PolynomialLR as PolynomialLR
from flambeau.optim.lr_scheduler.plateau import ReduceLROnPlateau as ReduceLROnPlateau
from flambeau.optim.lr_scheduler.swa import SWALR as SWALR
from flambeau.optim.lr_scheduler.composed import SequentialLR as SequentialLR
from flambeau.optim.lr_scheduler.steps import StepLR as StepLR

