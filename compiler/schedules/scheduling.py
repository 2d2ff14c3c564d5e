"""The stage `schedule`: a schedule for every nest of a group, by default or as somebody wants it.

In: a group, a target, what users and plug-ins fix, or the schedules themselves as text. Out: `Scheduled`. Next: `choose.py`,
`overrides.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flambeau.compiler.codegen.units import Cut, Unit
from flambeau.compiler.groups import generate
from flambeau.compiler.groups.form import Group
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.plugins import boundary
from flambeau.compiler.schedules import ScheduleError, hints, overrides
from flambeau.compiler.schedules.choose import choose
from flambeau.compiler.schedules.fitting import obstacle
from flambeau.compiler.schedules.form import Schedule
from flambeau.compiler.schedules.kinds import parse
from flambeau.compiler.targets import Target
from flambeau.dialects.entry_points import Offer, PluginError
from flambeau.dialects.graph import Loc
from flambeau.dialects.size_guards import Guard

#: A plug-in's function: (group, machine, default) -> a schedule of the same kind, or None for the default.
Scheduler = Callable[[Group, Target, Schedule], Schedule | None]


@dataclass(frozen=True)
class Scheduled:
    """A group with the schedules of its nests, in order. `cut` are the nests, if they are still at hand; `guards` is what cutting
    and choosing asked; `taken` are entries of the user's that some nest took."""

    group: Group
    schedules: tuple[Schedule, ...]
    cut: Cut | None = None
    guards: tuple[Guard, ...] = ()
    taken: tuple[overrides.Entry, ...] = ()


def scheduled(
    group: Group,
    machine: Target,
    given: Sequence[overrides.Entry] = (),
    plugins: Sequence[tuple[Offer, Scheduler]] = (),
) -> Scheduled:
    """A schedule for every nest of a group. Raises GroupError for a group that no generator follows, ScheduleError where fields
    that a user `given` do not fit, PluginError where what a plug-in gave does not."""
    cut = generate.cut(group, machine)
    found, all_taken = [], list[overrides.Entry]()
    for unit, tiled in zip(cut.units, _hints(group, cut, machine), strict=True):
        fields = _of_plugins(group, unit, machine, plugins, tiled)
        taken = overrides.taken(given, unit.kind, unit.label)
        all_taken += taken
        wanted = overrides.fixed(taken, unit.kind)
        found.append(
            fitting(group, unit, machine, fields | wanted) if wanted or tiled else choose(unit, machine, fields)
        )
    return Scheduled(group, tuple(found), cut, taken=tuple(all_taken))


def read(group: Group, machine: Target, texts: Sequence[str]) -> Scheduled:
    """A group with the schedules that stand in a text, none standing for the default ones. Raises ScheduleError where they do
    not fit."""
    if not texts:
        return scheduled(group, machine)
    cut = generate.cut(group, machine)
    if len(texts) != len(cut.units):
        nests = ", ".join(map(str, cut.units)) or "none"
        raise ScheduleError(
            f"[schedule] {len(texts)} schedules for {len(cut.units)} nests: {nests}. Give one for each."
        )
    schedules = []
    for unit, text in zip(cut.units, texts, strict=True):
        try:
            schedules.append(parse(text))
        except ScheduleError as error:
            raise ScheduleError(shown(str(error), unit, group)) from None
        check(group, unit, schedules[-1], machine)
    return Scheduled(group, tuple(schedules), cut)


def fitting(group: Group, unit: Unit, machine: Target, fields: Mapping[str, Any]) -> Schedule:
    """The schedule with these fields, which fits. Raises ScheduleError."""
    try:
        schedule = choose(unit, machine, fields)
    except ScheduleError as error:
        raise ScheduleError(shown(str(error), unit, group)) from None
    check(group, unit, schedule, machine)
    return schedule


def check(group: Group, unit: Unit, schedule: Schedule, machine: Target) -> None:
    """Raise ScheduleError, which shows both, where a schedule does not fit a nest."""
    if (why := obstacle(unit, schedule, machine)) is not None:
        raise ScheduleError(shown(f"[schedule] {schedule}: {why}", unit, group))


def shown(why: str, unit: Unit, group: Group) -> str:
    """Why a schedule is refused, the line that recorded the nest, and the nest."""
    loc = line_of(unit)
    at = f" ({loc})" if loc else ""
    return f"{why}\nThe nest{at}: {unit}\n{print_group(group)}".rstrip()


def line_of(unit: Unit) -> Loc | None:
    """The line of user code that the last op of a nest comes from."""
    return next((node.loc for node in reversed(unit.graph.nodes) if node.loc is not None), None)


def _hints(group: Group, cut: Cut, machine: Target) -> list[dict[str, Any]]:
    """For every unit the fields that tiles of its ops ask for. Raises ScheduleError for tiles that none of its loops has."""
    found: list[dict[str, Any]] = [{} for _ in cut.units]
    for value, op in cut.tiled:
        at = None if cut.is_apart else next((k for k, unit in enumerate(cut.units) if unit.computes(value)), None)
        if at is None:
            tiles = ", ".join(f"{size} along loop {loop}" for loop, size in op.tiles)
            why = f"[schedule] an op is tiled by {tiles}, and no nest computes it alone. Leave its tiles out."
            raise ScheduleError(f"{why}\n{print_group(group)}")
        unit = cut.units[at]
        try:
            wanted = hints.fields(unit, op, machine)
        except ScheduleError as error:
            raise ScheduleError(shown(f"{error}\nIts schedule: {choose(unit, machine)}", unit, group)) from None
        if any(found[at].get(name, x) != x for name, x in wanted.items()):
            raise ScheduleError(
                shown(f"[schedule] its ops are tiled in different ways: {found[at]}, {wanted}.", unit, group)
            )
        found[at].update(wanted)
    return found


def _of_plugins(
    group: Group, unit: Unit, machine: Target, plugins: Sequence[tuple[Offer, Scheduler]], tiled: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields that are fixed before users have their say: those of hints, and all fields of the last plug-in's schedule."""
    fields = dict(tiled)
    for offer, scheduler in plugins:
        default = choose(unit, machine, fields)
        with boundary.beyond(offer, len(group.ops), "schedule"):
            answer = scheduler(group, machine, default)
        if answer is None:
            continue
        if not isinstance(answer, Schedule):
            raise PluginError(
                f"[plug-in] schedule {boundary.named(offer)} gave {type(answer).__name__}. Give a Schedule, or None."
            )
        if (why := obstacle(unit, answer, machine)) is not None:
            refused = shown(f"[schedule] {answer}: {why}", unit, group)
            raise PluginError(f"[plug-in] schedule {boundary.named(offer)} does not fit: {refused}")
        fields = {name: getattr(answer, name) for name in answer.forms()}
    return fields
