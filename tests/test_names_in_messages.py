"""What messages call things: the function that a user has called, never the op of ours that it is made of."""

import re
import sys

import flambeau as fb
import flambeau.nn as nn
import function_cases as fc
import numpy as np
import pytest
from flambeau import declarations, naming
from flambeau.runtime.recorder import Function
from support import for_users

PREFIX = re.compile(r"\[([\w ]+)\] ")
#: What users know by a sign, as an attribute, or by a class.
WITHOUT_A_NAME = {"getitem", "setitem", "T", "mT", "data", "step", "callback", "number", "Function"}


def functions():
    """Every recorded function that a module of ours has, by where it is."""
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] == "flambeau"]
    return {f"{m.__name__}.{k}": v for m in modules for k, v in vars(m).items() if isinstance(v, Function)}


def test_every_recorded_function_has_the_name_that_users_call_it_by():
    found = functions()
    assert len(found) > 300
    strange = {where: f.name for where, f in found.items() if not is_known(f.name)}
    assert not strange


def is_known(name):
    plain = name.rstrip("_")
    public = any(declarations.is_public(n) for n in (name, plain))
    return (
        public
        or name in WITHOUT_A_NAME
        or any(hasattr(m, name) for m in (nn.functional, nn.utils, fb.distributions, fb.amp.GradScaler))
    )


def changed(array):
    """Operands that a function may refuse, when it is called or when it runs."""
    yield np.zeros(array.shape, np.int64)
    yield np.full(array.shape, 99, np.int64)
    yield np.ones(array.shape, bool)
    yield array.reshape(-1)
    yield array[None]
    yield np.zeros((0, 3), array.dtype)


def calls(case):
    """The case as it is, and with each of its operands changed."""
    operands, named = case.arguments(np.asarray)
    yield operands, named
    for k, operand in enumerate(operands):
        for other in changed(operand) if isinstance(operand, np.ndarray) else ():
            yield (*operands[:k], other, *operands[k + 1 :]), named


def message(call, operands, named):
    """What is said of a call with arrays made tensors, "" where it works."""
    try:
        given = [fc.mapped(v, fb.tensor) for v in operands]
        fc.read(fc.flat(call(*given, **{k: fc.mapped(v, fb.tensor) for k, v in named.items()})))
    except Exception as error:
        for_users(error)
        return str(error)
    return ""


@pytest.mark.parametrize("name", fc.SAMPLED)
def test_no_message_names_an_op(name):
    declaration = fc.SAMPLED[name]
    cases = [*list(fc.cases(declaration))[:2], *fc.refused(declaration)]
    with fb.compiler_options(mode="off"):
        said = {message(case.call, *given) for case in cases for given in calls(case)}
    named = {found[1]: text for text in said if (found := PREFIX.match(text))}
    assert not {op: text for op, text in named.items() if naming.is_an_op(op)}


def test_an_op_that_fails_when_it_runs_is_told_as_the_call():
    x = fb.tensor([1, 2])
    for call, name in ((fb.fmod, "fmod"), (fb.remainder, "remainder"), (fb.floor_divide, "floor_divide")):
        with pytest.raises(RuntimeError, match=rf"\[{name}\] integer division by zero at \[1\]"):
            call(x, fb.tensor([1, 0])).tolist()


def test_what_has_overwritten_a_value_is_named_as_it_was_called():
    w = fb.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    w.grad = fb.ones(2)
    fb.optim.Adam([w]).step()
    with pytest.raises(RuntimeError, match=r"modified in place by step at .*test_names_in_messages.py:\d+"):
        loss.backward()
