"""What `pytest.raises` catches in tests of public calls is no message for ourselves: `conftest.py` sees to it everywhere."""

import pytest

INTERNAL = "[plan] step 0 reported error 1"


@pytest.mark.parametrize("prefix", ["plan", "kernel", "runtime", "recorder", "flush"])
def test_an_internal_message_of_a_public_call_fails_the_test(prefix):
    with pytest.raises(AssertionError, match="only Flambeau's own code"), pytest.raises(RuntimeError):
        raise RuntimeError(f"[{prefix}] step 0 reported error 1")


def test_messages_for_users_pass():
    with pytest.raises(RuntimeError, match="add"):
        raise RuntimeError("[add] shapes (2,) and (3,) do not broadcast. Reshape one.")


@pytest.mark.runtime
def test_a_test_of_the_parts_may_catch_them():
    with pytest.raises(RuntimeError, match="reported error"):
        raise RuntimeError(INTERNAL)
