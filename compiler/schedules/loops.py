"""Schedules of loop nests on CPUs: what is chosen for each, from the work of an element, the extents and the machine.

In: a `LoopNest`, a `Target`, and the fields that somebody has fixed. Out: its schedule: what is fixed is taken as it is, the
rest is chosen for it. Numbers here were measured; they decide speed and never a bit. Next: `fitting.py`, which says what fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flambeau.compiler.codegen.loops.nest import LINE
from flambeau.compiler.codegen.loops.phases import Stages, work
from flambeau.compiler.codegen.units import LoopNest
from flambeau.compiler.schedules.kinds import Columns, Points, Rows, Scan, Scatter, Windows
from flambeau.compiler.targets import Target
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.size import Size, at_most

#: Elements of a task of cheap work; of dear work it has a quarter.
GRAIN, DEAR = 16384, 60
#: Work of an element up to which a loop is unrolled by four, and by two: enough to hide latency, less when the body is long.
SHORT, MIDDLING = 8, 40
#: Work of an element from which on a folding pass is written once and its accumulators take turns: its code would cost more
#: than its branches.
LONG_BODY = 100
#: An element that costs more than this is kept between passes rather than computed again.
RECOMPUTE = 6
#: An elementwise nest of fewer rows than MANY, longer than LONG_ROW, is cut inside of its rows; fewer rows than MANY that are
#: folded in one pass are cut into chunks. So many rows keep the threads busy.
MANY, LONG_ROW = 32, 1 << 15
#: Vectors for which turning tiles of an operand in registers pays, and the columns of a tile.
TURNED, TILE = (4, 8, 16), LANES
#: Columns that an item of an outer fold takes, and inner elements that one of a scatter takes.
BLOCK, SCATTERED = 1024, 256
#: Chains that a scan advances side by side: as many as hide the latency of an addition, and no more lines than a set of a cache
#: holds, since blocks of a line lie a page apart.
CHAINS = 4

Fixed = Mapping[str, Any]


class Choice:
    """The fields of one schedule while they are chosen."""

    def __init__(self, nest: LoopNest, machine: Target, fixed: Fixed) -> None:
        self.nest, self.machine, self.fixed = nest, machine, fixed
        self.form, self.space, self.fragment = nest.form, nest.space, nest.fragment

    def lanes(self) -> int:
        """A full register of the narrowest number."""
        if "lanes" in self.fixed:
            return int(self.fixed["lanes"])
        if self.form.size == 1:
            return 1
        return min(self.machine.vector_bytes // min(self.nest.widths() - {1}, default=1), LANES)

    def unroll(self) -> int:
        amount = work(self.fragment)
        return int(self.fixed.get("unroll", 4 if amount <= SHORT else 2 if amount <= MIDDLING else 1))

    def streamed(self, lanes: int, stages: Stages) -> tuple[int, ...]:
        """Outputs so large that the caches would not keep them."""
        if "streamed" in self.fixed:
            return tuple(self.fixed["streamed"])
        large = self.machine.l3 // 4
        outputs = enumerate(self.fragment.graph.outputs)
        return tuple(
            k
            for k, v in outputs
            if may_stream(self.nest, self.machine, v, lanes, stages) and bool(self.fragment.avals[v].nbytes >= large)
        )

    def resident(self, lanes: int) -> bool:
        """Whether a row fits into the registers of one step: it is then read once and stays there through all passes.

        That lengths known at run time do is a condition on their values, asked unless hardly any would meet it; then all
        registers of a step are masked."""
        if "resident" in self.fixed:
            return bool(self.fixed["resident"])
        cols = self.space.cols
        if isinstance(cols, Size) and at_most(LANES // 2, cols):
            return False
        return bool(lanes > 1 and 0 < cols <= LANES)

    def grain(self) -> int:
        """Elements of a task; the cut is fixed by shapes alone."""
        return int(self.fixed.get("grain", GRAIN if work(self.fragment) < DEAR else GRAIN // 4))


def may_stream(nest: LoopNest, machine: Target, value: int, lanes: int, stages: Stages) -> bool:
    """Whether an output need not pass through the caches: its rows begin on cache lines, its registers are full ones, and no later
    stage reads it back."""
    aval = nest.fragment.avals[value]
    is_whole = aval.size == nest.form.size and value not in nest.placed and value not in stages.read_back
    starts_lines = not nest.space.extents or nest.space.cols * aval.dtype.itemsize % LINE == 0
    is_full = lanes * aval.dtype.itemsize >= machine.vector_bytes and not aval.dtype.is_bool
    return bool(is_whole and starts_lines and is_full)


def points(nest: LoopNest, machine: Target, fixed: Fixed) -> Points:
    choice = Choice(nest, machine, fixed)
    lanes = choice.lanes()
    streamed = choice.streamed(lanes, nest.stages(0))
    tile, part, resident = _cut_of_rows(choice, lanes)
    return Points(lanes, choice.unroll(), resident, part, tile, streamed, choice.grain())


def _cut_of_rows(choice: Choice, lanes: int) -> tuple[int, int, bool]:
    """Columns of tiles that are turned, columns of parts of rows, and whether rows are written without a loop: at most one."""
    form, space, fixed = choice.form, choice.space, choice.fixed
    if form.size == 1 or not space.extents:
        return fixed.get("tile", 0), fixed.get("part", 0), fixed.get("resident", False)
    is_cut = any(fixed.get(name) for name in ("part", "resident"))
    is_narrow = isinstance(space.cols, int) and space.cols < lanes
    pays = not is_narrow and lanes in TURNED and not is_cut
    tile = fixed.get("tile", TILE if pays and space.crossing_loop() is not None else 0)
    if tile:
        return tile, fixed.get("part", 0), fixed.get("resident", False)
    is_long = "part" not in fixed and (
        isinstance(space.cols, Size) or (space.cols > LONG_ROW and form.size // space.cols < MANY)
    )
    part = fixed.get("part", LONG_ROW if is_long and not fixed.get("resident") else 0)
    is_empty = bool(form.size == 0) if not part else True
    return 0, part, fixed.get("resident", False) if is_empty else choice.resident(lanes)


def rows(nest: LoopNest, machine: Target, fixed: Fixed) -> Rows:
    choice, form = Choice(nest, machine, fixed), nest.form
    recompute = fixed.get("recompute", RECOMPUTE)
    stages = nest.stages(recompute)
    chunks = fixed.get("chunks")
    if chunks is None:
        chunks = is_one_pass(nest, stages) and bool(form.count > CHUNK and form.batch < MANY)
    lanes = choice.lanes()
    streamed = choice.streamed(lanes, stages)
    interleave = fixed.get("interleave", 1 if stages.element_work() > LONG_BODY else LANES // lanes)
    is_whole = not chunks and not bool(form.size == 0)
    resident = choice.resident(lanes) if is_whole else fixed.get("resident", False)
    grain = fixed.get("grain", GRAIN) if chunks else choice.grain()
    return Rows(lanes, choice.unroll(), interleave, recompute, resident, chunks, streamed, grain)


def is_one_pass(nest: LoopNest, stages: Stages) -> bool:
    """Whether nothing but the reductions themselves depends on a reduction."""
    folds = {n.results[0] for n in nest.fragment.members if nest.fragment.folds(n)}
    late = {v for v, stage in stages.stage_of.items() if stage > 0}
    return late == folds and folds.issuperset(stages.row_outputs())


def columns(nest: LoopNest, machine: Target, fixed: Fixed) -> Columns:
    choice = Choice(nest, machine, fixed)
    lanes = choice.lanes()
    streamed = choice.streamed(lanes, nest.stages(0))
    block = fixed.get("block", BLOCK)
    fits = "resident" in fixed or block >= LANES
    resident = fits and choice.resident(lanes) and not bool(nest.form.size == 0)
    return Columns(lanes, choice.unroll(), block, resident, streamed, fixed.get("grain", GRAIN))


def scatter(nest: LoopNest, machine: Target, fixed: Fixed) -> Scatter:
    choice = Choice(nest, machine, fixed)
    lanes = choice.lanes() if nest.form.columns > 1 else fixed.get("lanes", 1)
    return Scatter(lanes, fixed.get("unroll", 1), fixed.get("block", SCATTERED), fixed.get("grain", GRAIN))


def scan(nest: LoopNest, machine: Target, fixed: Fixed) -> Scan:
    choice = Choice(nest, machine, fixed)
    lanes, columns = choice.lanes(), nest.form.columns
    across = lanes > 1 and isinstance(columns, int) and columns > 1
    chains = min(CHAINS, -(-columns // lanes)) if across else CHAINS  # no vectors without a line in them
    return Scan(lanes, fixed.get("chains", chains), fixed.get("grain", GRAIN))


def windows(nest: LoopNest, machine: Target, fixed: Fixed) -> Windows:
    return Windows(Choice(nest, machine, fixed).lanes(), fixed.get("grain", GRAIN))
