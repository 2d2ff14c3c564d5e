"""Names of dimensions: `names`, `refine_names`, `rename`, `align_to` and their kin; `names=` where tensors are made is `out.py`'s.

In: a tensor and names. Out: tensors that have them (`named_tensor.py`), on the same storage. No program knows of names.
"""

from __future__ import annotations

from typing import Any

from flambeau.declarations import Unsampled, declared
from flambeau.functions.permutations import permute
from flambeau.functions.shape import unsqueeze
from flambeau.runtime.recorder import Tensor

_NAMED = Unsampled("gives names, of which samples know nothing: see test_named_dimensions.py")


def _parts() -> Any:
    """Loaded when somebody asks for names."""
    from flambeau import named_tensor  # `import flambeau` does without

    return named_tensor


def _names(self: Tensor) -> tuple[str | None, ...]:
    """A name, or None, for each dimension."""
    return _parts().names_of(self)


def _set_names(self: Tensor, names: Any) -> None:
    """`x.names = names`; None takes all names away."""
    rename_(self, *((None,) if names is None else names))


setattr(Tensor, "names", property(_names, _set_names, doc=_names.__doc__))  # noqa: B010


@declared(method=True, samples=_NAMED)
def has_names(self: Tensor) -> bool:
    """Whether a dimension has a name."""
    return any(_names(self))


@declared(method=True, samples=_NAMED)
def refine_names(self: Tensor, *names: Any) -> Tensor:
    """The tensor with names for dimensions that have none, on the same storage; `...` stands for those that are not said.

    Raises RuntimeError where a dimension has another name. Example: `x.refine_names("N", ..., "C")`.
    """
    from flambeau import dim_names  # `import flambeau` does without

    return _parts().with_names(self, dim_names.refined(names, _names(self)))


@declared(method=True, samples=_NAMED)
def rename(self: Tensor, *names: Any, **rename_map: Any) -> Tensor:
    """The tensor with other names, on the same storage: `x.rename("N", "C")`, `x.rename(old="new")`; `x.rename(None)` has none.

    Raises RuntimeError for a name that is there twice or is no identifier, and for an old one that is not there.
    """
    from flambeau import dim_names  # `import flambeau` does without

    return _parts().with_names(self, dim_names.renamed("rename", names, rename_map, _names(self)))


@declared(method=True, samples=_NAMED)
def rename_(self: Tensor, *names: Any, **rename_map: Any) -> Tensor:
    """`rename`, of the tensor itself."""
    from flambeau import dim_names  # `import flambeau` does without

    _parts().set_names(self, dim_names.renamed("rename_", names, rename_map, _names(self)))
    return self


def _aligned(op: str, self: Tensor, names: tuple[Any, ...]) -> Tensor:
    from flambeau import dim_names  # `import flambeau` does without

    parts = _parts()
    order, wanted = dim_names.order_to(op, names, _names(self))
    found = permute(parts.plain(self), tuple(d for d in order if d is not None))
    for at, dim in enumerate(order):
        found = unsqueeze(found, at) if dim is None else found
    return parts.with_names(found, wanted)


@declared(method=True, samples=_NAMED)
def align_to(self: Tensor, *names: Any) -> Tensor:
    """A view whose dimensions are in the order of `names`, with dimensions of size 1 for new ones; `...` stands for those that are
    not said. Raises RuntimeError where a dimension has no name, or is left out."""
    return _aligned("align_to", self, names)


@declared(method=True, samples=_NAMED)
def align_as(self: Tensor, other: Tensor) -> Tensor:
    """A view whose dimensions are in the order of those of `other`: `x.align_to(*other.names)`."""
    return _aligned("align_as", self, _names(other))
