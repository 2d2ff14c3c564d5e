"""Families of ops as the compiler sees them: by op, by name, and by the name of an op in a fusion group.

In: what `dialects/families.py` knows by name. Out: its `Rules`, whose module is imported when first asked for: one here for every
built-in family, `Family.compiler` for a package's. Next: `rules.py`; `view.py`, `reduction.py`, ... for what each says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

from flambeau.compiler.families.rules import GroupOp, Rules, in_memory
from flambeau.dialects import families
from flambeau.dialects.entry_points import Offer, PluginError
from flambeau.dialects.family import Family
from flambeau.dialects.record import OpRecord

__all__ = ["GroupOp", "Rules", "find", "group_op", "group_ops", "in_memory", "named_in", "offer", "rules"]


def rules(op: OpRecord) -> Rules:
    """What the compiler knows of an op's family. Raises as `find` does."""
    return _of(op.family)


def find(name: str) -> Rules:
    """The rules of the family of that name. Raises ValueError where there is none, PluginError where a package's cannot be
    used."""
    return _of(families.find(name))


@cache
def _of(family: Family) -> Rules:
    offered = offer(family.name)
    if offered is None:
        return import_module(f"flambeau.compiler.families.{family.name}").RULES
    found: Any = replace(offered, value=family.compiler).load()
    if (advice := _no_rules(family, found)) is not None:
        raise PluginError(
            f"[plug-in] the compiler's half of family '{offered.name}' of {offered.package} is {found!r}. {advice}"
        )
    return found


def _no_rules(family: Family, found: Any) -> str | None:
    """What to make of something that does not complete a family; None if it does."""
    if not isinstance(found, Rules) or found.family != family.name:
        return f"Make it a flambeau.compiler.families.Rules for family '{family.name}'."
    if family.is_view != (found.layout is not None):
        return "Its ops are views and have a `layout`, or neither."
    wrong = [f"op '{op.name}'" for op in found.ops if op.name.partition(".")[0] != family.name]
    wrong += [f"schedule '{cls.kind}'" for cls in found.schedules if cls.kind.partition(".")[0] != family.name]
    return f"Its {wrong[0]} is named like another family's. Name it {family.name}.something." if wrong else None


def offer(name: str) -> Offer | None:
    """The offer of the family of that name, if a package has it."""
    return families.FAMILY_REGISTRY.offer(name)


def offered() -> list[str]:
    """The names of the families of packages."""
    return [o.name for o in families.FAMILY_REGISTRY.usable()]


# ---- ops of fusion groups ---------------------------------------------------------------------------------------


def group_op(name: str) -> GroupOp | None:
    """The op on whole tensors of that name, if it is a family's. Raises as `find` does."""
    found = _built_in_ops().get(name)
    return group_ops(name.partition(".")[0]).get(name) if found is None else found


def group_ops(dialect: str) -> Mapping[str, GroupOp]:
    """The ops of a package's family, which is named like their dialect; none where there is no such one."""
    return {} if offer(dialect) is None else {op.name: op for op in find(dialect).ops}


def named_in(text: str) -> list[str]:
    """The families of packages whose ops a group's text may name."""
    return [o.name for o in families.FAMILY_REGISTRY.usable() if f'"{o.name}.' in text]


@cache
def _built_in_ops() -> Mapping[str, GroupOp]:
    return {op.name: op for family in families.BUILT_IN for op in _of(family).ops}
