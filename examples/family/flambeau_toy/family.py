"""The family, as recording and differentiation see it. Next: `ops.py`; `compiled.py`, the compiler's half."""

from __future__ import annotations

from flambeau.dialects.family import Family
from flambeau.dialects.record import OpRecord


def _demands(record: OpRecord) -> str | None:
    if record.attrs != ("axis", "reverse"):
        return f"has attributes {record.attrs}. Make them axis and reverse."
    return None if callable(record.lower) else "has no step. Give `lower`: (b, so far, element) -> so far."


TOY = Family(
    "toy",
    "Scans: element i along an axis is what a step made of elements 0 to i, one after the other, or of i to the last.",
    compiler="flambeau_toy.compiled:RULES",
    batch="flambeau.dialects.batching_rules:axis_further",
    demands=_demands,
)
