"""How our functions, methods, modules and optimizers are called, compared with `pytorch_signatures.txt`.

`lacks()` is a set of (area, name, what): what PyTorch allows and we do not, or do otherwise. `pytorch_lacks.txt` lists it by area.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections import defaultdict
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
from flambeau import missing, spellings
from flambeau.out import WORDS
from flambeau.runtime.recorder import REQUIRED, Function, Public, Tensor

HERE = Path(__file__).resolve().parent
OWNERS = {
    "torch": fb, "Tensor": Tensor, "nn": nn, "Module": nn.Module, "nn.functional": nn.functional, "nn.init": nn.init,
    "nn.utils": nn.utils, "optim": fb.optim, "Optimizer": fb.optim.Optimizer, "autograd": fb.autograd, "utils.data": fb.utils.data,
}  # fmt: skip
P = inspect.Parameter
#: What is served by looking at what was passed, not by its name or place; tests show that (`test_spellings_of_layers.py`).
BY_VALUE = {
    *((name, "unbiased") for name in ("var", "std", "var_mean", "std_mean")),
    ("max", "other"),
    ("min", "other"),
}

#: Defaults that mean the same: (parameter, PyTorch's, ours).
SAME = {("padding", "valid", 0)}


def facts() -> dict[tuple[str, str], list[list[P]]]:
    """(area, name) -> the ways to call it."""
    found = defaultdict(list)
    for line in (HERE / "pytorch_signatures.txt").read_text().splitlines():
        area, _, rest = line.partition(" ")
        name, _, text = rest.partition("(")
        found[area, name].append(parameters(text.removesuffix(")")))
    return found


class Unknown:
    """A default that is no literal."""


def literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return Unknown


def parameters(text: str) -> list[P]:
    args = ast.parse(f"def f({text}): pass").body[0].args  # type: ignore[attr-defined]
    places = [*args.posonlyargs, *args.args]
    defaults = [P.empty] * (len(places) - len(args.defaults)) + [literal(d) for d in args.defaults]
    kinds = [P.POSITIONAL_ONLY] * len(args.posonlyargs) + [P.POSITIONAL_OR_KEYWORD] * len(args.args)
    made = [P(a.arg, k, default=d) for a, k, d in zip(places, kinds, defaults)]
    made += [P(args.vararg.arg, P.VAR_POSITIONAL)] if args.vararg else []
    made += [
        P(a.arg, P.KEYWORD_ONLY, default=P.empty if d is None else literal(d))
        for a, d in zip(args.kwonlyargs, args.kw_defaults)
    ]
    return made + ([P(args.kwarg.arg, P.VAR_KEYWORD)] if args.kwarg else [])


def ours(value: object, is_method: bool) -> list[P] | None:
    """How ours is called; None if nobody knows."""
    if isinstance(value, Function):
        made = [
            P(p[0], P.KEYWORD_ONLY if p[3] else P.POSITIONAL_OR_KEYWORD, default=P.empty if p[2] is REQUIRED else p[2])
            for p in value.params
        ]
        if getattr(value, "variadic", False):
            made.insert(sum(p.kind is not P.KEYWORD_ONLY for p in made), P("_", P.VAR_POSITIONAL))
        known = {p.name for p in made}
        more = [word for word in getattr(value, "more", ()) if word not in known]
        made += [P(word, P.KEYWORD_ONLY, default=WORDS[word]) for word in more]
    else:
        target = (value.more or value.__wrapped__) if isinstance(value, Public) else value
        try:
            made = list(inspect.signature(target).parameters.values())
        except ValueError:
            return None
    return made[1:] if is_method else made


def compared(theirs: list[P], mine: list[P]) -> set[str]:
    """What one way to call PyTorch's is not for ours."""
    if [p.kind for p in theirs] == [P.VAR_POSITIONAL, P.VAR_KEYWORD]:
        return set()  # says nothing of what it takes
    by_name = {p.name: p for p in mine}
    by_name |= {other: by_name[name] for other, name in spellings.known(by_name).items()}
    places = [p for p in mine if p.kind in (P.POSITIONAL_ONLY, P.POSITIONAL_OR_KEYWORD)]
    takes_all = {p.kind for p in mine}
    found = set()
    for at, p in enumerate(theirs):
        if p.kind is P.VAR_POSITIONAL:
            found |= set() if P.VAR_POSITIONAL in takes_all else {"several arguments"}
        elif p.kind is P.VAR_KEYWORD:
            continue
        elif p.kind is P.POSITIONAL_ONLY:
            found |= set() if at < len(places) or P.VAR_POSITIONAL in takes_all else {f"{p.name} by position"}
        elif p.name not in by_name:
            found |= set() if P.VAR_KEYWORD in takes_all else {p.name}
        else:
            own = by_name[p.name]
            if (
                p.kind is P.POSITIONAL_OR_KEYWORD
                and P.VAR_POSITIONAL not in takes_all
                and own not in places[at : at + 1]
            ):
                found.add(f"{p.name} by position")
            if p.default is not P.empty and own.default is P.empty and own.kind is not P.VAR_POSITIONAL:
                found.add(f"{p.name} left out")
            elif (p.name, p.default, own.default) in SAME:
                continue
            elif p.default not in (P.empty, Unknown, ...) and own.default is not P.empty and own.default != p.default:
                found.add(f"{p.name}={p.default!r}")
    return found


def lacks() -> set[tuple[str, str, str]]:
    found = set()
    for (area, name), ways in facts().items():
        owner = OWNERS[area]
        is_method = isinstance(owner, type)
        value = inspect.getattr_static(owner, name, None) if is_method else getattr(owner, name, None)
        if value is None or isinstance(value, missing.Missing):
            found.add((area, name, "absent"))
            continue
        mine = ours(getattr(owner, name) if not isinstance(value, Function | Public) else value, is_method)
        for way in ways if mine is not None else ():
            found |= {
                (area, name, what)
                for what in compared(way, mine)
                if (name, what.split()[0].partition("=")[0]) not in BY_VALUE
            }
    return found


# ---- the list ------------------------------------------------------------------------------------------------

GROUPED = ("absent", "out", "layout", "pin_memory", "names", "generator", "memory_format", "device", "dtype")


def written(items: set[tuple[str, str, str]]) -> str:
    """The list by area: first what many names lack, then name by name."""
    lines = ["# What PyTorch's signatures allow and ours do not, by area. A test lets this list only shrink."]
    for area in OWNERS:
        here = sorted((name, what) for a, name, what in items if a == area)
        lines += [f"[{area}]"] if here else []
        for group in GROUPED:
            names = " ".join(name for name, what in here if what == group)
            lines += (
                textwrap.wrap(names, 126, initial_indent=f"* {group}: ", subsequent_indent=f"* {group}: ")
                if names
                else []
            )
        rest = defaultdict(list)
        for name, what in here:
            if what not in GROUPED:
                rest[name].append(what)
        lines += [f"{name}: {'; '.join(whats)}" for name, whats in rest.items()]
    return "\n".join(lines) + "\n"


def read(text: str) -> set[tuple[str, str, str]]:
    items, area = set(), ""
    for line in text.splitlines():
        if line.startswith("["):
            area = line[1:-1]
        elif line.startswith("* "):
            group, _, names = line[2:].partition(": ")
            items |= {(area, name, group) for name in names.split()}
        elif line and not line.startswith("#"):
            name, _, whats = line.partition(": ")
            items |= {(area, name, what) for what in whats.split("; ")}
    return items
