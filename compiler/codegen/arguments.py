"""The arguments of one kernel, for every machine: operands and numbers in the order in which its text asks for them.

In: values and sizes that a code generator asks for while it writes. Out: their names in the text, and the lists that the call is
made with. Next: `loops/nest.py` and `gpu/kernel.py`, kernels of CPUs and of GPUs.
"""

from __future__ import annotations

from flambeau.compiler.codegen.values import Val
from flambeau.compiler.kernel import Operand
from flambeau.dialects.size import Int


class KernelArguments:
    """A subclass says how its machine's emitter names one more operand and one more number."""

    def __init__(self) -> None:
        self.operands: list[Operand] = []
        self.dims: list[Int] = []
        self.writes: dict[int, int] = {}  # output value -> operand position
        self._pointers: list[Val] = []
        self._numbers: dict[object, Val] = {}

    def add_pointer(self, position: int, written: bool) -> Val:
        raise NotImplementedError

    def add_number(self, position: int) -> Val:
        raise NotImplementedError

    def number(self, n: Int, key: object = None) -> Val:
        """A number known when the kernel is called, so that its text serves others, too. What is asked for again by `key` is
        the same one."""
        if key is not None and key in self._numbers:
            return self._numbers[key]
        self.dims.append(n)
        found = self.add_number(len(self.dims) - 1)
        if key is not None:
            self._numbers[key] = found
        return found

    def pointer(self, operand: Operand, *, written: bool = False) -> Val:
        """The pointer of an operand; equal operands share one, except that what is written stands alone."""
        if operand in self.operands and not written:
            return self._pointers[self.operands.index(operand)]
        self.operands.append(operand)
        self._pointers.append(self.add_pointer(len(self.operands) - 1, written))
        return self._pointers[-1]

    def output(self, value: int) -> Val:
        """The pointer that an output is stored through."""
        if value not in self.writes:
            self.pointer(Operand("value", value), written=True)
            self.writes[value] = len(self.operands) - 1
        return self._pointers[self.writes[value]]
