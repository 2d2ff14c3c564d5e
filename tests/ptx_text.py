"""PTX text taken apart: the instructions, parameters and arrays of its one kernel, and nothing that is not understood.

In: what `backend.compile_assembly` gives for a GPU. Out: a `Kernel`. Next: `ptx_operations.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

#: Directives that say what the interpreter need not know: versions, registers, hints.
_IGNORED = re.compile(r"\.(version|target|address_size|reg|reqntid|maxntid|minnctapersm|pragma)\b.*")
_SHARED = re.compile(r"\.shared \.align (?P<align>\d+) \.[bfsu](?P<bits>\d+) (?P<name>[\w$]+)(\[(?P<count>\d+)\])?;")
_GLOBAL = re.compile(
    r"(?:\.visible |\.weak )?\.global \.align \d+ \.b8 (?P<name>[\w$]+)\[\d+\] = \{(?P<bytes>[\d, ]+)\};"
)
_PARAMETER = re.compile(r"\.param \.u64( \.ptr \.align \d+)? (?P<name>\w+),?")
_ENTRY = re.compile(r"\.visible \.entry \w+\(\)?")
_LABEL = re.compile(r"(?P<name>\$\w+):")
_INSTRUCTION = re.compile(r"(@(?P<negated>!?)(?P<predicate>%p\d+) )?(?P<opcode>[a-z][\w.]*)( (?P<operands>.*))?;")
_SPLIT_WORD = re.compile(r"\{ \.reg \.b32 (\w+); (mov\.b64 \{.*?\}, %rd\d+;) \}")  # how LLVM takes one half of a word
_OPERAND = re.compile(r"\{[^}]*\}|\[[^]]*\]|[^,\s]+")


@dataclass(frozen=True)
class Instruction:
    """`@[!]predicate opcode operands;`. An operand in braces is a tuple of names."""

    opcode: str
    operands: tuple
    predicate: str | None
    negated: bool
    text: str


@dataclass
class Kernel:
    """Parameters by name and place, shared arrays by name and offset, constant arrays, and code with its labels."""

    parameters: list[str] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)
    shared_bytes: int = 0
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def _share(self, align: int, bits: int, name: str, count: int) -> None:
        self.shared[name] = -(-self.shared_bytes // align) * align
        self.shared_bytes = self.shared[name] + count * bits // 8

    def _take(self, line: str) -> None:
        if found := _LABEL.fullmatch(line):
            self.labels[found["name"]] = len(self.code)
        elif found := _SHARED.fullmatch(line):
            self._share(int(found["align"]), int(found["bits"]), found["name"], int(found["count"] or 1))
        elif found := _GLOBAL.fullmatch(line):
            self.constants[found["name"]] = np.array([int(x) for x in found["bytes"].split(",")], np.uint8)
        elif found := _PARAMETER.fullmatch(line):
            self.parameters.append(found["name"])
        elif found := _INSTRUCTION.fullmatch(line):
            operands = tuple(_operand(x) for x in _OPERAND.findall(found["operands"] or ""))
            self.code.append(Instruction(found["opcode"], operands, found["predicate"], found["negated"] == "!", line))
        elif not (line in "{})" or _ENTRY.fullmatch(line) or _IGNORED.fullmatch(line)):
            raise SyntaxError(f"the interpreter does not understand this line of PTX: {line}")


def _operand(text: str) -> str | tuple[str, ...]:
    return tuple(x.strip() for x in text[1:-1].split(",")) if text.startswith("{") else text


def parse(text: str) -> Kernel:
    """The kernel in `text`. Raises SyntaxError for a line that is not known."""
    kernel = Kernel()
    for line in text.splitlines():
        line = " ".join(re.sub(r"//.*", "", line).split())
        if found := _SPLIT_WORD.fullmatch(line):
            line = found[2]
        if line:
            kernel._take(line)
    return kernel
