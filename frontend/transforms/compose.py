"""Transforms made of transforms: one after the other, some by chance.

In: callables. Out: callables. Next: `image.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.transforms.chance import below, uniforms


class Compose:
    """`transforms`, one after the other. A mapping or tuple is transformed by transforms that take one."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, img: Any) -> Any:
        for transform in self.transforms:
            img = transform(img)
        return img

    def __repr__(self) -> str:
        return "Compose(\n" + "".join(f"    {t}\n" for t in self.transforms) + ")"


class Lambda:
    """A function as a transform. Raises TypeError for what cannot be called."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"[Lambda] {type(lambd).__name__} cannot be called. Pass a function.")
        self.lambd = lambd

    def __call__(self, img: Any) -> Any:
        return self.lambd(img)


class RandomApply:
    """All of `transforms`, with probability `p`."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], p: float = 0.5) -> None:
        self.transforms, self.p = list(transforms), p

    def __call__(self, img: Any) -> Any:
        return Compose(self.transforms)(img) if uniforms(1)[0] < self.p else img


class RandomChoice:
    """One of `transforms`, all alike likely."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, img: Any) -> Any:
        return self.transforms[below(len(self.transforms), uniforms(1)[0])](img)
