"""What a family of ops is, as far as recording, differentiation and tests need to know: ops that touch memory in one way.

In: what holds of all ops of the family, said with its name. Out: `Family`, one object each, in two halves: this one knows nothing
of the compiler; the other (`compiler/families`) says what structured ops such an op is and who makes its kernels, and is
imported when a program with one is compiled. Nothing asks which family an op is of: it asks for one of the properties here.
Next: `families.py`, the built-in ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flambeau.dialects.size import hint

if TYPE_CHECKING:
    from flambeau.dialects.graph import Graph, Node
    from flambeau.dialects.record import OpRecord

#: Bytes of operands and results that an ordinary core reads and writes in a nanosecond.
BYTES_PER_NS = 10.0


def traffic(graph: Graph, node: Node) -> float:
    """Nanoseconds that a node's operands and results take to be read and written."""
    return hint(sum(graph.avals[v].nbytes for v in (*node.results, *node.operands))) / BYTES_PER_NS


def free(graph: Graph, node: Node) -> float:
    """The cost of what is neither computed nor stored."""
    return 0.0


def elements(graph: Graph, node: Node) -> float:
    """One floating-point operation for each element of a result, or of an operand where these are more; none where elements are
    only moved or made of nothing, and for results that are no floats."""
    family, results = node.op.family, [graph.avals[v] for v in node.results]
    if family.moves or family.is_placed or not any(a.dtype.is_inexact for a in results):
        return 0.0
    return float(max(hint(a.size) for a in (*results, *(graph.avals[v] for v in node.operands))))


def nothing_missing(record: OpRecord) -> str | None:
    """What a family asks of its records that asks for nothing."""
    return None


@dataclass(frozen=True, eq=False)
class Family:
    """A family of ops.

    name          what records call it by (`OpRecord.kind`), and packages offer it by.
    doc           what an op of it computes, in a line.
    compiler      "module:attribute" of the compiler's half, a `compiler.families.Rules`. Built-in families have none to say.
    demands       record -> what a record of the family lacks, as a sentence and what to do; None where it lacks nothing. Asked
                  when a record is made.
    cost          (graph, node) -> nanoseconds, roughly (`cost.py`).
    flops         (graph, node) -> floating-point operations, a multiply-add being two (`cost.py`).
    calls         what of this machine its ops call, which exported programs do not have; empty: nothing.
    dialect       the dialect that its ops are printed in. Those of `control` are in no dialect of MLIR's.
    batch         "module:attribute" of what a batch of calls of an op becomes: `batching.BatchedOp` -> results, the batch in front.
                  Without one, only ops that have a rule of their own (`batching_rules.py`) can be in `vmap`.

    What holds of its ops:

    is_view       the result is elements of the first operand where they lie: readers read that.
    is_pointwise  all operands and results have one shape; an element of the results depends on the operands' elements in its place.
    is_placed     as is_pointwise, of 0-d operands and the element's place (`b.position()` in `lower`).
    folds         the axes in its first attribute, `axes`, are folded by the monoid that is its `lower`.
    reads_table   the first operand is read at places that the second says, along the axis in its first attribute.
    moves         elements of operands are handed on as they are, NaNs too: nothing is computed.
    keeps         elements of the first operand that meet nothing are handed on as they are; those that do have the canonical NaN.
    sums_products its elements are sums of products, which references may add up more accurately.
    is_product    the last two axes are matrices, of which the result's is the product of the operands': a contraction.
    one_nan       the NaNs that it gives are the canonical one already (`tape/nan.py`).
    """

    name: str = ""
    doc: str = ""
    compiler: str = ""
    demands: Callable[[OpRecord], str | None] = nothing_missing
    cost: Callable[[Graph, Node], float] = traffic
    flops: Callable[[Graph, Node], float] = elements
    dialect: str = "tape"
    calls: str = ""
    batch: str = ""
    is_view: bool = False
    is_pointwise: bool = False
    is_placed: bool = False
    folds: bool = False
    reads_table: bool = False
    moves: bool = False
    keeps: bool = False
    sums_products: bool = False
    is_product: bool = False
    one_nan: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise TypeError(f"[family] a family has the name {self.name!r}. Give `name`: small letters, digits, '_'.")
        if not self.doc:
            raise TypeError(f"[family] '{self.name}' has no `doc`. Say in a line what its ops compute.")
        if not callable(self.demands):
            raise TypeError(f"[family] '{self.name}' has {self.demands!r} for `demands`. Give a function of a record.")
        if not callable(self.cost):
            raise TypeError(f"[family] '{self.name}' has {self.cost!r} for `cost`. Give a function of graph and node.")
        if not callable(self.flops):
            raise TypeError(
                f"[family] '{self.name}' has {self.flops!r} for `flops`. Give a function of graph and node."
            )
        if self.batch and not re.fullmatch(r"[\w.]+:[\w.]+", self.batch):
            raise TypeError(f"[family] '{self.name}' has {self.batch!r} for `batch`. Write: module:attribute.")
        if self.compiler and not re.fullmatch(r"[\w.]+:[\w.]+", self.compiler):
            raise TypeError(f"[family] '{self.name}' has {self.compiler!r} for `compiler`. Write: module:attribute.")

    def __repr__(self) -> str:
        return f"family {self.name}"

    def check(self, record: OpRecord) -> None:
        """Raise TypeError where a record lacks what the family asks for."""
        missing = self.demands(record)
        if missing is not None:
            raise TypeError(f"[record] op '{record.name}' of family '{self.name}' {missing}")


def no_family(name: str, found: Any) -> str | None:
    """What to make of an offered object that is no family of that name."""
    if not isinstance(found, Family) or found.name != name:
        return f"Make it a flambeau.dialects.family.Family with name '{name}'."
    return None if found.compiler else "It has no `compiler`. Name the compiler's half, as module:attribute."
