"""`flambeau.func`: derivatives of functions as functions: grad, grad_and_value, vjp, jvp, linearize, jacrev, jacfwd, hessian;
functions of batches, vmap; modules called with other state.

In: functions of tensors, and of dicts, lists and tuples of them. Out: functions. Nested ones work: inside another transform,
and where an argument, or what the function reads from
outside, requires grad, results keep their history. Next: `autograd/functional.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau import trees
from flambeau.autograd import is_grad_enabled
from flambeau.autograd.functional import _batched_rows, _columns, _grads, _owned, _tangents
from flambeau.autograd.graph import reaches_others
from flambeau.engine import GRAD_MODE
from flambeau.functions.assemble import stack
from flambeau.functions.vmap import vmap
from flambeau.nn.module import Module
from flambeau.regions import check_finished
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

# ---- levels -----------------------------------------------------------------------------------------------


class _Inside(recorder.ModeScope):
    """One transform more, as a block; and whether its results are to keep their history: never where gradients were disabled
    outside, always where what was given has one, and else where the function has read something that requires grad."""

    is_enabled: bool
    is_given: bool

    def keeps(self, value: Any, ours: Any) -> bool:
        """Whether `value`, computed of `ours`, is to keep its history."""
        if not self.is_enabled or self.is_given:
            return self.is_enabled
        return reaches_others(trees.leaves(value), trees.leaves(ours))


def _inside(*given: Any) -> _Inside:
    """A transform of what is given, to be entered."""
    made = _Inside(GRAD_MODE, GRAD_MODE)
    made.is_enabled = is_grad_enabled()
    made.is_given = _is_inside() or True in [t.requires_grad for t in trees.leaves(given)]
    return made


def _is_inside() -> bool:
    """Whether the thread is inside of a transform."""
    return recorder.is_entered(_Inside)


def _own(op: str, tree: Any) -> Any:
    """Tensors of this transform, through which those of outer ones get their gradients.

    Raises ValueError for what is no tree of tensors: it would come back where gradients are expected.
    """

    def owned(leaf: Any) -> Tensor | None:
        if leaf is not None and not isinstance(leaf, Tensor):
            raise ValueError(
                f"[{op}] an argument to differentiate has a {type(leaf).__name__} in it. Give tensors in dicts, lists and tuples."
            )
        return leaf if leaf is None else _owned(leaf)

    return trees.changed(owned, tree)


def _out(tree: Any, keeps: bool) -> Any:
    return tree if keeps else trees.mapped(lambda t: t.detach(), tree)


def _chosen(op: str, args: tuple[Any, ...], argnums: int | tuple[int, ...]) -> tuple[tuple[Any, ...], Any]:
    """(arguments with those to differentiate made ours, these)."""
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise RuntimeError(
                f"[{op}] argnums is {argnums}, there are {len(args)} positional arguments. Name one of them."
            )
    if len({n % len(args) for n in numbers}) < len(numbers):
        raise RuntimeError(f"[{op}] argnums is {argnums}, which names an argument twice. Name each once.")
    changed = list(args)
    for n in numbers:
        changed[n] = _own(op, args[n])
    ours = tuple(changed[n] for n in numbers)
    return tuple(changed), ours[0] if isinstance(argnums, int) else ours


def _split_aux(op: str, value: Any, has_aux: bool) -> tuple[Any, Any]:
    if not has_aux:
        return value, None
    if not (isinstance(value, tuple) and len(value) == 2):
        raise RuntimeError(
            f"[{op}] with has_aux the function gives a pair, got a {type(value).__name__}. Give (output, aux)."
        )
    return value


# ---- gradients --------------------------------------------------------------------------------------------


def grad_and_value(
    func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that gives (gradients, value) of `func`, which gives one number, with respect to the arguments `argnums`; with
    `has_aux`, `func` gives (number, anything) and that (gradients, (number, anything)).

    Raises RuntimeError for other than one number.
    """

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with (kept := _inside(args, kwargs)):
            changed, ours = _chosen("grad", args, argnums)
            value, aux = _split_aux("grad", func(*changed, **kwargs), has_aux)
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise RuntimeError("[grad] the function has to give one number in a tensor. Reduce it, by sum() say.")
            keeps = kept.keeps((value, aux), ours)
            found = trees.filled(ours, _grads((value,), tuple(trees.leaves(ours)), None, keeps))
            value = (_out(value, keeps), _out(aux, keeps)) if has_aux else _out(value, keeps)
            return _out(found, keeps), value

    return wrapper


def grad(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradients of `func`, which gives one number, with respect to the arguments `argnums`; with
    `has_aux`, `func` gives (number, anything) and that (gradients, anything). Raises RuntimeError for other than one number."""
    both = grad_and_value(func, argnums, has_aux)

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return wrapper


def _check_nesting(op: str, what: str, given: Any, of: str, tree: Any) -> None:
    if not trees.alike(tree, given):
        raise RuntimeError(
            f"[{op}] {what} are nested as {trees.nesting(given)}, {of} as {trees.nesting(tree)}. Nest them alike."
        )


def _check_weight(leaf: Any) -> Any:
    if leaf is not None and not isinstance(leaf, Tensor):
        raise TypeError(f"[vjp] weights have a {type(leaf).__name__} among them. Pass tensors.")
    return leaf


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """(value, function) for `func(*primals)`: the function gives the gradients of `primals`, a tuple of as many, for weights in the
    structure of the value; with `has_aux`, `func` gives (value, anything), and this (value, function, anything).

    That function raises RuntimeError for weights that are nested in another way than the value, or of other shapes.
    """
    with (kept := _inside(primals)):
        ours = _own("vjp", primals)
        value, aux = _split_aux("vjp", func(*ours), has_aux)
        keeps = kept.keeps((value, aux), ours)

    def gradients(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        _check_nesting("vjp", "weights", cotangents, "the value", value)
        trees.changed(_check_weight, cotangents)
        weights = tuple(trees.leaves(cotangents))
        outs = tuple(trees.leaves(value))
        if [w.shape for w in weights] != [y.shape for y in outs]:
            raise RuntimeError(
                f"[vjp] weights have shapes {[w.shape for w in weights]}, the value {[y.shape for y in outs]}. Make them equal."
            )
        check_finished(outs)
        if create_graph is None:
            create_graph = keeps or _is_inside() or (is_grad_enabled() and any(w.requires_grad for w in weights))
        return trees.filled(ours, _grads(outs, tuple(trees.leaves(ours)), weights, create_graph))

    shown = _out(value, keeps)
    return (shown, gradients, _out(aux, keeps)) if has_aux else (shown, gradients)


def jvp(func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False) -> Any:
    """(value, derivative along `tangents`) of `func(*primals)`, both in the structure of the value; with `has_aux`, `func` gives
    (value, anything), and this (value, derivative, anything). Forward mode: the tangents go along with what `func` records.

    `strict` refuses values that do not depend on the primals, instead of giving zeros. Raises RuntimeError where tangents are
    nested in another way than the primals or have other shapes, ValueError for tangents of integers.
    """
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise RuntimeError("[jvp] primals and tangents are tuples, one item for each argument. Pass (x,) for one x.")
    _check_nesting("jvp", "tangents", tangents, "the primals", primals)
    if whole := [t.dtype for t in trees.leaves(tangents) if not t.dtype.is_inexact]:
        raise ValueError(f"[jvp] a tangent is {whole[0].name}. Convert it to the dtype of its primal.")
    with (kept := _inside(primals, tangents)):
        ours = _own("jvp", primals)
        value, aux = _split_aux("jvp", func(*ours), has_aux)
        keeps = kept.keeps((value, aux), ours)
        found = _along("jvp", value, ours, tangents, keeps, strict)
    shown = _out(value, keeps), _out(found, keeps)
    return (*shown, _out(aux, keeps)) if has_aux else shown


def _along(op: str, value: Any, ours: Any, tangents: Any, keeps: bool, strict: bool = False) -> Any:
    """The derivatives of a value along tangents, in its structure."""
    outs, ins, given = (tuple(trees.leaves(tree)) for tree in (value, ours, tangents))
    if [t.shape for t in given] != [x.shape for x in ins]:
        raise RuntimeError(
            f"[{op}] tangents have shapes {[t.shape for t in given]}, the primals {[x.shape for x in ins]}. Make them equal."
        )
    if strict and (apart := [k for k, y in enumerate(outs) if not y.requires_grad]):
        raise RuntimeError(f"[{op}] result {apart[0]} does not depend on the primals. Pass strict=False for zeros.")
    return trees.filled(value, _tangents(outs, ins, given, keeps))


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """`func` itself: writes and views within it are no more in what is compiled. Raises RuntimeError where `remove` is
    another word than "mutations" and "mutations_and_views"."""
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(f"[functionalize] remove is {remove!r}. Use 'mutations' or 'mutations_and_views'.")
    return func


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """(value, function) for `func(*primals)`: the function gives the derivative of the value along tangents, one for each primal,
    as often as wanted; `func` is not called again."""
    with (kept := _inside(primals)):
        ours = _own("linearize", primals)
        value = func(*ours)
        keeps = kept.keeps(value, ours)

    def derivative(*tangents: Any) -> Any:
        _check_nesting("linearize", "tangents", tangents, "the primals", primals)
        for t, x in zip(trees.leaves(tangents), trees.leaves(primals)):
            if t.dtype is not x.dtype:
                raise RuntimeError(f"[linearize] a tangent is {t.dtype.name}, its primal {x.dtype.name}. Convert it.")
        check_finished(trees.leaves(value))
        is_asked = _is_inside() or any(t.requires_grad for t in trees.leaves(tangents))
        return _along("linearize", value, ours, tangents, keeps or is_asked)

    return _out(value, keeps), derivative


def jacfwd(
    func: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    *,
    chunk_size: int | None = None,
    randomness: str = "error",
) -> Callable[..., Any]:
    """As `jacrev`, in forward mode: all columns are one batch, of `chunk_size` at a time if given. Cheaper where results have more
    elements than arguments. `func` is called once, so that random numbers are the same for all columns, whatever `randomness` says.

    Raises ValueError for a `chunk_size` below 1.
    """
    _check_chunk("jacfwd", chunk_size)

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with (kept := _inside(args, kwargs)):
            changed, ours = _chosen("jacfwd", args, argnums)
            value, aux = _split_aux("jacfwd", func(*changed, **kwargs), has_aux)
            outs, ins, keeps = tuple(trees.leaves(value)), tuple(trees.leaves(ours)), kept.keeps((value, aux), ours)
            columns = [_columns(outs, ins, k, keeps, chunk_size) for k in range(len(ins))]
            found = trees.filled(value, [trees.filled(ours, row) for row in zip(*columns)])
            return (_out(found, keeps), _out(aux, keeps)) if has_aux else _out(found, keeps)

    return wrapper


def _check_chunk(op: str, chunk_size: int | None) -> None:
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"[{op}] chunk_size is {chunk_size}. Give at least 1, or None.")


def jacrev(
    func: Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """A function that gives the derivatives of `func` with respect to the arguments `argnums`, [*result, *argument], in the
    structure of the results and, within that, of the arguments. All rows are one batch, of `chunk_size` at a time if given.

    Raises ValueError for a `chunk_size` below 1.
    """
    _check_chunk("jacrev", chunk_size)

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with (kept := _inside(args, kwargs)):
            changed, ours = _chosen("jacrev", args, argnums)
            value, aux = _split_aux("jacrev", func(*changed, **kwargs), has_aux)
            leaves, keeps = tuple(trees.leaves(ours)), kept.keeps((value, aux), ours)
            found = trees.mapped(lambda y: trees.filled(ours, _batched_rows(y, leaves, keeps, chunk_size)), value)
            return (_out(found, keeps), _out(aux, keeps)) if has_aux else _out(found, keeps)

    return wrapper


def hessian(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that gives the second derivatives of `func` with respect to the arguments `argnums`: `jacfwd` of `jacrev`."""
    return jacfwd(jacrev(func, argnums), argnums)


# ---- modules ----------------------------------------------------------------------------------------------


def functional_call(
    module: Module,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """`module(*args, **kwargs)` with the parameters and buffers of a dict, or of several, by name, in place of its own.

    `tie_weights`: what the module has under several names is replaced under all of them. Raises RuntimeError, if `strict`,
    for names that the module has and the dicts have not, and KeyError for names that it has not.
    """
    given: dict[str, Tensor] = {}
    for each in (
        parameter_and_buffer_dicts
        if isinstance(parameter_and_buffer_dicts, tuple | list)
        else [parameter_and_buffer_dicts]
    ):
        given.update(each)
    places = _places(module)
    if unknown := [name for name in given if name not in places]:
        raise KeyError(f"[functional_call] the module has no parameter or buffer '{unknown[0]}'. See state_dict().")
    if strict and (missing := [name for name in places if name not in given]):
        raise RuntimeError(f"[functional_call] there is no value for '{missing[0]}'. Give one, or pass strict=False.")
    swapped = {places[name]: value for name, value in given.items()}
    if tie_weights:
        tied = {id(places[name].held()): value for name, value in given.items()}
        swapped |= {place: tied[id(place.held())] for place in places.values() if id(place.held()) in tied}
    before = {place: place.held() for place in swapped}
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    try:
        for place, value in swapped.items():
            place.put(value)
        return module(*arguments, **(kwargs or {}))
    finally:
        for place, value in before.items():
            place.put(value)


class _Place:
    """Where a module keeps a tensor."""

    def __init__(self, table: dict[str, Any], name: str) -> None:
        self._table, self._name = table, name

    def held(self) -> Any:
        return self._table[self._name]

    def put(self, value: Any) -> None:
        self._table[self._name] = value


def _places(module: Module) -> dict[str, _Place]:
    found: dict[str, _Place] = {}
    for prefix, each in module.named_modules(remove_duplicate=False):
        for table in (each._parameters, each._buffers):
            for name, value in table.items():
                if value is not None:
                    found[f"{prefix}.{name}" if prefix else name] = _Place(vars(each), name)
    return found


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(parameters, buffers) of modules of one kind, each stacked along a new first dimension.

    Raises RuntimeError for no modules, other classes and other modes of training.
    """
    given = list(models)
    if not given:
        raise RuntimeError("[stack_module_state] there are no models. Pass at least one.")
    if len({(type(m), m.training) for m in given}) > 1:
        raise RuntimeError("[stack_module_state] models are of several classes, or in several modes. Make them alike.")

    def stacked(tables: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        made = {name: stack([t[name] for t in tables]).detach() for name in tables[0]}
        return {name: value.requires_grad_(tables[0][name].requires_grad) for name, value in made.items()}

    return stacked([dict(m.named_parameters()) for m in given]), stacked([dict(m.named_buffers()) for m in given])


__all__ = [
    "functional_call",
    "functionalize",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "stack_module_state",
    "vjp",
    "vmap",
]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.func")
