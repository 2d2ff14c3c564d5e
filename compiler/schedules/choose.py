"""Which schedule a nest gets on a machine.

In: a unit (a nest of a cluster, `codegen/units.py`), a target, and fields that somebody has fixed. Out: the unit's schedule.
What is asked about sizes on the way becomes guards. Next: `loops.py`, `products.py`, `gpu.py` (what is chosen, and
why), `overrides.py` (who fixes fields).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flambeau.compiler.codegen.units import Unit
from flambeau.compiler.schedules import gpu, loops, products
from flambeau.compiler.schedules.form import Schedule
from flambeau.compiler.schedules.kinds import (
    Columns,
    GpuColumns,
    GpuPoints,
    GpuProduct,
    GpuRows,
    GpuVectorProduct,
    Points,
    Product,
    Rows,
    Scatter,
    VectorProduct,
)
from flambeau.compiler.targets import Target

_CHOICES: dict[type[Schedule], Callable[..., Schedule]] = {
    Points: loops.points,
    Rows: loops.rows,
    Columns: loops.columns,
    Scatter: loops.scatter,
    Product: products.product,
    VectorProduct: products.vector_product,
    GpuPoints: gpu.points,
    GpuRows: gpu.rows,
    GpuColumns: gpu.columns,
    GpuProduct: gpu.product,
    GpuVectorProduct: gpu.vector_product,
}


def choose(unit: Unit, machine: Target, fixed: Mapping[str, Any] | None = None) -> Schedule:
    """The schedule of a nest on a machine. Fields in `fixed` are taken as they are, the others are chosen for them. Raises
    ScheduleError for fixed fields that break a rule, ValueError for a nest that no schedule fits."""
    return _CHOICES[unit.kind](unit, machine, fixed or {})
