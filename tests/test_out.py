"""`out=`: of every function that takes it in PyTorch, from the declarations; resizing, refusals, aliases."""

import warnings

import flambeau as fb
import function_cases as fc
import numpy as np
import pytest
from flambeau import declarations
from flambeau.dialects.dtypes import float32
from flambeau.runtime.recorder import Tensor

TAKING = {name: d for name, d in fc.SAMPLED.items() if d.takes_out}
#: What no seed reaches, or what has no values to compare.
UNSET = {"empty", "empty_strided", "empty_permuted"}


def plain(case):
    """The results of a case; None where it is no good call, or gives no tensors."""
    fb.manual_seed(3)
    operands, named = case.arguments()
    try:
        found = case.call(*operands, **named)
        [r.tolist() for r in fc.flat(found)]
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError, AttributeError):
        return None
    return found if all(isinstance(r, Tensor) for r in fc.flat(found)) and fc.flat(found) else None


@pytest.mark.accept("PW-28")
def test_every_function_that_takes_out_in_pytorch_stores_its_results_there():
    """Those that are given; whatever they showed before; and a call without it knows nothing of it."""
    tried = 0
    with fb.compiler_options(mode="off"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, d in TAKING.items():
            if d.name in UNSET:
                continue
            cases = sorted(fc.cases(d), key=lambda c: c.dtype is not float32)
            case, wanted = next(((c, r) for c in cases if (r := plain(c)) is not None), (None, None))
            assert case is not None, name
            given = [fb.empty(0, dtype=r.dtype) for r in fc.flat(wanted)]
            out = given[0] if isinstance(wanted, Tensor) else tuple(given)
            operands, named = case.arguments()
            fb.manual_seed(3)
            found = case.call(*operands, **named, out=out)
            assert all(x is y for x, y in zip(fc.flat(found), given, strict=True)), name
            assert type(found) is type(wanted) or isinstance(found, tuple), name
            for x, y in zip(given, fc.flat(wanted), strict=True):
                assert x.shape == y.shape and fc.same(x.numpy(), y.numpy()), name
            tried += 1
    assert tried > 200


def test_those_that_take_it_are_those_of_pytorch():
    facts = {name for (place, name), words in declarations._facts().items() if place == "flambeau" and "out" in words}
    assert len(facts) > 250 and {"add", "zeros", "max", "sort"} <= facts
    here = {(place, n) for d in declarations.DECLARED for place in d.free for n in d.names if not d.takes_out}
    lost = [(place, n) for place, n in here if "out" in declarations.takes([place], [n]) and not _says_out(place, n)]
    assert not lost


def _says_out(place, name):
    import inspect

    return "out" in inspect.signature(declarations.names(place)[name]).parameters


def test_a_tensor_of_another_shape_is_resized_with_a_warning():
    x, out = fb.tensor([[1.0, 2.0], [3.0, 4.0]]), fb.zeros(5)
    with pytest.warns(UserWarning, match=r"\[add\] out of shape \(5,\) is resized to \(2, 2\)"):
        assert fb.add(x, x, out=out) is out
    assert out.tolist() == [[2, 4], [6, 8]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fb.sum(x, 0, out=fb.empty(0)).tolist() == [4, 6]
    whole = fb.zeros(6)
    with pytest.warns(UserWarning, match="is resized"):
        fb.neg(x[0], out=whole)  # in the storage that is there
    assert whole.tolist() == [-1, -2]


def test_a_view_and_an_operand_are_written_to():
    x, whole = fb.tensor([1.0, 2.0, 3.0]), fb.zeros(3, 2)
    fb.mul(x, 2, out=whole[:, 1])
    assert whole.tolist() == [[0, 2], [0, 4], [0, 6]]
    fb.cumsum(x, 0, out=x)
    assert x.tolist() == [1, 3, 6]
    fb.add(x[1:], x[1:], out=x[1:])
    assert x.tolist() == [1, 6, 12]
    m = fb.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert fb.mm(m, m, out=m).tolist() == [[7, 10], [15, 22]]


def test_memory_that_is_shared_in_part_is_refused():
    """As in PyTorch: `out` is an operand as a whole, or apart from it; of what gathers, apart always."""
    x, at = fb.tensor([1.0, 2.0, 3.0]), fb.tensor([1, 0])
    for refused in (
        lambda: fb.add(x[:2], x[1:], out=x[1:]),
        lambda: fb.cat([x[:2], x[:1]], out=x),
        lambda: fb.index_select(x, 0, at, out=x[:2]),
        lambda: fb.kthvalue(x, 1, out=(x[0], fb.tensor(0))),
    ):
        with pytest.raises(RuntimeError, match="out and an operand share some of their memory"):
            refused()
    with pytest.raises(RuntimeError, match="elements of out share memory"):
        fb.exp(x, out=fb.zeros(1).expand(3))
    with pytest.raises(RuntimeError, match="Pass an out that holds it"):
        fb.gather(x, 0, at, out=fb.zeros(2, dtype=fb.float64))
    assert x.tolist() == [1, 2, 3]


def test_several_results():
    x = fb.tensor([[3.0, 1.0], [2.0, 4.0]])
    values, indices = fb.empty(2), fb.empty(2, dtype=fb.int64)
    found = fb.max(x, axis=1, out=(values, indices))
    assert found.values is values and found.indices is indices and indices.tolist() == [0, 1]
    for out in (values, (values,), [values, indices, values], 3):
        with pytest.raises(TypeError, match=r"\[sort\] out is \w+\. Pass a tuple of 2 tensors\."):
            fb.sort(x, out=out)


def test_what_is_made_of_no_tensors_has_the_dtype_of_out():
    out = fb.empty(0, dtype=fb.int32)
    assert fb.arange(3, out=out) is out and out.dtype is fb.int32 and out.tolist() == [0, 1, 2]
    assert fb.full((2,), 7, out=fb.empty(2, dtype=fb.float64)).dtype is fb.float64
    with pytest.raises(
        RuntimeError, match=r"\[zeros\] dtype is flambeau.int64, out is flambeau.float32\. Leave out dtype"
    ):
        fb.zeros(3, dtype=fb.int64, out=fb.empty(3))


def test_layout_and_pin_memory_mean_nothing_but_their_defaults():
    x = fb.zeros(2, 3, layout=fb.strided, pin_memory=False)
    assert x.layout is fb.strided and x.tolist() == [[0] * 3] * 2
    assert fb.ones_like(x, layout=None).tolist() == [[1] * 3] * 2 and fb.arange(2, 4, layout=fb.strided).tolist() == [
        2,
        3,
    ]
    assert x.new_empty_strided((2, 3), (3, 1), layout=fb.strided, pin_memory=False).shape == (2, 3)
    assert x.new_zeros(2, layout=fb.strided).tolist() == [0, 0] and fb.tensor([1], pin_memory=False).tolist() == [1]
    with pytest.raises(RuntimeError, match=r"\[rand\] no memory can be pinned\. Leave out pin_memory"):
        fb.rand(3, pin_memory=True)
    with pytest.raises(NotImplementedError, match=r"\[full\] layout is 'sparse'\. Use flambeau.strided"):
        fb.full((3,), 1, layout="sparse")
    with pytest.raises(TypeError, match=r"\[exp\] there is no argument 'layout'"):
        fb.exp(x, layout=fb.strided)


def test_refusals():
    x = fb.ones(2)
    with pytest.raises(TypeError, match=r"\[add\] out is int\. Pass a tensor\."):
        fb.add(x, x, out=3)
    with pytest.raises(RuntimeError, match=r"\[add\] the result is flambeau.float32, out is flambeau.int64"):
        fb.add(x, x, out=fb.empty(2, dtype=fb.int64))
    for y, out in ((x, fb.empty(2, requires_grad=True)), (fb.ones(2, requires_grad=True), fb.empty(2))):
        with pytest.raises(RuntimeError, match=r"\[exp\] out takes no gradient, and a tensor requires grad"):
            fb.exp(y, out=out)
        with fb.no_grad():
            assert fb.exp(y, out=out) is out
    with pytest.raises(RuntimeError, match="share memory"):
        fb.add(x, x, out=fb.zeros(1).expand(2))
    with pytest.raises(
        TypeError, match=r"\[clamp\] there is no argument 'outt'\. Did you mean 'out'\? It takes: input, "
    ):
        fb.clamp(x, 0, outt=x)
    with pytest.raises(TypeError, match=r"\[relu\] there is no argument 'out'"):
        fb.relu(x, out=x)


def test_warnings_shapes_and_classes_are_pytorchs():
    torch = pytest.importorskip("torch")
    data = np.array([[3.0, 1.0], [2.0, 4.0]], np.float32)
    calls = {
        "resized": lambda m, x: m.add(x, 1, out=m.zeros(5)),
        "resized without elements": lambda m, x: m.add(x, 1, out=m.zeros(0)),
        "into a view": lambda m, x: m.neg(x[0], out=x[:, 1].clone()),
        "wider": lambda m, x: m.mul(x, 2, out=m.empty(2, 2, dtype=m.float64)),
        "narrower": lambda m, x: m.mul(x, 2, out=m.empty(2, 2, dtype=m.int32)),
        "bool": lambda m, x: m.gt(x, 2, out=m.empty(2, 2)),
        "of history": lambda m, x: m.mul(x.clone().requires_grad_(), 2, out=m.empty(2, 2)),
        "one for two": lambda m, x: m.max(x, 0, out=m.empty(2)),
        "no tensor": lambda m, x: m.exp(x, out=2),
        "of an expanded one": lambda m, x: m.mul(x, 2, out=m.zeros(1, 2).expand(2, 2)),
        "made": lambda m, x: m.linspace(0, 1, 3, out=m.empty(0, dtype=m.float64)),
        "of another dtype": lambda m, x: m.ones(2, dtype=m.int64, out=m.empty(2)),
        "cat": lambda m, x: m.cat([x, x], 1, out=m.empty(0)),
    }

    def seen(m, call):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found = call(m, m.tensor(data))
                return tuple(found.shape), found.numpy().dtype.name, found.tolist(), [w.category for w in told]
            except (RuntimeError, TypeError) as error:
                return type(error)

    for name, call in calls.items():
        mine, theirs = seen(fb, call), seen(torch, call)
        assert mine == theirs, name
