"""Datasets and loaders. Start with `loader.py`."""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.data.dataset import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, random_split
from flambeau.data.loader import DataLoader, default_collate
from flambeau.data.sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, SubsetRandomSampler

__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "IterableDataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "TensorDataset",
    "default_collate",
    "random_split",
]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.data")
