"""Sequences of different lengths: packed step by step, or padded to one length.

In: tensors [length, ...]. Out: a `PackedSequence`, which recurrent layers take, or a padded tensor. Next: `nn/rnn.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.dialects.dtypes import int64
from flambeau.functions.assemble import cat, stack
from flambeau.functions.create import full
from flambeau.functions.from_data import tensor
from flambeau.runtime.recorder import Tensor

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


class PackedSequence(_Packed):
    """Sequences with the elements of each step together, the longest sequence first: `data` [sum of lengths, ...], `batch_sizes`
    (int64, how many sequences reach each step), and how the sequences were sorted and are sorted back. Made by
    `pack_padded_sequence` and `pack_sequence`.
    """

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if batch_sizes is None:
            raise TypeError("[PackedSequence] batch_sizes is missing. Use pack_padded_sequence or pack_sequence.")
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The sequences with their data converted or moved, as `Tensor.to` does."""
        return PackedSequence(self.data.to(*args, **kwargs), *self[1:])

    def double(self) -> PackedSequence:
        """The sequences as float64."""
        return PackedSequence(self.data.double(), *self[1:])

    def float(self) -> PackedSequence:
        """The sequences as float32."""
        return PackedSequence(self.data.float(), *self[1:])

    def cpu(self) -> PackedSequence:
        """The sequences on the CPU."""
        return PackedSequence(self.data.cpu(), *self[1:])

    @property
    def is_cuda(self) -> bool:
        """Whether the data lie on a GPU."""
        return self.data.is_cuda


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that takes back `permutation`; None of None."""
    if permutation is None:
        return None
    order: list[int] = permutation.tolist()
    found = [0] * len(order)
    for to, from_ in enumerate(order):
        found[from_] = to
    return tensor(found, dtype=int64)


def _lengths(op: str, lengths: Any) -> list[int]:
    found = lengths.tolist() if isinstance(lengths, Tensor) else [int(n) for n in lengths]
    for i, n in enumerate(found):
        if n <= 0:
            raise RuntimeError(f"[{op}] lengths[{i}] is {n}. Leave empty sequences out.")
    return found


def padded_rows(sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """For packed steps of these sizes, padded [T, N]: whether a sequence goes on, and the row of the packed data, else 0."""
    counts = np.array(sizes, np.int64)[:, None]
    places = np.arange(sizes[0])
    is_on = places < counts
    return is_on, np.where(is_on, np.cumsum(counts)[:, None] - counts + places, 0)


def pack_padded_sequence(
    input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """The sequences of a padded tensor [T, N, ...] ([N, T, ...] with `batch_first`), whose `lengths` are given, packed. With
    `enforce_sorted` they must stand in the order of decreasing length. Raises RuntimeError where they do not, for lengths of 0, and
    for those that do not fit."""
    op, counts = "pack_padded_sequence", _lengths("pack_padded_sequence", lengths)
    x = input.transpose(0, 1) if batch_first else input
    if len(counts) != x.shape[1]:
        raise RuntimeError(f"[{op}] there are {len(counts)} lengths for a batch of {x.shape[1]}. Pass one each.")
    order = sorted(range(len(counts)), key=lambda i: -counts[i])
    indices = None
    if enforce_sorted:
        if order != list(range(len(counts))):
            raise RuntimeError(f"[{op}] lengths {counts} do not decrease. Sort them, or pass enforce_sorted=False.")
    else:
        indices = tensor(order, dtype=int64)
        x, counts = x.index_select(1, indices), [counts[i] for i in order]
    if counts[0] > x.shape[0]:
        raise RuntimeError(f"[{op}] a length is {counts[0]}, and the input has {x.shape[0]} steps.")
    sizes = [sum(n > t for n in counts) for t in range(counts[0])]
    is_on, _ = padded_rows(sizes)
    rows = x[: counts[0]].reshape(is_on.size, *x.shape[2:])
    data = rows.index_select(0, tensor(np.flatnonzero(is_on)))
    return PackedSequence(data, tensor(sizes, dtype=int64), indices)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """(padded tensor [T, N, ...], or [N, T, ...] with `batch_first`; lengths [N]). `total_length` is T, the longest length by
    default. Raises ValueError for one that is shorter than that."""
    sizes: list[int] = sequence.batch_sizes.tolist()
    steps = len(sizes) if total_length is None else total_length
    if steps < len(sizes):
        raise ValueError(
            f"[pad_packed_sequence] total_length is {total_length}, and the longest sequence {len(sizes)}. Use at least that."
        )
    is_on, rows = padded_rows(sizes)
    data = sequence.data
    padded = data.index_select(0, tensor(rows.reshape(-1))).reshape(*rows.shape, *data.shape[1:])
    absent = tensor(~is_on).reshape(*rows.shape, *[1] * (data.ndim - 1))
    padded = padded.masked_fill(absent, padding_value)
    if steps > len(sizes):
        padded = cat([padded, padded.new_full((steps - len(sizes), *padded.shape[1:]), padding_value)])
    lengths = tensor([sum(n > i for n in sizes) for i in range(sizes[0])], dtype=int64)
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(1, sequence.unsorted_indices)
        lengths = lengths.index_select(0, sequence.unsorted_indices)
    return padded.transpose(0, 1) if batch_first else padded, lengths


def pad_sequence(
    sequences: Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Tensors [length, ...] as one [T, N, ...], or [N, T, ...] with `batch_first`, filled up to the longest at the "right" or
    "left". Raises RuntimeError for no tensors and for shapes that do not fit, ValueError for another side."""
    given = list(sequences)
    if not given:
        raise RuntimeError("[pad_sequence] there are no sequences. Pass at least one.")
    if padding_side not in ("left", "right"):
        raise ValueError(f"[pad_sequence] padding_side is {padding_side!r}. Use 'left' or 'right'.")
    for i, x in enumerate(given):
        if x.dim() == 0 or x.shape[1:] != given[0].shape[1:]:
            raise RuntimeError(
                f"[pad_sequence] sequence {i} has shape {tuple(x.shape)}, the first {tuple(given[0].shape)}. "
                "All dimensions but the first must be equal."
            )
    longest = max(x.shape[0] for x in given)
    rows = []
    for x in given:
        missing = longest - x.shape[0]
        if missing:
            filled = full((missing, *x.shape[1:]), padding_value, dtype=x.dtype, device=x.device)
            x = cat([filled, x] if padding_side == "left" else [x, filled])
        rows.append(x)
    return stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded tensor, each as long as `lengths` says."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:n] for row, n in zip(x, lengths.tolist(), strict=True)]


def pack_sequence(sequences: list[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors [length, ...] packed. See `pack_padded_sequence`."""
    return pack_padded_sequence(pad_sequence(sequences), [x.shape[0] for x in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that were packed."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))


_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.nn.utils.rnn")
