"""What ran out of memory is dropped whole: every allocation of a training step fails once, and each time the step has
happened or it has not. Later steps are those of a run in which nothing failed."""

import dis
import functools
import os
import random
import sys
from collections import Counter

import flambeau as fb
import pytest
from failing_steps import ONE, PROGRAMS, check_dropped, content, good_run, mlp
from flambeau import dialects
from flambeau.runtime import _binding, recorder
from support import rounds


@pytest.fixture(params=["blocking", "off"])
def mode(request):
    with fb.compiler_options(mode=request.param):
        yield request.param
    _binding._refuse_memory(0)


@pytest.mark.parametrize("warm", [0, 2])
@pytest.mark.parametrize("make", PROGRAMS)
def test_every_allocation_of_a_step_fails_once(make, warm, mode):
    wanted = good_run(make, warm + 2)
    at_most = rounds(12, 60, 10000)
    nth = failures = 0
    while True:
        nth += 1 + nth // at_most  # all of the first, then ever fewer
        if not check_dropped(make, warm, nth, wanted):
            break
        failures += 1
    assert failures > 2


# ---- interrupts inside of step()

INTERRUPTED = {
    "SGD": lambda groups: fb.optim.SGD(groups, lr=0.1),
    "momentum": lambda groups: fb.optim.SGD(groups, lr=0.1, momentum=0.9, dampening=0.5, weight_decay=0.01),
    "nesterov": lambda groups: fb.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda groups: fb.optim.Adam(groups, lr=0.1, amsgrad=True),
    "AdamW": lambda groups: fb.optim.AdamW(groups, lr=0.1),
}


GROUPS = {
    "one group": lambda parameters: parameters,
    "a group each": lambda parameters: [{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(parameters)],
}


class Interrupted(BaseException):
    pass


@functools.cache
def ends_of_blocks(code):
    """Where code is about to call `__exit__(None, None, None)` at the end of a `with` block. Python asks for interrupts after
    calls and before it goes back, not on the way from a block's last line to that call: none can come there."""
    ops = list(dis.get_instructions(code))
    return {
        op.offset
        for op, *rest in zip(ops, ops[1:], ops[2:], ops[3:])
        if all(x.opname == "LOAD_CONST" and x.argval is None for x in (op, *rest[:2]))
        and rest[2].opname.endswith("CALL")
    }


def lines_of_step(optimizer, most, folders):
    """Take a step, which is interrupted at line `most` of the code in `folders`: how many lines it got through."""
    left = most

    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(folders):
            return None
        if event == "line" and frame.f_lasti not in ends_of_blocks(frame.f_code):
            left -= 1
            if left == 0:
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        optimizer.step()
    except Interrupted:
        assert left <= 0
    finally:
        sys.settrace(before)
    return most - left


class Steps:
    """A model with gradients, three steps over it, and what each of them leaves."""

    def __init__(self, name, groups):
        self.name, self.groups, self.wanted = name, groups, []
        self.begin()
        self.start = self.values()[0]
        for _ in range(3):
            self.optimizer.step()
            self.wanted.append(self.values())

    def begin(self):
        fb.manual_seed(3)
        model = mlp()
        self.parameters = list(model.parameters())
        self.optimizer = INTERRUPTED[self.name](GROUPS[self.groups](self.parameters))
        model(fb.tensor(ONE)).square().mean().backward()

    def values(self):
        state = self.optimizer.state_dict()["state"]
        kept = {(k, n): content(t) for k, e in state.items() for n, t in e.items()}
        return [content(p) for p in self.parameters], kept

    def interrupt(self, nth, folders):
        """Interrupt a step, and take what is left of three: whether the first one had happened, None if it has fewer lines."""
        if lines_of_step(self.optimizer, nth, folders) < nth:
            return None
        happened = self.values()[0] != self.start
        assert not happened or self.values() == self.wanted[0], nth
        for k in range(happened, 3):
            self.optimizer.step()
            assert self.values() == self.wanted[k], nth
        return happened


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_step_that_is_interrupted_at_any_line_happens_once_when_it_is_taken_again(name, groups):
    """All groups, or none of them."""
    with fb.compiler_options(mode="off"):
        folders = (os.path.dirname(fb.optim.__file__),)
        steps, counts = Steps(name, groups), Counter()
        steps.begin()
        lines = lines_of_step(steps.optimizer, 10**9, folders)
        for nth in {*range(1, lines, rounds(10, 1, 1)), *range(lines - 5, lines)}:
            steps.begin()
            counts[steps.interrupt(nth, folders)] += 1
        assert counts[False] > 3 and counts[True] > 0 and not counts[None], counts


@pytest.mark.parametrize("name", ["momentum", "Adam"])
def test_a_step_that_is_interrupted_while_it_is_recorded_for_the_first_time_happens_once(name):
    """Rules and compilation are Python, which an interrupt may leave at any line."""
    chance, folders = random.Random(1), tuple(os.path.dirname(part.__file__) for part in (fb, dialects))
    with fb.compiler_options(mode="off"):
        steps, counts = Steps(name, "a group each"), Counter()

        def begin():
            steps.begin()
            fb.flush()
            recorder.clear()

        begin()
        lines = lines_of_step(steps.optimizer, 10**9, folders)
        for _ in range(rounds(12, 100, 2000)):
            begin()
            counts[steps.interrupt(chance.randrange(1, lines), folders)] += 1
        assert counts[False] and counts[True] and not counts[None], counts


def test_a_gradient_that_two_dropped_calls_made_is_none(mode):
    """The second, whose gradients have gradients, replaced what the first made: neither was computed."""
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x * x).sum()
    fb.flush()
    for before in (None, [3.0, 12.0]):
        if before:
            y.backward(retain_graph=True)
            fb.flush()
        _binding._refuse_memory(1)
        y.backward(retain_graph=True)
        y.backward(create_graph=True)
        with pytest.raises(fb.OutOfMemory):
            fb.flush()
        assert x.grad is None if before is None else x.grad.tolist() == before
    y.backward(create_graph=True)
    assert x.grad.tolist() == [6.0, 24.0]
    fb.flush()
    _binding._refuse_memory(1)
    y.backward(create_graph=True)  # two, of which each replaces the one before
    y.backward(create_graph=True)
    with pytest.raises(fb.OutOfMemory):
        fb.flush()
    assert x.grad.tolist() == [6.0, 24.0]


def test_memory_that_ran_out_names_the_line(mode):
    """Whatever ran the trace: call by call, op by op, as one program; and when the value is read later."""
    x = fb.ones(300, 300)
    fb.flush()
    for _ in range(4):
        _binding._refuse_memory(1)
        y = x.sin() @ x
        with pytest.raises(fb.OutOfMemory) as told:
            fb.flush()
        line = told.traceback[0].lineno + 1
        notes = "\n".join(told.value.__notes__)
        assert f"run at {__file__}:{line}" in notes and "recorded " in notes
        with pytest.raises(fb.OutOfMemory, match=f"run at .*:{line}"):
            y.tolist()
        (x.sin() @ x).tolist()
