"""Schedules as values, as text, as a stage, and replaced by users, plug-ins and tiles that a script left."""

import random
import re
from dataclasses import replace

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler import driver, stages, targets
from flambeau.compiler.caches import plan_cache
from flambeau.compiler.groups import generate
from flambeau.compiler.groups.form import Generic
from flambeau.compiler.kernel import Cluster
from flambeau.compiler.options import Options
from flambeau.compiler.passes.cluster import kind_of
from flambeau.compiler.schedules import ScheduleError, overrides, scheduling
from flambeau.compiler.schedules.kinds import KINDS, Points, Product, parse
from flambeau.compiler.tools import report, stage_text
from flambeau.dialects.irdl import print_graph
from schedule_cases import VALUES, cases, drawn

HOST = targets.find("host")


# ---- values and text ----------------------------------------------------------------------------------------------


def test_every_field_says_what_it_means_and_what_it_takes():
    for cls in KINDS.values():
        assert cls.forms().keys() <= VALUES.keys()
        assert all(cls.docs().values()) and all(form.words for form in cls.forms().values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_with_a_wrong_value_is_refused_by_name(kind):
    default = cases(kind)[0].default
    for name in KINDS[kind].forms():
        for wrong in (-1, None, "many", 2.5):
            with pytest.raises(ScheduleError, match=rf"^\[schedule\] {kind}: {name} is "):
                replace(default, **{name: wrong})


def test_rules_between_fields_are_kept():
    points = Points(8, 1, False, 0, 0, (), 100)
    for wrong, words in (
        ({"part": 12}, "part is 12, no multiple of lanes"),
        ({"part": 16, "tile": 16}, "not both"),
        ({"lanes": 1, "tile": 16}, "lanes"),
    ):
        with pytest.raises(ScheduleError, match=words):
            replace(points, **wrong)


def test_text_reads_back_and_sizes_are_part_of_it():
    product = next(c.default for c in cases("product"))
    text = str(product).replace(f"m_block = {product.m_block}", f"m_block = '{product.rows}*s0 + {product.rows}'")
    found = parse(text)
    assert isinstance(found, Product) and str(found) == text and not isinstance(found.m_block, int)
    for wrong in ("rows", "rows(lanes = 8)", "words(lanes = 8)", str(product).replace("rows", "ranks"), f"{product})"):
        with pytest.raises(ScheduleError):
            parse(wrong)


# ---- the stage ----------------------------------------------------------------------------------------------------


def softmax_text() -> str:
    return print_graph(cases("rows")[0].graph)


def test_what_the_stage_writes_it_reads_and_goes_on_from():
    options, program = Options(mode="blocking"), softmax_text()
    written = stage_text.convert(program, (), "tape", "schedule", options)
    assert "flambeau.schedules" in written and "rows(lanes = " in written
    assert stage_text.convert(written, (), "schedule", "", options) == written
    kernels = stage_text.convert(written, (), "schedule", "kernels", options)
    assert kernels == stage_text.convert(program, (), "tape", "kernels", options)
    edited = re.sub(r"interleave = \d+", "interleave = 1", written)
    other = stage_text.convert(edited, (), "schedule", "kernels", options)
    assert edited == written or other != kernels


def test_a_schedule_in_a_text_that_does_not_fit_is_refused_with_both():
    options = Options(mode="blocking")
    written = stage_text.convert(softmax_text(), (), "tape", "schedule", options)
    with pytest.raises(ScheduleError, match=r"resident = true.*rows of 300 elements(.|\n)*The nest.*max(.|\n)*linalg"):
        stage_text.convert(written.replace("resident = false", "resident = true"), (), "schedule", "kernels", options)
    with pytest.raises(ScheduleError, match="2 schedules for 1 nests"):
        twice = re.sub(r'("rows\([^"]*")', r"\1, \1", written)
        stage_text.convert(twice, (), "schedule", "kernels", options)


# ---- users --------------------------------------------------------------------------------------------------------


def kernels(**options) -> dict[str, str]:
    """Label and schedule of what a program becomes, and its result."""
    x = fb.tensor(np.linspace(-1, 1, 60 * 70, dtype=np.float32).reshape(60, 70))
    known = report.programs()
    with fb.compiler_options(mode="blocking", **options):
        total = ((x @ x.T).relu() + fb.softmax(x, -1).sum(0, keepdim=True)[:, :60]).numpy()
    new = [r for r in report.programs() if not any(r is k for k in known)]  # old ones are forgotten
    found = {label: text for r in new for label, text in zip(r.kernels, r.schedules, strict=True)}
    return found | {"bits": total.tobytes().hex()}


def test_users_replace_fields_of_the_kernels_that_a_pattern_means():
    plain = kernels()
    assert any("rows = " in text for text in plain.values())
    for given in (
        {"product": {"rows": 2, "vectors": 1}},
        {"matmul*": "rows = 2, vectors = 1"},
        {"*": {"rows": 2, "vectors": 1}, "product: *le*": {"rows": 2}},
    ):
        changed = kernels(schedules=given)
        (product,) = (text for text in changed.values() if text.startswith("product("))
        assert "rows = 2, vectors = 1," in product and changed["bits"] == plain["bits"]
        assert {k: v for k, v in changed.items() if not v.startswith("product(")} == {
            k: v for k, v in plain.items() if not v.startswith("product(")
        }


def test_later_entries_count_and_the_rest_is_chosen_for_them():
    given = overrides.entries({"*": {"lanes": 2}, "product": {"lanes": 4, "rows": 3}})
    (case, *_) = cases("product")
    (found,) = scheduling.scheduled(generate.group_of(case.part), HOST, given).schedules
    assert (found.lanes, found.rows) == (4, 3) and found.m_block % 3 == 0 and found.n_block % found.columns == 0


def test_schedules_are_part_of_what_a_program_is_known_by():
    graph = cases("product")[0].graph
    plain, other = Options(), Options(schedules={"product": {"rows": 2}})
    assert plan_cache.key(graph, plain) != plan_cache.key(graph, other)
    assert other == Options(schedules=(("product", "rows = 2"),)) and hash(other) == hash(replace(other))
    made = [stages.run(graph, options).program.kernels for options in (plain, other, plain)]
    assert made[0] == made[2] and [k.text for k in made[0]] != [k.text for k in made[1]]
    assert any("rows = 2," in kernel.schedule for kernel in made[1])


@pytest.mark.parametrize(
    "given, words",
    [
        ({"product": {"rows": 0}}, "rows is 0. Give an int from 1 to 64"),
        ({"product": {"raws": 4}}, "product has no field 'raws'"),
        ({"*": {"raws": 4}}, "no kind of schedule has raws"),
        ({"*": {"lanes": 3}}, "lanes is 3. Give a power of two"),
        ({"*": "lanes 3"}, "Write name = value"),
        ({"points": {"tile": True}}, "tile is true"),
    ],
)
def test_what_no_schedule_has_is_refused_where_it_is_given(given, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        fb.compiler_options(schedules=given)


@pytest.mark.parametrize("given", [{"*": 4}, {1: {"lanes": 2}}, "lanes = 2", [("*", "lanes = 2")]], ids=str)
def test_what_are_no_entries_is_a_type_error(given):
    with pytest.raises(TypeError):
        fb.compiler_options(schedules=given)


def refused_product() -> fb.Tensor:
    x = fb.tensor(np.ones((30, 40), np.float32))
    return x @ x.T  # line_of_the_product


def test_one_that_does_not_fit_is_refused_with_both_at_the_line_and_nothing_is_lost():
    wrong = {"product": {"rows": 64}}
    with pytest.raises(ScheduleError) as caught, fb.compiler_options(mode="blocking", schedules=wrong):
        kept, y = fb.tensor([1.0, 2.0]) * 3, refused_product()
        y.numpy()
    error = str(caught.value)
    assert "rows = 64" in error and "vector registers" in error and "linalg.generic" in error
    assert re.search(
        r"The nest \(.*test_schedules.py:\d+\): product nest of 1 times 30 x 30, along 40: matmul f32", error
    )
    assert (y.numpy() == 40).all() and kept.tolist() == [3.0, 6.0]
    assert (refused_product().numpy() == 40).all()


def test_workers_refuse_it_too():
    graph = cases("product")[0].graph
    options = Options(mode="background", schedules={"product": {"rows": 64}})
    executable = driver.compile(graph, options)
    driver.compile(graph, options)  # at the second sight workers compile it
    with pytest.raises(ScheduleError, match=r"rows = 64(.|\n)*vector registers(.|\n)*The nest: product nest"):
        executable.wait(120)


def test_op_by_op_nothing_is_replaced():
    with fb.compiler_options(mode="off", schedules={"*": {"rows": 64}}):
        assert (refused_product().numpy() == 40).all()


def test_explain_shows_the_schedules_on_request():
    with fb.compiler_options(mode="blocking"):
        (fb.ones(5, 7) * 2 + 1).numpy()
    shown = str(fb.explain(schedules=True))
    assert "schedules of kernels:" in shown and "points(lanes = " in shown
    assert "points(lanes = " not in str(fb.explain())
    for label, text in fb.explain().schedules:
        assert label and str(parse(text)) == text


def told_unread(function, **options) -> list[str]:
    """The patterns that `explain()` says no kernel of some programs took."""
    known = report.programs()
    with fb.compiler_options(**options):
        function()
    new = [r for r in report.programs() if not any(r is k for k in known)]
    assert new and all(r.tier == "fused" for r in new)
    explanation = replace(fb.explain(), reports=tuple(new))
    assert all(f"'{p}'" in str(explanation) for p in explanation.unread_schedules)
    return explanation.unread_schedules


def some_kernels() -> None:
    (fb.ones(5, 9) * 3 + 1).numpy()
    fb.softmax(fb.ones(6, 11), -1).numpy()


def test_explain_tells_of_patterns_that_no_kernel_took():
    given = {"matmull*": {"rows": 4}, "rows: *exp*": {"lanes": 4}, "points: *exp*": {"lanes": 4}, "*": {"vectors": 2}}
    assert told_unread(some_kernels, mode="blocking", schedules=given) == ["matmull*", "points: *exp*", "*"]
    assert "no kernel" not in str(replace(fb.explain(), reports=()))


def test_programs_on_disk_say_which_patterns_they_took():
    options = Options(schedules={"matmull*": {"rows": 4}, "rows: *exp*": {"lanes": 4}})
    made = stages.run(cases("rows")[0].graph, options).program
    assert made.unread == ("matmull*",) and plan_cache._decode(plan_cache._encode(made)) == made


def test_patterns_for_kernels_of_branches_are_read():
    def branches() -> None:
        fb.cond(fb.ones(()) > 0, lambda x: fb.softmax(x, -1), lambda x: x, (fb.ones(4, 9),)).numpy()

    given = {"rows: *exp*": {"lanes": 4}, "product": {"rows": 4}}
    assert told_unread(branches, mode="blocking", schedules=given) == ["product"]


# ---- tiles that a script left -------------------------------------------------------------------------------------


def tiled(kind: str, name: str, tiles, at: int = -1):
    """The schedules of a case of which one op has tiles."""
    case = next(c for c in cases(kind) if c.name == name)
    group = generate.group_of(Cluster(kind_of(case.graph), case.graph))
    places = [k for k, op in enumerate(group.ops) if isinstance(op, Generic)]
    ops = list(group.ops)
    ops[places[at]] = replace(ops[places[at]], tiles=tiles)
    return case, scheduling.scheduled(replace(group, ops=tuple(ops)), targets.find(case.target))


@pytest.mark.parametrize(
    "kind, name, tiles, fields",
    [
        ("points", "flat", ((0, 128),), {"grain": 128}),
        ("points", "long rows", ((0, 1), (1, 128)), {"part": 128, "grain": 128}),
        ("points", "long rows", ((0, 2),), {"grain": 2000, "part": 0}),
        ("columns", "sum", ((1, 64),), {"block": 64}),
        ("product", "plain", ((0, 12), (1, 32)), {"m_block": 12, "n_block": 32}),
        ("product", "plain", ((0, 8),), {"m_block": 8}),
        ("gpu-points", "flat", ((0, 128),), {"threads": 128, "each": 1}),
        ("gpu-product", "plain", ((0, 32), (1, 32)), {"tile": 32}),
    ],
)
def test_tiles_are_followed_where_the_nest_has_such_loops(kind, name, tiles, fields):
    case, found = tiled(kind, name, tiles)
    (schedule,) = found.schedules
    assert {field: getattr(schedule, field) for field in fields} == fields
    assert case.run(schedule) == case.wanted


@pytest.mark.parametrize(
    "kind, name, tiles",
    [
        ("points", "long rows", ((1, 100),)),
        ("points", "long rows", ((0, 2), (1, 128))),
        ("product", "plain", ((1, 30),)),
        ("product", "batch", ((1, 8),)),
        ("vector-product", "matrix times vector", ((0, 8),)),
        ("gpu-rows", "softmax", ((0, 2),)),
    ],
)
def test_other_tiles_are_refused_with_both(kind, name, tiles):
    with pytest.raises(
        ScheduleError, match=r"(?s)\[schedule\].*(tiled|tiles|tile|multiple|block).*The nest.*flambeau.tiles = \["
    ):
        tiled(kind, name, tiles, at=-1 if kind != "gpu-rows" else 0)


def test_drawn_schedules_are_legal_by_what_they_say():
    for kind in KINDS:
        rng = random.Random(kind)  # one each: what a kind draws does not depend on which others there are
        made = [schedule for _ in range(60) if (schedule := drawn(rng.choice(cases(kind)), rng)) is not None]
        assert made and all(parse(str(s)) == s and hash(parse(str(s))) == hash(s) for s in made)
