"""The faults that the fuzzer is scored by can still be put back: their patches apply to the sources of today."""

import subprocess

import pytest
import score_fuzzer

PATCHES = score_fuzzer.patches([])


def test_there_are_twenty_and_each_says_what_goes_wrong():
    assert len(PATCHES) == 20
    for patch in PATCHES:
        fault, mended, *_ = patch.read_text().splitlines()
        assert fault.endswith(".") and mended.startswith("Mended by "), patch.name


@pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.stem)
def test_the_patch_applies(patch):
    """If not, the code has moved on: put the fault into the code of today (`git diff > tests/known_bugs/NAME.patch`)."""
    found = subprocess.run(
        ["git", "apply", "-C1", "--check", str(patch)],
        cwd=score_fuzzer.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, f"{patch.name} does not apply any more: {found.stderr}"
