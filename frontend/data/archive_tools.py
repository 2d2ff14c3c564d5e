"""Tools for archives of samples: `flambeau-data shard`, `merge` and `label`, and the functions behind them.

In: folders of files, or archives. Out: archives, and lists of labels. Next: `archives.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from flambeau.data.archives import ShardWriter, expand, samples, split_name
from flambeau.runtime import progress


def _of_folder(folder: str) -> Iterator[dict[str, Any]]:
    """The files of a folder as samples. Where none has a label, and they lie in folders, the first folder is the label."""
    found: dict[str, dict[str, str]] = {}
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            key, ending = split_name(os.path.relpath(os.path.join(where, name), folder))
            if ending:
                found.setdefault(key, {})[ending] = os.path.join(where, name)
    classes = sorted({key.partition("/")[0] for key in found if "/" in key})
    is_labelled = any(_label_ending(files) for files in found.values())
    for key in progress.over(sorted(found), "reading files", "sample"):
        sample: dict[str, Any] = {"__key__": key}
        for ending, path in found[key].items():
            with open(path, "rb") as file:
                sample[ending] = file.read()
        if not is_labelled and "/" in key:
            sample["cls"] = classes.index(key.partition("/")[0])
        yield sample


def _label_ending(sample: dict[str, Any]) -> str | None:
    return next((ending for ending in sample if ending.rpartition(".")[2] in ("cls", "label")), None)


def _of(inputs: Sequence[str]) -> Iterator[dict[str, Any]]:
    paths = [path for each in inputs for path in expand(each)]
    for path in paths:
        if not os.path.exists(path):
            raise FileNotFoundError(f"[flambeau-data] there is no '{path}'. Check the path.")
    return chain.from_iterable(_of_folder(p) if os.path.isdir(p) else samples(p) for p in paths)


def label(sample: dict[str, Any]) -> str:
    """The label of a sample: its `cls` or `label` file, else the name of the first folder in its key. Raises ValueError without
    either."""
    ending = _label_ending(sample)
    if ending is not None:
        return sample[ending].decode().strip() if isinstance(sample[ending], bytes) else str(sample[ending])
    folder, slash, _ = sample["__key__"].partition("/")
    if not slash:
        raise ValueError(f"[flambeau-data] sample '{sample['__key__']}' has no label. Add a .cls file, or a folder.")
    return folder


def shard(inputs: Sequence[str], pattern: str, maxcount: int, seed: int | None = None) -> list[str]:
    """Write the samples of folders and archives to archives of at most `maxcount`; in random order if there is a seed, which
    takes the memory of all. Returns the paths."""
    stream: Iterator[dict[str, Any]] = _of(inputs)
    if seed is not None:
        everything = list(stream)
        stream = (everything[i] for i in np.random.default_rng(seed).permutation(len(everything)))
    with ShardWriter(pattern, maxcount) as writer:
        for sample in stream:
            writer.write(sample)
    return writer.paths


def merge(inputs: Sequence[str], pattern: str, maxcount: int = 2**62, seed: int = 0) -> list[str]:
    """Write the samples of several archives to others, labels in turn: every part of the result has each of them about as often
    as the whole. Within a label the order is by chance. It takes the memory of all samples. Returns the paths."""
    chance = np.random.default_rng(seed)
    by_label: dict[str, list[dict[str, Any]]] = {}
    for number, sample in enumerate(_of(inputs)):
        sample["__key__"] = f"{sample['__key__']}-{number}"  # keys of two archives may be alike
        by_label.setdefault(label(sample), []).append(sample)
    places: list[tuple[float, dict[str, Any]]] = []
    for group in by_label.values():
        order = chance.permutation(len(group))
        shift = chance.random()
        places += [((i + shift) / len(group), group[k]) for i, k in enumerate(order)]
    places.sort(key=lambda pair: pair[0])
    with ShardWriter(pattern, maxcount) as writer:
        for _, sample in places:
            writer.write(sample)
    return writer.paths


def labels(inputs: Sequence[str]) -> dict[str, int]:
    """The labels that occur, in order (of numbers, if all are), and how often."""
    found: dict[str, int] = {}
    for sample in _of(inputs):
        name = label(sample)
        found[name] = found.get(name, 0) + 1
    by_number = all(name.lstrip("-").isdecimal() for name in found)
    return dict(sorted(found.items(), key=lambda pair: int(pair[0]) if by_number else pair[0]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser("flambeau-data", description="Tools for tar archives of samples.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (
        ("shard", "cut folders and archives into archives"),
        ("merge", "join archives, labels in turn"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("inputs", nargs="+")
        command.add_argument("--to", required=True, help="a pattern such as train-%%06d.tar")
        command.add_argument("--count", type=int, default=10_000, help="samples in each archive")
        command.add_argument("--seed", type=int, help="shuffle")
    command = commands.add_parser("label", help="list the labels and how often each occurs")
    command.add_argument("inputs", nargs="+")
    command.add_argument("--to", help="a JSON file: label to number")
    given = parser.parse_args(arguments)
    try:
        return _run(given)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1


def _run(given: argparse.Namespace) -> int:
    if given.command == "label":
        found = labels(given.inputs)
        for name, count in found.items():
            print(f"{name}\t{count}")
        if given.to:
            with open(given.to, "w") as file:
                json.dump({name: number for number, name in enumerate(found)}, file)
        return 0
    if given.command == "shard":
        paths = shard(given.inputs, given.to, given.count, given.seed)
    else:
        paths = merge(given.inputs, given.to, given.count, given.seed or 0)
    print("\n".join(paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
