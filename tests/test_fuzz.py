"""The fuzzer's kinds of programs on fixed seeds; `python tests/fuzz.py` draws others for as long as it is given."""

import json
import subprocess
import sys

import fuzz
import fuzz_kinds
import pytest
from flambeau.runtime import _binding as runtime
from support import rounds

COUNTS = {
    "exported": (1, 4, 40),
    "threads": (1, 2, 20),
    "graphs": (1, 6, 60),
    "sizes": (1, 6, 60),
    "samples": (2, 10, 100),
}


@pytest.fixture(autouse=True)
def as_before():
    threads = runtime.get_num_threads()
    yield
    runtime.set_num_threads(threads)
    runtime.set_memory_guard("off")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fuzz_kinds.EVERY)
def test_programs_of_a_kind_are_right(name):
    if name in fuzz_kinds.BESIDE_PYTORCH:
        pytest.importorskip("torch")
    for seed in range(rounds(*COUNTS.get(name, (3, 20, 200)))):
        fuzz_kinds.surroundings(seed)
        assert fuzz_kinds.EVERY[name].run(seed) is None, f"python tests/fuzz.py --case {name}:{seed}"


def child(*lines):
    """A child of the fuzzer that says these lines and ends."""
    made = object.__new__(fuzz.Child)
    code = "import sys; " + "; ".join(lines)
    made.process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    made.cases, made.small = [], None
    return made


def said(**message):
    return f"print({json.dumps(message)!r}, flush=True)"


def test_what_ends_the_process_or_differs_is_told_with_its_case():
    told = child(said(case=["graphs", 7]), said(done="two bits")).run(float("inf"))
    assert told == fuzz.Found("graphs", 7, "two bits")
    told = child(said(case=["graphs", 8]), "sys.exit('no more')").run(float("inf"))
    assert told.seed == 8 and "the process ended with 1" in told.what and "no more" in told.what
    assert child(said(case=["graphs", 9]), said(done=None)).run(float("inf")) is None
