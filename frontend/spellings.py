"""Other names under which callers may give an argument, as data: those that PyTorch takes from users of NumPy.

In: the names of a function's parameters. Out: what else each may be called. Recorded functions (`function.py`) and public
Python functions (`border.py`) ask here when they are made; a call that uses the usual name pays nothing. Next: `function.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Name of a parameter -> its other names, in every function that has it.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "dim": ("axis",),
    "keepdim": ("keepdims",),
    "input": ("x", "a", "x1"),
    "other": ("x2",),
    "dims": ("axes",),
    "dim0": ("axis0",),
    "dim1": ("axis1",),
    "split_size_or_sections": ("split_size",),
    "indices_or_sections": ("sections", "indices", "tensor_indices_or_sections"),
    "src": ("value",),
}


def of(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """What the parameter `name` of a function with the parameters `names` may be called beside that."""
    others = OTHER_NAMES.get(name)
    if others is None:
        return ()
    taken = set(names)
    return tuple(other for other in others if other not in taken)


def known(names: Iterable[str]) -> dict[str, str]:
    """Other name -> name, for a function with the parameters `names`."""
    names = tuple(names)
    return {other: name for name in names if name in OTHER_NAMES for other in of(name, names)}
