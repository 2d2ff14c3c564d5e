"""The kernel of a convolution, turned for the gradient by the maps: a matrix whose rows are what tiles read along k.

In: how many spatial axes there are, whether phases meet taps of their own. Out: text of a kernel of its own that runs once before
the tiles, which otherwise would turn a block again for every block of C. Row c of a group (and a phase) holds (o, taps) in order,
`pitch` elements from the next one; what lies behind its last element is never read. Next: `blocks.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flambeau.compiler.codegen.convolutions.patches import counted
from flambeau.compiler.codegen.convolutions.phases import Phase, Phases
from flambeau.compiler.codegen.emitter import Val
from flambeau.compiler.codegen.products.kernel import KernelEmitter
from flambeau.compiler.codegen.products.pack import transposed
from flambeau.compiler.kernel import KernelSource
from flambeau.dialects.size import Int, Size, ceil_div

#: Rows of an item: neighbours lie in the same cache lines, and what is noted serves all of them.
ROWS = 64
#: Channels, which lie far apart, that are asked for ahead.
_AHEAD = 2
_WORD = 8


@dataclass(frozen=True)
class WeightsSpec:
    """What text depends on. `how`: taps of a channel are copied as they lie ("runs"), a kernel of one tap is a matrix that is
    transposed ("squares"), the taps of phases are found by their distances ("gather"), or, of small kernels, picked from a
    channel's vectors ("picks"): `taps` are their places in the kernel then, phase by phase."""

    element: str
    lanes: int
    rank: int
    phased: bool
    how: str
    taps: tuple[tuple[int, ...], ...] = ()

    def pitch(self, k: Int) -> Int:
        """Elements between rows that hold up to `k`: whole vectors, and room for one that is written too far."""
        return (ceil_div(k, self.lanes) + 1) * self.lanes

    def scratch(self, k: Int) -> Int:
        """Bytes in which the distances of a row are noted."""
        return _WORD * self.pitch(k) if self.how == "gather" else 0


def weights_kernel(spec: WeightsSpec) -> tuple[KernelSource, tuple[str | Size, ...]]:
    """The kernel, and the names of its dims. Buffers: the kernel as it lies, the matrices."""
    return _WeightsWriter(spec).write()


class _WeightsWriter(KernelEmitter):
    def __init__(self, spec: WeightsSpec) -> None:
        super().__init__()
        self.spec = spec

    def write(self) -> tuple[KernelSource, tuple[str | Size, ...]]:
        b, spec, d = self.b, self.spec, self.dim
        with b.loop(b.lo, b.hi) as items:
            matrix, block = self.split(items.index, ["row_blocks"])
            group, number = self.split(matrix, ["phases"]) if spec.phased and not spec.taps else (matrix, None)
            first = b.mul(block, ROWS)
            count = b.minimum(b.sub(d("m"), first), ROWS)
            start = b.add(b.mul(group, d("w.group")), b.mul(first, d("w.row")))
            source = b.address(b.buffer(0), start, spec.element)
            place = b.add(b.mul(group, d("a.group")), b.mul(first, d("a.row")))
            if number is not None:
                place = b.add(place, b.mul(number, d("a.phase")))
            target = b.address(b.buffer(1), place, spec.element)
            if spec.how == "picks":
                self._pick(source, target, count)
            elif spec.how == "runs":
                self._copy_runs(source, target, count)
            elif spec.how == "squares":
                self._transpose(source, target, count)
            else:
                self._gather(None if number is None else Phases(b, self._dims).at(number), source, target, count)
        return self.finish(f"turned kernel {spec.element}")

    def _dims(self, name: str) -> list[Val]:
        return [self.dim(f"{name}{d}") for d in range(self.spec.rank)]

    def _copy_runs(self, source: Val, target: Val, rows: Val) -> None:
        """All taps of a channel after the other; what a vector writes too far, the next channel overwrites."""
        b, spec, d = self.b, self.spec, self.dim
        with b.loop(0, d("channels")) as channels, b.loop(0, rows) as rs:
            line = b.address(
                source, b.add(b.mul(channels.index, d("w.channel")), b.mul(rs.index, d("w.row"))), spec.element
            )
            to = b.address(target, b.add(b.mul(channels.index, d("w.row")), b.mul(rs.index, d("a.row"))), spec.element)
            b.prefetch(line, b.mul(d("w.channel"), _AHEAD), spec.element)
            with b.loop(0, d("w.row"), spec.lanes) as vs:
                mask = b.tail_mask(b.sub(d("w.row"), vs.index), spec.lanes)
                b.store(b.load(line, vs.index, spec.element, spec.lanes, mask), to, vs.index)

    def _transpose(self, source: Val, target: Val, rows: Val) -> None:
        """By squares; rows beyond the last one go where that does, before it."""
        b, spec, d, last = self.b, self.spec, self.dim, self.b.sub(rows, 1)
        with b.loop(0, d("channels"), spec.lanes) as ks, b.loop(0, rows, spec.lanes) as rs:
            mask, lines = b.tail_mask(b.sub(rows, rs.index), spec.lanes), list[Val]()
            for i in range(spec.lanes):
                channel = b.minimum(b.add(ks.index, i), b.sub(d("channels"), 1))
                line = b.address(source, b.mul(channel, d("w.channel")), spec.element)
                lines.append(b.load(line, rs.index, spec.element, spec.lanes, mask))
            for i, row in reversed(list(enumerate(transposed(b, lines)))):
                at = b.mul(b.minimum(b.add(rs.index, i), last), d("a.row"))
                b.store(row, target, b.add(at, ks.index))

    def _pick(self, source: Val, target: Val, rows: Val) -> None:
        """All phases' taps of a channel, then of the next one, which overwrites what vectors hold behind them. Kernels are read as
        they lie side by side, once for all phases."""
        b, spec, d, lanes = self.b, self.spec, self.dim, self.spec.lanes
        with b.loop(0, d("channels")) as channels, b.loop(0, rows) as rs:
            line = b.address(
                source, b.add(b.mul(channels.index, d("w.channel")), b.mul(rs.index, d("w.row"))), spec.element
            )
            b.prefetch(line, b.mul(d("w.channel"), _AHEAD), spec.element)
            read = []
            for start in range(0, sum(map(len, spec.taps)), lanes):
                mask = b.tail_mask(b.sub(d("w.row"), start), lanes)
                read.append(b.load(line, start, spec.element, lanes, mask))
            to = b.address(target, b.mul(rs.index, d("a.row")), spec.element)
            for number, taps in enumerate(spec.taps):
                at = b.add(b.mul(channels.index, len(taps)), b.mul(d("a.phase"), number))
                if taps:
                    width = max(2, 1 << (len(taps) - 1).bit_length())
                    picked = b.shuffle(read[0], read[-1], [*taps, *[0] * (width - len(taps))])
                    b.store(picked, to, at)

    def _gather(self, phase: Phase | None, source: Val, target: Val, rows: Val) -> None:
        """The taps that a phase meets, found by their distances."""
        b, spec, d, table = self.b, self.spec, self.dim, self.b.scratch
        strides, taps, starts, hops = self._dims("w.stride"), self._dims("taps"), None, None
        if phase is not None:
            taps, starts, hops = phase.taps, phase.starts, self._dims("hop")

        def note(at: Val, channel: Val, places: Sequence[Val]) -> None:
            distance = b.mul(channel, d("w.channel"))
            for axis, (place, stride) in enumerate(zip(places, strides, strict=True)):
                if starts is not None and hops is not None:
                    place = b.add(starts[axis], b.mul(place, hops[axis]))
                distance = b.add(distance, b.mul(place, stride))
            b.store(distance, table, at)

        k = d("channels")
        for count in taps:
            k = b.mul(k, count)
        counted(b, b.const(0, "i64"), k, taps, note)
        with b.loop(0, k, spec.lanes) as ks, b.loop(0, rows) as rs:
            mask = b.tail_mask(b.sub(k, ks.index), spec.lanes)
            at = b.load(table, ks.index, "i64", spec.lanes, mask)
            line = b.address(source, b.mul(rs.index, d("w.row")), spec.element)
            to = b.address(target, b.mul(rs.index, d("a.row")), spec.element)
            b.store(b.gather(line, at, spec.element, mask), to, ks.index)
