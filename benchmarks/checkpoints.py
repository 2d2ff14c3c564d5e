"""Checkpoints beside `cp`: a state dict and a whole training saved, and a file mapped.

    python benchmarks/checkpoints.py [MEGABYTES] [FOLDER]

By default of 1024 MB, in the folder for temporary files. `cp` is that of the same file or folder, followed by an fsync of what
it made and of the folder that it stands in; they take turns in a random order, medians of five. Mapping is timed for this file and
for one with as many tensors, each a sixteenth as large.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import flambeau as fb
from flambeau.checkpoints import CheckpointManager
from flambeau.replacing import sync

TURNS, MB = 5, 1 << 20


def copied(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", source, target], check=True)
    for path in (*target.rglob("*"), target, target.parent):
        sync(path)


def turns(steps: dict[str, Callable[[Path], object]], place: Path) -> dict[str, float]:
    """Medians of seconds; each step writes to a path that is not there."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TURNS):
        for name in random.sample(list(steps), len(steps)):
            target = place / name
            began = time.perf_counter()
            steps[name](target)
            times[name].append(time.perf_counter() - began)
            shutil.rmtree(target) if target.is_dir() else target.unlink()
    return {name: median(each) for name, each in times.items()}


def tell(what: str, found: dict[str, float]) -> None:
    for name, seconds in found.items():
        print(f"{what:12}{name:20}{seconds:8.3f} s{found['cp'] / seconds:8.2f} of cp", flush=True)


def layers(megabytes: int, width: int = 2048) -> fb.nn.Module:
    return fb.nn.Sequential(*(fb.nn.Linear(width, width, bias=False) for _ in range(max(1, megabytes // 16))))


def of_files(megabytes: int, place: Path) -> None:
    state = layers(megabytes).state_dict()
    source = place / "weights.safetensors"
    fb.save(state, source)
    names = ("made.safetensors", "made.pt")
    tell("a file", turns({"cp": lambda t: copied(source, t), **{n: lambda t: fb.save(state, t) for n in names}}, place))
    small = place / "small.safetensors"
    fb.save(layers(megabytes, 512).state_dict(), small)
    for path in (small, source):
        times = []
        for _ in range(21):
            began = time.perf_counter()
            fb.load(path, mmap=True)
            times.append(time.perf_counter() - began)
        count = len(fb.load(path, mmap=True))
        print(f"mapping {path.stat().st_size // MB} MB in {count} tensors: {median(times) * 1e3:.2f} ms", flush=True)
    source.unlink()


def of_trainings(megabytes: int, place: Path) -> None:
    model = layers(megabytes // 3)
    optimizer = fb.optim.Adam(model.parameters())
    model(fb.ones(1, 2048)).sum().backward()
    optimizer.step()
    source = CheckpointManager(place / "source", model=model, optimizer=optimizer).save(0)
    steps = {
        "cp": lambda t: copied(source, t),
        "CheckpointManager": lambda t: CheckpointManager(t, model=model, optimizer=optimizer).save(1),
    }
    tell("a training", turns(steps, place))


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        of_files(megabytes, Path(folder))
        of_trainings(megabytes, Path(folder))


if __name__ == "__main__":
    main()
