"""Every record is complete, its samples run on its reference, and its bad calls are refused with the text they name."""

import inspect

import numpy as np
import opgen
import pytest
from flambeau import declarations
from flambeau.dialects import reference
from flambeau.dialects.domain import OutOfRange
from flambeau.dialects.dtypes import FLOATING, by_name
from flambeau.dialects.record import REGISTRY, Kind, Monoid, NoGradient, OpRecord, find

RECORDS = opgen.records()
CASES = [case for record in RECORDS for case in opgen.cases(record)]
BAD = [(r, s) for r in RECORDS for s in r.samples() if s.error]


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_record_tells_its_whole_story(record: OpRecord) -> None:
    assert record.doc.endswith(".") and "\n" not in record.doc
    good = [s for s in record.samples() if s.error is None]
    assert good, "no good samples"
    assert record.family.is_placed or any(s.error for s in record.samples()) or record.name in _NOTHING_TO_REFUSE
    if isinstance(record.vjp, NoGradient):
        assert len(record.vjp.reason) > 10
    if record.family.is_pointwise:
        sizes = {np.size(s.operands[0]) for s in good}
        assert 0 in sizes and (max(sizes) > 4096 or record.name == "cast")
    if record.family.folds and record.name not in ("argmax", "argmin"):
        assert isinstance(record.lower, Monoid)
    if not record.exact:
        assert record.keep or all(record.ulp_in(d) > 0 for d in FLOATING)


_NOTHING_TO_REFUSE = ("stop_gradient", "graft", "overwrite")


@pytest.mark.parametrize("record", RECORDS, ids=str)
def test_reference_gives_what_infer_says(record: OpRecord) -> None:
    """`reference.run` itself checks shape and dtype of every result against the type rule."""
    ran = 0
    for case in opgen.cases(record):
        before = [x.copy() for x in case.arrays]
        results = reference.run(case.graph, case.arrays)
        assert all(isinstance(x, np.ndarray) for x in results)
        assert all(opgen.same_bits(x, y) for x, y in zip(before, case.arrays, strict=True)), "an operand was written to"
        assert opgen.compare(record, case, *map(np.array, results)) is None
        ran += 1
    assert ran > 0


@pytest.mark.accept("ERR-01")
@pytest.mark.parametrize(("record", "sample"), BAD, ids=lambda x: x.name if isinstance(x, OpRecord) else "")
def test_bad_calls_are_refused(record: OpRecord, sample) -> None:
    kind, text = sample.error
    arrays = [np.asarray(x) for x in sample.operands]
    with pytest.raises(kind) as caught:
        reference.run(opgen.graph_of(record, arrays, sample.attrs), arrays)
    assert isinstance(caught.value, kind) and type(caught.value) in (kind, OutOfRange)
    message = str(caught.value)
    assert text in message
    speaker = (record.name, sample.attrs.get("op"))  # check_index speaks for the op named by its attribute
    named = message[1 : message.index("]")]
    assert named in speaker or declarations.is_public(named), message
    assert message.endswith("."), message


def test_runtime_errors_name_the_recording_line() -> None:
    x, index = np.zeros(3), np.array([0, 7])
    with pytest.raises(IndexError) as caught:
        reference.run(opgen.graph_of(find("gather"), [x, index], {"axis": 0}), [x, index])
    assert str(caught.value).startswith("[gather] index[1] is out of range for axis 0 of shape (3,).")
    assert caught.value.__notes__ == ["recorded at model.py:12"]


def test_failure_is_the_exception_that_the_reference_raises() -> None:
    """Tiers that only learn the position of a failure raise the same error as the reference."""
    checked = 0
    for record, sample in BAD:
        if not record.fallible:
            continue
        arrays = [np.asarray(x) for x in sample.operands]
        try:
            graph = opgen.graph_of(record, arrays, sample.attrs)
        except Exception:
            continue  # refused by its types already
        with pytest.raises(Exception) as caught:
            reference.run(graph, arrays)
        avals, (node,) = [graph.avals[v] for v in graph.inputs], graph.nodes
        tried = [record.failure(position, *avals, *node.attrs) for position in range(arrays[-1].size)]
        assert str(caught.value) in map(str, tried)
        assert {type(e) for e in tried} == {type(caught.value)}
        checked += 1
    assert checked >= 5


def test_interpreter_checks_its_inputs() -> None:
    graph = opgen.graph_of(find("add"), [np.zeros(2), np.zeros(2)], {})
    with pytest.raises(RuntimeError, match=r"\[reference\] the graph has 2 inputs, got 1 arrays\."):
        reference.run(graph, [np.zeros(2)])
    with pytest.raises(RuntimeError, match=r"\[reference\] input 1 is float32 of shape \(2,\), its type says float64"):
        reference.run(graph, [np.zeros(2), np.zeros(2, np.float32)])


def test_records_and_names_agree_with_the_package() -> None:
    import flambeau.dialects.tape as tape

    exported = {getattr(tape, name) for name in tape.__all__}
    built_in = {r for r in REGISTRY.values() if inspect.getmodule(r.infer).__name__.startswith(tape.__name__)}
    assert exported == built_in


def test_a_record_without_gradient_or_reason_is_refused() -> None:
    fields = dict(kind=Kind.VIEW, attrs=(), infer=lambda x: x, reference=lambda x: x, lower=None, dtypes=())
    with pytest.raises(TypeError, match=r"op 'lost' has no vjp\. Give one, or NoGradient with the reason"):
        OpRecord(name="lost", vjp=None, **fields)
    with pytest.raises(TypeError, match="op 'frail': `fallible` and `failure` go together"):
        OpRecord(name="frail", vjp=NoGradient("a test"), fallible=True, **fields)
    with pytest.raises(ValueError, match="op 'add' is defined twice"):
        OpRecord(name="add", vjp=NoGradient("a test"), **fields)
    assert "lost" not in REGISTRY and "frail" not in REGISTRY


def test_constants_keep_the_sign_of_zero() -> None:
    from flambeau.dialects.builder import GraphBuilder

    builder = GraphBuilder()
    outputs = [builder.constant(x, by_name("float32"), (2,)) for x in (0.0, -0.0, 1, float("nan"))]
    builder.graph.outputs = [v.id for v in outputs]
    zero, negative_zero, one, nan = reference.run(builder.graph, [])
    assert not np.signbit(zero).any() and np.signbit(negative_zero).all()
    assert (one == 1).all() and one.dtype == np.float32 and np.isnan(nan).all()
