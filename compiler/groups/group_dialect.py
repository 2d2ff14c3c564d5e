"""The dialects that hold ops of packages' families, for MLIR to read and verify.

In: the name of a family. Out: a dialect of the bindings with the family's `GroupOp`s, loaded into a context. MLIR counts operands,
results and regions and sees that attributes are there; what else has to hold `verify.py` asks the family. Next: `reading.py`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from flambeau.compiler import families
from flambeau.compiler.families import GroupOp
from flambeau.dialects import flambeau_ops
from flambeau.dialects.flambeau_ops import Declared


@cache
def load(context: Any, family: str) -> None:
    """Load the dialect of a family into a context of MLIR's."""
    found = {name.partition(".")[2]: _declared(op) for name, op in families.group_ops(family).items()}
    dialect = flambeau_ops.declare(family, found)
    with context, flambeau_ops.unknown_location():
        dialect.load()


def _declared(op: GroupOp) -> Declared:
    def check(found: Any) -> None:
        flambeau_ops.check_attributes(found, op.attributes)

    return op.operands, False, 1, op.regions, op.pure, check
