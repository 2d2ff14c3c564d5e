"""PyTorch's own samples of all its functions: what passes in `opinfo_parity.txt` goes on passing."""

import json
import re
import subprocess
import sys

import opinfo_parity
import parity_lists
import pytest
from support import rounds

pytest.importorskip("torch", reason="could not import 'torch'")
LISTED = parity_lists.passing(opinfo_parity.LIST.read_text())
MOST = 0.05  #: of all entries outside of nn.functional and sparse may fail or be missing
#: Some of each kind, for counts that are short.
FEW = ["add", "as_strided", "cov", "diff", "max.reduction_with_dim", "nansum", "std_mean", "T", "trapezoid"]


def test_the_list_says_what_passes_and_what_does_not():
    names = rounds(FEW, [], [])
    script = opinfo_parity.LIST.with_name(
        "opinfo_parity.py"
    )  # by itself: PyTorch's samples import setuptools, which must be first
    done = subprocess.run([sys.executable, str(script), "--json", *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    wrong = {n: found[n] for n in found if (found[n][0] == "pass") != (n in LISTED)}
    assert not wrong, "in either direction: python tests/opinfo_parity.py NAMES --update"
    assert len(found) > rounds(8, 600, 600)


def test_the_list_says_what_it_counts():
    text = opinfo_parity.LIST.read_text()
    assert len(LISTED) > 450 and set(FEW) <= LISTED
    lines = [line for line in text.splitlines() if line.startswith(("fail ", "missing "))]
    assert all(": " in line and not line.endswith(": ") for line in lines), "each with a reason"
    counts = re.search(r"^\[everything else\] (\d+) pass, (\d+) fail, (\d+) missing of (\d+)$", text, re.M)
    good, bad, missing, total = map(int, counts.groups())
    assert good + bad + missing == total > 530
    near = [n for n in parity_lists.passing(text, parity_lists.NEARER) if not opinfo_parity.is_listed_apart(n)]
    assert near and bad + missing + len(near) <= MOST * total, "also by PyTorch's tolerances alone"


@pytest.mark.accept("VER-03")
def test_at_most_seven_of_a_hundred_functions_of_networks_fail_or_are_missing():
    lines = opinfo_parity.LIST.read_text().splitlines()
    lost = [line for line in lines if line.startswith(("fail nn.functional", "missing nn.functional"))]
    held = [name for name in LISTED if name.startswith("nn.functional")]
    assert len(held) > 100 and len(lost) <= 0.07 * (len(lost) + len(held))


def test_a_wrong_result_is_found():
    """What differs in value, in dtype or in shape fails, and says where."""
    torch = pytest.importorskip("torch")
    import flambeau as fb

    theirs = torch.tensor([1.0, float("nan"), 3.0])
    opinfo_parity.compare("it", fb.tensor([1.0, float("nan"), 3.0]), theirs, 1e-6, 1e-6, True)
    for mine, message in (
        (fb.tensor([1.0, 2.0, 3.0]), "it is off by inf"),
        (fb.tensor([1.0, float("nan"), 3.5]), "it is off by 0.5"),
        (fb.tensor([1, 2, 3]), "it is int64, not float32"),
        (fb.tensor([1.0]), r"it has shape \(1,\), not \(3,\)"),
    ):
        with pytest.raises(AssertionError, match=message):
            opinfo_parity.compare("it", mine, theirs, 1e-6, 1e-6, True)
