"""`Module`: a tree of parameters, buffers and submodules with a `forward`.

In: attributes assigned in `__init__`. Out: calls, names, state dicts. Members live in the instance's own `__dict__`,
so that `self.weight` is a plain attribute access; `_members` remembers what kind each name is. Next: `state.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from flambeau import missing
from flambeau.dialects.dtypes import bfloat16, float16, float32, float64
from flambeau.engine import GRAD_MODE
from flambeau.nn.hooks import RemovableHandle
from flambeau.nn.parameter import Buffer, Parameter
from flambeau.nn.state import IncompatibleKeys, load_state, module_state
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

PARAMETER, BUFFER, TRANSIENT, MODULE = "parameter", "buffer", "buffer (not saved)", "module"
_BUFFERS = (BUFFER, TRANSIENT)
_calls = threading.local()  # depth: how many module calls without grad enclose this one
Self = TypeVar("Self", bound="Module")


class Module:
    """Base class of all networks and layers.

    Parameters, buffers and submodules assigned as attributes are found by `parameters()`, `state_dict()`, `to()` and
    so on, in the order of assignment. Example:

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 2)
            def forward(self, x):
                return self.fc(x).relu()
    """

    training: bool

    def __init__(self) -> None:
        attributes = self.__dict__
        attributes["training"] = True
        attributes["_members"] = {}
        attributes["_forward_hooks"] = None
        attributes["_forward_pre_hooks"] = None

    # ---- calling ---------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not recorder.get_mode() & GRAD_MODE:
            return self._call_without_grad(args, kwargs)
        if self._forward_hooks is None and self._forward_pre_hooks is None:
            return self.forward(*args, **kwargs)
        return self._call_with_hooks(args, kwargs)

    def _call_without_grad(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The outermost module call of an evaluation loop is a place where the loop repeats: a long trace is cut here."""
        depth = getattr(_calls, "depth", 0)
        if depth == 0:
            recorder.flush_point()
        _calls.depth = depth + 1
        try:
            if self._forward_hooks is None and self._forward_pre_hooks is None:
                return self.forward(*args, **kwargs)
            return self._call_with_hooks(args, kwargs)
        finally:
            _calls.depth = depth

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's outputs. Subclasses define it; it takes and returns anything."""
        raise NotImplementedError(f"[forward] module {type(self).__name__} has no forward(). Define it.")

    def _call_with_hooks(self, args: tuple, kwargs: dict[str, Any]) -> Any:
        for hook, with_kwargs in tuple((self._forward_pre_hooks or {}).values()):
            result = hook(self, args, kwargs) if with_kwargs else hook(self, args)
            if result is None:
                continue
            if with_kwargs:
                args, kwargs = result
            else:
                args = result if isinstance(result, tuple) else (result,)
        output = self.forward(*args, **kwargs)
        for hook, with_kwargs in tuple((self._forward_hooks or {}).values()):
            result = hook(self, args, kwargs, output) if with_kwargs else hook(self, args, output)
            output = output if result is None else result
        return output

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args, output)` after every forward; what it returns, unless None, replaces the output."""
        return RemovableHandle(self, "_forward_hooks", (hook, with_kwargs), prepend)

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Call `hook(module, args)` before every forward; what it returns, unless None, replaces the arguments."""
        return RemovableHandle(self, "_forward_pre_hooks", (hook, with_kwargs), prepend)

    # ---- members ---------------------------------------------------------------------------------------

    def _registered(self) -> dict[str, str]:
        members = self.__dict__.get("_members")
        if members is None:
            raise AttributeError(
                f"[Module] {type(self).__name__} was used before Module.__init__() ran. "
                "Call super().__init__() first in its __init__."
            )
        return members

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter):
            self._register(name, value, PARAMETER)
        elif isinstance(value, Module):
            self._register(name, value, MODULE)
        elif isinstance(value, Buffer):
            self.register_buffer(name, value.tensor, value.persistent)
        else:
            kind = self.__dict__.get("_members", {}).get(name)
            if kind is not None:
                self._check_replacement(name, value, kind)
            object.__setattr__(self, name, value)

    def _check_replacement(self, name: str, value: Any, kind: str) -> None:
        if value is None or (kind in _BUFFERS and isinstance(value, Tensor)):
            return
        wanted = {PARAMETER: "a Parameter", MODULE: "a Module"}.get(kind, "a Tensor")
        raise TypeError(
            f"[Module] cannot assign {type(value).__name__} to {kind} '{name}'. Assign {wanted} or None, or delete it first."
        )

    def _register(self, name: str, value: Any, kind: str) -> None:
        members = self._registered()
        if members.get(name, kind) != kind:
            del members[name]
        members[name] = kind
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        self.__dict__.get("_members", {}).pop(name, None)
        object.__delattr__(self, name)

    def __getattr__(self, name: str) -> Any:
        if "_members" not in self.__dict__:
            self._registered()
        raise missing.error("Module", name, self, type(self).__name__)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or None to reserve its name."""
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(f"[register_parameter] '{name}' is a {type(param).__name__}. Pass a Parameter or None.")
        self._check_name("register_parameter", name, PARAMETER)
        self._register(name, param, PARAMETER)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is part of the state but not trained; `persistent=False` keeps it out of `state_dict()`."""
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"[register_buffer] '{name}' is a {type(tensor).__name__}. Pass a Tensor or None.")
        self._check_name("register_buffer", name, *_BUFFERS)
        self._register(name, tensor, BUFFER if persistent else TRANSIENT)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a submodule."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"[register_module] '{name}' is a {type(module).__name__}. Pass a Module or None.")
        self._check_name("register_module", name, MODULE)
        self._register(name, module, MODULE)

    add_module = register_module

    def _check_name(self, op: str, name: str, *kinds: str) -> None:
        members = self._registered()
        if not isinstance(name, str):
            raise TypeError(f"[{op}] name is a {type(name).__name__}. Pass a string.")
        if not name or "." in name:
            raise KeyError(f"[{op}] name {name!r} is empty or has a dot. Choose another name.")
        if (name not in members and hasattr(self, name)) or members.get(name, kinds[0]) not in kinds:
            raise KeyError(f"[{op}] attribute '{name}' already exists. Choose another name.")

    def _of_kind(self, *kinds: str) -> Mapping[str, Any]:
        return MappingProxyType({n: self.__dict__[n] for n, k in self._registered().items() if k in kinds})

    @property
    def _parameters(self) -> Mapping[str, Parameter | None]:
        return self._of_kind(PARAMETER)

    @property
    def _buffers(self) -> Mapping[str, Tensor | None]:
        return self._of_kind(*_BUFFERS)

    @property
    def _saved_buffers(self) -> Mapping[str, Tensor | None]:
        return self._of_kind(BUFFER)

    @property
    def _modules(self) -> Mapping[str, Module | None]:
        return self._of_kind(MODULE)

    # ---- walking ---------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of each direct submodule, each module once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        for _, module in self.named_children():
            yield module

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of the whole tree, this module first; shared modules once."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """All modules of the tree, this one first."""
        for _, module in self.named_modules():
            yield module

    def _named_members(
        self, kinds: tuple[str, ...], prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in module._of_kind(*kinds).items():
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter); a shared parameter comes once."""
        return self._named_members((PARAMETER,), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, each once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer); a shared buffer comes once."""
        return self._named_members(_BUFFERS, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The submodule at a dotted path; "" is this module. Raises AttributeError if there is none."""
        module: Module = self
        for name in target.split(".") if target else ():
            found = module._modules.get(name)
            if found is None:
                raise AttributeError(
                    f"[get_submodule] {type(module).__name__} has no submodule '{name}' of '{target}'."
                )
            module = found
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path. Raises AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._parameters.get(name)
        if found is None:
            raise AttributeError(f"[get_parameter] there is no parameter '{target}'.")
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path. Raises AttributeError if there is none."""
        path, _, name = target.rpartition(".")
        found = self.get_submodule(path)._buffers.get(name)
        if found is None:
            raise AttributeError(f"[get_buffer] there is no buffer '{target}'.")
        return found

    # ---- modes, gradients, conversion ------------------------------------------------------------------

    def apply(self: Self, fn: Callable[[Module], Any]) -> Self:
        """Call `fn` on every submodule, then on this module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Set training mode (dropout active, ...) on the whole tree."""
        if not isinstance(mode, bool):
            raise ValueError(f"[train] mode is {mode!r}. Pass True or False.")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Set evaluation mode: `train(False)`."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Say for all parameters whether gradients are computed."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, or fill them with zeros."""
        for parameter in self.parameters():
            if parameter.grad is None:
                continue
            if set_to_none:
                parameter.grad = None
            else:
                parameter.grad.detach().zero_()

    def _apply(self: Self, convert: Callable[[Tensor], Tensor]) -> Self:
        """Replace the data of every parameter, gradient and buffer by `convert` of it; parameters stay the same objects."""
        for module in self.modules():
            for parameter in module._parameters.values():
                if parameter is None:
                    continue
                gradient = parameter.grad
                parameter.data = convert(parameter.data)  # type: ignore[attr-defined]
                if gradient is not None:
                    parameter.grad = None
                    parameter.grad = convert(gradient.detach())
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module.__dict__[name] = convert(buffer)
        return self

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """`to(dtype)`, `to(device)`, `to(device, dtype)` or `to(tensor)`: move parameters and buffers, convert floating-point ones.
        `memory_format` changes nothing: parameters lie as they are, and layers choose the order they work in.

        Parameters keep their identity, so an optimizer made before goes on updating them. Integer dtypes are refused.
        """
        from flambeau.functions.convert import parse_to
        from flambeau.memory_format import checked

        wanted = parse_to("Module.to", *args, **kwargs)
        dtype, kept = wanted.dtype, wanted.memory_format
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"[Module.to] dtype {dtype} is not floating point. Use one such as float32.")
        if kept is not None:
            checked("Module.to", kept)
        return self._apply(lambda t: t.to(wanted.device, dtype if t.dtype.is_floating_point else None))

    def float(self: Self) -> Self:
        """Convert floating-point members to float32."""
        return self.to(float32)

    def half(self: Self) -> Self:
        """Convert floating-point members to float16."""
        return self.to(float16)

    def bfloat16(self: Self) -> Self:
        """Convert floating-point members to bfloat16."""
        return self.to(bfloat16)

    def double(self: Self) -> Self:
        """Convert floating-point members to float64."""
        return self.to(float64)

    def cpu(self: Self) -> Self:
        """Move to the CPU."""
        return self.to("cpu")

    def cuda(self: Self, device: Any = None) -> Self:
        """Move to a GPU, a number or a device, the first one if left out. Raises RuntimeError where there is none."""
        from flambeau.device import cuda_place

        return self.to(cuda_place("Module.cuda", device))

    # ---- state -----------------------------------------------------------------------------------------

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """Dotted names and tensors of parameters and saved buffers, detached aliases of the live ones (`keep_vars`: the
        live ones themselves)."""
        return module_state(self, prefix, keep_vars)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copy the values of `state_dict` into this module's parameters and buffers.

        Nothing is copied unless everything fits. `strict` raises RuntimeError for missing and for unexpected names;
        otherwise both are returned. A shape that differs always raises.
        """
        return load_state(self, state_dict, strict)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    # ---- text ------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What the module's text says between its brackets; subclasses override it."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        children = [f"({n}): " + repr(m).replace("\n", "\n  ") for n, m in self._modules.items()]
        if not children and len(extra_lines) <= 1:
            return f"{self._get_name()}({extra})"
        return "\n  ".join([f"{self._get_name()}(", *extra_lines, *children]) + "\n)"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._registered()})
