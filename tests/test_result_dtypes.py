"""The dtype of every function's result for operands of every dtype is PyTorch's: see `result_dtypes.py`."""

import json
import warnings
from pathlib import Path

import flambeau as fb
import pytest
import result_dtypes

FACTS = json.loads((Path(__file__).parent / "pytorch_facts.json").read_text())["dtypes"]
#: What PyTorch accepts and we refuse: (calls, dtypes of the operands), with the reason.
REFUSED = [
    ("masked_fill number", ["bool"]),  # a number of a higher category would be cut without a word
    ("masked_fill float", ["bool", "int32", "int64"]),
    ("relu6 functional", ["int32", "int64"]),  # for floats only, as the other activations
    ("hardtanh functional", ["int32", "int64"]),
]
#: Calls in which PyTorch gives the dtype of one operand of two: ours is the common one, as everywhere.
COMMON = {"huber_loss": ["float32 float64", "float64 float32"]}
COMMON["binary_cross_entropy_with_logits"] = COMMON["huber_loss"]


def test_the_stored_facts_are_of_these_calls():
    assert list(FACTS) == list(result_dtypes.CALLS)


@pytest.mark.filterwarnings("ignore:.*target's shape")
@pytest.mark.parametrize("name", result_dtypes.CALLS)
def test_dtypes_are_those_of_pytorch(name):
    """Where PyTorch refuses, a result is no fault: much of what it lacks is a kernel."""
    refused = {dtypes for call, dtypes in REFUSED if call == name for dtypes in dtypes}
    with fb.compiler_options(mode="off"):
        ours = result_dtypes.facts_of(fb, name)
    for dtypes, theirs in FACTS[name].items():
        if dtypes in refused:
            assert ours[dtypes] == "RuntimeError" != theirs
        elif dtypes in COMMON.get(name, ()):
            assert ours[dtypes] == "float64"
        elif not theirs.endswith("Error"):
            assert ours[dtypes] == theirs, dtypes


def test_the_facts_are_what_pytorch_says():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert result_dtypes.facts(torch) == FACTS
