"""How many kernels forward mode takes, and a batch of it, for every record: generated from the records' samples.

Programs are clustered and not compiled: a cluster is one kernel, or a few that do not depend on the batch.
"""

import opgen
import pytest
from flambeau.compiler import stages
from flambeau.compiler.options import Options
from flambeau.dialects.dtypes import float64
from flambeau.dialects.graph import Graph
from test_batching_rules import batched
from test_forward import RECORDS, tangent_graph

pytestmark = pytest.mark.accept("AG-15")

#: Clusters of tangents where these are more than twice those of the value: derivatives of factors are products and solves, those of
#: scatters and scans pick and add up again. Upper bounds, so that none grows unseen.
MORE = {
    "cholesky": 6, "concat": 3, "cummax": 4, "cummin": 4, "cumprod": 6, "eigh": 6, "fourier_to_real": 3, "lu": 9, "pad": 1,
    "pseudo_inverse": 10,
    "qr": 6, "recurrence": 6, "scatter": 5, "scatter_add": 3, "scatter_max": 7, "scatter_min": 7, "scatter_mul": 11,
    "solve_factored": 3, "svd": 7, "triangular_solve": 4, "update_slice": 5,
}  # fmt: skip
#: Clusters more of a batch in which everything differs from call to call: other orders of axes that have to be stored.
STORED = {
    "convolution": 3, "convolution_input": 3, "convolution_weight": 4, "dynamic_slice": 1, "eigh": 1, "fourier_real": 1,
    "fourier_to_real": 1, "lu": 2, "scan": 3, "svd": 1, "update_slice": 2,
}  # fmt: skip


def clusters(graph: Graph) -> int:
    work = stages.Compilation(graph, Options())
    for name in stages.names():
        stages.advance(work, name)
        if name == "cluster":
            break
    return len(work.clusters)


def first_graph(record):
    """The first sample of float64 elements, as a program, and what it is differentiated by; None where there is none."""
    for case in opgen.cases(record, narrow=False):
        graph = case.graph
        wrt = [v for v in graph.inputs if graph.avals[v].dtype is float64]
        outputs = [v for v in graph.outputs if graph.avals[v].dtype is float64]
        if case.sample.gradient and wrt and outputs and all(graph.avals[v].size for v in (*wrt, *outputs)):
            return Graph(graph.avals, graph.inputs, graph.nodes, outputs), wrt
    return None


@pytest.mark.parametrize("record", [r for r in RECORDS if first_graph(r)], ids=str)
def test_tangents_take_no_loop_over_the_batch_and_no_gradient_of_a_gradient(record):
    graph, wrt = first_graph(record)
    along = tangent_graph(graph, wrt)
    value, alone = clusters(graph), clusters(along)
    assert alone <= MORE.get(record.name, 2 * value), (alone, value)
    many = (True,) * len(along.inputs)
    few, more = (clusters(batched(along, many, n)) for n in (5, 40))
    assert few == more <= alone + STORED.get(record.name, 0), (few, more, alone)


def test_the_records_are_many():
    kinds = {record.family.name for record in RECORDS if first_graph(record)}
    assert len([r for r in RECORDS if first_graph(r)]) >= 120
    assert kinds >= {
        "elementwise",
        "reduction",
        "scan",
        "contraction",
        "convolution",
        "gather",
        "scatter",
        "window",
        "control",
    }
