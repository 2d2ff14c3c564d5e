"""Our signatures beside PyTorch's (`pytorch_signatures.txt`, facts): what we lack is listed, and the list only shrinks."""

import signatures
from signatures import compared, parameters

LISTED = signatures.read((signatures.HERE / "pytorch_lacks.txt").read_text())
FOUND = signatures.lacks()


def test_nothing_is_lacking_that_was_there():
    assert not sorted(FOUND - LISTED), "PyTorch's programs could call these"


def test_what_is_no_longer_lacking_leaves_the_list():
    assert not sorted(LISTED - FOUND), "run python tools/torch_signatures.py --lacks"


def test_the_facts_are_of_every_area():
    facts = signatures.facts()
    count = {area: sum(a == area for a, _ in facts) for area in signatures.OWNERS}
    assert count["torch"] > 450 and count["Tensor"] > 400 and count["nn"] > 130 and count["nn.functional"] > 120
    assert count["optim"] >= 13 and count["utils.data"] > 15 and all(count.values())
    assert len(facts["torch", "max"]) == 3


def test_most_of_what_is_here_is_called_as_pytorchs():
    facts, absent = signatures.facts(), {(a, n) for a, n, what in FOUND if what == "absent"}
    here = set(facts) - absent
    other = {(a, n) for a, n, what in FOUND if what not in signatures.GROUPED}
    assert len(here) > 450 and len(here & other) < len(here) / 4


def test_what_is_compared():
    way = parameters("input, dim=None, keepdim=False, *, dtype=None")
    assert compared(way, parameters("input, dim=None, keepdim=False, *, dtype=None")) == set()
    assert compared(parameters("input, axis"), parameters("input, dim")) == set()
    assert compared(way, parameters("input, keepdim=False, dim=None, dtype=None")) == {
        "dim by position",
        "keepdim by position",
    }
    assert compared(way, parameters("input, dim=None, keepdim=True")) == {"dtype", "keepdim=False"}
    assert compared(way, parameters("input, dim, keepdim=False, *, dtype=None")) == {"dim left out"}
    assert compared(parameters("*size, out=None"), parameters("size")) == {"several arguments", "out"}
    assert compared(parameters("a, /, b"), parameters("x, b")) == set()


def test_the_list_is_written_as_it_is_read():
    assert signatures.read(signatures.written(LISTED)) == LISTED
