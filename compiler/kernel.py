"""The contract between clustering, code generators and the plan builder: clusters in, kernel calls out.

A `Cluster` is a fragment of the program that becomes one or a few kernels. A code generator turns it
into `KernelCall`s: kernel text that does not mention extents where that costs nothing, and the
numbers to call it with, which may be expressions of sizes known at run time. Next: `codegen/loops/cut.py`,
`codegen/products/cut.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from flambeau.dialects.aval import CPU
from flambeau.dialects.graph import Graph
from flambeau.dialects.size import Int


@dataclass(frozen=True)
class KernelSource:
    """MLIR text of a module that defines one function `@kernel` with the ABI of `fb_kernel`:

    `(%bufs: !llvm.ptr, %dims: !llvm.ptr, %lo: i64, %hi: i64, %scratch: !llvm.ptr)`.
    The text is canonical (same computation, same text; no locations): it is the cache key. `label`
    is for people: dumps, profiles, `explain()`. `device` is where it runs, `schedule` the text of what it was made by.
    """

    text: str
    label: str
    device: str = CPU
    schedule: str = field(default="", compare=False, repr=False)

    @property
    def is_host(self) -> bool:
        """Whether it is no MLIR, but says what to call on the host (`host_calls/reference_kernel.py`)."""
        return self.text.startswith(HOST_KERNEL)


#: What the text of a kernel begins with that calls Python, as no MLIR does.
HOST_KERNEL = '{"host kernel": 1'

#: Stands for the runtime's built-in move of memory from one device to another.
TRANSFER = KernelSource("", "transfer")


@dataclass(frozen=True)
class Operand:
    """A pointer a kernel receives: a value of the cluster's graph, a temporary, or the status word."""

    kind: str  # "value" | "temp" | "status"
    index: int = 0
    offset: Int = 0  # bytes


@dataclass(frozen=True)
class KernelCall:
    """One plan step: run `source` over the parallel domain [0, n) in chunks of `grain` items.

    `writes` are the positions in `operands` that the kernel stores to; `in_place` pairs (written position,
    read position) that may be one buffer because each element is read before it is written, by the same item.

    `copies` is (written position, read position) where the call does nothing but copy all of one operand to all of the
    other: the plan drops it where the two can be one buffer. `places` is the same where it copies to adjacent elements of
    the other, from the written operand's offset on, that no other call writes: the first may then be a part of the other.

    `keeps`: what it makes of an input of the program, as of weights, is worth memory while that stays the same from run to run.
    `spare`: who reads what it makes does without, given no address: it is called only where that is kept, or once for all turns
    of a loop.

    A `fallible` call gets one more dim from the plan builder, after `dims`: its base error code. The k-th fallible
    node of the cluster's graph, in node order, reports by lowering the status word to `(base + k) << 48 | position`.
    """

    source: KernelSource
    operands: tuple[Operand, ...]
    dims: tuple[Int, ...]
    n: Int
    grain: Int
    writes: tuple[int, ...]
    scratch: Int = 0  # bytes per thread
    in_place: tuple[tuple[int, int], ...] = ()
    fallible: bool = False
    copies: tuple[int, int] | None = None
    places: tuple[int, int] | None = None
    keeps: bool = False
    spare: bool = False

    @cached_property
    def reads(self) -> tuple[int, ...]:
        """The positions in `operands` that the kernel does not store to."""
        return tuple([p for p in range(len(self.operands)) if p not in self.writes])

    def sources(self) -> Iterator[KernelSource]:
        """The kernels that it runs."""
        yield self.source


@dataclass(frozen=True)
class Launch(KernelCall):
    """One launch of a GPU kernel, whose parameters are the operands and then the dims: `grid` blocks of `block` threads
    along x, y and z. `n` is the number of blocks.

    `source` relies on no two operands overlapping, and on those not written staying as they are. `in_place_source` is the
    same kernel where those of `in_place` may be one buffer; the plan takes it where they are.
    """

    grid: tuple[Int, Int, Int] = (1, 1, 1)
    block: tuple[int, int, int] = (1, 1, 1)
    in_place_source: KernelSource | None = None


@dataclass
class Cluster:
    """Nodes compiled together. `graph` is a self-contained fragment: its inputs are the cluster's operands.

    `operands` and `results` are the values of the whole program that the fragment's inputs and outputs stand for,
    in order. The fragment is numbered canonically (inputs, then results in node order), so equal layers are equal.
    `errors` are the numbers of results that may fail; None: the place of their ops among those that may. `form` is a number that
    clusters of one program have in common whose graphs are equal but for their lines; None where nobody has compared them.
    """

    kind: str  # "loops": nests; else the family of the op whose loops, or steps, it is
    graph: Graph
    operands: tuple[int, ...] = ()
    results: tuple[int, ...] = ()
    errors: dict[int, int] | None = None
    form: int | None = None

    @property
    def device(self) -> str:
        """Where the cluster computes and what it stores lies; of a transfer, where that goes."""
        results = [v for n in self.graph.nodes[-1:] for v in n.results] or self.graph.inputs
        return self.graph.avals[results[0]].device if results else CPU


@dataclass
class Lowered:
    """What a code generator makes of a cluster: calls in order, and the byte sizes of its temporaries.

    `aliases[output value] = value` when an output is the same memory as another value (a reshape). `graph` is the one
    whose values calls and aliases name; None: the cluster's. Its inputs and outputs are those of the cluster, in order.
    """

    calls: list[KernelCall] = field(default_factory=list)
    temps: list[Int] = field(default_factory=list)
    aliases: dict[int, int] = field(default_factory=dict)
    graph: Graph | None = None
