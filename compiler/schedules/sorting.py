"""Schedules of orders on CPUs: what is chosen for each, from the elements of a line and how many lines there are.

In: a `LoopNest`, a `Target`, and the fields that somebody has fixed. Out: its schedule. Numbers here were measured. Next:
`fitting.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.units import LoopNest
from flambeau.compiler.schedules.kinds import Search, Sort, TopK
from flambeau.compiler.schedules.loops import GRAIN, Choice, Fixed
from flambeau.compiler.targets import Target

#: Elements up to which each is inserted among those before it, and from which on lines are sorted by blocks.
FEW, LONG = 32, 1 << 15
#: Bits of a digit within a thread's memory, where counts and entries share a small cache, and beyond.
DIGIT, LONG_DIGIT = 8, 11
#: Elements of a block of a long line, and for each of the first ones, since every block has first ones.
SORTED, BLOCK = 1 << 16, 256
#: Elements that are kept beside the first ones before they are sorted, at least.
BESIDE = 16
#: Values searched for side by side: as many as hide the latency of a load.
SEARCHED = 8


def sort(nest: LoopNest, machine: Target, fixed: Fixed) -> Sort:
    count = nest.form.count
    is_few = fixed["bits"] == 0 if "bits" in fixed else not bool(count > FEW)
    block = fixed.get("block", SORTED if not is_few and bool(count > LONG) else 0)
    bits = fixed.get("bits", 0 if is_few and not block else LONG_DIGIT if block else DIGIT)
    return Sort(bits, block, fixed.get("grain", GRAIN))


def topk(nest: LoopNest, machine: Target, fixed: Fixed) -> TopK:
    assert nest.node is not None
    form, k = nest.form, nest.node.attrs[1]
    is_unit = not bool(form.columns > 1)
    lanes = Choice(nest, machine, fixed).lanes() if is_unit else int(fixed.get("lanes", 1))
    few = bool(k <= FEW)
    room = fixed.get("room", max(BESIDE, k) if few else 3 * k)
    bits = fixed.get("bits", 0 if few else DIGIT)
    block = max(SORTED, k * BLOCK)
    block = fixed.get("block", block if bool(form.count > 2 * block) else 0)
    return TopK(lanes, bits, room, block, fixed.get("grain", GRAIN))


def search(nest: LoopNest, machine: Target, fixed: Fixed) -> Search:
    return Search(fixed.get("chains", SEARCHED), fixed.get("grain", GRAIN))
