"""What holds of the fusion group of every cluster: MLIR takes it and hands the same group back, and the code generators make
of it what they make of the cluster's own ops.

`install()` checks it of every cluster that the process lowers from then on (FLAMBEAU_TESTS_GROUPS=1, see `conftest.py`).
"""

import importlib.util
from pathlib import Path

from flambeau.compiler.groups import generate, reading
from flambeau.compiler.groups.builder import from_cluster
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.groups.verify import verify
from flambeau.compiler.identity import digest, graph_bytes
from flambeau.compiler.kernel import Cluster
from flambeau.dialects import size

_spec = importlib.util.spec_from_file_location(
    "process_replay", Path(__file__).parent.parent / "tools" / "process_replay.py"
)
process_replay = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(process_replay)


def scope():
    """A scope of its own at the sizes at hand."""
    asked = size.current()
    return size.scope(asked.hints if asked else (), by_form=True)


def comes_back(cluster: Cluster) -> None:
    """The group keeps its rules, and is the one that MLIR reads in its text."""
    with scope():
        group = from_cluster(cluster.graph)
        verify(group)
        assert reading.parse_group(print_group(group)) == group


def as_before(cluster: Cluster, machine, lowered) -> None:
    """`lowered` calls the kernels that are made of the cluster's own ops, and asks no more about sizes."""
    with scope():
        direct = generate.code_generator(machine.family, cluster.kind)(cluster, machine)
    with scope():
        wanted = process_replay.described(direct, cluster.graph)
        assert process_replay.described(lowered, lowered.graph or cluster.graph) == wanted


def check(cluster: Cluster, machine) -> None:
    comes_back(cluster)
    with scope():
        lowered = generate.lower_group(cluster, machine)
    as_before(cluster, machine, lowered)


def install() -> None:
    seen: set[str] = set()
    lower = generate.lower

    def checked(cluster, machine, *options):
        lowered = lower(cluster, machine, *options)
        name = digest(cluster.kind, repr(machine), graph_bytes(cluster.graph))
        if name not in seen and not generate.is_empty(cluster.graph):
            seen.add(name)
            check(cluster, machine)
        return lowered

    generate.lower = checked
