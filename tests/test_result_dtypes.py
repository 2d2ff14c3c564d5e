"""The dtype of every function's result for operands of every dtype is PyTorch's: see `result_dtypes.py`."""

import json
import warnings
from pathlib import Path

import flambeau as fb
import pytest
import result_dtypes
from flambeau.dialects.dtypes import by_name, promote

STORED = json.loads((Path(__file__).parent / "pytorch_facts.json").read_text())
FACTS = STORED["dtypes"]
#: Calls in which PyTorch gives the dtype of one operand of two: ours is the common one, as everywhere.
COMMON = ("huber_loss", "binary_cross_entropy_with_logits")


def test_the_stored_facts_are_of_these_calls():
    assert list(FACTS) == list(result_dtypes.CALLS)


@pytest.mark.filterwarnings("ignore:.*target's shape")
@pytest.mark.parametrize("name", result_dtypes.CALLS)
def test_dtypes_are_those_of_pytorch(name):
    """Where PyTorch refuses, a result is no fault: much of what it lacks is a kernel."""
    with fb.compiler_options(mode="off"):
        ours = result_dtypes.facts_of(fb, name)
    for dtypes, theirs in FACTS[name].items():
        if name in COMMON and len(set(found := dtypes.split())) == 2 and not theirs.endswith("Error"):
            assert ours[dtypes] == promote(*map(by_name, found)).name
        elif not theirs.endswith("Error"):
            assert ours[dtypes] == theirs, dtypes


def test_promotion_is_that_of_pytorch():
    """Where PyTorch has no common dtype ours is one that holds both, or there is none."""
    compared = 0
    for name, row in STORED["promotion"].items():
        for other, theirs in row.items():
            if hasattr(fb, name) and hasattr(fb, other) and not theirs.endswith("Error"):
                assert fb.promote_types(getattr(fb, name), getattr(fb, other)).name == theirs, (name, other)
                compared += 1
    assert compared >= 10 * 10


def test_the_facts_are_what_pytorch_says():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert result_dtypes.facts(torch) == FACTS
    assert result_dtypes.promotion(torch) == STORED["promotion"]
