"""The `plan` dialect: how to run a program, as MLIR text that MLIR parses and verifies.

In: a `PlanSpec` (plain tuples, see `runtime/plan_spec.py`), or text. Out: text (`print_plan`, which needs no MLIR), or
the spec (`parse_plan`). Sizes are SSA values of type index, guards are ops on them, storage is `memref<?xi8>`, a step is one
op.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from flambeau.dialects import mlir
from flambeau.dialects.size_guards import RELATIONS
from flambeau.runtime.plan_spec import KERNEL_WAVE, LAUNCH_FIELDS, ExprOp, OutMode, PlanSpec, RefKind

_EXPR = {v: k.lower() for k, v in vars(ExprOp).items() if k.isupper()}
_MODE = {v: k.lower() for k, v in vars(OutMode).items() if k.isupper()}
_BUFFER = "memref<?xi8>"
_SHARED = {RefKind.CONST: "%constants", RefKind.STATUS: "%status"}


def _arena(device: int) -> str:
    return f"%arena{device}" if device else "%arena"


def _ref(kind: int, index: int) -> str:
    counted = {RefKind.INPUT: f"%in{index}", RefKind.OUTPUT: f"%out{index}", RefKind.ARENA: _arena(index)}
    counted |= {RefKind.CURSOR: f"%cursor{index}", RefKind.KEPT: f"%kept{index}"}
    return counted.get(kind) or _SHARED[kind]


def _places(spec: PlanSpec, which: int) -> dict[int, str]:
    """The attribute that says where an input, an output or a kernel is, by position; those of the CPU have none."""
    rows: tuple[Any, ...] = spec.devices
    return {k: f'device = "{row[0]}"' for row in rows for k in row[which]}


def _cursors(spec: PlanSpec) -> int:
    """How many addresses its loops move on."""
    return max((index + 1 for step in spec.steps for kind, index, _ in step[-2] if kind == RefKind.CURSOR), default=0)


def _expr(k: int, op: int, a: int, b: int) -> str:
    if op in (ExprOp.CONST, ExprOp.SYMBOL):
        return f'    %x{k} = "plan.{_EXPR[op]}"() {{value = {a} : i64}} : () -> index'
    return f'    %x{k} = "plan.{_EXPR[op]}"(%x{a}, %x{b}) : (index, index) -> index'


def _step(number: int, step: tuple, fallible: bool, place: str) -> list[str]:
    """The lines of a step: a call of a kernel over a domain, or a launch on a grid of blocks."""
    name, numbers = ("launch", (*step[1], *step[2])) if len(step) == LAUNCH_FIELDS else ("step", step[1:4])
    kernel, (refs, dims) = step[0], step[-2:]
    views = [f"%s{number}r{i}" for i in range(len(refs))]
    lines = [
        f'    {view} = "plan.view"({_ref(kind, index)}, %x{offset}) : ({_BUFFER}, index) -> {_BUFFER}'
        for view, (kind, index, offset) in zip(views, refs)
    ]
    tensor = f"tensor<{len(dims)}xindex>"
    given = ", ".join(f"%x{d}" for d in dims)
    lines.append(f'    %s{number}d = "plan.dims"({given}) : ({", ".join(["index"] * len(dims))}) -> {tensor}')
    operands = ", ".join([*(f"%x{n}" for n in numbers), f"%s{number}d", *views])
    types = ", ".join(["index"] * len(numbers) + [tensor] + [_BUFFER] * len(refs))
    part = "true" if fallible else "false"
    given = f"{place + ', ' if place else ''}fallible = {part}, kernel = {kernel} : i64"
    lines.append(f'    "plan.{name}"({operands}) {{{given}}} : ({types}) -> ()')
    return lines


def print_plan(spec: PlanSpec) -> str:
    """The plan as a module with one function; `parse_plan` gives the same spec back."""
    lines = [_expr(k, *e) for k, e in enumerate(spec.exprs)]
    lines += [
        f'    "plan.guard"(%x{x}) {{relation = "{RELATIONS[relation]}"}} : (index) -> ()' for relation, x in spec.guards
    ]
    inputs, results, kernels = (_places(spec, which) for which in (2, 3, 4))
    for i, b in enumerate(spec.inputs):
        place = f" {{{inputs[i]}}}" if i in inputs else ""
        lines.append(f'    %in{i} = "plan.input"(%x{b}){place} : (index) -> {_BUFFER}')
    for k, (mode, source, size) in enumerate(spec.outputs):
        place = f"{results[k]}, " if k in results else ""
        attributes = f'{{{place}mode = "{_MODE[mode]}", source = {source} : i64}}'
        lines.append(f'    %out{k} = "plan.output"(%x{size}) {attributes} : (index) -> {_BUFFER}')
    lines.append(f'    %arena = "plan.arena"(%x{spec.arena_bytes}) : (index) -> {_BUFFER}')
    for k, (device, size, *_) in enumerate(spec.devices, 1):
        lines.append(f'    {_arena(k)} = "plan.arena"(%x{size}) {{device = "{device}"}} : (index) -> {_BUFFER}')
    lines.append(f'    %constants = "plan.constants"() {{data = "{spec.constants.hex()}"}} : () -> {_BUFFER}')
    lines.append(f'    %status = "plan.status"() : () -> {_BUFFER}')
    for k, size in enumerate(spec.kept):
        spare = "true" if k >= len(spec.kept) - spec.spare else "false"
        lines.append(f'    %kept{k} = "plan.kept"(%x{size}) {{spare = {spare}}} : (index) -> {_BUFFER}')
    lines += [f'    %cursor{k} = "plan.cursor"() : () -> {_BUFFER}' for k in range(_cursors(spec))]
    for i, step in enumerate(spec.steps):
        lines += _step(i, step, i < spec.n_fallible, kernels.get(step[0], ""))
    attributes = f"attributes {{plan.kernels = {spec.n_kernels} : i64, plan.symbols = {spec.n_symbols} : i64}}"
    return "module {\n  func.func @plan() " + attributes + " {\n" + "\n".join(lines) + "\n    return\n  }\n}\n"


# ---- the dialect ----------------------------------------------------------------------------------------------


def _list_of(operand: Any) -> Any:
    return Sequence[operand]


#: The kind of every attribute of the dialect's ops.
_KINDS = {
    "value": "integer",
    "source": "integer",
    "kernel": "integer",
    "fallible": "bool",
    "spare": "bool",
    "mode": "string",
    "data": "string",
    "relation": "string",
    "device": "string",
}


def _attribute(attributes: Any, name: str, kind: str, owner: str) -> Any:
    """The value of an attribute of the given kind. Raises ValueError when it is missing or of another kind."""
    ir = mlir.ir
    if name not in attributes:
        raise ValueError(f"[{owner}] attribute '{name}' is missing.")
    found = attributes[name]
    class_ = {"integer": ir.IntegerAttr, "bool": ir.BoolAttr, "string": ir.StringAttr}[kind]
    if not isinstance(found, class_) or (kind == "integer" and str(found.type) != "i64"):
        raise ValueError(f"[{owner}] attribute '{name}' is {found}. Give {_ARTICLES[kind]}.")
    return found.value


_ARTICLES = {"integer": "an integer (i64)", "bool": "true or false", "string": "a string"}


def _check_step(op: Any) -> None:
    types = [str(v.type) for v in op.operands]
    if types[:3] != ["index"] * 3 or not types[3].endswith("xindex>") or set(types[4:]) - {_BUFFER}:
        raise ValueError(f"[plan.step] operands are {types}. Give n, grain and scratch, dims, then buffers.")
    if op.attributes["kernel"].value < KERNEL_WAVE:
        control = "-3 (branch), -4 (jump), -5 (note), -6 (transfer), -7 (set), -8 (count), -9 (move), -10 (wave)"
        raise ValueError(f"[plan.step] built-in kernels are -1 (copy), -2 (zero), {control}.")


def _check_launch(op: Any) -> None:
    types = [str(v.type) for v in op.operands]
    if types[:6] != ["index"] * 6 or not types[6].endswith("xindex>") or set(types[7:]) - {_BUFFER}:
        raise ValueError(
            f"[plan.launch] operands are {types}. Give grid and block along x, y and z, dims, then buffers."
        )
    if op.attributes["kernel"].value < 0:
        raise ValueError(
            f"[plan.launch] kernel {op.attributes['kernel'].value} is built in. Launch kernels of the plan."
        )


def _check_dims(op: Any) -> None:
    if str(op.results[0].type) != f"tensor<{len(op.operands)}xindex>":
        raise ValueError(f"[plan.dims] the result is {op.results[0].type}, but there are {len(op.operands)} operands.")


def _check_output(op: Any) -> None:
    if op.attributes["mode"].value not in _MODE.values():
        raise ValueError(f"[plan.output] mode {op.attributes['mode']} is unknown. Use one of {sorted(_MODE.values())}.")


def _check_guard(op: Any) -> None:
    if op.attributes["relation"].value not in RELATIONS:
        raise ValueError(f"[plan.guard] relation {op.attributes['relation']} is unknown. Use one of {list(RELATIONS)}.")


def _check_constants(op: Any) -> None:
    try:
        bytes.fromhex(op.attributes["data"].value)
    except ValueError:
        raise ValueError("[plan.constants] data is not hexadecimal. Give two digits per byte.") from None


def _check_types(op: Any, name: str) -> None:
    """Operands are sizes, but for the storage that a view is of; steps and launches have checks of their own."""
    types = [str(v.type) for v in op.operands]
    expected = [_BUFFER, "index"] if name == "view" else ["index"] * len(types)
    if name not in ("step", "launch") and types != expected:
        raise ValueError(f"[plan.{name}] operands are {', '.join(types)}. Give {', '.join(expected)}.")


def _operation(
    plan: Any,
    name: str,
    operands: int,
    result: str,
    attributes: tuple[str, ...] = (),
    check: Any = None,
    tail: bool = False,
) -> None:
    """Define `plan.<name>` with so many operands, a list of equally typed ones after them if `tail`, and a result whose
    type starts with `result` (no result if empty)."""
    ext = mlir.ext
    fields: dict[str, Any] = {f"operand{i}_": ext.Operand[Any] for i in range(operands)}
    if tail:
        fields["tail_"] = _list_of(ext.Operand[Any])
    if result:
        fields["result_"] = ext.Result[Any]

    def verify_invariants(self: Any) -> bool:
        op = self.operation
        try:
            for attribute in (*attributes, *(() if "device" not in op.attributes else ("device",))):
                _attribute(op.attributes, attribute, _KINDS[attribute], f"plan.{name}")
            _check_types(op, name)
            if result and not str(op.results[0].type).startswith(result):
                raise ValueError(f"[plan.{name}] the result is {op.results[0].type}, not {result}.")
            if check:
                check(op)
        except ValueError as e:
            self.location.emit_error(str(e))
            return False
        return True

    members = {"__annotations__": fields, "verify_invariants": verify_invariants, "__module__": __name__}
    type(f"Plan_{name}", (plan.Operation,), members, name=name)


@cache
def _dialect() -> Any:
    plan = type("Plan", (mlir.ext.Dialect,), {}, name="plan")
    for code, name in _EXPR.items():
        leaf = code in (ExprOp.CONST, ExprOp.SYMBOL)
        _operation(plan, name, 0 if leaf else 2, "index", ("value",) if leaf else ())
    _operation(plan, "guard", 1, "", ("relation",), _check_guard)
    _operation(plan, "input", 1, _BUFFER)
    _operation(plan, "output", 1, _BUFFER, ("mode", "source"), _check_output)
    _operation(plan, "arena", 1, _BUFFER)
    _operation(plan, "constants", 0, _BUFFER, ("data",), _check_constants)
    _operation(plan, "status", 0, _BUFFER)
    _operation(plan, "kept", 1, _BUFFER, ("spare",))
    _operation(plan, "cursor", 0, _BUFFER)
    _operation(plan, "view", 2, _BUFFER)
    _operation(plan, "dims", 0, "tensor<", (), _check_dims, tail=True)
    _operation(plan, "step", 4, "", ("fallible", "kernel"), _check_step, tail=True)
    _operation(plan, "launch", 7, "", ("fallible", "kernel"), _check_launch, tail=True)
    return plan


class _PlanReader:
    """Collects the ops of a plan function into the fields of a spec."""

    def __init__(self) -> None:
        self.number: dict[Any, Any] = {}  # index values -> expression
        self.storage: dict[Any, tuple[int, int]] = {}  # buffers -> (RefKind, index)
        self.views: dict[Any, tuple[int, int, int]] = {}  # views -> (RefKind, index, offset)
        self.dims: dict[Any, tuple[int, ...]] = {}
        self.exprs: list[tuple[int, int, int]] = []
        self.guards: list[tuple[int, int]] = []
        self.inputs: list[int] = []
        self.outputs: list[tuple[int, int, int]] = []
        self.steps: list[tuple] = []
        self.fallible: list[bool] = []
        self.arena, self.constants = 0, b""
        self.arenas: dict[str, int] = {}  # of other devices, in order
        self.places: dict[int, list[str]] = {RefKind.INPUT: [], RefKind.OUTPUT: []}
        self.kernels: dict[int, str] = {}  # where those are that are launched
        self.cursors = 0
        self.kept: list[int] = []
        self.spare: list[bool] = []  # of each of these
        self.once: list[str] = []  # arena, constants and status as they were met

    def read(self, op: Any) -> None:
        dialect, _, name = op.name.partition(".")
        if dialect != "plan":
            raise ValueError(f"[plan] {op.name} at {op.location} is not an op of the plan dialect.")
        operands: Any = [self.number.get(v) for v in op.operands]
        code = {v: k for k, v in _EXPR.items()}.get(name)
        if code is not None:
            a, b = operands or (op.attributes["value"].value, 0)
            self.number[op.results[0]] = len(self.exprs)
            self.exprs.append((code, a, b))
        elif name == "guard":
            self.guards.append((RELATIONS.index(op.attributes["relation"].value), operands[0]))
        elif name in ("step", "launch"):
            self._step(op, name)
        elif name == "view":
            if op.operands[0] not in self.storage:
                raise ValueError(f"[plan.view] at {op.location} is a view of a view. Add the offsets.")
            self.views[op.results[0]] = (*self.storage[op.operands[0]], operands[1])
        elif name == "dims":
            self.dims[op.results[0]] = tuple(operands)
        else:
            self.storage[op.results[0]] = getattr(self, f"_{name}")(op, operands)

    def _input(self, op: Any, operands: list) -> tuple[int, int]:
        self.inputs.append(operands[0])
        self.places[RefKind.INPUT].append(_device(op))
        return RefKind.INPUT, len(self.inputs) - 1

    def _output(self, op: Any, operands: list) -> tuple[int, int]:
        mode = {v: k for k, v in _MODE.items()}[op.attributes["mode"].value]
        self.outputs.append((mode, op.attributes["source"].value, operands[0]))
        self.places[RefKind.OUTPUT].append(_device(op))
        return RefKind.OUTPUT, len(self.outputs) - 1

    def _arena(self, op: Any, operands: list) -> tuple[int, int]:
        if device := _device(op):
            if device in self.arenas:
                raise ValueError(f"[plan.arena] there are two of {device}. Give every device one.")
            self.arenas[device] = operands[0]
            return RefKind.ARENA, len(self.arenas)
        self.once.append("arena")
        self.arena = operands[0]
        return RefKind.ARENA, 0

    def _constants(self, op: Any, operands: list) -> tuple[int, int]:
        self.once.append("constants")
        self.constants = bytes.fromhex(op.attributes["data"].value)
        return RefKind.CONST, 0

    def _status(self, op: Any, operands: list) -> tuple[int, int]:
        self.once.append("status")
        return RefKind.STATUS, 0

    def _kept(self, op: Any, operands: list) -> tuple[int, int]:
        self.kept.append(operands[0])
        self.spare.append(op.attributes["spare"].value)
        return RefKind.KEPT, len(self.kept) - 1

    def _cursor(self, op: Any, operands: list) -> tuple[int, int]:
        self.cursors += 1
        return RefKind.CURSOR, self.cursors - 1

    def _step(self, op: Any, name: str) -> None:
        values = list(op.operands)
        count = 3 if name == "step" else 6
        numbers = tuple(self.number[v] for v in values[:count])
        if not all(v in self.views for v in values[count + 1 :]):
            raise ValueError(f"[plan.{name}] at {op.location} reads storage itself. Give views of it.")
        refs, dims = tuple(self.views[v] for v in values[count + 1 :]), self.dims[values[count]]
        given = numbers if name == "step" else (numbers[:3], numbers[3:])
        if device := _device(op):
            self.kernels[op.attributes["kernel"].value] = device
        self.steps.append((op.attributes["kernel"].value, *given, refs, dims))
        self.fallible.append(op.attributes["fallible"].value)

    def devices(self) -> tuple:
        """The rows of `PlanSpec.devices`. Raises ValueError for a device without an arena."""
        inputs, outputs = self.places[RefKind.INPUT], self.places[RefKind.OUTPUT]
        named = dict.fromkeys(d for d in (*inputs, *outputs, *self.kernels.values()) if d)
        if missing := [d for d in named if d not in self.arenas]:
            raise ValueError(f"[plan] device {missing[0]} has no arena. Give it a plan.arena, of 0 bytes if need be.")

        def on(device: str, places: Sequence[str]) -> tuple[int, ...]:
            return tuple(k for k, found in enumerate(places) if found == device)

        return tuple(
            (d, size, on(d, inputs), on(d, outputs), tuple(sorted(k for k, at in self.kernels.items() if at == d)))
            for d, size in self.arenas.items()
        )


def _device(op: Any) -> str:
    """The device that an op names; empty: the CPU."""
    return op.attributes["device"].value if "device" in op.attributes else ""


def parse_plan(text: str) -> PlanSpec:
    """Parse and verify a plan. Raises ValueError with MLIR's diagnostics when it is not one."""
    ir = mlir.ir
    with ir.Context(), ir.Location.unknown():
        _dialect().load()
        try:
            module = ir.Module.parse(text)
        except ir.MLIRError as e:
            raise ValueError(f"[plan] {e}") from None
        function = next((op.operation for op in module.body.operations if op.operation.name == "func.func"), None)
        if function is None:
            raise ValueError("[plan] the module has no func.func.")
        return _spec(function)


def _spec(function: Any) -> PlanSpec:
    """The plan that a verified function says."""
    counts = {n: _attribute(function.attributes, f"plan.{n}", "integer", "plan") for n in ("symbols", "kernels")}
    blocks = function.regions[0].blocks
    if len(blocks) != 1 or len(blocks[0].arguments):
        raise ValueError("[plan] the function has arguments, or not one block. Give a body, and inputs as plan.input.")
    reader = _PlanReader()
    for op in blocks[0].operations:
        if op.operation.name != "func.return":
            reader.read(op.operation)
    if sorted(reader.once) != ["arena", "constants", "status"]:
        raise ValueError(
            f"[plan] there is {reader.once or 'nothing'}. Give plan.arena, plan.constants and plan.status once."
        )
    if reader.spare != sorted(reader.spare):
        raise ValueError("[plan] what is kept for certain follows what is spare. Put that last.")
    if reader.fallible != sorted(reader.fallible, reverse=True):
        raise ValueError("[plan] a fallible step follows a commit step. Put what may fail first.")
    return PlanSpec(
        n_symbols=counts["symbols"],
        inputs=tuple(reader.inputs),
        outputs=tuple(reader.outputs),
        exprs=tuple(reader.exprs),
        steps=tuple(reader.steps),
        n_fallible=sum(reader.fallible),
        arena_bytes=reader.arena,
        constants=reader.constants,
        n_kernels=counts["kernels"],
        guards=tuple(reader.guards),
        devices=reader.devices(),
        kept=tuple(reader.kept),
        spare=sum(reader.spare),
    )
