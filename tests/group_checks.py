"""What holds of the fusion group of every cluster: MLIR takes it and hands the same group back, and the code generators make
of it what they make of the cluster's own ops.

`install()` checks it of every cluster that the process lowers from then on (FLAMBEAU_TESTS_GROUPS=1, see `conftest.py`);
`install_trips()` only the first, of every group whose text it has not seen (FLAMBEAU_TESTS_GROUPS=text): some 2 ms each.
"""

import importlib.util
import json
import re
import traceback
from pathlib import Path

import execute
from flambeau.compiler import stages, targets
from flambeau.compiler.caches.identity import digest
from flambeau.compiler.groups import generate, reading
from flambeau.compiler.groups.builder import from_cluster
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.groups.verify import verify
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import cluster as clusters_of
from flambeau.dialects import size_guards, size_scopes
from flambeau.dialects.identity import graph_bytes

_spec = importlib.util.spec_from_file_location(
    "process_replay", Path(__file__).parent.parent / "tools" / "process_replay.py"
)
process_replay = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(process_replay)


def scope():
    """A scope of its own at the sizes at hand."""
    asked = size_scopes.current()
    return size_guards.scope(asked.hints if asked else (), by_form=True)


def comes_back(cluster: Cluster) -> None:
    """The group keeps its rules, and is the one that MLIR reads in its text."""
    with scope():
        group = from_cluster(cluster.graph)
        verify(group)
        assert reading.parse_group(print_group(group)) == group


_CONSTANT = re.compile(r"    (%c\d+) = (arith\.constant .*)\n")


def with_constants_in_order(text: str) -> str:
    """A kernel's text with its constants sorted and named anew: a group has its scalars in the order in which its body reads
    them, so that two constant operands of one op may come the other way round. All else stays as it is."""
    ordered = sorted(_CONSTANT.findall(text), key=lambda x: x[1])
    if not ordered:
        return text
    names = {name: f"%c{k}" for k, (name, _) in enumerate(ordered)}
    lines = "".join(f"    {names[name]} = {value}\n" for name, value in ordered)
    head, rest = text[: _CONSTANT.search(text).start()], _CONSTANT.sub("", text)
    return head + lines + re.sub(r"%c\d+\b", lambda m: names[m[0]], rest[len(head) :])


def described(lowered, graph) -> list:
    calls, *others = json.loads(process_replay.described(lowered, graph))
    return [[call | {"text": with_constants_in_order(call["text"])} for call in calls], *others]


def as_before(cluster: Cluster, machine, lowered) -> None:
    """`lowered` calls the kernels that the code generator makes of the cluster's own ops."""
    with scope():
        direct = execute.lower_cut(generate.cut_cluster(cluster, machine), machine)
    with scope():
        wanted = described(direct, cluster.graph)
        assert described(lowered, lowered.graph or cluster.graph) == wanted


def check(cluster: Cluster, machine) -> None:
    """One cluster; of an op with regions, those within them."""
    if generate.steps_of(cluster) is not None:
        for part in (c for n in cluster.graph.nodes for r in n.regions for c in clusters_of(r.graph, Options())):
            check(part, machine)
        return
    comes_back(cluster)
    with scope():
        lowered = execute.lower(cluster, machine)
    as_before(cluster, machine, lowered)


#: What was found wrong since somebody last took it: a program that does not compile still runs, so raising alone fails no test.
failures: list[str] = []


def install_trips() -> None:
    """From now on every group of a program and of its regions, after passes on it, goes through text, MLIR's verifier and back, and
    must be equal."""
    seen: set[str] = set()
    group_of = stages.group_of

    def checked(*given, **more):
        group = group_of(*given, **more)
        text = "" if group is None else print_group(group)
        if text and text not in seen:
            seen.add(text)
            try:
                with scope():
                    assert reading.parse_group(text) == group
            except Exception:
                failures.append(f"{text}\n{traceback.format_exc()}")
                raise
        return group

    stages.group_of = checked


def install() -> None:
    seen: set[str] = set()
    kernels = stages.PROGRAM["kernels"]

    def checked(work: stages.Compilation) -> None:
        kernels(work)
        for cluster, lowered in zip(work.clusters, work.lowered, strict=True):
            name = digest(cluster.kind, work.options.target, graph_bytes(cluster.graph))
            if name in seen or generate.is_empty(cluster.graph) or generate.steps_of(cluster) is not None:
                continue
            seen.add(name)
            try:
                comes_back(cluster)
                as_before(cluster, targets.find(work.options.target), lowered)
            except Exception:
                failures.append(f"{cluster.graph}\n{traceback.format_exc()}")
                raise

    stages.PROGRAM["kernels"] = checked
