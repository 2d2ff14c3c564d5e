"""Kernels that read or write every second element, as the parts of complex numbers lie."""

import execute
import numpy as np
import pytest
from flambeau.compiler.options import Options
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import from_numpy
from flambeau.dialects.record import find


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.int64, np.bool_])
@pytest.mark.parametrize("n", [5, 16, 64, 131])
def test_every_second_element_is_read_and_written_within_its_buffer(dtype, n):
    """As registers that reach no further than the last element."""
    x = (np.arange(2 * n) % 3).astype(dtype)
    b = GraphBuilder()
    value = b.input(Aval(x.shape, from_numpy(x.dtype)))
    parts = [find("slice")(value, starts=(k,), sizes=(n,), steps=(2,)) for k in (0, 1)]
    swapped = [find("reshape")(find("maximum" if dtype != np.bool_ else "or_")(p, p), shape=(n, 1)) for p in parts]
    b.graph.outputs = [find("concat")(*swapped[::-1], dim=1).id]
    for part in (1, 3):
        (found,) = execute.run_graph(b.graph, [x], Options(), parts=part)
        np.testing.assert_array_equal(found, x.reshape(n, 2)[:, ::-1])
