"""`autograd.functional`: jacobian, hessian, vjp, jvp, vhp, hvp of functions of tensors.

In: a function and its inputs. Out: tensors, in the structure of inputs and results. A jvp is forward mode: the tangents go along
with what the function has recorded. Next: `func.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau import along_history, inline, tensor_hooks
from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.autograd.grad_mode import enable_grad
from flambeau.autograd.gradients import fitted, grad
from flambeau.functions.assemble import cat, stack
from flambeau.functions.create import identity, ones_like, zeros_like
from flambeau.runtime.recorder import Tensor

Tensors = tuple[Tensor, ...]


def _tensors(op: str, what: str, value: Any) -> tuple[bool, Tensors]:
    """(whether several were given, all as a tuple)."""
    given = value if isinstance(value, tuple) else (value,)
    for t in given:
        if not isinstance(t, Tensor):
            raise TypeError(f"[{op}] {what} has a {type(t).__name__}. Pass a tensor, or a tuple of tensors.")
    return isinstance(value, tuple), given


def _owned(x: Tensor) -> Tensor:
    """A tensor of ours that requires grad, through which a given one that does gets its gradient."""
    return inline.same(x) if x.requires_grad else x.detach().clone().requires_grad_()


def _own(inputs: Tensors, create_graph: bool) -> Tensors:
    """Inputs of their own, which require grad; with the history of those given only if it is wanted."""
    if create_graph:
        return tuple(map(_owned, inputs))
    return tuple(x.detach().clone().requires_grad_() for x in inputs)


def _grads(outs: Tensors, ins: Tensors, weights: Tensors | None, create_graph: bool) -> list[Tensor]:
    """Gradients, zeros where there are none."""
    pairs = [(y, None if weights is None else w) for y, w in zip(outs, weights or outs) if y.requires_grad]
    if not pairs:
        return [zeros_like(x) for x in ins]
    found = grad([y for y, _ in pairs], ins, [w for _, w in pairs], True, create_graph, allow_unused=True)
    return [zeros_like(x) if g is None else g for g, x in zip(found, ins)]


def _results(op: str, func: Callable[..., Any], ins: Tensors, strict: bool) -> tuple[bool, Tensors]:
    several, outs = _tensors(op, "what the function gave", func(*ins))
    if strict:
        for i, y in enumerate(outs):
            if not y.requires_grad:
                raise RuntimeError(f"[{op}] result {i} does not depend on the inputs. Pass strict=False for zeros.")
    return several, outs


def _shown(value: Any, create_graph: bool) -> Any:
    """Results without history, unless it is wanted."""
    if isinstance(value, tuple):
        return tuple(_shown(v, create_graph) for v in value)
    return value if create_graph else value.detach()


def _weights(op: str, given: Any, like: Tensors) -> Tensors:
    if given is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError(f"[{op}] v is missing. Pass a tensor for each, of its shape.")
        return (ones_like(like[0]),)
    found = _tensors(op, "v", given)[1]
    if [t.shape for t in found] != [t.shape for t in like]:
        raise RuntimeError(
            f"[{op}] v has shapes {[t.shape for t in found]}, not {[t.shape for t in like]}. Pass one for each."
        )
    return found


def _tangents(outs: Tensors, ins: Tensors, given: Sequence[Tensor | None], create_graph: bool) -> list[Tensor]:
    """The derivatives of `outs` along tangents of the inputs, zeros where there are none."""
    at = [k for k, y in enumerate(outs) if y.requires_grad]
    found = [zeros_like(y) for y in outs]
    given = [t if t is None else fitted(t, x) for t, x in zip(given, ins)]
    moved = along_history.tangents("jvp", [outs[k] for k in at], ins, given, create_graph) if at else []
    for k, t in zip(at, moved, strict=True):
        found[k] = found[k] if t is None else t
    return found


def _parts(n: int, chunk_size: int | None) -> Sequence[tuple[int, int]]:
    """(first, how many) of at most `chunk_size` of n rows at a time."""
    if chunk_size is None or chunk_size >= n:
        return ((0, n),) if n else ()
    return [(first, min(chunk_size, n - first)) for first in range(0, n, chunk_size)]


def _unit(x: Tensor, first: int, count: int) -> Tensor:
    """So many of the tensors that are 1 in one element of x, and 0 in all others: [count, *x.shape]."""
    n = x.numel()
    rows = identity(n, x)
    return _shaped(rows if count == n else rows.narrow(0, first, count), (count, *x.shape))


def _shaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape == shape else x.reshape(shape)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else cat(list(parts))


def _columns(outs: Tensors, ins: Tensors, k: int, create_graph: bool, chunk_size: int | None) -> list[Tensor]:
    """For each output the derivatives by every element of input k, in forward mode: [*y.shape, *x.shape]."""
    x, at = ins[k], [i for i, y in enumerate(outs) if y.requires_grad]
    moved, parts = [outs[i] for i in at], []
    for first, count in _parts(x.numel(), chunk_size) if at else ():
        given: list[Tensor | None] = [None] * len(ins)
        given[k] = _unit(x, first, count)
        parts.append(along_history.tangents("jacfwd", moved, ins, given, create_graph, count))
    tables = dict(zip(at, zip(*parts)))
    return [_table(y, x, tables.get(i, ())) for i, y in enumerate(outs)]


def _table(y: Tensor, x: Tensor, columns: Sequence[Tensor | None]) -> Tensor:
    found = [c for c in columns if c is not None]
    if not found:
        return zeros_like(y).reshape(*y.shape, *[1] * x.ndim).expand(*y.shape, *x.shape).clone()
    return _shaped(_joined(found).movedim(0, -1), (*y.shape, *x.shape))


def _batched_rows(y: Tensor, ins: Tensors, create_graph: bool, chunk_size: int | None) -> list[Tensor]:
    """As `_rows`, of a batch of all rows, or so many at a time."""
    if not y.requires_grad or not y.numel() or tensor_hooks.meets([y]):  # a hook sees one row
        return _rows(y, ins, create_graph)
    parts = [
        along_history.gradients_of_batch("grad", [y], [_unit(y, first, count)], ins, count, create_graph)
        for first, count in _parts(y.numel(), chunk_size)
    ]
    found = zip(ins, zip(*parts))
    zeros = lambda x: zeros_like(x).expand(*y.shape, *x.shape).clone()  # noqa: E731
    return [zeros(x) if rows[0] is None else _shaped(_joined(rows), (*y.shape, *x.shape)) for x, rows in found]


def _rows(y: Tensor, ins: Tensors, create_graph: bool) -> list[Tensor]:
    """For each input the gradients of every element of y: [*y.shape, *x.shape]."""
    flat = y.reshape(-1)
    rows = [_grads((flat[k],), ins, None, create_graph) for k in range(flat.shape[0])]
    if not rows:
        return [zeros_like(x).expand(0, *x.shape).reshape(*y.shape, *x.shape) for x in ins]
    return [stack([row[i] for row in rows]).reshape(*y.shape, *x.shape) for i, x in enumerate(ins)]


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The derivatives of each result with respect to each input, [*result, *input]; nested tuples where there are several.

    `strict` refuses results that do not depend on the inputs. Rows are computed one by one, with `vectorize` as one batch. The
    strategy "forward-mode" computes columns, as one batch, and takes neither `strict` nor a false `vectorize`. Raises RuntimeError
    for others.
    """
    if strategy not in ("reverse-mode", "forward-mode"):
        raise RuntimeError(f"[jacobian] there is no strategy {strategy!r}. Use 'reverse-mode' or 'forward-mode'.")
    is_forward = strategy == "forward-mode"
    if is_forward and (strict or not vectorize):
        raise NotImplementedError("[jacobian] forward mode needs vectorize=True and strict=False. Pass these.")
    several_in, given = _tensors("jacobian", "inputs", inputs)
    with enable_grad():
        ins = _own(given, create_graph)
        several_out, outs = _results("jacobian", func, ins, strict)
        if is_forward:
            columns = [_columns(outs, ins, k, create_graph, None) for k in range(len(ins))]
            table = tuple(zip(*columns, strict=True))
        else:
            table = tuple(
                tuple(_batched_rows(y, ins, create_graph, None) if vectorize else _rows(y, ins, create_graph))
                for y in outs
            )
    shown = _shown(table if several_in else tuple(row[0] for row in table), create_graph)
    return shown if several_out else shown[0]


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The second derivatives of a function with one number as its result, [*input, *input]; nested tuples where there are several
    inputs. Raises RuntimeError for other results."""
    several_in, given = _tensors("hessian", "inputs", inputs)

    def first(*ins: Tensor) -> Any:
        y = _single("hessian", func, ins, strict)
        found = _grads((y,), ins, None, True)
        return tuple(found) if several_in else found[0]

    return jacobian(
        first, tuple(given) if several_in else given[0], create_graph, False, vectorize, outer_jacobian_strategy
    )


def _single(op: str, func: Callable[..., Any], ins: Tensors, strict: bool) -> Tensor:
    several, outs = _results(op, func, ins, strict)
    if several or outs[0].numel() != 1:
        raise RuntimeError(
            f"[{op}] the function gave {len(outs)} tensors, the first of shape {outs[0].shape}. Give one number."
        )
    return outs[0]


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(results, gradients of the inputs weighted by `v`), which has the results' shapes and may be left out for one number."""
    several_in, given = _tensors("vjp", "inputs", inputs)
    with enable_grad():
        ins = _own(given, create_graph)
        several_out, outs = _results("vjp", func, ins, strict)
        found = tuple(_grads(outs, ins, _weights("vjp", v, outs), create_graph))
    return (
        _shown(outs if several_out else outs[0], create_graph),
        _shown(found if several_in else found[0], create_graph),
    )


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(results, their derivatives along `v`), which has the inputs' shapes and may be left out for one number."""
    _, given = _tensors("jvp", "inputs", inputs)
    direction = _weights("jvp", v, given)
    with enable_grad():
        ins = _own(given, create_graph)
        several_out, outs = _results("jvp", func, ins, strict)
        found = tuple(_tangents(outs, ins, direction, create_graph))
    return (
        _shown(outs if several_out else outs[0], create_graph),
        _shown(found if several_out else found[0], create_graph),
    )


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(result, `v` times the matrix of second derivatives) of a function with one number as its result."""
    several_in, given = _tensors("vhp", "inputs", inputs)
    direction = _weights("vhp", v, given)
    with enable_grad():
        ins = _own(given, create_graph)
        y = _single("vhp", func, ins, strict)
        first = tuple(_grads((y,), ins, None, True))
        found = tuple(_grads(first, ins, direction, create_graph))
    return _shown(y, create_graph), _shown(found if several_in else found[0], create_graph)


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """(result, the matrix of second derivatives times `v`) of a function with one number as its result: `vhp`, as that matrix is
    symmetric."""
    return vhp(func, inputs, v, create_graph, strict)


__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.autograd.functional")
