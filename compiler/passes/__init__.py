"""Graph passes: pure functions on programs, one file each, found by name in `registry.py`.

In: a `Graph`. Out: a `Graph` that computes the same bits (or, for cluster, the fragments to compile together).
A pass is a small frozen dataclass: its fields are its options, its docstring is its contract. Next: `simplify.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Pass:
    """A named step on graphs. Subclasses set `name`, add options as fields and implement `__call__`.

    A pass never changes its input, takes time linear in it, and gives equal outputs for equal inputs. One of another
    package runs in every compilation if it sets `after` to a stage that works on programs, or to `linalg` (`stages.py`); a
    pass without it is for `flambeau-opt`.
    """

    name: ClassVar[str] = ""
    after: ClassVar[str] = ""

    def __call__(self, graph: Any) -> Any:
        """The program, a `Graph`, after the pass; of a pass on fusion groups (`on_groups.py`), the group."""
        raise NotImplementedError
