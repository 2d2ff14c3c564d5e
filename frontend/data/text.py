"""Text for language models: characters as numbers, in windows.

In: text, or a file of it. Out: pairs of int64 tensors, the second one character ahead. Next: `lengths.py`, for texts of many
lengths.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flambeau import host
from flambeau.data.dataset import Dataset
from flambeau.dialects.dtypes import int64
from flambeau.runtime.recorder import Tensor


class Characters(Dataset[tuple[Tensor, Tensor]]):
    """Windows of `length` characters of a text (or, for a path, of a UTF-8 file), `stride` apart, and the same one character
    ahead. `vocabulary` has the characters in order; by default those that occur: give that of the training text to others.

    Raises ValueError for a text shorter than a window, and for characters that the vocabulary lacks. Example:
    `Characters("to be or not to be", 4)`; `Characters(Path("shakespeare.txt"), 128)`.
    """

    def __init__(self, text: Any, length: int, stride: int = 1, vocabulary: Sequence[str] | None = None) -> None:
        if isinstance(text, os.PathLike):
            text = Path(text).read_text(encoding="utf-8")
        if length < 1 or stride < 1:
            raise ValueError(f"[Characters] length is {length}, stride {stride}. Use at least 1.")
        if len(text) <= length:
            raise ValueError(
                f"[Characters] the text has {len(text)} characters. Use a length below that, not {length}."
            )
        self.length, self.stride = length, stride
        self.vocabulary = list(sorted(set(text)) if vocabulary is None else vocabulary)
        self._numbers = {c: i for i, c in enumerate(self.vocabulary)}
        self.codes = self._coded(text)

    def _coded(self, text: str) -> np.ndarray:
        try:
            return np.fromiter(map(self._numbers.__getitem__, text), np.int64, len(text))
        except KeyError as error:
            raise ValueError(
                f"[Characters] the vocabulary lacks {error.args[0]!r}. Add it, or clean the text."
            ) from None

    def encode(self, text: str) -> Tensor:
        """The numbers of characters."""
        return host.copied(self._coded(text), int64)

    def decode(self, codes: Iterable[Any]) -> str:
        """The text of numbers."""
        numbers = codes.tolist() if isinstance(codes, (Tensor, np.ndarray)) else codes
        return "".join(self.vocabulary[int(i)] for i in numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"[Characters] index {index} is out of range for {n} windows.")
        start = index % n * self.stride
        window = self.codes[start : start + self.length + 1]
        return host.copied(window[:-1], int64), host.copied(window[1:], int64)

    def __len__(self) -> int:
        return (len(self.codes) - self.length - 1) // self.stride + 1
