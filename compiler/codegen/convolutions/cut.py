"""Convolutions and their gradients: one call, with the elementwise ops on the result.

In: a cluster (one convolution of operands in memory, elementwise ops on its result); then its schedule. Out: `Cut`, and the
call. Kernel text depends on element type, epilogue, which tensor is computed, how many spatial axes there are, and what the
schedule says of loops; extents, strides and blocks of C are dims. Next: `operands.py` (what is computed),
`blocks.py` (the kernel).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import gcd, prod
from typing import Any, NamedTuple

from flambeau.compiler.codegen.convolutions.blocks import convolution_kernel
from flambeau.compiler.codegen.convolutions.channels import ChannelsSpec, channels_kernel
from flambeau.compiler.codegen.convolutions.direct import DirectSpec, direct_kernel
from flambeau.compiler.codegen.convolutions.operands import ConvolutionOperands, read
from flambeau.compiler.codegen.convolutions.places import margins_kernel, panels_kernel, places_kernel
from flambeau.compiler.codegen.convolutions.quad_calls import emit_quads
from flambeau.compiler.codegen.convolutions.taps import pattern, taps_of_phases
from flambeau.compiler.codegen.convolutions.tile import ConvSpec
from flambeau.compiler.codegen.convolutions.turned import TurnedSpec, turned_kernel
from flambeau.compiler.codegen.convolutions.weights import ROWS, WeightsSpec, weights_kernel
from flambeau.compiler.codegen.loops import cut as loops
from flambeau.compiler.codegen.products.kernel import Epilogue, in_order, make_leaf
from flambeau.compiler.codegen.products.operands import MatrixAccess, NoProduct
from flambeau.compiler.codegen.products.results import in_place, place_sums
from flambeau.compiler.codegen.units import Cut, OwnNest, Parts, joined
from flambeau.compiler.kernel import Cluster, KernelCall, KernelSource, Operand
from flambeau.compiler.schedules import convolutions, direct, direct_weights, kinds, quads
from flambeau.compiler.targets import Target
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int, Size, ceil_div, maximum, minimum


def cut(cluster: Cluster) -> Cut:
    """The convolution of a cluster; what is more than one with its epilogue is cut apart."""
    try:
        c = read(cluster.graph)
    except NoProduct:
        return loops.cut(cluster)
    if 0 in (c.copies, c.rows, c.pixels):
        return Cut()
    label = "".join([f"{NAMES[c.gives]} {c.dtype.mlir}", *(f" + {s.op.name}" for s in c.steps if s.args)])
    if c.small is not None:
        return Cut([OwnNest(kinds.Quads, cluster.graph, label, quads.choose, quads.obstacle)], emit_quads, joined)
    if direct.is_direct(c):
        nest = OwnNest(kinds.Direct, cluster.graph, label, direct.choose, direct.obstacle)
        return Cut([nest], _emit_direct, joined)
    if direct_weights.is_direct(c):
        nest = OwnNest(kinds.DirectWeight, cluster.graph, label, direct_weights.choose, direct_weights.obstacle)
        return Cut([nest], _emit_channels, joined)
    nest = OwnNest(kinds.Convolution, cluster.graph, label, convolutions.choose, convolutions.obstacle)
    return Cut([nest], _emit_tiles, joined)


_SUMS = 2  #: The buffer of partial sums, after A and B.
NAMES = {"y": "convolution", "x": "convolution by input", "w": "convolution by weight"}


def _emit_tiles(nest: OwnNest, schedule: kinds.Convolution, target: Target) -> Parts:
    c = read(nest.graph)
    by_places = c.gives == "y" and schedule.turned
    made = _ByInput if c.gives == "x" else _ByPlaces if by_places else _Tiles
    return made(c, nest.graph, schedule, target.has_masks).parts()


def _emit_direct(nest: OwnNest, schedule: kinds.Direct, target: Target) -> Parts:
    return _Direct(read(nest.graph), nest.graph, schedule, target.has_masks).parts()


def _emit_channels(nest: OwnNest, schedule: kinds.DirectWeight, target: Target) -> Parts:
    return _ChannelsCall(read(nest.graph), nest.graph, schedule, target.has_masks).parts()


class _Kernel(NamedTuple):
    """A kernel's text, and its call: dims by name in order, items, multiply-adds of vectors in one, bytes of scratch."""

    source: KernelSource
    names: tuple[str | Size, ...]
    numbers: dict[str, Int]
    n: Int
    work: Int
    scratch: Int


@dataclass
class _ConvolutionCall:
    """The call of a kernel. Its operands: A, B, C (partial sums), the epilogue's leaves, its outputs but the one that is C."""

    c: ConvolutionOperands
    graph: Graph
    schedule: Any
    masks: bool  # the machine has masked loads and stores
    temps: list[Int] = field(default_factory=list)

    def kernel(self, epilogue: Epilogue, accumulator: int | None) -> _Kernel:
        raise NotImplementedError

    def parts(self) -> Parts:
        c = self.c
        accumulator, sums = self.place_sums()
        leaves = tuple(make_leaf(x, x.column) for x in c.leaves)
        made = self.kernel(Epilogue(leaves, c.steps, tuple((r, t.mlir) for _, r, t in c.outputs)), accumulator)
        outputs = [Operand("value", v) for v, _, _ in c.outputs]
        if accumulator is not None:
            del outputs[accumulator]
        operands = (Operand("value", c.a), Operand("value", c.b), sums, *map(_operand, c.leaves), *outputs)
        grain = minimum(made.n, maximum(1, self.schedule.grain // maximum(1, made.work)))
        writes = (_SUMS, *range(_SUMS + 1 + len(c.leaves), len(operands)))
        over = in_place(self.graph, operands, _SUMS, c.leaves, c.k, c.is_dense)
        dims = in_order(made.names, made.numbers)
        return Parts([KernelCall(made.source, operands, dims, made.n, grain, writes, made.scratch, over)], self.temps)

    def place_sums(self) -> tuple[int | None, Operand]:
        """Where partial sums lie, and the output that this is."""
        c = self.c
        return place_sums(c.outputs, c.dtype, c.k, c.copies * c.groups * c.rows * c.pixels, self.temps)

    # ---- dims ----------------------------------------------------------------------------------------------

    def _numbers(self) -> dict[str, Int]:
        """The dims of all kernels by name."""
        c = self.c
        numbers: dict[str, Int] = {
            "m": c.rows, "k": c.k, "images": c.images, "groups": c.groups, "phases": c.phases, "pitch": c.pixels,
            "c.group": c.rows * c.pixels, "c.image": c.groups * c.rows * c.pixels, **self._of_operands(),
        }  # fmt: skip
        for k, leaf in enumerate(c.leaves):
            image, group = leaf.batch
            row = {"image": image, "group": group, "row": leaf.row, "column": leaf.column}
            numbers.update({f"leaf{k}.{name}": stride for name, stride in row.items()})
        return numbers

    def _of_operands(self) -> dict[str, Int]:
        """Distances in A, and between channels, images and groups of the map that patches are of."""
        c = self.c
        kernel, x, y = c.c * c.ws, c.xs, c.ys
        if c.gives == "w":
            return {
                "a.row": y, "a.group": c.o * y, "a.image": c.groups * c.o * y,
                "channel": x, "image": c.groups * c.c * x, "b.group": c.c * x,
            }  # fmt: skip
        if c.gives == "y":
            return {
                "a.row": kernel, "a.group": c.o * kernel,
                "channel": x, "image": c.groups * c.c * x, "b.group": c.c * x,
            }  # fmt: skip
        return {
            "a.row": c.ws, "a.group": c.o * kernel, "w.channel": kernel,
            "channel": y, "image": c.groups * c.o * y, "b.group": c.o * y,
        }  # fmt: skip


class _Tiles(_ConvolutionCall):
    """A product of matrices."""

    def place_sums(self) -> tuple[int | None, Operand]:
        if self.c.phases == 1 and not self.schedule.turned:
            return super().place_sums()
        self.temps.append(0)  # in scratch
        return None, Operand("temp", 0)

    def kernel(self, epilogue: Epilogue, accumulator: int | None) -> _Kernel:
        c, schedule = self.c, self.schedule
        step = 1 if c.gives == "x" else c.axes[-1].stride
        apart = c.axes[-1].stride
        spec = ConvSpec(
            c.dtype.mlir, schedule, epilogue, accumulator, c.gives, len(c.axes), step if step <= 2 else 0, c.phases > 1,
            apart if apart <= 2 and c.phases > 1 else 0, _are_joined(c), self.masks, self._run_lanes(),
        )  # fmt: skip
        source, names = convolution_kernel(spec)
        rows, columns = convolutions.extents(c, schedule.turned)
        m_blocks, n_blocks = ceil_div(rows, schedule.m_block), ceil_div(columns, schedule.n_block)
        numbers = self.numbers() | {
            "m": rows, "n": columns, "m_block": schedule.m_block, "n_block": schedule.n_block,
            "m_blocks": m_blocks, "n_blocks": n_blocks,
        }  # fmt: skip
        width = ceil_div(schedule.n_block, schedule.lanes)
        work = minimum(schedule.m_block, rows) * width * maximum(ceil_div(c.k, c.phases), 1)
        return _Kernel(source, names, numbers, c.groups * c.phases * n_blocks * m_blocks, work, spec.scratch)

    def _run_lanes(self) -> int:
        """Vectors that rows of a phase fill, where a part of one takes long: half of one where these are half as long."""
        lanes, last = self.schedule.lanes, self.c.axes[-1]
        length = ceil_div(last.x, last.stride)
        while not self.masks and not isinstance(length, Size) and lanes > 2 and length <= lanes // 2:
            lanes //= 2
        return int(lanes)

    def numbers(self) -> dict[str, Int]:
        """What is said of operands and axes, by name."""
        numbers = self._numbers() | {"channels": self.c.o}
        for d, one in enumerate(self._of_axes()):
            numbers.update({f"{name}{d}": number for name, number in one.items()})
        return numbers

    def _of_axes(self) -> list[dict[str, Int]]:
        """What is said of every spatial axis: of the map that is read, of how places and taps meet, of the kernel."""
        c, found = self.c, list[dict[str, Int]]()
        x: Int = 1
        y: Int = 1
        w: Int = 1
        for a in reversed(c.axes):
            one: dict[str, Int] = {"taps": a.w, "w.stride": w, "c.stride": x, "step": a.stride}
            if c.gives == "x":
                common = gcd(a.stride, a.dilation)
                one |= {"size": a.y, "stride": y, "pixels": a.x, "base": a.padding, "shift": -(a.dilation // common)}
                one |= {"dilation": a.dilation, "hop": a.stride // common}
            else:
                one |= {"size": a.x, "stride": x, "pixels": a.y, "base": -a.padding, "shift": a.dilation}
            found.insert(0, one)
            x, y, w = x * a.x, y * a.y, w * a.w
        return found


def _are_joined(c: ConvolutionOperands) -> bool:
    """Whether rows of places, of all phases, are as long as those of the map that they meet, as far as sizes are known or written
    alike. (Of w tiles have no registers left.)"""
    if len(c.axes) < 2 or c.gives == "w" or (c.gives == "y" and any(a.stride > 1 for a in c.axes[-2:])):
        return False
    beyond = c.axes[-1].x - c.axes[-1].y * c.axes[-1].stride
    return not isinstance(beyond, Size) and beyond == 0


class _ByInput(_Tiles):
    """The gradient by the maps: its kernel is turned once, before tiles read it."""

    @property
    def most(self) -> Int:
        """Steps along k of the phase that meets most taps."""
        c = self.c
        hops = [1 if c.phases == 1 else a.stride // gcd(a.stride, a.dilation) for a in c.axes]
        return c.o * prod(ceil_div(a.w, hop) for a, hop in zip(c.axes, hops, strict=True))

    @property
    def turned(self) -> WeightsSpec:
        c = self.c
        lanes, how = self.schedule.lanes, "squares" if not isinstance(c.ws, Size) and c.ws == 1 else "runs"
        taps = taps_of_phases(c.axes, lanes) if c.phases > 1 else ()
        if c.phases > 1:
            how = "picks" if taps else "gather"
        return WeightsSpec(c.dtype.mlir, lanes, len(c.axes), c.phases > 1, how, taps)

    def numbers(self) -> dict[str, Int]:
        c, pitch = self.c, self.turned.pitch(self.most)
        return super().numbers() | {
            "w.row": c.ws, "w.group": c.o * c.c * c.ws, "row_blocks": ceil_div(c.rows, ROWS),
            "a.row": pitch, "a.phase": c.rows * pitch, "a.group": c.phases * c.rows * pitch,
        }  # fmt: skip

    def parts(self) -> Parts:
        c, spec = self.c, self.turned
        (tiles,), temps = super().parts()
        temps.append(c.groups * c.phases * c.rows * spec.pitch(self.most) * c.dtype.itemsize)
        matrix = Operand("temp", len(temps) - 1)
        source, names = weights_kernel(spec)
        blocks = c.groups * (1 if spec.taps else c.phases) * ceil_div(c.rows, ROWS)
        grain = minimum(blocks, maximum(1, self.schedule.grain // maximum(1, self.most)))
        turn = KernelCall(
            source, (Operand("value", c.a), matrix), in_order(names, self.numbers()), blocks, grain, (1,),
            spec.scratch(self.most),
        )  # fmt: skip
        return Parts([turn, replace(tiles, operands=(matrix, *tiles.operands[1:]))], temps)


class _ByPlaces(_Tiles):
    """A convolution whose vectors hold output channels: its kernel is turned into panels once, and maps get their margins."""

    @property
    def wide(self) -> list[Int]:
        """The extents of maps with margins, or of maps as they are where no place meets any."""
        wide = [(a.y - 1) * a.stride + (a.w - 1) * a.dilation + 1 for a in self.c.axes]
        return wide if self.has_margins else [a.x for a in self.c.axes]

    @property
    def has_margins(self) -> bool:
        return any(a.padding or (a.y - 1) * a.stride + (a.w - 1) * a.dilation >= a.x for a in self.c.axes)

    @property
    def panels(self) -> Int:
        return ceil_div(self.c.rows, self.schedule.columns)

    def numbers(self) -> dict[str, Int]:
        c, schedule, wide = self.c, self.schedule, self.wide
        numbers, plane = super().numbers(), prod(wide)
        panel = ceil_div(c.k, schedule.lanes) * schedule.lanes * schedule.columns
        for d, a in enumerate(c.axes):
            numbers |= {f"x.stride{d}": numbers[f"stride{d}"], f"stride{d}": prod(wide[d + 1 :]), f"wide{d}": wide[d]}
            numbers[f"low{d}"] = a.padding
        return numbers | {
            "x.channel": c.xs, "channel": plane, "b.group": c.c * plane, "image": c.groups * c.c * plane,
            "a.panel": panel, "a.group": self.panels * panel, "panels": self.panels,
        }  # fmt: skip

    def kernel(self, epilogue: Epilogue, accumulator: int | None) -> _Kernel:
        c, schedule = self.c, self.schedule
        self.spec = spec = ConvSpec(
            c.dtype.mlir, schedule, epilogue, accumulator, c.gives, len(c.axes), 0, False, 0, False, self.masks, schedule.lanes
        )  # fmt: skip
        source, names = places_kernel(spec)
        m_blocks, n_blocks = ceil_div(c.pixels, schedule.m_block), ceil_div(c.rows, schedule.n_block)
        numbers = self.numbers() | self._extents() | {
            "m_block": schedule.m_block, "n_block": schedule.n_block, "m_blocks": m_blocks, "n_blocks": n_blocks,
        }  # fmt: skip
        width = ceil_div(schedule.n_block, schedule.lanes)
        work = minimum(schedule.m_block, c.pixels) * width * maximum(c.k, 1)
        return _Kernel(source, names, numbers, c.images * c.groups * n_blocks * m_blocks, work, spec.scratch)

    def _extents(self) -> dict[str, Int]:
        return {"m": self.c.pixels, "n": self.c.rows}

    def parts(self) -> Parts:
        c, size = self.c, self.c.dtype.itemsize
        (tiles,), temps = super().parts()
        numbers, words = self.numbers() | self._extents(), 8
        count = c.groups * self.panels
        temps += [count * numbers["a.panel"] * size, (c.k + c.pixels) * words]
        panels, tables = (Operand("temp", len(temps) - 2 + k) for k in range(2))
        source, names = panels_kernel(self.spec)
        calls = [KernelCall(
            source, (Operand("value", c.a), panels, tables), in_order(names, numbers), count,
            self._grain(count, numbers["a.panel"]), (1, 2), 0, keeps=True,
        )]  # fmt: skip
        maps = tiles.operands[1]
        if self.has_margins:
            planes, plane = c.images * c.groups * c.c, numbers["channel"]
            temps.append(planes * plane * size)
            source, names = margins_kernel(self.spec)
            wide = Operand("temp", len(temps) - 1)
            dims, grain = in_order(names, numbers), self._grain(planes, plane)
            calls.append(KernelCall(source, (maps, wide), dims, planes, grain, (1,), 0))
            maps = wide
        operands = (panels, maps, *tiles.operands[2:], tables)
        return Parts([replace(tiles, operands=operands), *calls][::-1], temps)

    def _grain(self, items: Int, elements: Int) -> Int:
        """Items of a task that moves so many elements in each."""
        return minimum(items, maximum(1, self.schedule.grain * self.schedule.lanes // maximum(1, elements)))


class _Direct(_ConvolutionCall):
    """Planes of the result, made of the map where that lies; or vectors of channels, for which it is turned."""

    def kernel(self, epilogue: Epilogue, accumulator: int | None) -> _Kernel:
        c, schedule = self.c, self.schedule
        axes = direct.plane(c)
        rows, columns = (pattern(c.gives, a) for a in axes)
        channels, results = direct.channels(c), c.groups * c.rows
        (size0, height), (size1, width) = ((a.x, a.y) if c.gives == "y" else (a.y, a.x) for a in axes)
        units, label = ceil_div(height, rows.results), NAMES[c.gives] + f" {c.dtype.mlir}{epilogue.label}"
        numbers = self._numbers() | {
            "size0": size0, "height": height, "size1": size1, "width": width,
            "units0": units, "units1": ceil_div(width, columns.results), "channels": channels, "outputs": results,
            "band": schedule.band, "bands": ceil_div(units, schedule.band), "vectors": ceil_div(results, schedule.lanes),
        }  # fmt: skip
        if c.gives == "y":
            numbers["w.channel"] = c.ws
        if schedule.along == "channels":
            spec = TurnedSpec(
                c.dtype.mlir, schedule.lanes, schedule.rows, schedule.columns, epilogue, accumulator, rows, columns,
                schedule.unroll,
            )  # fmt: skip
            source, names = turned_kernel(spec, label)
            work = schedule.band * c.pixels * ceil_div(c.ws, c.phases)
            items = ceil_div(c.images, schedule.band) * numbers["vectors"]
            return _Kernel(source, names, numbers, items, work, spec.scratch)
        single = not isinstance(channels, Size) and channels == 1
        narrow = direct.is_narrow(columns, width, size1, schedule.lanes)
        whole = not self.masks and not isinstance(width, Size) and width % (schedule.lanes * columns.results) == 0
        plain = DirectSpec(
            c.dtype.mlir, schedule, epilogue, accumulator, rows, columns, int(axes[1].w), single, narrow,
            self.masks, whole,
        )  # fmt: skip
        source, names = direct_kernel(plain, label)
        work = schedule.band * rows.results * ceil_div(width, schedule.lanes) * c.k
        return _Kernel(
            source, names, numbers, c.copies * results * numbers["bands"], ceil_div(work, c.phases), plain.scratch
        )


class _ChannelsCall(_ConvolutionCall):
    """The gradient by the kernel, whose vectors hold output channels."""

    def kernel(self, epilogue: Epilogue, accumulator: int | None) -> _Kernel:
        c, schedule = self.c, self.schedule
        axes = direct.plane(c)
        rows, columns = (pattern("y", a) for a in axes)
        spec = ChannelsSpec(
            c.dtype.mlir, schedule.lanes, schedule.rows, schedule.columns, epilogue, accumulator, rows, columns,
            schedule.tap_rows, schedule.unroll, int(c.c),
        )  # fmt: skip
        source, names = channels_kernel(spec, NAMES["w"] + f" {spec.element}{epilogue.label}")
        outputs = c.groups * c.o
        numbers = self._numbers() | {
            "outputs": outputs, "size0": axes[0].x, "size1": axes[1].x, "height": axes[0].y, "width": axes[1].y,
        }  # fmt: skip
        return _Kernel(source, names, numbers, ceil_div(outputs, schedule.lanes), c.k * c.c * c.ws, spec.scratch)


def _operand(x: MatrixAccess) -> Operand:
    return Operand("value", x.value, x.offset * x.dtype.itemsize)
