"""What `pytest.raises` catches is no message for ourselves, but where a test itself calls the part that raises it: `conftest.py`
sees to it everywhere, whatever a test file imports."""

import pytest
from flambeau.compiler.codegen.emitter import Emitter
from flambeau.dialects.bugs import bug
from flambeau.runtime import recorder

INTERNAL = "[plan] step 0 reported error 1"


@pytest.mark.parametrize("prefix", ["plan", "plan.step", "kernel", "runtime", "recorder", "flush"])
def test_an_internal_message_of_a_public_call_fails_the_test(prefix):
    with pytest.raises(AssertionError, match="no message for users"), pytest.raises(RuntimeError):
        raise RuntimeError(f"[{prefix}] step 0 reported error 1")


def test_a_bug_of_ours_fails_the_test():
    with pytest.raises(AssertionError, match="no message for users"), pytest.raises(RuntimeError):
        raise bug("relu", RuntimeError(INTERNAL))


def test_messages_for_users_pass():
    with pytest.raises(RuntimeError, match="add"):
        raise RuntimeError("[add] shapes (2,) and (3,) do not broadcast. Reshape one.")


def test_a_test_may_catch_what_it_asks_a_part_for():
    b = Emitter()
    with pytest.raises(TypeError, match="emitter"):
        b.add(b.const(1.0, "f32"), b.const(1.0, "f64"))


def test_c_code_of_the_parts_is_told_from_public_calls_by_the_marker_alone():
    with pytest.raises(AssertionError, match="no message for users"), pytest.raises(TypeError):
        recorder.together([])


@pytest.mark.runtime
def test_a_test_of_the_parts_may_catch_them():
    with pytest.raises(RuntimeError, match="reported error"):
        raise RuntimeError(INTERNAL)
    with pytest.raises(TypeError, match="together"):
        recorder.together([])
