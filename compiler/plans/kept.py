"""What steps make once: of inputs of the program that are the same in one run after the other, as weights are, and of what a loop
finds as it was in every turn.

In: the steps of a plan, or of a loop's body. Out: those of them that are run once, and the others, which read what these make; or
do without, where a call is spare and nobody keeps what it makes. Next: `plan.py`, which puts them first, `runtime/src/plan_kept.c`,
which keeps their results.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from flambeau.compiler.plans.arena import Arenas
from flambeau.compiler.plans.steps import NOWHERE, BufferAssignment, MemoryBlock, Step, note_uses
from flambeau.runtime.plan_spec import RefKind


class KeptMemory(NamedTuple):
    """The bytes of what each of a plan's first steps makes; the last `spare` of them may be left out."""

    bytes: Sequence[int]
    spare: int


def kept_steps(steps: list[Step], storage: BufferAssignment) -> list[Step]:
    """The steps that make something of one input of the program, which is worth keeping, and of nothing else: those that may be
    left out come last. Of an input that the program itself replaces, as training does with weights, nothing lasts."""
    note_uses(steps)
    changed, outputs = {None, *storage.graph.updates.values()}, _output_blocks(storage)
    found = [step for step in steps if _made_of(step, outputs) not in changed]
    return sorted(found, key=lambda step: step.call.spare)


def steps_before(steps: list[Step], storage: BufferAssignment, fixed: Collection[int]) -> list[Step]:
    """The steps of a loop's body that make something worth keeping of one input which is the same in every turn."""
    if not fixed:
        return []
    note_uses(steps)
    outputs = _output_blocks(storage)
    return [step for step in steps if _made_of(step, outputs) in fixed]


def _output_blocks(storage: BufferAssignment) -> set[int]:
    """The ids of the blocks that the outputs of a program, or of a loop's body, lie in."""
    return {id(storage.of(v)) for v in storage.graph.outputs}


def _made_of(step: Step, outputs: set[int]) -> int | None:
    """The number of the one input that a step reads, which alone writes what is worth keeping of it; None for other steps."""
    call = step.call
    if not call.keeps:
        return None
    read = step.read()
    if None in step.blocks or len(read) != 1 or read[0].input is None:
        return None
    written = step.written()
    apart = all(b.input is None and id(b) not in outputs and len(b.writes) == 1 for b in written)
    is_known = all(isinstance(n, int) for n in (call.n, *call.dims, *(b.bytes for b in written)))
    return read[0].input if apart and is_known else None


def with_made(steps: list[Step], made: list[Step]) -> list[Step]:
    """The steps where those of `made` are run once: one of them stands for all that make the same, and leaves `made`. Spare steps
    that are not among them are gone, and who reads what they would make gets no address."""
    once = {id(step) for step in made}
    instead: dict[int, MemoryBlock] = {}
    first: dict[tuple, Step] = {}
    left, kept = [], []
    for step in steps:
        if id(step) in once:
            same = first.setdefault(_form(step), step)
            if same is step:
                kept.append(step)
                left.append(step)
            else:
                instead.update((id(b), by) for b, by in zip(step.written(), same.written(), strict=True))
        elif step.call.spare:
            instead.update((id(b), MemoryBlock(0, ref=NOWHERE)) for b in step.written())
        else:
            left.append(step)
    made[:] = [step for step in made if any(step is k for k in kept)]
    for step in left if instead else ():
        step.blocks = tuple(b if b is None else instead.get(id(b), b) for b in step.blocks)
    return left


def _form(step: Step) -> tuple:
    """What is equal for steps that make the same of the same."""
    call = step.call
    offsets = tuple(o.offset for o in call.operands)
    return call.source.text, call.n, call.dims, call.spare, offsets, tuple(id(b) for b in step.read())


def place_kept(steps: list[Step]) -> list[int]:
    """Give what each of these steps writes a place in the memory that is kept for it; how many bytes that is."""
    found = []
    for k, step in enumerate(steps):
        arena = Arenas()
        for block in step.written():
            block.ref = (RefKind.KEPT, k, arena.take(block.bytes))
        found.append(int(arena.size))
    return found
