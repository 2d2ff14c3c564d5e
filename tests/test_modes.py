"""Modes hold for a block and are put back whatever happens: nesting, decorators, generators, threads, interrupts."""

import gc
import inspect
import itertools
import signal
import threading

import flambeau as fb
import pytest
from flambeau.runtime import recorder
from support import rounds


@pytest.fixture(autouse=True)
def same_mode_afterwards():
    before = recorder.get_mode()
    yield
    assert recorder.get_mode() == before


def test_blocks_nest_and_one_object_can_be_entered_again():
    block = fb.no_grad()
    with block:
        with fb.enable_grad():
            assert fb.is_grad_enabled()
            with block:
                assert not fb.is_grad_enabled()
            assert fb.is_grad_enabled()
        assert not fb.is_grad_enabled()
    assert fb.is_grad_enabled()


def test_a_block_restores_gradients_only():
    with fb.no_grad():
        fb.set_default_dtype(fb.float64)
    try:
        assert fb.get_default_dtype() is fb.float64 and fb.is_grad_enabled()
    finally:
        fb.set_default_dtype(fb.float32)


def test_blocks_that_are_left_in_another_order():
    one, two, three = fb.no_grad(), fb.enable_grad(), fb.no_grad()
    for block in (one, two, three):
        block.__enter__()
    two.__exit__(None, None, None)
    assert not fb.is_grad_enabled()  # that of `three`
    one.__exit__(None, None, None)
    assert not fb.is_grad_enabled()
    three.__exit__(None, None, None)
    assert fb.is_grad_enabled()
    three.__exit__(None, None, None)  # once more does nothing


def test_a_block_that_nobody_leaves_ends_with_its_object():
    block = fb.no_grad()
    block.__enter__()
    assert not fb.is_grad_enabled()
    del block
    assert fb.is_grad_enabled()


def test_set_grad_enabled_acts_at_once_and_stays():
    fb.set_grad_enabled(False)
    assert not fb.is_grad_enabled()
    with fb.set_grad_enabled(True):
        assert fb.is_grad_enabled()
    assert not fb.is_grad_enabled()
    fb.set_grad_enabled(True)
    assert fb.is_grad_enabled()


def test_set_grad_enabled_of_a_with_that_an_exception_prevents_has_not_happened():
    def prevented():
        raise KeyError(fb.set_grad_enabled(False), 1 / 0)

    with pytest.raises(ZeroDivisionError):
        prevented()
    gc.collect()
    assert fb.is_grad_enabled()


DECORATORS = {
    "class": lambda: fb.no_grad,
    "no_grad": fb.no_grad,
    "inference_mode": fb.inference_mode,
    "set_grad_enabled": lambda: fb.set_grad_enabled(False),
}


@pytest.mark.parametrize("name", DECORATORS)
def test_decorated_functions(name):
    @DECORATORS[name]()
    def f(x):
        """Says so."""
        return fb.is_grad_enabled(), x

    assert f(3) == (False, 3) and f.__doc__ == "Says so." and fb.is_grad_enabled()
    assert f(4) == (False, 4)


def test_a_decorated_generator_is_in_the_mode_while_it_runs():
    seen = []

    @fb.no_grad()
    def f():
        try:
            got = yield fb.is_grad_enabled()
            try:
                yield got, fb.is_grad_enabled()
            except KeyError:
                yield "caught", fb.is_grad_enabled()
            return "end"
        finally:
            seen.append(fb.is_grad_enabled())

    g = f()
    assert next(g) is False and fb.is_grad_enabled()
    assert g.send(5) == (5, False) and fb.is_grad_enabled()
    assert g.throw(KeyError()) == ("caught", False) and fb.is_grad_enabled()
    with pytest.raises(StopIteration) as end:
        next(g)
    assert end.value.value == "end" and seen == [False]
    g = f()
    next(g)
    g.close()
    assert seen == [False, False] and fb.is_grad_enabled()


def test_a_block_of_one_thread_that_another_leaves():
    block, entered, leave = fb.no_grad(), threading.Event(), threading.Event()
    said = []

    def run():
        block.__enter__()
        entered.set()
        leave.wait(10)
        said.append(fb.is_grad_enabled())

    thread = threading.Thread(target=run)
    thread.start()
    entered.wait(10)
    block.__exit__(None, None, None)
    leave.set()
    thread.join()
    assert said == [True] and fb.is_grad_enabled()


# ---- interrupts


class Interrupt(BaseException):
    pass


def managers():
    """Every public context manager of modes, and how to make one."""
    arguments = {
        "autocast": lambda: fb.autocast("cpu"),
        "compiler_options": lambda: fb.compiler_options(fuse=False),
        "set_grad_enabled": lambda: fb.set_grad_enabled(False),
    }
    found = {
        name: value
        for name, value in vars(fb).items()
        if inspect.isclass(value) and hasattr(value, "__exit__") and not issubclass(value, fb.Tensor)
    }
    return {**found, **arguments}


def state():
    return recorder.get_mode(), fb.compiler_options.__globals__["options"]()


def test_there_is_no_public_context_manager_in_python():
    """Its `__exit__` could be interrupted before its first instruction."""
    found = managers() | {"RemovableHandle": type(fb.nn.Linear(1, 1).register_forward_hook(print))}
    assert {"no_grad", "enable_grad", "inference_mode", "set_grad_enabled", "shadow_mode"} <= found.keys()
    for name, make in found.items():
        kind = make if inspect.isclass(make) else type(make())
        fb.set_grad_enabled(True)  # one that was made has acted at once
        assert issubclass(kind, (recorder.ModeScope, recorder.Context)), name
        assert not {"__enter__", "__exit__"} & set(vars(kind)), name


@pytest.fixture
def interrupted():
    """Runs a function that never ends until a signal comes, at moments that differ from call to call."""

    def raise_it(*_):
        raise Interrupt

    def run(function):
        run.calls += 1
        with pytest.raises(Interrupt):
            signal.setitimer(signal.ITIMER_REAL, 1e-4 + 1.7e-6 * (run.calls % 101))
            function()

    run.calls = 0
    old = signal.signal(signal.SIGALRM, raise_it)
    yield run
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("name", managers())
def test_interrupts_leave_no_mode_behind(name, interrupted):
    make, before, x = managers()[name], state(), fb.ones(3)

    def loop(times=None):
        for _ in itertools.count() if times is None else range(times):
            with make():
                x + 1

    loop(30_000)  # what is imported when it is first needed: Python tells of interrupts within as of a RuntimeError
    for _ in range(rounds(300, 3000, 20000)):
        interrupted(loop)
        assert state() == before, f"after {interrupted.calls} interrupts"


def test_interrupts_leave_no_hook_behind(interrupted):
    module, x = fb.nn.Linear(1, 1), fb.ones(3)
    entered = []

    def loop():
        with handle:
            entered.append(handle)
            while True:
                x + 1

    for _ in range(rounds(300, 3000, 20000)):
        handle = module.register_forward_hook(print)
        interrupted(loop)
        if not entered:  # it came before the block
            handle.remove()
        entered.clear()
        assert not module._forward_hooks
