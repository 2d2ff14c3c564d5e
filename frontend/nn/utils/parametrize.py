"""Parametrizations: parameters and buffers that a module computes from others whenever they are looked at.

In: a module, the name of a tensor, and a module that computes it. Out: the module, of a class of its own that has a property of
this name; what it is computed from lies in `module.parametrizations`. Next: `parametrizations.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from copy import copy, deepcopy
from typing import Any

from flambeau.autograd import no_grad
from flambeau.nn.container import ModuleDict, ModuleList
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.runtime.recorder import Context, Tensor


class _Cache(threading.local):
    """What was computed in this thread, while `depth` blocks ask for it to be kept."""

    depth = 0

    def __init__(self) -> None:
        self.found: dict[tuple[int, str], Any] = {}


_cache = _Cache()


class cached(Context):
    """Within this block each parametrized tensor is computed once: `with parametrize.cached(): ...`."""

    _entered = False

    def enter(self) -> None:
        self._entered = True
        _cache.depth += 1

    def leave(self) -> None:
        if self._entered:
            self._entered = False
            _cache.depth -= 1
            if not _cache.depth:
                _cache.found.clear()


def _register(module: Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, Parameter):
        module.register_parameter(name, tensor)
    else:
        module.register_buffer(name, tensor)


def _set(tensor: Tensor, value: Tensor) -> None:
    """Let a tensor have the data of another one, whatever its shape."""
    if value is not tensor:
        tensor.data = value.detach().clone()  # type: ignore[attr-defined]


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, in the order in which they are applied, and what they are applied to: `original`, or
    `original0`, `original1` and so on where the first one has a `right_inverse` that gives several."""

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if not modules:
            raise ValueError("[ParametrizationList] there are no modules. Pass at least one.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        new = self._inverted(original)
        self.is_tensor = isinstance(new, Tensor)
        self.ntensors = 1 if self.is_tensor else len(new)
        if self.is_tensor:
            if new.dtype is not dtype or new.device != original.device:
                raise ValueError(
                    f"[register_parametrization] right_inverse made {new.dtype} on {new.device} of {dtype} on {original.device}. "
                    "Keep both."
                )
            _set(original, new)
            _register(self, "original", original)
        else:
            self._keep(new, original)
        if not unsafe:
            self._check(shape, dtype)

    def _inverted(self, original: Tensor) -> Any:
        """What the parametrizations give the original of."""
        new: Any = original
        with no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    try:
                        new = module.right_inverse(new)
                    except NotImplementedError:  # that is taken for the identity
                        continue
        if not isinstance(new, Tensor) and not (isinstance(new, Sequence) and all(isinstance(t, Tensor) for t in new)):
            raise ValueError(
                f"[register_parametrization] right_inverse returned a {type(new).__name__}. Return a Tensor, or several."
            )
        return new

    def _keep(self, new: Sequence[Tensor], original: Tensor) -> None:
        for i, each in enumerate(new):
            made = Parameter(each, original.requires_grad) if isinstance(original, Parameter) else each
            _register(self, f"original{i}", made)

    def _check(self, shape: Any, dtype: Any) -> None:
        found = self()
        if not isinstance(found, Tensor):
            raise ValueError(
                f"[register_parametrization] a parametrization returned a {type(found).__name__}. Return a Tensor."
            )
        if found.dtype is not dtype or found.shape != shape:
            raise ValueError(
                f"[register_parametrization] a tensor of shape {tuple(shape)} and dtype {dtype} became one of "
                f"{tuple(found.shape)} and {found.dtype}. Pass unsafe=True if that is meant."
            )

    def _originals(self) -> list[Tensor]:
        return [self.original] if self.is_tensor else [getattr(self, f"original{i}") for i in range(self.ntensors)]

    def right_inverse(self, value: Tensor) -> None:
        """Set the originals such that the parametrizations give `value`. Raises RuntimeError where one has no `right_inverse`,
        ValueError where it gives what does not fit."""
        new: Any = value
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(
                        f"[parametrize] {type(module).__name__} has no right_inverse. Define it to assign values."
                    )
                new = module.right_inverse(new)
            parts = [new] if self.is_tensor else list(new)
            if len(parts) != self.ntensors:
                raise ValueError(f"[parametrize] right_inverse returned {len(parts)} tensors for {self.ntensors}.")
            for old, each in zip(self._originals(), parts):
                if not isinstance(each, Tensor) or each.dtype is not old.dtype:
                    raise ValueError(
                        f"[parametrize] right_inverse returned {each!r} for a tensor of dtype {old.dtype}."
                    )
                _set(old, each)

    def forward(self) -> Any:
        modules = list(self)
        x = modules[0](*self._originals())
        for module in modules[1:]:
            x = module(x)
        return x


def _compute(module: Any, name: str) -> Any:
    if not _cache.depth:
        return module.parametrizations[name]()
    key = id(module), name
    if key not in _cache.found:
        _cache.found[key] = module.parametrizations[name]()
    return _cache.found[key]


def _property(name: str) -> property:
    return property(
        lambda self: _compute(self, name), lambda self, value: self.parametrizations[name].right_inverse(value)
    )


def _deepcopy(self: Any, memo: dict[int, Any]) -> Any:
    made = memo[id(self)] = object.__new__(type(self))
    made.__dict__.update(deepcopy(self.__dict__, memo))
    return made


def _refuse_pickling(self: Any) -> Any:
    raise RuntimeError(f"[pickle] {type(self).__name__} has parametrizations. Save its state_dict instead.")


def _reclassed(module: Any, names: Sequence[str]) -> None:
    """Give a module a class of its own, made of the one that it had at first, with properties of these names; that one itself for
    none. Copies of the module keep theirs."""
    cls = type_before_parametrizations(module)
    attributes = {"__getstate__": _refuse_pickling, "__deepcopy__": _deepcopy, "__module__": cls.__module__}
    attributes |= {name: _property(name) for name in names}
    module.__class__ = type(f"Parametrized{cls.__name__}", (cls,), attributes) if names else cls


def register_parametrization(module: Any, tensor_name: str, parametrization: Module, *, unsafe: bool = False) -> Any:
    """Have `module.<tensor_name>` be what `parametrization` makes of what it was; after others, what this one makes of theirs.

    A `right_inverse` of the parametrization makes values assignable, and says what the tensor is computed from at first. Raises
    ValueError where shape or dtype would change, unless `unsafe`, and for a name that the module has not.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        if not unsafe:
            _check_next(module, tensor_name, parametrization)
        module.parametrizations[tensor_name].append(parametrization)
        module.parametrizations[tensor_name].unsafe |= unsafe
        return module
    tables = (module._parameters, module._buffers)
    if not any(tensor_name in table for table in tables):
        raise ValueError(
            f"[register_parametrization] {type(module).__name__} has no parameter or buffer '{tensor_name}'. Choose another name."
        )
    original = getattr(module, tensor_name)
    made = ParametrizationList([parametrization], original, unsafe=unsafe)
    delattr(module, tensor_name)
    before = list(module.parametrizations) if is_parametrized(module) else []
    _reclassed(module, [*before, tensor_name])
    if not before:
        module.parametrizations = ModuleDict()
    module.parametrizations[tensor_name] = made
    return module


def _check_next(module: Any, name: str, parametrization: Any) -> None:
    """Raise ValueError where one more parametrization would change shape or dtype."""
    now = getattr(module, name)
    with no_grad():
        after = parametrization(now)
    if not isinstance(after, Tensor) or after.dtype is not now.dtype or after.shape != now.shape:
        raise ValueError(
            f"[register_parametrization] {type(parametrization).__name__} changes the type of '{name}'. "
            "Pass unsafe=True if that is meant."
        )
    if hasattr(parametrization, "right_inverse"):
        back = parametrization.right_inverse(now)
        if not isinstance(back, Tensor) or back.dtype is not now.dtype or back.shape != now.shape:
            raise ValueError(
                f"[register_parametrization] right_inverse of {type(parametrization).__name__} changes the type of '{name}'. "
                "Return one tensor like it."
            )


def is_parametrized(module: Any, tensor_name: str | None = None) -> bool:
    """Whether a module has parametrizations, of the tensor `tensor_name` if that is given."""
    found = getattr(module, "parametrizations", None)
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(module: Any, tensor_name: str, leave_parametrized: bool = True) -> Any:
    """Make the tensor a parameter or buffer again: with the value that it has, or, not `leave_parametrized`, that of `original`.

    Raises ValueError where it has no parametrizations, and for the second where there are several originals.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"[remove_parametrizations] '{tensor_name}' of {type(module).__name__} is not parametrized.")
    found = module.parametrizations[tensor_name]
    if not leave_parametrized and not found.is_tensor:
        raise ValueError(
            f"[remove_parametrizations] '{tensor_name}' has several originals. Pass leave_parametrized=True."
        )
    original = found._originals()[0]
    if leave_parametrized:
        with no_grad():
            value = getattr(module, tensor_name)
        if found.is_tensor and value.shape == original.shape and value.dtype is original.dtype:
            _set(original, value)
        else:
            value = value.detach().clone()
            original = Parameter(value, original.requires_grad) if isinstance(original, Parameter) else value
    _reclassed(module, [name for name in module.parametrizations if name != tensor_name])
    del module.parametrizations[tensor_name]
    if not len(module.parametrizations):
        del module.parametrizations
    _register(module, tensor_name, original)
    return module


def type_before_parametrizations(module: Any) -> type:
    """The class that a module had before it had parametrizations."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module: Any, to_module: Any, tensor_name: str | None = None) -> Any:
    """Copy the parametrizations of one module, and what they are applied to, to another that has tensors of the same names."""
    if not is_parametrized(from_module, tensor_name):
        return to_module
    for name in [tensor_name] if tensor_name is not None else list(from_module.parametrizations):
        found = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        for module in found:
            register_parametrization(to_module, name, copy(module), unsafe=True)
        for old, new in zip(to_module.parametrizations[name]._originals(), found._originals()):
            _set(old, new)
    return to_module
