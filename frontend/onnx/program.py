"""A graph of an ONNX file as steps that run our ops, one after the other.

In: a `GraphProto`. Out: `OnnxProgram`, whose `run` takes values by name and gives values: tensors, or NumPy arrays where known
without computing (shapes and what is made of these), which nodes that only move numbers around are evaluated on at once, by
the package's own reference. Next: `loading.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from flambeau.onnx.names import fb
from flambeau.onnx.node import RULES, OnnxNode
from flambeau.onnx.package import onnx
from flambeau.runtime.recorder import Tensor

#: Kinds of nodes that hold graphs of their own.
_CONTROL = ("If", "Loop", "Scan")


def attributes(proto: Any) -> dict[str, Any]:
    """A node's attributes as Python values; tensors as arrays, graphs as they are."""
    found = {}
    for each in proto.attribute:
        value = onnx().helper.get_attribute_value(each)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx().TensorProto):
            value = onnx().numpy_helper.to_array(value)
        elif isinstance(value, (list, tuple)) or hasattr(value, "extend"):
            value = [v.decode() if isinstance(v, bytes) else v for v in value]
        found[each.name] = value
    return found


def constant(proto: Any) -> np.ndarray | None:
    """The value of a Constant, None for another node. Raises NotImplementedError for strings and sparse ones."""
    if proto.op_type != "Constant":
        return None
    (name, value), *_ = attributes(proto).items()
    kinds = {
        "value": None,
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if name not in kinds:
        raise NotImplementedError(f"[onnx] Constant (node '{proto.name}') is a {name}, which Flambeau does not have.")
    return value if name == "value" else np.array(value, kinds[name])


def used(proto: Any) -> Iterator[str]:
    """The names that a graph's nodes read, those of graphs inside too."""
    for node in proto.node:
        yield from node.input
        for each in node.attribute:
            if each.HasField("g"):
                yield from used(each.g)
                yield from (value.name for value in each.g.output)


def as_tensor(value: Any) -> Any:
    """A value as a tensor; None stays."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    return fb.from_numpy(np.array(value))


def as_array(value: Any) -> Any:
    """A value as an array, which reads a tensor; None stays."""
    return value.detach().numpy() if isinstance(value, Tensor) else value


class OnnxStep:
    """One node: where its inputs are found, what computes it, what its results are called."""

    def __init__(self, proto: Any, version: int) -> None:
        self.proto, self.inputs, self.outputs = proto, list(proto.input), list(proto.output)
        name = proto.name or (self.outputs[0] if self.outputs else "")
        self.node = OnnxNode(proto.op_type, name, version, attributes(proto), sum(1 for o in self.outputs if o))
        self.last: list[str] = []  # what nobody reads afterwards
        self._tensors: dict[int, tuple[Any, Any]] = {}  # by position: an array, and the tensor that was made of it
        graphs = ((each.name, each.g) for each in proto.attribute if each.HasField("g"))
        self.inner = {attribute: OnnxProgram(graph, version) for attribute, graph in graphs}

    @cached_property
    def _reference(self) -> Callable[..., Any]:
        """The package's own evaluation of the node, with NumPy."""
        from onnx.reference.ops._op_list import load_op

        settings = {"opsets": {"": self.node.version}, "log": lambda *args: None, "verbose": 0}
        return load_op("", self.node.kind, self.node.version)(self.proto, settings).run

    def folded(self, values: list[Any]) -> tuple[Any, ...] | None:
        """Results as arrays where all inputs are; None where that is not known."""
        if self.inner or not values or any(isinstance(v, Tensor) for v in values):
            return None
        try:
            return tuple(np.asarray(r) for r in self._reference(*values))
        except Exception:  # whatever the reference lacks; the rule computes it
            return None

    def _tensor(self, k: int, value: Any) -> Any:
        """Input k as a tensor: of a constant, which is the same array each time, the same one."""
        if not isinstance(value, np.ndarray):
            return value
        if k not in self._tensors or self._tensors[k][0] is not value:
            self._tensors[k] = value, as_tensor(value)
        return self._tensors[k][1]

    def computed(self, values: list[Any]) -> tuple[Any, ...]:
        rule = RULES[self.node.kind]
        if not rule.raw:
            values = [as_array(v) if k in rule.host else self._tensor(k, v) for k, v in enumerate(values)]
        while values and values[-1] is None:
            values.pop()
        found = rule.call(self.node, *values)
        return found if isinstance(found, tuple) else (found,)


class OnnxProgram:
    """Steps in order. `constants` are the values that the graph holds itself."""

    def __init__(self, proto: Any, version: int) -> None:
        self.inputs = [value.name for value in proto.input]
        self.outputs = [value.name for value in proto.output]
        self.constants: dict[str, np.ndarray] = {
            each.name: onnx().numpy_helper.to_array(each) for each in proto.initializer
        }
        self.initializers = set(self.constants)
        self.steps: list[OnnxStep] = []
        for node in proto.node:
            value = constant(node)
            if value is None:
                self.steps.append(OnnxStep(node, version))
            else:
                self.constants[node.output[0]] = value
        self._find_last_readers()

    def _find_last_readers(self) -> None:
        seen = set(self.outputs)
        for step in reversed(self.steps):
            names = {*step.inputs, *(n for inner in step.inner.values() for n in inner.reads())}
            step.last = [name for name in names if name not in seen]
            seen |= names

    def reads(self) -> set[str]:
        """All names that its steps read, or that it gives."""
        inner = (n for step in self.steps for i in step.inner.values() for n in i.reads())
        return {*self.outputs, *inner, *(n for step in self.steps for n in step.inputs)}

    def fold(self, known: Mapping[str, np.ndarray]) -> None:
        """Evaluate once what is made of constants alone; `known` are those of the graphs around this one."""
        values, rest = {**known, **self.constants}, []
        for step in self.steps:
            found = None
            if all(not name or name in values for name in step.inputs):
                found = step.folded([values.get(name) for name in step.inputs])
            if found is None:
                rest.append(step)
            else:
                made = dict(zip(step.outputs, found))
                self.constants |= made
                values |= made
        self.steps = rest
        for step in self.steps:
            for inner in step.inner.values():
                inner.fold({n: v for n, v in values.items() if n not in inner.inputs})

    def missing(self) -> Iterator[OnnxStep]:
        """The steps that no rule computes."""
        for step in self.steps:
            if step.node.kind not in (*RULES, *_CONTROL) or step.proto.domain not in ("", "ai.onnx"):
                yield step
            for inner in step.inner.values():
                yield from inner.missing()

    # ---- running ---------------------------------------------------------------------------------------------

    def run(self, values: dict[str, Any], around: Callable[[str], Any]) -> list[Any]:
        """What the outputs are, for inputs by name; `around` finds what the graph does not define itself."""

        def find(name: str) -> Any:
            if name in values:
                return values[name]
            return self.constants[name] if name in self.constants else around(name)

        for step in self.steps:
            for name, value in zip(step.outputs, self._results(step, find)):
                values[name] = value
            for name in step.last:
                values.pop(name, None)
        return [find(name) for name in self.outputs]

    def _results(self, step: OnnxStep, find: Callable[[str], Any]) -> tuple[Any, ...]:
        given = [find(name) if name else None for name in step.inputs]
        if step.node.kind == "If":
            branch = "then_branch" if bool(as_array(given[0]).reshape(-1)[0]) else "else_branch"
            return tuple(step.inner[branch].run({}, find))
        if step.node.kind == "Loop":
            return tuple(_loop(step.inner["body"], given, find))
        if step.node.kind == "Scan":
            return tuple(_scan(step.node, step.inner["body"], given, find))
        found = step.folded(given)
        return step.computed(given) if found is None else found


def _loop(body: OnnxProgram, given: list[Any], find: Callable[[str], Any]) -> list[Any]:
    """What a Loop carries, then what each turn gives, stacked."""
    most, goes_on, *carried = given
    limit = None if most is None else int(as_array(most).reshape(-1)[0])
    going, turn, turns = goes_on is None or bool(as_array(goes_on).reshape(-1)[0]), 0, []
    while going and (limit is None or turn < limit):
        inputs = [np.array(turn, np.int64), np.array(going), *carried]
        condition, *results = body.run(dict(zip(body.inputs, inputs)), find)
        going, turn = bool(as_array(condition).reshape(-1)[0]), turn + 1
        carried, last = results[: len(carried)], results[len(carried) :]
        turns.append([as_tensor(x) for x in last])
    return carried + [fb.stack(column) for column in zip(*turns)]


def _scan(node: OnnxNode, body: OnnxProgram, given: list[Any], find: Callable[[str], Any]) -> list[Any]:
    """What a Scan carries through slices of its last inputs, then what each turn gives, stacked."""
    n = len(given) - node.attributes["num_scan_inputs"]
    carried, through = given[:n], given[n:]
    axes, backwards = (
        node.get("scan_input_axes") or [0] * len(through),
        node.get("scan_input_directions") or [0] * len(through),
    )
    slices = [fb.unbind(as_tensor(x), axis)[:: -1 if b else 1] for x, axis, b in zip(through, axes, backwards)]
    turns = []
    for rows in zip(*slices):
        results = body.run(dict(zip(body.inputs, [*carried, *rows])), find)
        carried = results[:n]
        turns.append([as_tensor(x) for x in results[n:]])
    columns = list(zip(*turns))
    axes, backwards = (
        node.get("scan_output_axes") or [0] * len(columns),
        node.get("scan_output_directions") or [0] * len(columns),
    )
    return carried + [fb.stack(c[:: -1 if b else 1], axis) for c, axis, b in zip(columns, axes, backwards)]
