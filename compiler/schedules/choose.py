"""Which schedule a nest gets on a machine.

In: a unit (a nest of a cluster, `codegen/units.py`), a target, and fields that somebody has fixed. Out: the unit's schedule.
What is asked about sizes on the way becomes guards. Next: `loops/cut.py`, `products.py`, `gpu.py` (what is chosen, and
why), `scheduling.py` (who fixes fields).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flambeau.compiler.codegen.units import OwnNest, Unit
from flambeau.compiler.schedules import gpu, gpu_kinds, kinds, loops, products, sorting
from flambeau.compiler.schedules.form import Schedule
from flambeau.compiler.targets import Target

_CHOICES: dict[type[Schedule], Callable[..., Schedule]] = {
    kinds.Points: loops.points,
    kinds.Rows: loops.rows,
    kinds.Columns: loops.columns,
    kinds.Scatter: loops.scatter,
    kinds.Scan: loops.scan,
    kinds.Sort: sorting.sort,
    kinds.TopK: sorting.topk,
    kinds.Search: sorting.search,
    kinds.Windows: loops.windows,
    kinds.Product: products.product,
    kinds.VectorProduct: products.vector_product,
    kinds.DotProduct: products.dot_product,
    gpu_kinds.GpuPoints: gpu.points,
    gpu_kinds.GpuRows: gpu.rows,
    gpu_kinds.GpuColumns: gpu.columns,
    gpu_kinds.GpuProduct: gpu.product,
    gpu_kinds.GpuVectorProduct: gpu.vector_product,
}


def choose(unit: Unit, machine: Target, fixed: Mapping[str, Any] | None = None) -> Schedule:
    """The schedule of a nest on a machine. Fields in `fixed` are taken as they are, the others are chosen for them. Raises
    ScheduleError for fixed fields that break a rule, ValueError for a nest that no schedule fits."""
    if isinstance(unit, OwnNest):
        return unit.choose(unit, machine, fixed or {})
    return _CHOICES[unit.kind](unit, machine, fixed or {})
