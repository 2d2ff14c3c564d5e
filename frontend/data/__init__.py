"""Datasets and loaders. Start with `loader.py`."""

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
