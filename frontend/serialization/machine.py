"""A machine for pickles of tensors that cannot run what it is not meant to: `load` with `weights_only`.

In: bytes, and a `World`, which says what names stand for and where storages are. Out: the object. Every opcode of protocols 2 to 5
that such files have is a method here; nothing is imported, and only what the world gives may be called. Opcodes take the
bytes that they take, and what a hostile file could make large or slow otherwise is bounded: containers, and keys whose
hashes a file can choose. Next: `rebuilding.py`.
"""

from __future__ import annotations

import pickle
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

LONGEST = 1 << 26  #: bytes of a pickle, without the tensors
MOST_COPIED = 1 << 22  #: elements of containers that calls copy
_MOST_CONTAINERS = 2_000_000
MOST_ODD_KEYS = 3_000  # of kinds for which equal hashes can be found: then a dict of n keys takes n * n steps
HASHED_APART = 1 << 60  # integers below this are their hashes


class UnpicklingError(pickle.UnpicklingError, ValueError):
    """A file that `load` refuses; PyTorch raises `pickle.UnpicklingError`."""


def refuse(fact: str, advice: str = "Check that it was written completely, and who wrote it.") -> NoReturn:
    raise UnpicklingError(f"[load] this is not a valid file of save(): {fact}. {advice}")


class World(Protocol):
    """What a pickle may refer to."""

    def find(self, module: str, name: str) -> Any:
        """What a name stands for. Raises UnpicklingError for a name that is not allowed."""

    def call(self, function: Any, arguments: tuple) -> Any:
        """What a function that `find` gave makes of arguments. Raises UnpicklingError for anything else."""

    def create(self, cls: Any, arguments: tuple) -> Any:
        """What `cls.__new__(cls, *arguments)` makes. Raises UnpicklingError for classes that are not allowed."""

    def build(self, made: Any, state: Any) -> None:
        """Give an object its attributes. Raises UnpicklingError where that is not allowed."""

    def persistent(self, name: Any) -> Any:
        """The storage that a name stands for."""


_MARK = object()


class Machine:
    """One run over the pickle that begins at `at` in `text`; `end` is then where it ended."""

    def __init__(self, text: bytes, world: World, at: int = 0, encoding: str = "utf-8") -> None:
        self.text, self.world, self.end, self.encoding = text, world, at, encoding
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.containers = self.odd_keys = 0

    def run(self) -> Any:
        """The object. Raises UnpicklingError for what is malformed or not allowed."""
        while True:
            opcode = self.take(1)[0]
            if opcode == pickle.STOP[0]:
                return self.pop()
            step = _STEPS.get(opcode)
            if step is None:
                refuse(f"opcode {opcode:#x} of its pickle is not one that save() writes")
            step(self)

    # ---- reading

    def take(self, n: int) -> bytes:
        found = self.text[self.end : self.end + n]
        if len(found) < n:
            refuse("its pickle ends too early")
        self.end += n
        return found

    def number(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.text.find(b"\n", self.end, self.end + 1000)
        if end < 0:
            refuse("a name in its pickle does not end")
        found = self.text[self.end : end]
        self.end = end + 1
        return self.decoded(found, "utf-8")

    def decoded(self, data: bytes, encoding: str) -> str:
        try:
            return data.decode(encoding, "surrogatepass" if encoding == "utf-8" else "strict")
        except (UnicodeDecodeError, LookupError):
            return refuse("a string in its pickle is not text", f"Try load(..., encoding='latin1'), not '{encoding}'.")

    # ---- the stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            refuse("its pickle takes more than it has")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            refuse(f"its pickle puts something into what is no {kind.__name__}")
        return self.stack[-1]

    def marked(self) -> list[Any]:
        """What lies above the last mark, which goes."""
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                found = self.stack[i + 1 :]
                del self.stack[i:]
                return found
        return refuse("its pickle has no mark where it needs one")

    def contain(self, value: Any, cost: int = 1) -> None:
        """Push a container, of which there may be only so many; what a call made counts for more."""
        self.containers += cost
        if self.containers > _MOST_CONTAINERS:
            refuse(f"its pickle has more than {_MOST_CONTAINERS} containers")
        self.push(value)

    def key(self, key: Any) -> Any:
        """A key of a dict or an element of a set, if it can be hashed soon."""
        if type(key) is str or key is None or (type(key) is int and abs(key) < HASHED_APART):
            return key
        self.odd_keys += 1
        if self.odd_keys > MOST_ODD_KEYS or not _is_plain(key, 3):
            refuse(f"a dict or set in it has a {type(key).__name__} among its keys, or too many that are no strings")
        try:
            hash(key)
        except TypeError:
            refuse(f"a dict or set in it has a {type(key).__name__} among its keys")
        return key

    def put(self, i: int) -> None:
        if not self.stack:
            refuse("its pickle remembers nothing")
        self.memo[i] = self.stack[-1]

    def get(self, i: int) -> None:
        if i not in self.memo:
            refuse("its pickle refers to what it has not")
        self.push(self.memo[i])

    # ---- containers

    def items(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        if type(target) not in (dict, OrderedDict, Counter) or len(pairs) % 2:
            refuse("a dict in it has a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2]):
            target[self.key(key)] = value

    def extend(self, values: list[Any]) -> None:
        target = self.top(list)
        if type(target) is not list:
            refuse("something is appended to what is no list")
        target += values

    def add(self, values: list[Any]) -> None:
        self.top(set).update([self.key(value) for value in values])

    def reduce(self) -> None:
        self._make(self.world.call)

    def new_object(self) -> None:
        self._make(self.world.create)

    def _make(self, way: Callable[[Any, tuple], Any]) -> None:
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple:
            refuse("a call in its pickle has no tuple of arguments")
        self.contain(way(function, arguments), 4)

    def build(self) -> None:
        state = self.pop()
        if not self.stack:
            refuse("its pickle gives attributes to nothing")
        self.world.build(self.stack[-1], state)

    def stacked_name(self) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            refuse("a name in its pickle is no string")
        self.push(self.world.find(module, name))

    def version(self) -> None:
        if self.take(1)[0] > 5:
            refuse("its pickle is of a protocol after 5")

    def integer(self, size: int) -> None:
        if size < 0:
            refuse("an integer in its pickle has less than no bytes")
        self.push(int.from_bytes(self.take(size), "little", signed=True))


def _is_plain(key: Any, depth: int) -> bool:
    """Whether a key is a number, text, a dtype or a device, or a short tuple of these."""
    from flambeau.device import device  # the rest of the module needs nothing of ours
    from flambeau.dialects.dtypes import DType  # the rest of the module needs nothing of ours

    if type(key) is tuple:
        return depth > 0 and len(key) <= 64 and all(_is_plain(k, depth - 1) for k in key)
    return key is None or type(key) in (str, bytes, bool, int, float, complex, DType, device)


def _text(form: str, encoding: str = "") -> Callable[[Machine], None]:
    return lambda m: m.push(m.decoded(m.take(m.number(form)), encoding or m.encoding))


def _old_text(form: str) -> Callable[[Machine], None]:
    def step(m: Machine) -> None:
        data = m.take(max(0, m.number(form)))
        m.push(data if m.encoding == "bytes" else m.decoded(data, m.encoding))

    return step


def _tuple(n: int) -> Callable[[Machine], None]:
    return lambda m: m.contain(tuple(reversed([m.pop() for _ in range(n)])))


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda m: m.push(value)


def _duplicate(m: Machine) -> None:
    value = m.pop()
    m.stack += (value, value)


def _append(m: Machine) -> None:
    m.extend([m.pop()])


def _set_item(m: Machine) -> None:
    value, key = m.pop(), m.pop()
    m.items([key, value])


_STEPS: dict[int, Callable[[Machine], None]] = {
    opcode[0]: step
    for opcode, step in {
        pickle.PROTO: Machine.version,
        pickle.FRAME: lambda m: m.take(8),
        pickle.MARK: lambda m: m.push(_MARK),
        pickle.POP: lambda m: m.stack.pop() if m.stack else m.pop(),
        pickle.POP_MARK: Machine.marked,
        pickle.DUP: _duplicate,
        pickle.NONE: _constant(None),
        pickle.NEWTRUE: _constant(True),
        pickle.NEWFALSE: _constant(False),
        pickle.BININT: lambda m: m.push(m.number("<i")),
        pickle.BININT1: lambda m: m.push(m.number("<B")),
        pickle.BININT2: lambda m: m.push(m.number("<H")),
        pickle.LONG1: lambda m: m.integer(m.number("<B")),
        pickle.LONG4: lambda m: m.integer(m.number("<i")),
        pickle.BINFLOAT: lambda m: m.push(m.number(">d")),
        pickle.BINUNICODE: _text("<I", "utf-8"),
        pickle.SHORT_BINUNICODE: _text("<B", "utf-8"),
        pickle.BINUNICODE8: _text("<Q", "utf-8"),
        pickle.SHORT_BINSTRING: _old_text("<B"),
        pickle.BINSTRING: _old_text("<i"),
        pickle.SHORT_BINBYTES: lambda m: m.push(m.take(m.number("<B"))),
        pickle.BINBYTES: lambda m: m.push(m.take(m.number("<I"))),
        pickle.BINBYTES8: lambda m: m.push(m.take(m.number("<Q"))),
        pickle.BYTEARRAY8: lambda m: m.contain(bytearray(m.take(m.number("<Q")))),
        pickle.EMPTY_TUPLE: _constant(()),
        pickle.TUPLE1: _tuple(1),
        pickle.TUPLE2: _tuple(2),
        pickle.TUPLE3: _tuple(3),
        pickle.TUPLE: lambda m: m.contain(tuple(m.marked())),
        pickle.EMPTY_LIST: lambda m: m.contain([]),
        pickle.EMPTY_DICT: lambda m: m.contain({}),
        pickle.EMPTY_SET: lambda m: m.contain(set()),
        pickle.FROZENSET: lambda m: m.contain(frozenset([m.key(v) for v in m.marked()])),
        pickle.LIST: lambda m: m.contain(m.marked()),
        pickle.DICT: lambda m: _dict_of(m, m.marked()),
        pickle.APPEND: _append,
        pickle.APPENDS: lambda m: m.extend(m.marked()),
        pickle.SETITEM: _set_item,
        pickle.SETITEMS: lambda m: m.items(m.marked()),
        pickle.ADDITEMS: lambda m: m.add(m.marked()),
        pickle.BINPUT: lambda m: m.put(m.number("<B")),
        pickle.LONG_BINPUT: lambda m: m.put(m.number("<I")),
        pickle.MEMOIZE: lambda m: m.put(len(m.memo)),
        pickle.BINGET: lambda m: m.get(m.number("<B")),
        pickle.LONG_BINGET: lambda m: m.get(m.number("<I")),
        pickle.GLOBAL: lambda m: m.push(m.world.find(m.line(), m.line())),
        pickle.STACK_GLOBAL: Machine.stacked_name,
        pickle.BINPERSID: lambda m: m.contain(m.world.persistent(m.pop())),
        pickle.REDUCE: Machine.reduce,
        pickle.NEWOBJ: Machine.new_object,
        pickle.BUILD: Machine.build,
    }.items()
}


def _dict_of(m: Machine, pairs: list[Any]) -> None:
    m.contain({})
    m.items(pairs)
