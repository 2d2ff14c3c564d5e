"""Recording: what is a hit, what is in a key, how arguments bind, what is computed and what is not."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import recorder_toy as T
from flambeau.runtime import recorder as R


@pytest.fixture(autouse=True)
def toy():
    with T.installed():
        yield


def test_the_second_time_no_python_runs():
    x, y = T.tensor([[1, 2], [3, 4]]), T.tensor([[10, 20], [30, 40]])
    for _ in range(3):
        z = ((x + y) * 2.0).sum(dim=1)
        np.testing.assert_array_equal(T.value(z), [66, 154])
    assert T.counts == {"expand": 3, "build": 1, "runs": 3}
    assert R.stats()["hits"] == 6 and R.stats()["misses"] == 3


def test_a_scalar_is_an_operand_and_its_kind_is_part_of_the_key():
    x = T.tensor([1.0, 2.0])
    for lr in (0.5, 0.25, 0.125):
        np.testing.assert_array_equal(T.value(x * lr), np.float32([1, 2]) * lr)
    assert T.counts["expand"] == 1 and T.counts["build"] == 1
    T.value(x * 2)
    T.value(x * True)
    assert T.counts["expand"] == 3
    assert ("scalar", 1, "bool") in T.last_export


def test_numbers_are_static_until_several_values_were_seen():
    x = T.tensor([2.0, 3.0])
    for k, exponent in enumerate((1, 2, 3, 4, 5, 6)):
        np.testing.assert_array_equal(T.value(x**exponent), np.float32([2, 3]) ** exponent)
        assert T.counts["expand"] == min(k + 1, 3)
    assert ("scalar", 1, "int") in T.last_export
    np.testing.assert_array_equal(T.value(x**1), [2, 3])
    assert T.counts["expand"] == 3


def test_shapes_modes_and_types_are_part_of_the_key():
    T.value(T.tensor([1.0]) + 1.0)
    T.value(T.tensor([1.0, 2.0]) + 1.0)
    T.value(T.tensor([1.0], dtype=T.f64).reshape(1) + 1.0)
    assert T.counts["expand"] == 4  # the reshape is one
    R.set_mode(T.GRAD | 8)
    T.value(T.tensor([1.0]) + 1.0)
    assert T.counts["expand"] == 5
    R.set_mode(T.GRAD)
    T.value(T.tensor([1.0]) + 1.0)
    assert T.counts["expand"] == 5


def test_statics_tell_types_and_signs_apart():
    seen = []

    def rule(function, operands, statics, mode):
        seen.append(statics["value"])
        return (lambda a: [a]), [(operands[0][1], T.f32, False)], None

    f = R.Function("f", (("x", "tensor", R.REQUIRED), ("value", "static", None)), "pure", rule)
    x = T.tensor([1.0])
    values = [1, 1.0, True, 0.0, -0.0, None, "1", (1, 2), (1.0, 2), [1, [2, 3]], T.f32]
    for value in [*values, *values, (1, (2, 3)), np.int64(1)]:
        f(x, value)
        R.flush()
    assert [type(v) for v in seen] == [type(v) if not isinstance(v, list) else tuple for v in values]
    assert str(seen) == str([(1, (2, 3)) if isinstance(v, list) else v for v in values])


@pytest.mark.parametrize("call", [lambda x: x.reshape(3, 2), lambda x: x.reshape((3, 2)), lambda x: x.reshape([3, 2])])
def test_a_variadic_static_may_be_one_sequence_or_several_arguments(call):
    x = T.tensor(np.arange(6).reshape(2, 3))
    assert call(x).shape == (3, 2)
    np.testing.assert_array_equal(T.value(call(x)), [[0, 1], [2, 3], [4, 5]])
    assert x.reshape(6).shape == (6,)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: T.total(), TypeError, "[sum] argument 'input' is missing."),
        (lambda x: x.sum(0, False), TypeError, "[sum] takes at most 2 positional arguments, got 3."),
        (lambda x: x.sum(axis=1), TypeError, "[sum] there is no argument 'axis'. It takes: input, dim, keepdim."),
        (lambda x: x.sum(0, dim=0), TypeError, "[sum] argument 'dim' was given twice."),
        (lambda x: x.add("a"), TypeError, "[add] argument 'other' must be a Tensor or a number, got str."),
        (lambda x: T.total([1]), TypeError, "[sum] argument 'input' must be a Tensor, got list."),
        (lambda x: T.update([x], [1], 0.1), TypeError, "must be a sequence of Tensors, item 0 is int"),
        (lambda x: T.update(x, [x], 0.1), TypeError, "[update] argument 'params' must be a sequence of Tensors"),
        (lambda x: x.pow("2"), TypeError, "[pow] argument 'exponent' must be a number, got str."),
        (lambda x: x.sum(dim=x), TypeError, "[sum] argument 'dim' has type flambeau.Tensor"),
        (lambda x: x.sum(dim={}), TypeError, "[sum] argument 'dim' has type dict, which is not a static value."),
        (lambda x: x + 2**70, OverflowError, "too big"),
        (lambda x: x.sum(dim=7), IndexError, "[sum] dim 7 is out of range for shape (2, 3)."),
        (lambda x: x + T.tensor([1, 2]), ValueError, "[add] shapes (2, 3) and (2,) do not broadcast."),
        (lambda x: x + "a", TypeError, "unsupported operand"),
        (lambda x: x[0], TypeError, "[getitem] Tensor is not subscriptable."),
        (lambda x: len(x.sum()), TypeError, "[len] a 0-d tensor has no length."),
    ],
)
def test_wrong_calls_say_what_is_wrong_and_record_nothing(call, error, text):
    before = R.set_slot("mp_subscript", None)
    x = T.tensor(np.ones((2, 3)))
    try:
        for _ in range(2):
            with pytest.raises(error) as caught:
                call(x)
            assert text in str(caught.value)
        np.testing.assert_array_equal(T.value(x + x), np.full((2, 3), 2))
        assert not [e for e in T.last_export if e[0] == "call" and e[6] is not T.add and e[6] is not T.total]
    finally:
        R.set_slot("mp_subscript", before)


def test_operators_leave_foreign_operands_alone():
    class Other:
        def __radd__(self, other):
            return "radd"

    x = T.tensor([1.0])
    assert x + Other() == "radd"
    np.testing.assert_array_equal(T.value(2.0 - x), [1])
    np.testing.assert_array_equal(T.value(x + np.float32(3)), [4])
    assert hash(x) == hash(x) and x in {x}


def test_what_nobody_can_reach_is_not_computed():
    x = T.tensor([1.0])
    dead = x + 1.0
    alive = dead * 2.0
    del dead
    assert T.value(alive) == 4
    assert T.requested[0] == (4,)
    x + 1.0
    R.flush()
    assert T.counts["runs"] == 1  # nothing alive: nothing run


def test_a_stray_reference_widens_a_program_a_few_times_at_most():
    x = T.tensor([1.0])
    strays = []
    for k in range(40):
        values = [x + 1.0]
        for _ in range(9):
            values.append(values[-1] * 2.0)
        strays.append(values[k % 10])
        last = values[-1]
        del values
        T.value(last)
        strays[:-2] = []
    assert T.counts["build"] <= 6
    assert R.stats()["programs"] == 1


def test_results_in_tuples_and_sequences_of_tensors():
    x = T.tensor([1.0, 2.0, 3.0, 4.0])
    a, b = x.split()
    assert a.shape == (2,)
    np.testing.assert_array_equal(T.value(b), [3, 4])
    params, grads = [T.tensor([1.0, 1.0]) for _ in range(40)], [T.tensor([2.0, 2.0]) for _ in range(40)]
    for k in range(2):
        assert T.update(params, grads, 0.5) is None
        for p in params:
            np.testing.assert_array_equal(T.value(p), [2.0 + k] * 2)
    assert params[0]._version == 2


def test_the_key_of_a_trace_is_bounded_in_length_and_cut_where_it_was_cut_before():
    R.set_limits(max_ops=50)
    x = T.tensor([0.0])
    for _ in range(4):
        y = x
        for _ in range(98):
            y = y + 1.0
        assert T.value(y) == 98
    assert T.counts["build"] == 1 and R.stats()["flushes"] == 8  # an input and 49 ops, twice a round
    assert R.stats()["states"] == 50


def test_long_loops_are_cut_where_they_repeat():
    R.set_limits(soft_ops=100)
    total = T.tensor([0.0])
    for _ in range(200):
        R.flush_point()
        for _ in range(7):
            total = total + 1.0
    assert T.value(total) == 1400
    assert R.stats()["programs"] == 2 and R.stats()["flushes"] == 14  # the rounds, and the rest at the end


def test_memory_that_only_the_trace_holds_is_bounded():
    R.set_limits(max_bytes=10_000)
    total = T.tensor(np.zeros(250))
    for _ in range(100):
        total = total + T.tensor(np.ones(250))
    assert R.stats()["flushes"] >= 5
    np.testing.assert_array_equal(T.value(total), np.full(250, 100))


def test_the_trie_is_bounded():
    R.set_limits(max_states=100)
    x = T.tensor([0.0])
    for k in range(60):
        y = x
        for _ in range(k):
            y = y + 1.0
        y = y * 2.0
        assert T.value(y) == 2 * k
        assert R.stats()["states"] <= 320
    assert R.stats()["states"] < 60 * 61 / 4


def test_programs_are_bounded():
    R.set_limits(max_programs=20)
    x = T.tensor([0.0])
    for k in range(100):
        y = x
        for _ in range(k):
            y = y + 1.0
        assert T.value(y * 2.0) == 2 * k
        assert R.stats()["programs"] <= 21
    builds = R.stats()["builds"]
    for _ in range(5):  # what comes again is made again once
        assert T.value(x * 2.0) == 0
    assert R.stats()["builds"] <= builds + 1


def test_shadow_mode_finds_a_rule_that_changes_its_mind():
    x = T.tensor([[1.0, 2.0]])
    answers = [(1, 2), (2, 1)]

    def rule(function, operands, statics, mode):
        return (lambda a: [a]), [(answers[0], T.f32, False)], None

    f = R.Function("moody", (("x", "tensor", R.REQUIRED),), "pure", rule)
    R.set_shadow(True)
    f(x)
    R.flush()
    f(x)
    R.flush()
    answers.reverse()
    with pytest.raises(RuntimeError, match=r"\[moody\] shadow check"):
        f(x)


def test_what_records_in_the_middle_of_a_call_does_not_disturb_it():
    """A finalizer or a signal handler may run while a rule does: what it computes is computed, and so is the call."""
    x = T.tensor([1.0])
    found = []

    def rule(function, operands, statics, mode):
        y = x + 1.0
        found.extend([y, T.value(y * 2.0)])
        return (lambda a: [a + 4]), [((1,), T.f32, False)], None

    y = R.Function("interrupted", (("x", "tensor", R.REQUIRED),), "pure", rule)(x + 2.0)
    assert T.value(y + 8.0) == [15.0]
    assert T.value(found[0]) == [2.0]
    assert found[1] == [4.0]


def test_cycles_are_collected_and_weak_references_die():
    gc.collect()
    x = T.tensor([1.0])
    live = R.stats()["live_cells"]
    y = x + 1.0
    y.me = y
    seen = weakref.ref(y)
    del y
    gc.collect()
    assert seen() is None
    z = x + 1.0
    seen = weakref.ref(z)
    del z
    assert seen() is None
    leaf = T.tensor([1.0], requires_grad=True)
    leaf.grad = T.tensor([1.0])
    leaf.grad.owner = leaf
    seen = weakref.ref(leaf)
    del leaf
    gc.collect()
    assert seen() is None
    R.flush()
    assert R.stats()["live_cells"] == live


def test_subclasses_share_the_layout_and_may_have_attributes():
    class Parameter(R.Tensor):
        pass

    p = T.tensor([1.0, 2.0], requires_grad=True, cls=Parameter)
    p.name = "weight"
    assert type(p) is Parameter and p.is_leaf and p.requires_grad and p.__dict__ == {"name": "weight"}
    total = p + p
    assert type(total) is R.Tensor and total.requires_grad and not total.is_leaf
    np.testing.assert_array_equal(T.value(total), [2, 4])
    w = T.tensor([3.0])
    q = R.make_leaf(w, True, Parameter)
    assert R.same_storage(w, q) and q.requires_grad and not w.requires_grad
    seen = weakref.ref(p)
    del p, total
    gc.collect()
    assert seen() is None


def test_memory_is_flat_over_ten_thousand_rounds_of_changing_liveness():
    import resource

    x = T.tensor(np.ones(64))

    def rounds(n):
        kept = None
        for k in range(n):
            a = x + 1.0
            b = a * 2.0
            c = b.reshape(8, 8).sum(dim=0)
            v = b.rows((k % 32,), 2)
            v.add_(1.0)
            kept = (a, b, c)[k % 3]
            del a, b, c, v
            T.value(kept) if k % 2 else R.flush()

    rounds(500)
    gc.collect()
    before, memory = R.stats(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rounds(10_000)
    gc.collect()
    after = R.stats()
    for name in ("live_cells", "programs", "states", "types", "views", "builds"):
        assert after[name] == before[name], name
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2048


def test_explain_names_the_line_and_the_field_that_differs():
    x = T.tensor(np.ones((2, 7)))
    x.sum(dim=0)
    R.flush()
    x.sum(dim=1)
    line = sys._getframe().f_lineno - 1
    found = [k for k in R.explain_log() if k[0] == "miss" and k[1] == __file__ and k[2] == line]
    assert found and "static arguments: (1, False) now, (0, False) before" in found[0][4]
    R.flush()
    T.tensor([1.0]) + 1.0
    R.flush()
    T.tensor([1.0, 2.0]) + 1.0
    details = [k[4] for k in R.explain_log() if k[1] == __file__ and k[2] == sys._getframe().f_lineno - 1]
    assert "input: shape (2,), dtype float32 now, (1,), float32 before" in details


def test_a_full_log_drops_its_oldest_events():
    x = T.tensor(np.ones(3))
    lines = 10_001  # more than the log keeps
    exec(compile("y = x + 1.0; R.flush()\n" * lines, "<many lines>", "exec"), {"x": x, "R": R})
    ours = {line for _, file, line, *_ in R.explain_log() if file == "<many lines>"}
    assert lines in ours and 1 not in ours and len(R.explain_log()) <= 10_000
