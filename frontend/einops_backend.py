"""einops on tensors: `einops.rearrange(x, "b c -> c b")`, also where einops is imported after Flambeau, or never.

In: einops' class of backends. Out: one more of them, which einops finds among its subclasses when it meets a type that it does not
know; that is the way it offers. It is defined when somebody imports einops, and nothing is imported for it. Under `flambeau run`
einops takes tensors for PyTorch's. Next: `array_api`, which `einops.array_api` goes through.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from flambeau.runtime.recorder import Tensor

_MODULE = "einops._backends"


def install() -> None:
    """Have einops know tensors from now on, or from when it is imported."""
    known = sys.modules.get(_MODULE)
    if known is not None:
        _define(known)
    elif not any(isinstance(each, _BackendFinder) for each in sys.meta_path):
        sys.meta_path.insert(0, _BackendFinder())


class _BackendFinder:
    """A finder that sees einops' backends being imported, once. Finders and loaders need no base class here: `importlib.abc` brings
    some twenty modules to every start."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        found = (each.find_spec(fullname, path, target) for each in list(sys.meta_path))
        spec = next((s for s in found if s is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader)  # type: ignore[assignment]
        return spec


class _Then:
    """Loads a module as another loader does, and then defines the backend."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self.loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _define(module)

    def __getattr__(self, name: str) -> Any:  # what else a loader can do: give the source
        return getattr(self.loader, name)


def _define(backends: Any) -> None:
    """The subclass of einops' `AbstractBackend`, which einops finds by being there."""
    import flambeau as fb  # that module imports this one

    names: Any = fb

    class FlambeauBackend(backends.AbstractBackend):
        framework_name = "flambeau"

        def is_appropriate_type(self, tensor: Any) -> bool:
            return isinstance(tensor, Tensor)

        def from_numpy(self, x: Any) -> Any:
            return names.from_numpy(x)

        def to_numpy(self, x: Any) -> Any:
            return x.detach().cpu().numpy()

        def arange(self, start: int, stop: int) -> Any:
            return names.arange(start, stop)

        def reduce(self, x: Any, operation: str, reduced_axes: Any) -> Any:
            if operation in ("any", "all", "prod"):  # of one dimension at a time
                for axis in sorted(reduced_axes, reverse=True):
                    x = getattr(x, operation)(dim=axis)
                return x
            name = {"min": "amin", "max": "amax"}.get(operation, operation)
            return getattr(x, name)(dim=tuple(reduced_axes))

        def transpose(self, x: Any, axes: Any) -> Any:
            return x.permute(axes)

        def stack_on_zeroth_dimension(self, tensors: Any) -> Any:
            return names.stack(tensors)

        def add_axis(self, x: Any, new_position: int) -> Any:
            return x.unsqueeze(new_position)

        def add_axes(self, x: Any, n_axes: int, pos2len: Any) -> Any:
            sizes = [-1] * n_axes
            for position, size in pos2len.items():
                x = x.unsqueeze(position)
                sizes[position] = size
            return x.expand(sizes)

        def tile(self, x: Any, repeats: Any) -> Any:
            return x.repeat(repeats)

        def concat(self, tensors: Any, axis: int) -> Any:
            return names.cat(tensors, dim=axis)

        def is_float_type(self, x: Any) -> bool:
            return x.dtype.is_floating_point

        def einsum(self, pattern: str, *x: Any) -> Any:
            return names.einsum(pattern, *x)

    backends.FlambeauBackend = FlambeauBackend  # a class is among the subclasses of another one while somebody holds it
