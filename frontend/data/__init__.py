"""Datasets and loaders. Start with `loader.py`."""

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.data.archives import ShardWriter, TarStream, TarWriter
from flambeau.data.collate import default_collate, default_convert
from flambeau.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from flambeau.data.lengths import BucketBatchSampler, pad_collate
from flambeau.data.loader import DataLoader
from flambeau.data.pictures import CIFAR10, MNIST, DatasetFolder, Digits, FashionMNIST, ImageFolder, read_image
from flambeau.data.records import Records, RecordWriter
from flambeau.data.sampler import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from flambeau.data.tables import TableDataset
from flambeau.data.text import Characters
from flambeau.data.worker import get_worker_info

__all__ = [
    "CIFAR10",
    "MNIST",
    "BatchSampler",
    "BucketBatchSampler",
    "ChainDataset",
    "Characters",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DatasetFolder",
    "Digits",
    "DistributedSampler",
    "FashionMNIST",
    "ImageFolder",
    "IterableDataset",
    "RandomSampler",
    "RecordWriter",
    "Records",
    "Sampler",
    "SequentialSampler",
    "ShardWriter",
    "StackDataset",
    "Subset",
    "SubsetRandomSampler",
    "TableDataset",
    "TarStream",
    "TarWriter",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "default_convert",
    "get_worker_info",
    "pad_collate",
    "random_split",
    "read_image",
]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.data")
