"""The types that stubs give: of arguments by their kind, annotation, name or default; of results by annotation or samples.

In: declarations. Out: text of types. Used by `stubs.py`.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import flambeau as fb
import numpy as np
from flambeau import spellings
from flambeau.declarations import Declaration, Unsampled
from flambeau.function import stub_type
from flambeau.runtime.recorder import REQUIRED, Function, Size, Tensor

DIMS = "int | str | Sequence[int] | Sequence[str] | None"
#: Python's types of numbers stand for dtypes.
DTYPE = "_DType | type[bool] | type[int] | type[float] | type[complex]"
SIZES = "int | Sequence[int]"
#: Kind of a recorded function's parameter -> its type.
KINDS = {
    "tensor": "Tensor",
    "operand": "Tensor | complex | np.generic",
    "tensors": "Sequence[Tensor]",
    "optional": "Tensor | None",
    "number": "Tensor | complex",
    "stream": "Generator | None",
    "starts": "Any",
}
#: Name -> type, of parameters whose annotation and default do not say it.
NAMED = {
    **dict.fromkeys(("dim", "axis"), DIMS),
    **dict.fromkeys(("dims", "s"), "int | Sequence[int] | Sequence[str] | None"),
    **dict.fromkeys(("size", "sizes", "shape", "normalized_shape", "output_size", "kernel_size"), SIZES),
    **dict.fromkeys(("stride", "padding", "output_padding", "dilation"), SIZES),
    **dict.fromkeys(("dim0", "dim1", "dim2", "dimension"), "int | str"),
    "dtype": f"{DTYPE} | None",
    "groups": "int",
    "device": "Device",
    "requires_grad": "bool",
    "generator": "Generator | None",
}
#: Annotation in our sources -> the same with the names that stubs have.
WORDS = {
    "DType": "_DType",
    "device": "_device",
    "Numbers": SIZES,
    "Ratio": "float | Sequence[float]",
    "Target": "int | None | Sequence[int | None]",
    "Dims": "int | tuple[int, ...] | None",
    "Shape": SIZES,
}
KNOWN = {
    *(
        "Tensor",
        "Any",
        "bool",
        "int",
        "float",
        "complex",
        "str",
        "bytes",
        "None",
        "tuple",
        "list",
        "dict",
        "type",
        "object",
    )
}
KNOWN |= {*("Sequence", "Iterable", "Callable", "Device", "Generator", "Size", "np.ndarray", "AbstractContextManager")}


def written(annotation: Any) -> str:
    """An annotation of our sources as stubs have it, `Any` where they do not know a name of it."""
    if annotation is inspect.Parameter.empty:
        return "Any"
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    words = re.findall(r"[A-Za-z_][\w.]*", text)
    if not all(w in KNOWN or w in WORDS for w in words):
        return "Any"
    return re.sub(r"[A-Za-z_][\w.]*", lambda m: WORDS.get(m[0], m[0]), text)


# ---- arguments --------------------------------------------------------------------------------------------------


class Argument:
    """One parameter: `text(spelled)` writes it, under another of its names if asked."""

    def __init__(self, name: str, kind: str, default: str | None, star: str = "", keyword: bool = False) -> None:
        kind += " | None" * (default == "None" and kind != "Any" and "None" not in kind)
        self.name, self.type, self.default, self.star, self.keyword = name, kind, default, star, keyword

    def text(self, name: str = "") -> str:
        default = "" if self.default is None else f" = {self.default}"
        return f"{self.star}{name or self.name}: {self.type}{default}"


def arguments(made: Declaration, method: bool, stores: bool = False) -> list[str]:
    """The lists of arguments that a function takes: as it is called, and with `axis` and `keepdims`."""
    call = getattr(made.call, "__wrapped__", made.call)
    variadic = getattr(call, "variadic", False)
    found = recorded(call) if isinstance(call, Function) else plain(call)
    words = [] if stores or any(a.star == "**" for a in found) else more(made)
    extra = [Argument(w, MORE[w], "None", keyword=True) for w in words if w not in {a.name for a in found}]
    found = found[1:] + extra if method else found + extra
    if stores:
        found = [a for a in found if a.name != "inplace"]
    lists = [found]
    if variadic:
        at = max(k for k, a in enumerate(found) if not a.keyword)
        lists.append([*found[:at], Argument(found[at].name, "int", None, "*"), *found[at + 1 :]])
    lines = [written_out(a, method) for a in lists]
    spelled = {a.name: o[0] for a in found if a.name in ("dim", "keepdim") and not a.star and (o := others(a, found))}
    if spelled:
        lines.append(written_out(found, method, spelled))
    return lines


#: Keywords that functions take beside their own.
MORE = {
    "out": "Tensor | Sequence[Tensor] | None",
    "layout": "Any",
    "pin_memory": "bool | None",
    "names": "Sequence[str | None] | None",
}


def more(made: Declaration) -> list[str]:
    """Which of these a function takes."""
    from flambeau import border, out

    found: Any = border.extended.get(made.call) or getattr(made.call, "more", None) or ()
    return list(found.words if isinstance(found, out.Extended) else found)


def others(argument: Argument, among: list[Argument]) -> tuple[str, ...]:
    return spellings.of(argument.name, [a.name for a in among])


def written_out(found: list[Argument], method: bool, spelled: dict[str, str] | None = None) -> str:
    """The list of arguments; ones under other names can only be given by name."""
    if spelled:
        found = [a for a in found if a.name not in spelled or a.keyword] + [
            Argument(a.name, a.type, a.default, keyword=True) for a in found if a.name in spelled and not a.keyword
        ]
        found = [a for a in found if not a.keyword] + [a for a in found if a.keyword]
    texts, starred = (["self"] if method else []), False
    for a in found:
        if a.keyword and not starred and not any(b.star for b in found):
            texts.append("*")
        starred = starred or a.keyword
        texts.append(a.text((spelled or {}).get(a.name, "")))
    return ", ".join(texts)


def recorded(call: Any) -> list[Argument]:
    """The parameters of a recorded function."""
    found = []
    for name, kind, default, keyword, *_ in call.params:
        if not name.startswith("_"):
            said = stub_type(getattr(call.rule, "__annotations__", {}).get(name))
            found.append(Argument(name, said or typed(name, kind, default), shown(default), keyword=keyword))
    return found


def typed(name: str, kind: str, default: Any) -> str:
    if kind in KINDS:
        return KINDS[kind]
    if name in NAMED:
        return NAMED[name]
    if isinstance(default, bool | str):
        return type(default).__name__
    return "Any"


def plain(call: Any) -> list[Argument]:
    """Those of a Python function."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return [Argument("args", "Any", None, "*"), Argument("kwargs", "Any", None, "**")]
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    found = []
    for p in parameters:
        kind = written(p.annotation)
        kind = re.sub("_DType", DTYPE, kind)
        kind = NAMED.get(p.name, kind) if kind == "Any" and not stars.get(p.kind) else kind
        found.append(
            Argument(p.name, kind, shown(p.default), stars.get(p.kind, ""), p.kind is inspect.Parameter.KEYWORD_ONLY)
        )
    return found


def shown(default: Any) -> str | None:
    """A default as stubs show it; None where there is none."""
    if default is REQUIRED or default is inspect.Parameter.empty:
        return None
    simple = (
        default is None or isinstance(default, bool | int | str) or (isinstance(default, float) and abs(default) < 1e9)
    )
    return repr(default) if simple or default == () else "..."


# ---- results ----------------------------------------------------------------------------------------------------


def returned(made: Declaration) -> str:
    """What a function returns: what its annotation says, else what its samples give."""
    call = getattr(made.call, "__wrapped__", made.call)
    if not isinstance(call, Function):
        try:
            found = written(inspect.signature(call).return_annotation)
        except (TypeError, ValueError):
            found = "Any"
        if found != "Any":
            return found
    kinds = {kind_of(r) for r in results(made)}
    return kinds.pop() if len(kinds) == 1 else "Any"


def results(made: Declaration) -> list[Any]:
    """What the good samples give, of which nothing is looked at."""
    if isinstance(made.samples, Unsampled) or made.samples is None:
        return []
    found = []
    for sample in made.samples():
        if sample.error is None:
            operands = [tensors(v) for v in sample.operands]
            try:
                found.append(made.call(*operands, **{k: tensors(v) for k, v in sample.attrs.items()}))
            except NotImplementedError:  # of integers only
                whole = {k: tensors(v, np.int64) for k, v in sample.attrs.items()}
                found.append(made.call(*(tensors(v, np.int64) for v in sample.operands), **whole))
    return found


def tensors(value: Any, dtype: Any = np.float32) -> Any:
    """`value` with tensors for the arrays in it, data in a dtype."""
    if isinstance(value, np.ndarray):
        whole = np.nan_to_num(value).clip(-100, 100).astype(dtype)
        return fb.tensor(whole if value.dtype == np.float64 else value)
    if isinstance(value, list | tuple) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(tensors(v, dtype) for v in value)
    return value


def kind_of(value: Any) -> str:
    """The type of a result."""
    if isinstance(value, Tensor):
        return "Tensor"
    if isinstance(value, Size):
        return "Size"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return "None" if value is None else type(value).__name__
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"return_types.{type(value).__name__}"
    if isinstance(value, tuple):
        return "tuple[Tensor, ...]" if all(isinstance(v, Tensor) for v in value) else "Any"
    return "Any"


def attribute_type(name: str) -> str | None:
    """The type of an attribute of tensors, by that of one; None of what the class itself has."""
    if name in _OWN:
        return None
    if name in ("device",):
        return "_device"
    found = kind_of(getattr(fb.ones(2, 2), name))
    return found if found != "None" else "Any"


_OWN = ("data", "names", "requires_grad", "grad", "real", "imag", "layout", "grad_fn")

# ---- functions whose result depends on how they are called ---------------------------------------------------------

_ALONG = (
    "({self}) -> Tensor",
    "({self}, dim: int | str, keepdim: bool = False, *, out: Sequence[Tensor] | None = None) -> return_types.{name}",
    "({self}, *, axis: int | str, keepdims: bool = False, out: Sequence[Tensor] | None = None) -> return_types.{name}",
)
_LARGER = (*_ALONG, "({self}, other: Tensor, *, out: Tensor | None = None) -> Tensor")
_AT_LEAST = (
    "(tensor: Tensor, /) -> Tensor",
    "(first: Tensor, second: Tensor, /, *more: Tensor) -> tuple[Tensor, ...]",
    "(tensors: Sequence[Tensor], /) -> tuple[Tensor, ...]",
)
#: Name -> the ways to call it; `{self}` is the tensor, an argument of the function and what the method is of.
FORMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("max", "min"), _LARGER),
    **dict.fromkeys(("median", "nanmedian"), _ALONG),
    **dict.fromkeys(("atleast_1d", "atleast_2d", "atleast_3d"), _AT_LEAST),
    "item": ("({self}) -> Any",),
    "size": ("({self}, dim: None = None) -> Size", "({self}, dim: int | str) -> int"),
    "stride": ("({self}, dim: None = None) -> tuple[int, ...]", "({self}, dim: int) -> int"),
    "type": (
        "({self}, dtype: None = None) -> str",
        "({self}, dtype: _DType | str, non_blocking: bool = False) -> Tensor",
    ),
}
#: Functions that give more than one tensor where one of these arguments is true.
FLAGS = {
    **{f"{kind}max_pool{n}d": ("return_indices",) for kind in ("", "adaptive_") for n in (1, 2, 3)},
    "nonzero": ("as_tuple",),
    **dict.fromkeys(("unique", "unique_consecutive"), ("return_inverse", "return_counts")),
}


def forms(made: Declaration, name: str, method: bool) -> list[str]:
    """The ways to call a function, with what each returns."""
    if name in FORMS and not (name == "where" and method):
        return [form.format(self="self" if method else "input: Tensor", name=made.name) for form in FORMS[name]]
    lists = arguments(made, method)
    if name == "where" and not method:
        return ["(condition: Tensor) -> tuple[Tensor, ...]", *(f"({a}) -> Tensor" for a in _required(lists))]
    if made.name in FLAGS:
        return flagged(lists[0], FLAGS[made.name])
    result = returned(made)
    return [f"({form}) -> {result}" for form in lists]


def _required(lists: list[str]) -> list[str]:
    return [re.sub(r"((?:input|other): [^,=]*) = None", r"\1", a) for a in lists]


def flagged(arguments: str, flags: tuple[str, ...]) -> list[str]:
    """A tensor without these flags, several with one of them, which is given by name."""
    without = arguments
    for flag in flags:
        without = without.replace(f"{flag}: bool = False", f"{flag}: Literal[False] = False")
    found = [f"({without}) -> Tensor"]
    for flag in flags:
        rest = arguments.replace(f"{flag}: bool = False", "").replace(", ,", ",").strip(", ")
        star = "" if "*" in rest else "*, "
        found.append(f"({rest}, {star}{flag}: Literal[True]) -> tuple[Tensor, ...]")
    return found
