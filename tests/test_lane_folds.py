"""One order of work for folds: a machine that computes numbers at once, of whatever width, gives the bits of the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from flambeau.compiler.codegen.lane_folds import Elements, Lanes
from flambeau.dialects.orders import CHUNK, LANES
from flambeau.dialects.tape import reduction_order


class Sum:
    """A fold of numbers, not of text. Where it combines in pairs is noted."""

    def __init__(self) -> None:
        self.paired = 0

    def combine(self, b: None, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + y

    def fold_pairs(self, b: None, part: np.ndarray, count: int, most: int) -> None:
        self.paired += 1
        while count > 1:
            half = count // 2
            pairs = part[0 : 2 * half : 2] + part[1 : 2 * half : 2]
            part[half : half + count % 2] = part[2 * half : count]
            part[:half] = pairs
            count = half + count % 2

    def result(self, b: None, part: np.ndarray) -> np.float32:
        return part[0]


class Numbers(Elements):
    """The columns of a row, as many rows of 64 as there are in its chunks."""

    def __init__(self, x: np.ndarray) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.x = x

    def at(self, col: Any, mask: Any = None, block: Any = None) -> int:
        return col

    def element(self, place: int, fold: Sum) -> np.ndarray:
        return self.x[:, place]


class Machine(Lanes):
    """All chunks at once: a lane is an array with a number for each of them, and `held` of them are a register."""

    def __init__(self, chunks: int, held: int, is_staged: bool) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.held, self.is_staged, self.slots = held, is_staged, (chunks, 0)

    def walk(self, span: Any, folds: Sequence[Sum], elements: Elements) -> list[list[np.ndarray]]:
        total = np.zeros((self.slots[0], LANES), np.float32)
        for step in range(CHUNK // LANES):
            place = elements.at(step)  # type: ignore[arg-type]
            total = elements.combine(folds[0], total, elements.element(place, folds[0]))
        return [[total[:, k : k + self.held] for k in range(0, LANES, self.held)]]

    def low(self, x: np.ndarray, half: int) -> np.ndarray:
        return x[:, :half]

    def upper(self, x: np.ndarray, half: int) -> np.ndarray:
        return x[:, half : 2 * half]

    def left(self, fold: Sum, x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def whole(self) -> Any:
        return None

    def span(self, chunk: Any) -> Any:
        return None

    def staging(self, folds: Sequence[Sum]) -> list[np.ndarray]:
        return [np.zeros(self.slots[0], np.float32) for _ in folds]

    @contextmanager
    def chunks(self) -> Iterator[Any]:
        yield slice(None)

    def put(self, results: Iterable[np.ndarray], parts: Sequence[np.ndarray], chunk: Any) -> None:
        for part, x in zip(parts, results, strict=True):
            part[chunk] = x


def padded(x: np.ndarray) -> np.ndarray:
    """The row as [chunk, step, lane], behind its end filled with what changes no sum."""
    chunks = max(1, -(-len(x) // CHUNK))
    found = np.zeros(chunks * CHUNK, np.float32)
    found[: len(x)] = x
    return found.reshape(chunks, CHUNK // LANES, LANES)


@pytest.mark.parametrize("held", [1, 8, LANES])
@pytest.mark.parametrize("count", [1, 63, 100, CHUNK, CHUNK + 1, 5 * CHUNK - 7])
def test_every_machine_folds_in_the_order_of_the_reference(count, held):
    x = np.random.default_rng(count).normal(0, 100, count).astype(np.float32)
    numbers, fold = padded(x), Sum()
    machine = Machine(len(numbers), held, is_staged=len(numbers) > 1)
    (found,) = machine.row([fold], Numbers(numbers))
    assert np.asarray(found).reshape(()) == reduction_order.fold(x, (0,), np.add, 0.0)
    assert fold.paired == (len(numbers) > 1)


def test_others_are_told_what_a_single_chunk_gives():
    """Where several share a row, the result of one chunk lies in memory, too, and nothing is left to combine."""
    x = np.random.default_rng(0).normal(0, 1, 200).astype(np.float32)
    machine, fold = Machine(1, LANES, is_staged=True), Sum()
    machine.slots = 1, 1
    (found,) = machine.row([fold], Numbers(padded(x)))
    assert found == reduction_order.fold(x, (0,), np.add, 0.0)
    assert fold.paired == 0


@pytest.mark.parametrize("held", [1, 8])
def test_lanes_that_hold_the_identity_are_left_out(held):
    """Of a short row in registers only those with elements take part; a lane without any is not added."""
    x = np.random.default_rng(3).normal(0, 1, 20).astype(np.float32)
    lanes = np.zeros((1, -(-20 // held) * held), np.float32)
    lanes[0, :20] = x
    registers = [lanes[:, k : k + held] for k in range(0, lanes.shape[1], held)]
    found = Machine(1, held, is_staged=False).halve(Sum(), registers, 20)
    assert found[0] == reduction_order.fold(x, (0,), np.add, 0.0)
