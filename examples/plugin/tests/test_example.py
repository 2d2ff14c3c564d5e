"""The example plug-in, where it is installed: the op on every tier, its gradient, its record's samples, the passes."""

from importlib.metadata import version

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.driver import compile
from flambeau.compiler.options import Options
from flambeau.compiler.plugins import foreign
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import from_numpy
from flambeau.dialects.record import find
from flambeau_example import fma

X = np.float32(1 + 2**-12)  # X * X needs one bit more than a float32 has


def run(sample, dtype, mode):
    """What one op gives for a sample's operands, compiled or op by op."""
    b = GraphBuilder()
    operands = [np.asarray(x, dtype) for x in sample.operands]
    result = find("fma")(*[b.input(Aval(x.shape, from_numpy(x.dtype))) for x in operands])
    b.graph.outputs = [result.id]
    return operands, to_array(compile(b.graph, Options(mode=mode))(operands)[0], result.aval)


def test_one_rounding_is_seen():
    x, z = fb.tensor(np.full(5, X)), fb.tensor(np.full(5, -X * X))
    assert fma(x, x, z).tolist() == [float(X) * float(X) - float(X * X)] * 5
    assert (x * x + z).tolist() == [0.0] * 5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["blocking", "off"])
def test_the_lowering_agrees_with_the_reference(dtype, mode):
    record = find("fma")
    for sample in record.samples():
        if sample.error is None and np.size(sample.operands[0]) in (0, 7, 15, 67):
            operands, found = run(sample, dtype, mode)
            expected = record.reference(*operands)
            ulp = record.ulp[np.dtype(dtype).name] * np.spacing(np.abs(expected))
            assert found.shape == expected.shape and (np.abs(found - expected) <= ulp).all()


def test_gradients_of_any_order():
    x, y, z = (fb.tensor([v, v + 1], requires_grad=True) for v in (2.0, 3.0, 4.0))
    fma(x, y, z).sum().backward()
    assert (x.grad.tolist(), y.grad.tolist(), z.grad.tolist()) == ([3, 4], [2, 3], [1, 1])
    (first,) = fb.autograd.grad(fma(x, x, z).sum(), x, create_graph=True)
    assert fb.autograd.grad(first.sum(), x)[0].tolist() == [2, 2]


@pytest.mark.parametrize("sample", [s for s in find("fma").samples() if s.error])
def test_bad_calls_are_refused(sample):
    with pytest.raises(sample.error[0]) as caught:
        fma(*map(fb.tensor, sample.operands))
    assert sample.error[1] in str(caught.value)


@pytest.mark.parametrize("dtype", [fb.float32, fb.float64])
def test_reciprocals_are_taken_once_and_give_nearly_the_same(dtype):
    x = fb.rand(33, 100, dtype=dtype)

    def shares():
        return (x / x.sum(1, keepdim=True)).numpy()

    with fb.compiler_options(mode="blocking"):
        found = shares()
    with fb.compiler_options(mode="blocking", without=("divide-once",)):
        exact = shares()
    assert (found != exact).any() and (np.abs(found - exact) <= np.spacing(exact)).all()
    assert np.array_equal(exact, x.numpy() / x.sum(1, keepdim=True).numpy())


def test_the_pass_takes_part_in_every_compilation():
    package = f"of flambeau-example {version('flambeau-example')}"
    assert foreign.named(foreign.passes(Options())) == f"'divide-once' {package}, 'drop-negations' {package}"
    x = fb.tensor([1.0, 2.0])
    assert ((-x) * (-x)).tolist() == [1.0, 4.0]
