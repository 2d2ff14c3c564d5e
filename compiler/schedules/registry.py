"""The schedules that other packages choose: entry points in the group `flambeau.schedules`.

In: offers. Out: functions `(group, machine, default) -> Schedule | None`, called for every nest. Next: `scheduling.py`.
"""

from __future__ import annotations

from typing import Any

from flambeau.dialects.entry_points import SCHEDULES
from flambeau.dialects.registry import Registry


def _no_scheduler(name: str, found: Any) -> str | None:
    fits = callable(found) and not isinstance(found, type)
    return None if fits else "Make it a function (group, machine, default) that gives a Schedule or None."


SCHEDULE_REGISTRY: Registry[Any] = Registry(SCHEDULES, "schedule", {}, _no_scheduler)
