"""Steps that run out of memory in other places than the thread that takes them: a value of theirs is read by another thread,
saved, or run because the process forks; they are taken by a new thread each, in a child, or while programs are compiled.
The rule is that of `test_transactions.py`: a step has happened or it has not."""

import os
import threading
import traceback

import flambeau as fb
import pytest
from failing_steps import Dropout, Looks, Training, attempt, check_dropped, good_run
from flambeau.runtime import _binding
from support import rounds

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.fixture(autouse=True)
def enough_memory_afterwards():
    yield
    _binding._refuse_memory(0)


def in_thread(work):
    """`work()` in a thread of its own: what it gives or raises."""
    found = []

    def run():
        try:
            found.append((work(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    value, error = found[0]
    if error is not None:
        raise error
    return value


def in_child(work):
    """`work()` in a child of this process; fails with what it raised there."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-4000:])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        text = said.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert text == ""


def every_allocation_fails_once(make, warm, wanted):
    at_most, nth, failures = rounds(4, 20, 10000), 0, 0
    while True:
        nth += 1 + nth // at_most
        if not check_dropped(make, warm, nth, wanted):
            return failures
        failures += 1


# ---- whole steps in other places


@pytest.mark.parametrize("make", [Training, Looks, Dropout])
def test_while_programs_are_compiled_in_the_background(make):
    """The first steps run op by op, later ones as one program, from whenever it is there."""
    with fb.compiler_options(mode="background"):
        for warm in (0, 4):
            assert every_allocation_fails_once(make, warm, good_run(make, warm + 2)) > 0


class ThreadEach(Training):
    """Every step is taken by a new thread, which ends afterwards."""

    def step(self):
        in_thread(super().step)


def test_steps_of_threads_that_end():
    with fb.compiler_options(mode="off"):
        wanted = good_run(ThreadEach, 4)
        assert [s for s, _ in wanted] == [s for s, _ in good_run(Training, 4)]
        assert every_allocation_fails_once(ThreadEach, 2, wanted) > 2


@needs_fork
def test_steps_in_a_child():
    """The child's failures are its own."""
    with fb.compiler_options(mode="off"):
        program = Training()
        program.step()
        wanted, before = good_run(Training, 4), program.state()

        def work():
            assert every_allocation_fails_once(Training, 2, wanted) > 2
            assert attempt(program, 1)
            assert program.state() == before
            program.step()
            assert program.state() == wanted[2][0]

        in_child(work)
        assert program.state() == before
        program.step()
        assert program.state() == wanted[2][0]


# ---- half of a step, that somebody else runs


class Pending(Training):
    """A step in halves: a loss and gradients that nobody has looked at, then the update."""

    def first_half(self):
        self.optimizer.zero_grad()
        self.found = self.loss()
        self.found.backward()

    def second_half(self):
        self.optimizer.step()


def every_allocation_of_the_first_half_fails_once(run, fails):
    """`run(program)` runs the half that is pending in `program`; `fails(program)` does so where memory is short, and says whether
    it was. What was pending is dropped whole, for whoever looks, and the step can be taken again."""
    wanted = [s for s, _ in good_run(Training, 4)]
    for nth in (*range(1, rounds(6, 40, 400)), 10**9):  # the last one is never asked for
        program = Pending()
        program.step()
        program.first_half()
        _binding._refuse_memory(nth)
        try:
            failed = fails(program)
        finally:
            _binding._refuse_memory(0)
        if not failed:
            run(program)
            program.second_half()
            assert program.state() == wanted[2], nth
            assert nth > 1
            return
        assert program.state() == wanted[1], nth
        assert [p.grad for p in program.parameters()] == [None] * len(program.parameters()), nth
        with pytest.raises(fb.OutOfMemory, match="a test refuses"):
            program.found.item()
        program.second_half()  # there are no gradients
        assert program.state() == wanted[1], nth
        program.step()
        assert program.state() == wanted[2], nth


def runs_out(work):
    try:
        work()
        return False
    except fb.OutOfMemory as error:
        assert str(error).startswith("[memory] a test refuses"), error
        return True


@pytest.fixture(params=["blocking", "off"])
def mode(request):
    with fb.compiler_options(mode=request.param):
        yield


def test_another_thread_reads_the_loss(mode):
    def read(program):
        in_thread(lambda: program.found.item())

    every_allocation_of_the_first_half_fails_once(read, lambda program: runs_out(lambda: read(program)))


def test_another_thread_reads_a_gradient(mode):
    def read(program):
        in_thread(lambda: program.parameters()[0].grad.tolist())

    every_allocation_of_the_first_half_fails_once(read, lambda program: runs_out(lambda: read(program)))


def test_it_is_saved(mode, tmp_path):
    """The file that was there stays, and nothing else."""
    path = tmp_path / "state"
    fb.save({"loss": fb.tensor(1.0)}, path)
    before = path.read_bytes()

    def save(program):
        fb.save({"loss": program.found.detach(), "first": program.parameters()[0]}, path)

    def fails(program):
        failed = runs_out(lambda: save(program))
        if failed:
            assert path.read_bytes() == before
            assert [p.name for p in tmp_path.iterdir()] == ["state"]
        return failed

    every_allocation_of_the_first_half_fails_once(save, fails)
    assert path.read_bytes() != before


@needs_fork
@pytest.mark.filterwarnings("ignore:Exception ignored in.*flush_all")
def test_the_process_forks(mode):
    """What is pending runs before a fork, which goes on where that fails: both processes find it dropped."""
    wanted = [s for s, _ in good_run(Training, 4)]

    def fork(program):
        def work():
            _binding._refuse_memory(0)
            dropped = program.parameters()[0].grad is None
            assert program.state() == wanted[1]
            assert runs_out(program.found.item) == dropped
            program.step()
            assert program.state() == wanted[2]

        in_child(work)

    def fails(program):
        fork(program)
        return program.parameters()[0].grad is None

    every_allocation_of_the_first_half_fails_once(fork, fails)
