"""Schedules decide speed and never a bit: every kind, at random; and every field is the only cause of some difference."""

import random

import pytest
import schedule_cases
from flambeau.compiler import targets
from flambeau.compiler.schedules.choose import choose
from flambeau.compiler.schedules.fitting import obstacle
from flambeau.compiler.schedules.kinds import KINDS, TopK, parse
from schedule_cases import VALUES, cases, changed, drawn
from support import rounds

TRIES = 4000


@pytest.mark.parametrize("kind", KINDS)
def test_schedules_drawn_at_random_give_the_same_bits_by_other_kernels(kind):
    count, rng = rounds(4, 40, 200), random.Random(f"{kind} {rounds(0, 1, 2)}")
    tried, texts = set(), set()
    for _ in range(TRIES):
        case = rng.choice(cases(kind))
        schedule = drawn(case, rng)
        if schedule is None or (case.name, schedule) in tried or schedule == case.default:
            continue
        tried.add((case.name, schedule))
        texts.add(case.described(schedule))
        assert case.run(schedule) == case.wanted, f"{case.name}: {schedule}"
        assert parse(str(schedule)) == schedule
        if len(tried) == count:
            break
    assert len(tried) == count
    assert len(texts) > count // 4  # some fields make no difference in some nests


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_the_only_cause_of_some_difference(kind):
    silent = [name for name in KINDS[kind].forms() if not _decides(kind, name)]
    assert silent == []


def test_blocks_may_be_shorter_than_what_a_topk_keeps():
    case = schedule_cases.Case("topk", "doubles", "host")
    assert case.run(TopK(1, 8, 44, 24, 1000)) == case.wanted


def _decides(kind: str, name: str) -> bool:
    """Whether some schedules that fit, and differ in one field only, give other calls."""
    rng = random.Random(name)
    for k in range(TRIES):
        case = rng.choice(cases(kind))
        schedule = case.default if k < 50 else drawn(case, rng)
        if schedule is None or not case.fits(schedule):
            continue
        other = changed(schedule, name, rng.choice(VALUES[name]))
        if other is None or other == schedule or not case.fits(other):
            continue
        if case.described(other) != case.described(schedule):
            return True
    return False


@pytest.mark.parametrize("target", ["host", "x86-64-v3", "x86-64-v4", "aarch64-neon", "sm_75", "sm_90"])
def test_what_is_chosen_fits(target):
    machine = targets.find(target)
    for kind in KINDS:
        if kind.startswith("gpu") is (machine.family == "gpu"):
            for case in cases(kind):
                there = schedule_cases.Case(kind, case.name, target)
                for unit in there.cut.units:
                    assert obstacle(unit, choose(unit, machine), machine) is None, f"{case.name}: {unit}"
