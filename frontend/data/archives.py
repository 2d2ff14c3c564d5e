"""Tar archives as streams of samples, in webdataset's conventions, and how to write them.

In: archives whose neighbouring files share a name up to the first dot: `a/01.jpg`, `a/01.cls`. Out: samples, dicts from endings
to contents with the name as `__key__`; archives. They are read from front to back, compressed or not, and never unpacked. Next:
`archive_tools.py`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from flambeau import generator as generators
from flambeau.data.dataset import IterableDataset
from flambeau.data.pictures import IMAGE_ENDINGS, read_image
from flambeau.data.worker import get_worker_info
from flambeau.functions.from_data import tensor
from flambeau.runtime.recorder import Tensor

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand(pattern: str) -> list[str]:
    """The names that a pattern such as `train-{000..011}.tar` stands for."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found[1], found[2]
    names = (
        f"{pattern[: found.start()]}{i:0{len(first)}d}{pattern[found.end() :]}"
        for i in range(int(first), int(last) + 1)
    )
    return [name for each in names for name in expand(each)]


def split_name(name: str) -> tuple[str, str]:
    """(key, ending): cut at the first dot after the last slash. The ending has no capitals."""
    folder, slash, file = name.rpartition("/")
    stem, _, ending = file.partition(".")
    return folder + slash + stem, ending.lower()


def members(path: Any) -> Iterator[tuple[str, bytes]]:
    """The files of an archive, from front to back. Raises ValueError for a malformed one."""
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield member.name, file.read()
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"[TarStream] '{path}' is malformed: {error}. Write it anew.") from error


def samples(path: Any) -> Iterator[dict[str, Any]]:
    """The samples of an archive, their contents as bytes. Raises ValueError where a sample has an ending twice."""
    sample: dict[str, Any] = {}
    for name, data in members(path):
        key, ending = split_name(name)
        if not ending or os.path.basename(key).startswith("__"):
            continue
        if sample and sample["__key__"] != key:
            yield sample
            sample = {}
        if ending in sample:
            raise ValueError(f"[TarStream] '{path}' has '{name}' twice in a row. Give samples names of their own.")
        sample = sample or {"__key__": key, "__url__": os.fspath(path)}
        sample[ending] = data
    if sample:
        yield sample


# ---- contents ---------------------------------------------------------------------------------------------------


def decoded(ending: str, data: bytes, mode: str = "RGB") -> Any:
    """What the bytes of a file mean by the last part of its ending: images, `cls`, `index` and such (ints), `txt`, `json`, `npy`;
    others stay bytes. Nothing is executed: pickles stay bytes."""
    last = ending.rpartition(".")[2]
    if f".{last}" in IMAGE_ENDINGS:
        return read_image(io.BytesIO(data), mode)
    if last in ("cls", "cls2", "class", "count", "index", "inx", "id"):
        return int(data)
    if last in ("txt", "text", "transcript"):
        return data.decode()
    if last in ("json", "jsn"):
        return json.loads(data)
    if last == "npy":
        return tensor(np.load(io.BytesIO(data), allow_pickle=False))
    return data


def encoded(ending: str, value: Any) -> bytes:
    """The bytes to store: the reverse of `decoded`. Raises TypeError for a value that the ending does not take."""
    last = ending.rpartition(".")[2]
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if last in ("json", "jsn"):
        return json.dumps(value).encode()
    stream = io.BytesIO()
    if f".{last}" in IMAGE_ENDINGS and isinstance(value, Tensor | np.ndarray):
        from PIL import Image

        array = value.numpy() if isinstance(value, Tensor) else value
        planes = np.moveaxis(array, 0, 2) if isinstance(value, Tensor) else array
        Image.fromarray(planes[..., 0] if planes.shape[-1] == 1 else planes).save(
            stream, Image.registered_extensions()[f".{last}"]
        )
    elif last == "npy" and isinstance(value, Tensor | np.ndarray):
        np.save(stream, np.asarray(value.numpy() if isinstance(value, Tensor) else value), allow_pickle=False)
    elif isinstance(value, int):
        return str(value).encode()
    else:
        raise TypeError(f"[TarWriter] '{ending}' does not take {type(value).__name__}. Pass bytes.")
    return stream.getvalue()


# ---- reading ----------------------------------------------------------------------------------------------------


class TarStream(IterableDataset[Any]):
    """Samples of archives: `paths` is a path, a pattern such as `train-{000..011}.tar`, or several. Workers share the archives,
    or the samples where there are fewer archives than workers.

    Steps that follow each give a new stream: `decode`, `shuffle`, `to_tuple`, `map`, `select`. Raises FileNotFoundError, when
    it is read, for an archive that is not there.
    """

    def __init__(self, paths: Any, shuffle_archives: bool = False) -> None:
        many = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        self.paths = [name for path in many for name in expand(os.fspath(path))]
        self.shuffle_archives, self._epoch = shuffle_archives, 0
        self._steps: tuple[Callable[[Iterator[Any], np.random.Generator], Iterator[Any]], ...] = ()

    def _with(self, step: Callable[[Iterator[Any], np.random.Generator], Iterator[Any]]) -> TarStream:
        made = TarStream(self.paths, self.shuffle_archives)
        made._steps = (*self._steps, step)
        return made

    def decode(self, mode: str = "RGB") -> TarStream:
        """Contents by their endings (see `decoded`); "L" reads images as gray ones. Errors name the sample."""

        def step(stream: Iterator[Any], chance: np.random.Generator) -> Iterator[Any]:
            for sample in stream:
                try:
                    yield {k: v if k.startswith("__") else decoded(k, v, mode) for k, v in sample.items()}
                except Exception as error:
                    error.add_note(f"[TarStream] this was at sample '{sample['__key__']}' of '{sample['__url__']}'.")
                    raise

        return self._with(step)

    def shuffle(self, size: int) -> TarStream:
        """An order by chance, through a buffer of `size` samples: each comes from a random place of it. It follows from
        `manual_seed`, the epoch and the worker."""
        if size < 1:
            raise ValueError(f"[TarStream.shuffle] size is {size}. Use at least 1.")

        def step(stream: Iterator[Any], chance: np.random.Generator) -> Iterator[Any]:
            buffer = list(islice(stream, size))
            for sample in stream:
                place = int(chance.integers(len(buffer)))
                yield buffer[place]
                buffer[place] = sample
            for place in chance.permutation(len(buffer)):
                yield buffer[place]

        return self._with(step)

    def map(self, function: Callable[[Any], Any]) -> TarStream:
        """`function` of every sample."""
        return self._with(lambda stream, chance: map(function, stream))

    def select(self, predicate: Callable[[Any], bool]) -> TarStream:
        """The samples for which it is true."""
        return self._with(lambda stream, chance: filter(predicate, stream))

    def to_tuple(self, *endings: str) -> TarStream:
        """Tuples of contents: each of `endings` names one, or several with semicolons of which the first that is there counts:
        `to_tuple("jpg;png", "cls")`. Raises KeyError, when it is read, for a sample without."""
        wanted = [each.split(";") for part in endings for each in part.split()]

        def pick(sample: dict[str, Any]) -> tuple[Any, ...]:
            found = []
            for names in wanted:
                name = next((n for n in names if n in sample), None)
                if name is None:
                    raise KeyError(
                        f"[TarStream] sample '{sample['__key__']}' of '{sample['__url__']}' has no {' or '.join(names)}, but "
                        f"{', '.join(k for k in sample if k[:2] != '__')}. Name what it has."
                    )
                found.append(sample[name])
            return tuple(found)

        return self.map(pick)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        number, count = (info.id, info.num_workers) if info else (0, 1)
        seed, offset = generators.default_generator._advance(0)
        common = [info.seed - number, 0] if info else [seed % 2**64, offset % 2**64]
        epoch, self._epoch = self._epoch, self._epoch + 1
        paths = list(self.paths)
        if self.shuffle_archives:
            np.random.default_rng([*common, epoch]).shuffle(paths)
        shared = len(paths) >= count
        stream = self._read(paths[number::count] if shared else paths)
        stream = stream if shared else islice(stream, number, None, count)
        chance = np.random.default_rng([*common, epoch, number])
        for step in self._steps:
            stream = step(stream, chance)
        return stream

    @staticmethod
    def _read(paths: Sequence[str]) -> Iterator[Any]:
        for path in paths:
            if not os.path.exists(path):
                raise FileNotFoundError(f"[TarStream] there is no '{path}'. Check the path.")
            yield from samples(path)


# ---- writing ----------------------------------------------------------------------------------------------------


class TarWriter:
    """Writes samples to an archive, which is there when it is complete: `with TarWriter("a.tar") as w: w.write({"__key__":
    "01", "jpg": data, "cls": 3})`. A name with `.gz` is compressed. What is written is the same for the same samples."""

    def __init__(self, path: Any) -> None:
        self.path, self.count, self.size = os.fspath(path), 0, 0
        folder, name = os.path.split(self.path)
        self._partial = os.path.join(folder, f".{name}.{os.getpid()}.partial")
        mode: Any = "w:gz" if name.endswith("gz") else "w"
        self._archive: Any = tarfile.open(self._partial, mode, format=tarfile.USTAR_FORMAT)

    def write(self, sample: dict[str, Any]) -> None:
        """Add a sample: contents as bytes, or values that `encoded` takes. Raises ValueError without `__key__`."""
        key = sample.get("__key__")
        if not key or "." in os.path.basename(str(key)):
            raise ValueError(f"[TarWriter] a sample has the __key__ {key!r}. Give a name without dots.")
        for ending, value in sample.items():
            if not ending.startswith("__"):
                self.add(f"{key}.{ending}", encoded(ending, value))
        self.count += 1

    def add(self, name: str, data: bytes) -> None:
        """Add a file."""
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(data), 0o644
        self._archive.addfile(entry, io.BytesIO(data))
        self.size += len(data)

    def close(self) -> None:
        """Complete the archive."""
        if self._archive is not None:
            self._archive.close()
            self._archive = None
            os.replace(self._partial, self.path)

    def discard(self) -> None:
        """Leave nothing."""
        if self._archive is not None:
            with contextlib.suppress(Exception):
                self._archive.close()
            self._archive = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._partial)

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class ShardWriter:
    """Writes samples to archives of at most `maxcount` samples and about `maxsize` bytes: `ShardWriter("train-%06d.tar",
    1000)`."""

    def __init__(self, pattern: str, maxcount: int = 100_000, maxsize: float = 3e9) -> None:
        if maxcount < 1:
            raise ValueError(f"[ShardWriter] maxcount is {maxcount}. Use at least 1.")
        self.pattern, self.maxcount, self.maxsize = pattern, maxcount, maxsize
        self.paths: list[str] = []
        self._writer: TarWriter | None = None
        try:
            pattern % 0
        except (TypeError, ValueError):
            raise ValueError(f"[ShardWriter] the pattern '{pattern}' has no place for a number. Use %06d.") from None

    def write(self, sample: dict[str, Any]) -> None:
        """Add a sample, to the next archive where this one is full."""
        writer = self._writer
        if writer is not None and (writer.count >= self.maxcount or writer.size >= self.maxsize):
            writer.close()
            writer = None
        if writer is None:
            self.paths.append(self.pattern % len(self.paths))
            writer = self._writer = TarWriter(self.paths[-1])
        writer.write(sample)

    def close(self) -> None:
        """Complete the last archive."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, *rest)
