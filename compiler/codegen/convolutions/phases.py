"""The phases of a convolution's input gradient: the places of x that are alike modulo the stride meet the same taps.

In: an item's number of a phase. Out: `Phase`, computed by the kernel: place q of the phase lies at q * stride + offset, and meets
tap start + hop * t where y has the place q + base + shift * t (shift and hop are the same for all phases). Next: `patches.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from flambeau.compiler.codegen.emitter import Emitter, Val


class Phase(NamedTuple):
    """Of every axis: the first place, how many places, what is added to their numbers to find y, the first tap, how many."""

    offsets: list[Val]
    places: list[Val]
    bases: list[Val]
    starts: list[Val]
    taps: list[Val]


@dataclass(frozen=True)
class Phases:
    """Computes phases. `dims(name)`: the numbers of that name, one per axis: `step` (the stride), `base` (the padding), `dilation`,
    `hop` (stride / gcd(stride, dilation)), `taps` (the kernel's extent), `pixels` (that of x)."""

    b: Emitter
    dims: Callable[[str], list[Val]]

    def at(self, number: Val) -> Phase:
        """The phase of a number: row-major over the axes' offsets."""
        b = self.b
        strides, found = self.dims("step"), []
        offsets: list[Val] = []
        for stride in reversed(strides):
            offsets.append(b.rem_unsigned(number, stride))
            number = b.div_unsigned(number, stride)
        for axis, offset in enumerate(reversed(offsets)):
            found.append(self._axis(axis, offset))
        return Phase(*(list(column) for column in zip(*found, strict=True)))

    def _axis(self, axis: int, offset: Val) -> tuple[Val, Val, Val, Val, Val]:
        b = self.b
        stride, padding, dilation, hop, kernel, size = (
            self.dims(name)[axis] for name in ("step", "base", "dilation", "hop", "taps", "pixels")
        )
        zero, place = b.const(0, "i64"), b.add(offset, padding)
        places = b.div_unsigned(b.sub(b.add(size, b.sub(stride, 1)), offset), stride)
        behind = b.mul(place, b.sub(stride, 1))  # -place modulo the stride
        # the first tap that meets a place of y: the least r below `hop` with place - r * dilation divisible by the stride
        with b.loop(0, b.minimum(hop, kernel), carried=[b.const(-1, "i64")]) as rs:
            meets = b.cmp("eq", b.rem_unsigned(b.add(b.mul(rs.index, dilation), behind), stride), 0)
            rs.carry([b.select(b.and_(meets, b.cmp("lt", rs.args[0], 0)), rs.index, rs.args[0])])
        (start,) = rs.results
        found = b.cmp("ge", start, 0)
        start = b.maximum(start, 0)
        back = b.mul(start, dilation)
        base = b.sub(b.div_unsigned(b.add(place, b.mul(back, b.sub(stride, 1))), stride), back)
        taps = b.div_unsigned(b.add(b.sub(kernel, start), b.sub(hop, 1)), hop)
        return offset, places, base, start, b.select(found, taps, zero)
