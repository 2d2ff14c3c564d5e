"""Process replay: which kernels a change to the compiler alters, over every cluster that a test run lowers.

    python tools/process_replay.py record OUT -- tests/test_records_values.py -n 2     # arguments of pytest; before, and after
    python tools/process_replay.py lower OUT                  # samples, random programs and schedules of the tests, never compiled
    python tools/process_replay.py compare BEFORE AFTER                                # status 1 where something differs
    python tools/process_replay.py show BEFORE AFTER DIGEST                            # one difference, as a diff

A cluster is known by the digest of its graph, its target and the values of its symbols; what was made of it is the kernel
calls: text, dims, items, grain, operands, writes, in-place pairs. A refactoring leaves every digest as it was; any other change
says which differ, and why.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import gzip
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_FOLDER = "FLAMBEAU_REPLAY_FOLDER"


# ---- recording: this file is a plug-in of pytest then ---------------------------------------------------------


def described(lowered, graph) -> str:
    """What a code generator made, as text: equal for equal calls. Values are named by what they are to the cluster; those that
    only its calls see are temporaries, whoever numbered them."""
    names = {("value", v): f"output {k}" for k, v in reversed(list(enumerate(graph.outputs)))}
    names.update({("value", v): f"input {k}" for k, v in enumerate(graph.inputs)})
    sizes: list[str] = []

    def named(kind, index) -> str:
        if kind == "status":
            return kind
        if (kind, index) not in names:
            names[kind, index] = f"temporary {len(sizes)}"
            sizes.append(repr(lowered.temps[index] if kind == "temp" else graph.avals[index].nbytes))
        return names[kind, index]

    calls = []
    for call in lowered.calls:
        names_of = [f.name for f in dataclasses.fields(call) if f.name not in ("source", "operands")]
        fields = {name: written(getattr(call, name)) for name in names_of}  # not what was asked of it and kept
        operands = [(named(o.kind, o.index), repr(o.offset)) for o in call.operands]
        calls.append({**fields, "operands": operands, "label": call.source.label, "text": call.source.text})
    aliases = [(f"output {k}", named("value", lowered.aliases.get(v, v))) for k, v in enumerate(graph.outputs)]
    return json.dumps([calls, sizes, aliases], indent=0, sort_keys=True)


def written(value: Any) -> str:
    """A value as text, without what is another number in every process: what steps of a region update goes by its address."""
    return re.sub(r"(?<=[{ ])\d{12,}(?=: )", "address", repr(value))


def pytest_configure() -> None:
    """Wrap the stage that makes kernels; every process appends to a file of its own."""
    path = Path(os.environ[_FOLDER]) / f"{os.getpid()}.jsonl.gz"
    stages = importlib.import_module("flambeau.compiler.stages")
    stages.PROGRAM["kernels"] = recording(stages.PROGRAM["kernels"], path, set())


def recording(kernels: Callable[[Any], None], path: Path, seen: set[str]) -> Callable[[Any], None]:
    from flambeau.compiler.caches.identity import digest
    from flambeau.dialects.identity import graph_bytes
    from flambeau.dialects.size_guards import scope

    def recorded(work: Any) -> None:
        kernels(work)
        has_clusters = bool(work.clusters)  # groups that were read as text have none
        with scope(work.asked.hints):  # what is asked of sizes here is no question of the compiler's
            for cluster, lowered in zip(work.clusters, work.lowered, strict=has_clusters):
                note(work, cluster, lowered)

    def note(work: Any, cluster: Any, lowered: Any) -> None:
        name = digest(cluster.kind, work.options.target, graph_bytes(cluster.graph), repr(work.asked.hints))
        if name not in seen:
            seen.add(name)
            ops = " ".join(node.op.name for node in cluster.graph.nodes)
            with gzip.open(path, "at") as file:
                file.write(json.dumps([name, ops, described(lowered, lowered.graph or cluster.graph)]) + "\n")

    return recorded


def record(folder: Path, arguments: list[str]) -> int:
    folder.mkdir(parents=True, exist_ok=False)
    tools = str(Path(__file__).resolve().parent)
    path = os.pathsep.join(filter(None, [tools, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, _FOLDER: str(folder.resolve()), "PYTHONPATH": path}
    cache = folder.resolve() / "cache"  # of its own, and empty: a plan that is found there lowers nothing
    cache.mkdir(mode=0o700)
    command = [sys.executable, "-m", "pytest", "-p", "process_replay", *arguments]
    return subprocess.run(command, env={**environment, "FLAMBEAU_CACHE": str(cache)}).returncode


# ---- lowering: what costs no compile and no run -------------------------------------------------------------------


def lower(folder: Path) -> int:
    """Record what the programs of `programs` and the schedules of `scheduled` become."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    stages = importlib.import_module("flambeau.compiler.stages")
    options = importlib.import_module("flambeau.compiler.options").Options(fuse=True)
    folder.mkdir(parents=True, exist_ok=False)
    path = folder / "lowered.jsonl.gz"
    stages.PROGRAM["kernels"] = recording(stages.PROGRAM["kernels"], path, set())
    for graph in programs():
        stages.run(graph, options)
    with gzip.open(path, "at") as file:
        file.writelines(json.dumps(row) + "\n" for row in scheduled())
    return 0


def programs() -> Iterator[Any]:
    """The samples of every record in its dtypes, and random programs."""
    import opgen
    import random_graphs

    for record in opgen.records():
        for case in opgen.cases(record):
            yield case.graph
    for seed in range(150):
        yield random_graphs.program(seed).graph


def scheduled() -> Iterator[list[str]]:
    """Nests of every kind under the schedule that is chosen for them and under ones drawn at random."""
    import random

    import schedule_cases

    for kind in schedule_cases.PROGRAMS:
        for case in schedule_cases.cases(kind):
            rng = random.Random(f"{kind} {case.name}")
            drawn = [schedule_cases.drawn(case, rng) for _ in range(12)]
            for schedule in dict.fromkeys(x for x in (case.default, *drawn) if x is not None):
                yield [f"{kind}: {case.name}: {schedule}", kind, case.described(schedule)]


# ---- comparing ------------------------------------------------------------------------------------------------


def read(folder: Path) -> dict[str, tuple[str, str]]:
    """digest -> (names of the cluster's ops, what was made of it)."""
    return {name: (ops, made) for path in sorted(folder.glob("*.jsonl.gz")) for name, ops, made in rows(path)}


def rows(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt") as file:
        yield from map(json.loads, file)


def compare(before: Path, after: Path) -> int:
    old, new = read(before), read(after)
    both = old.keys() & new.keys()
    different = sorted(name for name in both if old[name][1] != new[name][1])
    for name in different:
        print(f"{name}  {old[name][0][:90]}")
    print(
        f"{len(both)} clusters in both runs, {len(different)} lowered otherwise; "
        f"{len(old) - len(both)} only before, {len(new) - len(both)} only after"
    )
    return int(bool(different) or not both)


def show(before: Path, after: Path, name: str) -> int:
    old, new = read(before), read(after)
    matches = [key for key in old.keys() & new.keys() if key.startswith(name)]
    for key in matches:
        texts = [made[key][1].replace("\\n", "\n").splitlines() for made in (old, new)]
        print("\n".join(difflib.unified_diff(*texts, "before", "after", lineterm="")))
    return int(not matches)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("record")
    one.add_argument("folder", type=Path)
    one.add_argument("arguments", nargs="*", metavar="-- PYTEST ARGUMENTS")
    commands.add_parser("lower").add_argument("folder", type=Path)
    two = commands.add_parser("compare")
    three = commands.add_parser("show")
    for command in (two, three):
        command.add_argument("before", type=Path)
        command.add_argument("after", type=Path)
    three.add_argument("digest")
    words = parser.parse_args()
    if words.command == "record":
        return record(words.folder, words.arguments)
    if words.command == "lower":
        return lower(words.folder)
    if words.command == "compare":
        return compare(words.before, words.after)
    return show(words.before, words.after, words.digest)


if __name__ == "__main__":
    sys.exit(main())
