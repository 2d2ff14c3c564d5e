"""Pruning: parameters times masks of zeros and ones, which a hook computes before every forward.

In: a module and the name of a parameter. Out: the same module, with `name_orig`, a parameter, and `name_mask`, a buffer. Next:
`parametrize.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from flambeau.autograd import no_grad
from flambeau.functions.create import ones_like
from flambeau.functions.random import rand
from flambeau.functions.sort import topk
from flambeau.nn.utils.convert_parameters import parameters_to_vector
from flambeau.runtime.recorder import Tensor

Amount = int | float


def _checked(amount: Any) -> Amount:
    if isinstance(amount, bool) or not isinstance(amount, int | float):
        raise TypeError(f"[prune] amount is a {type(amount).__name__}. Pass a number of elements, or a share.")
    if amount < 0 or (isinstance(amount, float) and amount > 1.0):
        raise ValueError(f"[prune] amount is {amount}. Pass an int of at least 0, or a share from 0.0 to 1.0.")
    return amount


def _count(amount: Amount, size: int) -> int:
    """How many of `size` an amount is."""
    if isinstance(amount, int) and amount > size:
        raise ValueError(f"[prune] amount is {amount}, of {size}. Pass at most as many.")
    return amount if isinstance(amount, int) else round(amount * size)


def _without(mask: Tensor, places: Tensor, dim: int = 0) -> Tensor:
    """A mask with zeros at places along a dimension."""
    with no_grad():
        return mask.clone().index_fill_(dim, places, 0.0)


class BasePruningMethod(ABC):
    """A way to prune. A subclass says what of a parameter is kept: `compute_mask`. `PRUNING_TYPE` is "unstructured" (elements),
    "structured" (all of a place along `dim`) or "global"."""

    PRUNING_TYPE: ClassVar[str]
    _tensor_name: str

    def __call__(self, module: Any, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask of a tensor of scores, below `default_mask`, which has ones where nothing was pruned yet."""

    def apply_mask(self, module: Any) -> Tensor:
        """The parameter of a module times its mask."""
        original = getattr(module, self._tensor_name + "_orig")
        return getattr(module, self._tensor_name + "_mask").to(original.dtype) * original

    @classmethod
    def apply(cls, module: Any, name: str, *args: Any, importance_scores: Tensor | None = None, **kwargs: Any) -> Any:
        """Prune the parameter `name` of a module by `cls(*args, **kwargs)`, after what pruned it before.

        `importance_scores`, of its shape, stand in place of its elements. Raises AssertionError for another shape.
        """
        method = _composed(cls, module, name, *args, **kwargs)
        original = getattr(module, name)
        scores = original if importance_scores is None else importance_scores
        if scores.shape != original.shape:
            raise AssertionError(
                f"[prune] scores have shape {tuple(scores.shape)}, '{name}' {tuple(original.shape)}. Make them equal."
            )
        is_first = name + "_orig" not in module._parameters
        before = ones_like(original).detach() if is_first else getattr(module, name + "_mask").detach().clone()
        mask = method.compute_mask(scores.detach(), default_mask=before)
        if is_first:
            del module._parameters[name]
            module.register_parameter(name + "_orig", original)
        module.register_buffer(name + "_mask", mask.detach())
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None) -> Tensor:
        """A pruned tensor. Raises AssertionError for scores of another shape."""
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise AssertionError(
                f"[prune] scores have shape {tuple(scores.shape)}, the tensor {tuple(t.shape)}. Make them equal."
            )
        return t * self.compute_mask(scores, default_mask=ones_like(t) if default_mask is None else default_mask)

    def remove(self, module: Any) -> None:
        """Make what is left of the parameter a parameter of its old name."""
        name, weight = self._tensor_name, self.apply_mask(module)
        delattr(module, name)
        original = module._parameters[name + "_orig"]
        original.data = weight.detach().clone()
        del module._parameters[name + "_orig"], module._buffers[name + "_mask"]
        setattr(module, name, original)


def _composed(cls: Any, module: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """The method that prunes, after those that did before, whose hook is taken away."""
    method = cls(*args, **kwargs)
    method._tensor_name = name
    for number, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            del module._forward_pre_hooks[number]
            container = hook if isinstance(hook, PruningContainer) else PruningContainer(hook)
            container.add_pruning_method(method)
            return container
    return method


class PruningContainer(BasePruningMethod):
    """Several ways to prune one parameter, each of what the ones before have left."""

    def __init__(self, *args: Any) -> None:
        self._pruning_methods: tuple[Any, ...] = ()
        methods = args[0] if len(args) == 1 and isinstance(args[0], Iterable) else args
        for i, method in enumerate(methods):
            if i == 0:
                self._tensor_name = method._tensor_name
            self.add_pruning_method(method)

    def add_pruning_method(self, method: Any) -> None:
        """Add one. Raises TypeError for what is none, ValueError for one of another parameter."""
        if not isinstance(method, BasePruningMethod) and method is not None:
            raise TypeError(f"[PruningContainer] a method is a {type(method).__name__}. Pass a BasePruningMethod.")
        if method is not None and method._tensor_name != self._tensor_name:
            raise ValueError(
                f"[PruningContainer] a method prunes '{method._tensor_name}', the others '{self._tensor_name}'. Use another one."
            )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: int) -> Any:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask of the last method, of what the default leaves."""
        method, mask = self._pruning_methods[-1], default_mask
        place: Any
        if method.PRUNING_TYPE == "unstructured":
            place = mask == 1
        elif method.PRUNING_TYPE == "structured":
            dim = method.dim % t.ndim
            kept = mask.sum([d for d in range(t.ndim) if d != dim]) != 0
            place = (*[slice(None)] * dim, kept)
        elif method.PRUNING_TYPE == "global":
            place = (slice(None),) * t.ndim
        else:
            raise ValueError(
                f"[prune] PRUNING_TYPE is {method.PRUNING_TYPE!r}. Use 'unstructured', 'structured' or 'global'."
            )
        made = mask.to(t.dtype).clone()
        made[place] = method.compute_mask(t[place], default_mask=mask[place]).to(t.dtype)
        return made


class Identity(BasePruningMethod):
    """Prunes nothing."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The default."""
        return default_mask


class _ByAmount(BasePruningMethod):
    """Prunes an amount: a number, or a share."""

    def __init__(self, amount: Amount) -> None:
        self.amount = _checked(amount)

    def _least(self, scores: Tensor, default_mask: Tensor) -> Tensor:
        """The mask without the elements of the least scores."""
        count = _count(self.amount, scores.numel())
        places = topk(scores.reshape(-1), count, largest=False)[1] if count else None
        flat = default_mask.reshape(-1)
        return default_mask.clone() if places is None else _without(flat, places).reshape(default_mask.shape)


class RandomUnstructured(_ByAmount):
    """Prunes elements by chance."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask, with an amount of zeros more."""
        return self._least(rand(t.shape, device=t.device), default_mask)


class L1Unstructured(_ByAmount):
    """Prunes the elements of the least magnitude."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask, with an amount of zeros more."""
        return self._least(t.abs(), default_mask)


class _ByChannels(_ByAmount):
    """Prunes places along a dimension."""

    PRUNING_TYPE = "structured"

    def __init__(self, amount: Amount, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def _scores(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask, with zeros at an amount of places more. Raises ValueError for vectors, IndexError for a dimension that is not
        there."""
        if t.ndim < 2:
            raise ValueError(f"[prune] a tensor of {t.ndim} dimensions has no channels. Use an unstructured method.")
        if not -t.ndim <= self.dim < t.ndim:
            raise IndexError(f"[prune] dim {self.dim} is out of range for {t.ndim} dimensions.")
        count = _count(self.amount, t.shape[self.dim])
        if not count:
            return default_mask.clone()
        return _without(default_mask, topk(self._scores(t), count, largest=False)[1], self.dim)


class RandomStructured(_ByChannels):
    """Prunes places along a dimension by chance."""

    def _scores(self, t: Tensor) -> Tensor:
        return rand(t.shape[self.dim], device=t.device)


class LnStructured(_ByChannels):
    """Prunes the places along a dimension of the least n-norm."""

    def __init__(self, amount: Amount, n: Any, dim: int = -1) -> None:
        super().__init__(amount, dim)
        self.n = n

    def _scores(self, t: Tensor) -> Tensor:
        return t.movedim(self.dim, 0).reshape(t.shape[self.dim], -1).norm(self.n, 1)


class CustomFromMask(BasePruningMethod):
    """Prunes by a mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Both masks together."""
        return default_mask * self.mask.to(default_mask.dtype)


def identity(module: Any, name: str) -> Any:
    """Give the parameter a mask of ones."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Any, name: str, amount: Amount) -> Any:
    """Prune an amount of the parameter's elements by chance: a number, or a share."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module: Any, name: str, amount: Amount, importance_scores: Tensor | None = None) -> Any:
    """Prune the amount of the parameter's elements that have the least magnitude."""
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module: Any, name: str, amount: Amount, dim: int) -> Any:
    """Prune an amount of the places along `dim` by chance."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(
    module: Any, name: str, amount: Amount, n: Any, dim: int, importance_scores: Tensor | None = None
) -> Any:
    """Prune the amount of the places along `dim` that have the least n-norm."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Any, name: str, mask: Tensor) -> Any:
    """Prune the parameter where `mask` is 0."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(
    parameters: Sequence[tuple[Any, str]],
    pruning_method: Any,
    importance_scores: dict[tuple[Any, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prune the elements of several parameters, pairs of module and name, as if they were one, by an unstructured method.

    Raises TypeError for a method that is not unstructured.
    """
    if getattr(pruning_method, "PRUNING_TYPE", None) != "unstructured":
        raise TypeError(
            f"[global_unstructured] {pruning_method.__name__} is not unstructured. Use one such as L1Unstructured."
        )
    given = importance_scores or {}
    tensors = [getattr(module, name) for module, name in parameters]
    scores = parameters_to_vector([given.get(key, t).detach() for key, t in zip(parameters, tensors)])
    masks = [getattr(m, name + "_mask", None) for m, name in parameters]
    before = parameters_to_vector([ones_like(t).detach() if m is None else m for m, t in zip(masks, tensors)])
    method = pruning_method(**kwargs)
    method._tensor_name = "temp"
    mask = PruningContainer(method).compute_mask(scores, before)
    for (module, name), part, t in zip(parameters, mask.split([t.numel() for t in tensors]), tensors):
        custom_from_mask(module, name, part.reshape(t.shape))


def remove(module: Any, name: str) -> Any:
    """Make what is left of the parameter a parameter again. Raises ValueError where it is not pruned."""
    for number, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            hook.remove(module)
            del module._forward_pre_hooks[number]
            return module
    raise ValueError(f"[prune] '{name}' of {type(module).__name__} is not pruned. Prune it first.")


def is_pruned(module: Any) -> bool:
    """Whether a parameter of a module, or below it, is pruned."""
    return any(isinstance(h, BasePruningMethod) for m in module.modules() for h in m._forward_pre_hooks.values())
