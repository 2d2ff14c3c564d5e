"""The tree that modules are: members by name, walking through it, its text.

In: attributes assigned in `__init__`. Out: names, parameters, buffers, submodules. Members live in the instance's own `__dict__`,
so that `self.weight` is a plain attribute access; `_members` remembers what kind each name is. Next: `members.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flambeau import missing
from flambeau.nn.hooks import REGISTRATIONS
from flambeau.nn.members import BUFFER, BUFFERS, MODULE, PARAMETER, TRANSIENT, Table, TransientNames
from flambeau.nn.parameter import Buffer, Parameter
from flambeau.runtime.recorder import Tensor

if TYPE_CHECKING:
    from flambeau.nn.module import Module

_REGISTRATION_HOOKS = {
    PARAMETER: REGISTRATIONS.parameter,
    MODULE: REGISTRATIONS.module,
    **dict.fromkeys(BUFFERS, REGISTRATIONS.buffer),
}


class Tree:
    """What `Module` knows of its members."""

    training: bool

    _parameters = Table(PARAMETER)
    _buffers = Table(*BUFFERS)
    _modules = Table(MODULE)
    _non_persistent_buffers_set = TransientNames()

    def __init__(self) -> None:
        attributes = self.__dict__
        attributes["training"] = True
        attributes["_members"] = {}

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
        elif isinstance(value, Tree):
            self._register(name, value, MODULE)
        elif isinstance(value, Buffer):
            self.register_buffer(name, value.tensor, value.persistent)
        else:
            kind = self.__dict__.get("_members", {}).get(name)
            if kind is not None:
                self._check_replacement(name, value, kind)
            object.__setattr__(self, name, value)

    def _check_replacement(self, name: str, value: Any, kind: str) -> None:
        if value is None or (kind in BUFFERS and isinstance(value, Tensor)):
            return
        wanted = {PARAMETER: "a Parameter", MODULE: "a Module"}.get(kind, "a Tensor")
        raise TypeError(
            f"[Module] cannot assign {type(value).__name__} to {kind} '{name}'. Assign {wanted} or None, or delete it first."
        )

    def _register(self, name: str, value: Any, kind: str) -> None:
        members = self._registered()
        if members.get(name, kind) != kind:
            del members[name]
        for hook in list(_REGISTRATION_HOOKS[kind].values()):
            found = hook(self, name, value)
            value = value if found is None else found
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
        self._check_name("register_buffer", name, *BUFFERS)
        self._register(name, tensor, BUFFER if persistent else TRANSIENT)

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a submodule."""
        if module is not None and not isinstance(module, Tree):
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
        if (name not in members and self._has(name)) or members.get(name, kinds[0]) not in kinds:
            raise KeyError(f"[{op}] attribute '{name}' already exists. Choose another name.")

    def _has(self, name: str) -> bool:
        """`hasattr`, without the search for names like it that what is missing is told with."""
        if type(self).__getattr__ is not Tree.__getattr__:
            return hasattr(self, name)
        return name in self.__dict__ or hasattr(type(self), name)

    def _of_kind(self, *kinds: str) -> dict[str, Any]:
        return {n: self.__dict__[n] for n, k in self._registered().items() if k in kinds}

    # ---- walking ---------------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of each direct submodule, each module once."""
        seen = set()
        for name, module in self._of_kind(MODULE).items():
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
        yield prefix, self  # type: ignore[misc]
        for name, module in self._of_kind(MODULE).items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """All modules of the tree, this one first; shared ones once, unless `remove_duplicate` is False."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def _named_members(
        self, kinds: tuple[str, ...], prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Any]]:
        seen = set()
        modules: Any = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        )
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
        return self._named_members(BUFFERS, prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def get_submodule(self, target: str) -> Module:
        """The submodule at a dotted path; "" is this module. Raises AttributeError if there is none."""
        module: Any = self
        for name in target.split(".") if target else ():
            found = module._modules.get(name)
            if found is None:
                raise AttributeError(
                    f"[get_submodule] {type(module).__name__} has no submodule '{name}' of '{target}'."
                )
            module = found
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module at a dotted path, where another one may be; with `strict` it must.

        Raises ValueError for an empty path and for what is no module, AttributeError where the path leads nowhere or to what is
        no module.
        """
        path, _, name = target.rpartition(".")
        if not name or not isinstance(module, Tree):
            raise ValueError(
                f"[set_submodule] '{target}' was given a {type(module).__name__}. Pass a path and a Module."
            )
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"[set_submodule] {type(parent).__name__} has no submodule '{name}' of '{target}'.")
        if not isinstance(getattr(parent, name, module), Tree):
            raise AttributeError(f"[set_submodule] '{target}' is no module. Choose another name.")
        setattr(parent, name, module)

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
