"""Bodies that C does op by op: the bits that NumPy gives for the same ops, and nothing run that does not fit."""

import itertools

import numpy as np
import pytest
from flambeau.compiler.baseline import stand_ins
from flambeau.compiler.baseline.c_bodies import in_c
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.form import Body, BodyOp
from flambeau.dialects.dtypes import by_mlir
from flambeau.dialects.record import REGISTRY, find
from flambeau.runtime import _binding

SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    -3.7,
    88.9,
    -104.0,
    710.0,
    -746.0,
    1e-40,
    -1e-310,
    3e38,
    np.inf,
    -np.inf,
    np.nan,
]


def of_floats(name, arity, element):
    return bodies.elementwise(find(name), (), (element,) * arity, (element,), None)


def operands(arity, element):
    """Special numbers in all combinations and random ones, more than a block."""
    rng, dtype = np.random.default_rng(7), by_mlir(element).numpy
    with np.errstate(over="ignore"):
        special = np.array(list(itertools.product(SPECIAL, repeat=arity))).T.astype(dtype)
    return [np.concatenate([s, (rng.standard_normal(99) * 5).astype(dtype)]) for s in special]


def arities():
    for record in list(REGISTRY.values()):
        is_plain = record.family.is_pointwise and record.is_single and not record.attrs and not record.fallible
        for arity in (1, 2) if is_plain else ():
            for element in ("f32", "f64"):
                try:
                    body = of_floats(record.name, arity, element)
                except Exception:  # it takes other operands
                    continue
                if body.ops and body.value_types()[body.results[0]] == element and in_c(body):
                    yield record.name, arity, element


def test_most_functions_are_done_in_c():
    found = {name for name, *_ in arities()}
    assert {"exp", "log", "pow", "tanh", "erf", "log1p", "expm1", "atan2", "rsqrt"} <= found


@pytest.mark.parametrize(("name", "arity", "element"), [*arities()])
def test_c_gives_the_bits_of_numpy(name, arity, element):
    body, given = of_floats(name, arity, element), operands(arity, element)
    play, wanted = in_c(body), stand_ins._on_arrays(body)
    assert play is not None and wanted is not None
    for arrays in (given, [x[:1].reshape(()) for x in given], [x[:0] for x in given]):
        ours, theirs = play(arrays), np.broadcast_to(wanted(arrays), arrays[0].shape)
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        both_nan = np.isnan(ours) & np.isnan(theirs)
        assert (both_nan | (ours.view(f"u{ours.itemsize}") == theirs.view(f"u{ours.itemsize}"))).all()


def integer(name, x, y, element, attribute=None):
    """One op on integers, in C and on NumPy."""
    result = "i1" if attribute else element
    body = Body((element, element, result), (BodyOp(name, (0, 1), attribute, (result,)),), (3,))
    return in_c(body)([x, y]), stand_ins._on_arrays(body)([x, y])


@pytest.mark.parametrize("element", ["i32", "i64"])
def test_integers(element):
    dtype = by_mlir(element).numpy
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x, y = (np.array(v, dtype) for v in zip(*itertools.product([0, 1, -1, 7, -12, low, high], repeat=2)))
    for name in ("addi", "subi", "muli", "andi", "ori", "xori", "maxsi", "minsi"):
        ours, theirs = integer(f"arith.{name}", x, y, element)
        assert (ours == theirs).all()
    for predicate in ("eq", "ne", "slt", "sle", "sgt", "sge"):
        ours, theirs = integer("arith.cmpi", x, y, element, predicate)
        assert (ours == theirs).all()
    for name in ("shli", "shrui", "shrsi"):
        ours, theirs = integer(f"arith.{name}", x, np.full_like(x, 5), element)
        assert (ours == theirs).all()
    ours, theirs = integer("arith.divui", x, np.full_like(x, 3), element)
    assert (ours == theirs).all()


def test_control_flow_and_results_that_are_no_last_value_are_left_to_numpy():
    assert in_c(of_floats("sin", 1, "f32")) is None
    assert in_c(Body(("f32", "f32"), (BodyOp("arith.negf", (0,), None, ("f32",)),), (0,))) is None
    assert in_c(Body(("f16", "f16"), (BodyOp("arith.negf", (0,), None, ("f16",)),), (2,))) is None


NEGATED = [_binding.body_ops().index("arith.negf f32"), 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("steps", "constants", "n_values", "operands", "n"),
    [
        ([], 0, 2, 1, 4),
        ([-1, *NEGATED[1:]], 0, 2, 1, 4),
        ([10_000, *NEGATED[1:]], 0, 2, 1, 4),
        ([NEGATED[0], 2, 0, 0, 0], 0, 2, 1, 4),
        ([NEGATED[0], 0, 0, 0, 0], 0, 2, 1, 4),
        ([NEGATED[0], 1, 2, 0, 0], 0, 2, 1, 4),
        (NEGATED[:4], 0, 2, 1, 4),
        (NEGATED, 7, 2, 1, 4),
        (NEGATED, 0, 0, 1, 4),
        (NEGATED, 0, 2, 1, 3),
        (NEGATED, 0, 2, 1, 0),
        (NEGATED, 0, 9, 5, 4),
    ],
)
def test_what_does_not_fit_is_refused(steps, constants, n_values, operands, n):
    out = np.zeros(4, np.float32)
    with pytest.raises(
        ValueError, match=rf"\[run_body\] steps or buffers do not fit {n} elements and {n_values} values"
    ):
        code, held = np.array(steps, np.int32).tobytes(), bytes(constants)
        _binding.run_body(code, held, n_values, (np.ones(4, np.float32),) * operands, out, n)
    assert not out.any()


def test_what_is_no_buffer_is_refused():
    with pytest.raises(TypeError):
        _binding.run_body(np.array(NEGATED, np.int32).tobytes(), b"", 2, (1.0,), np.zeros(1, np.float32), 1)


def test_buffers_of_nothing_are_refused():
    code, some, none = np.array(NEGATED, np.int32).tobytes(), np.ones(4, np.float32), np.zeros(0, np.float32)
    for operand, out in ((none, some), (some, none)):
        with pytest.raises(ValueError, match="do not fit 4 elements"):
            _binding.run_body(code, b"", 2, (operand,), out, 4)
