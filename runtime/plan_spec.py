"""The plain-tuple form of a plan: what the compiler writes, caches on disk and hands to `Plan`.

In: nothing. Out: `PlanSpec` and the names of its codes, which mirror `include/flambeau/runtime.h` one to one.
Everything is a tuple, a plain int (no enum) or bytes, so `marshal.dumps(tuple(spec))` stores it and
`PlanSpec(*marshal.loads(data))` brings it back (marshal refuses NamedTuples themselves). `Plan` accepts either form and
checks all of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class ExprOp:
    """Operators of size expressions. CONST and SYMBOL use `a` itself; the others name earlier expressions."""

    CONST = 0
    SYMBOL = 1
    ADD = 2
    SUB = 3
    MUL = 4
    FLOORDIV = 5
    CEILDIV = 6
    MIN = 7
    MAX = 8


class RefKind:
    """Where a pointer of a step comes from. `index` counts inputs, outputs, cursors or what is kept; of an arena it is that of its
    device, 0 for the CPU's; it is 0 for constants and the status word. A cursor is an address that steps of the plan move on."""

    INPUT = 0
    OUTPUT = 1
    ARENA = 2
    CONST = 3
    STATUS = 4
    CURSOR = 5
    KEPT = 6


class OutMode:
    """How an output comes to be; see `fb_out_mode`. `source` is an input, or an earlier output (OUTPUT)."""

    NEW = 0
    UPDATE = 1
    REPLACE = 2
    INPUT = 3
    OUTPUT = 4


class Relation:
    """How the expression of a guard compares with 0."""

    EQUAL = 0
    NOT_EQUAL = 1
    LESS = 2
    NOT_LESS = 3


KERNEL_COPY = -1
"""Built-in kernel: refs are (destination, source), dims are (bytes,)."""

KERNEL_ZERO = -2
"""Built-in kernel: refs are (destination,), dims are (bytes,)."""

KERNEL_BRANCH = -3
"""Built-in kernel: refs are (a bool,), dims are (steps to skip where it is false,)."""

KERNEL_JUMP = -4
"""Built-in kernel: no refs, dims are (steps to skip,); where that is negative the plan goes back."""

KERNEL_NOTE = -5
"""Built-in kernel: refs are operands, dims their sizes in bytes; writes them down for the host, see `Plan.run`."""

KERNEL_TRANSFER = -6
"""Built-in kernel: refs are (destination, source), which lie on two devices, dims are (bytes,)."""

KERNEL_SET = -7
"""Built-in kernel: refs are (an int64,), dims are (its value,)."""

KERNEL_COUNT = -8
"""Built-in kernel: refs are (an int64,), dims are (steps to skip where it is 0,); else it is made one less."""

KERNEL_MOVE = -9
"""Built-in kernel: refs are (a cursor, a place), no dims: the cursor is at that place now."""

KERNEL_WAVE = -10
"""Built-in kernel: no refs, dims are (a count,): so many steps behind it are independent, and may run side by side."""

MAX_WAVE = 32
"""The most steps of a wave."""


LAUNCH_FIELDS = 5
"""The fields of a step that is a launch on a GPU; other steps have six."""


class PlanSpec(NamedTuple):
    """One plan. "Expression" below means an index into `exprs`.

    A step with a negative kernel is built in; its `n`, `grain` and `scratch` are still expressions but are not used.
    """

    n_symbols: int
    """How many extents are known only at run time; they are passed to `Plan.run(symbols=...)`."""

    inputs: tuple[int, ...]
    """Per input, the expression of its least size in bytes."""

    outputs: tuple[tuple[int, int, int], ...]
    """Per output, (`OutMode`, source, expression of its bytes). `source` is 0 for NEW."""

    exprs: tuple[tuple[int, int, int], ...]
    """(`ExprOp`, a, b), operands before their users. All arithmetic is int64; overflow is an error."""

    steps: tuple[tuple[Any, ...], ...]
    """(kernel, n, grain, scratch, refs, dims): kernel is an index into the addresses given to `Plan`, or negative for a
    built-in; n, grain and scratch are expressions (items of the parallel domain, items per chunk, bytes per thread);
    refs are (`RefKind`, index, expression of the byte offset), in the kernel's order; dims are expressions.

    (kernel, grid, block, refs, dims) is a launch of a kernel on a GPU, whose parameters are refs and then dims: grid and
    block are the expressions of blocks, and of threads per block, along x, y and z. It runs on its kernel's device."""

    n_fallible: int
    """The first so many steps may fail; they must not touch UPDATE or REPLACE outputs. No jump leads across their end."""

    arena_bytes: int
    """Expression: bytes of temporary memory borrowed for one run. Arena offsets should be multiples of 64."""

    constants: bytes
    """Data that steps read through `RefKind.CONST`; copied to 64-byte aligned memory."""

    n_kernels: int
    """How many kernel addresses the plan needs."""

    guards: tuple[tuple[int, int], ...] = ()
    """(`Relation`, expression): the plan serves only symbols for which `expression relation 0` holds for all of them.
    They are checked before anything else. Expressions that guards need should come first."""

    devices: tuple[tuple[str, int, tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...] = ()
    """Per device other than the CPU: its name, the expression of the bytes of its arena, and which inputs, outputs and kernels
    are there. Device k of the plan is row k - 1."""

    kept: tuple[int, ...] = ()
    """Step k makes KEPT number k, of so many bytes (an expression), of one input alone; the steps count as ones that may fail.
    While the input stays the same from run to run, its memory unwritten, it is made once. Only where there are no devices."""

    spare: int = 0
    """The last so many of these are made only where they are kept; until then who reads them gets no address."""
