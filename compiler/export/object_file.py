"""The object file of an exported program: kernels, plan, weights and the functions of its C interface.

In: a `Contents`. Out: LLVM IR text of the tables (`tables`), which mirror `flambeau/runtime.h` and `flambeau/program.h`
one to one, and the object file of tables, kernels and weights together (`write_object`). Next: `exporter.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from flambeau.compiler.backend import object_code
from flambeau.compiler.export import elf
from flambeau.compiler.export.explanation import Checked
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.plans.program import Program
from flambeau.compiler.targets import Target
from flambeau.dialects.aval import Aval

#: What the object expects from the runtime.
RUNTIME_SYMBOLS = {"fb_program_run", "fb_program_check", "fb_last_error"}

_TENSOR, _SOURCE = "{ ptr, i32, ptr, i64 }", "{ i32, ptr, i64 }"
_CHECK = "{ ptr, ptr, i32, i32, i32, i32, ptr, i64, i64, i64, double, double }"
#: Values of `fb_check_kind`.
_CHECKS = {"INTEGERS": 0, "NONZERO": 1, "FLOATS": 2}


@dataclass
class Contents:
    """Everything a program consists of.

    `inputs` and `outputs` are what the caller passes; `sources` has, per input of the plan, the number of the caller's
    input or the array that it always is; `sample_inputs` and `expected` are arrays like `inputs` and `outputs`.
    """

    name: str
    program: Program
    inputs: Sequence[Aval]
    outputs: Sequence[Aval]
    sources: Sequence[int | np.ndarray]
    sample_inputs: Sequence[np.ndarray]
    expected: Sequence[np.ndarray]
    explanation: Program | None = None  # gives, per check, the operand that it is about
    checks: Sequence[Checked] = ()

    def kernels(self) -> list[KernelSource]:
        """Those of both programs, each once."""
        sources = [*self.program.kernels, *(self.explanation.kernels if self.explanation else ())]
        return list({source.text: source for source in sources}.values())


# ---- tables as LLVM IR ----------------------------------------------------------------------------------------

#: Bytes of an array from which on it is no text of the module.
_MANY = 4096
_ESCAPED = [f"\\{byte:02X}" for byte in range(256)]


class Tables:
    """Constant data under construction; every method returns a pointer operand to what it added. What is too large for
    text is in `data`, in order, which starts at `symbol`."""

    def __init__(self, symbol: str) -> None:
        self.lines: list[str] = []
        self.data: list[memoryview] = []
        self.symbol = symbol
        self._used = 0

    def blob(self, data: bytes) -> str:
        """Bytes on a 64-byte boundary."""
        text = "".join([_ESCAPED[b] for b in data])
        return self._add(f'[{len(data)} x i8] c"{text}"', elf.ALIGNMENT) if data else "null"

    def elements(self, array: np.ndarray) -> str:
        """The elements of an array, row-major, on a 64-byte boundary; many of them by way of `data`."""
        array = np.ascontiguousarray(array)
        if array.nbytes < _MANY:
            return self.blob(array.tobytes())
        pointer = f"getelementptr (i8, ptr @{self.symbol}, i64 {self._used})"
        self.data.append(array.reshape(-1).view(np.uint8).data)
        self._used += -(-array.nbytes // elf.ALIGNMENT) * elf.ALIGNMENT
        return pointer

    def text(self, text: str) -> str:
        return self.blob(text.encode() + b"\0")

    def numbers(self, kind: str, values: Sequence[int]) -> str:
        return self.array(kind, [str(v) for v in values])

    def array(self, kind: str, values: Sequence[str]) -> str:
        """An array of `kind`; NULL when it is empty."""
        return self._add(f"[{len(values)} x {kind}] [{', '.join(f'{kind} {v}' for v in values)}]") if values else "null"

    def structs(self, kind: str, rows: Sequence[Sequence[Any]]) -> str:
        """An array of structs of type `kind`, written "{ i32, ptr }"."""
        return self.array(kind, [struct(kind, row) for row in rows])

    def _add(self, value: str, align: int = 8) -> str:
        name = f"@table.{len(self.lines)}"
        self.lines.append(f"{name} = private constant {value}, align {align}")
        return name


def struct(kind: str, row: Sequence[Any]) -> str:
    """A struct literal."""
    types = kind.strip("{ }").split(", ")
    return "{ " + ", ".join(f"{t} {v}" for t, v in zip(types, row, strict=True)) + " }"


def kernel_name(program: str, index: int) -> str:
    """The symbol of a kernel, unique among programs of different names."""
    return f"{program}_kernel_{index}"


def tables(contents: Contents, target: str) -> tuple[str, Tables]:
    """The tables and functions of a program: the text of an LLVM module, and where its data is."""
    name = contents.name
    t = Tables(f"fb_{name}_data")
    numbers = {source.text: k for k, source in enumerate(contents.kernels())}
    plans = [_struct(_plan(t, p, name, numbers)) for p in (contents.program, contents.explanation) if p]
    type_, value = _struct(_program(t, contents, target))
    kernels = [kernel_name(name, k) for k in numbers.values()]
    lines = [
        *t.lines,
        *([f"@{t.symbol} = external hidden constant [0 x i8], align {elf.ALIGNMENT}"] if t.data else ()),
        "@state = private global ptr null, align 8",
        *(f"@plan.{k} = private constant {kind} {plan}, align 8" for k, (kind, plan) in enumerate(plans)),
        f"@{name}_program = constant {type_} {value}, align 8",
        *(f"declare void @{kernel}(ptr, ptr, i64, i64, ptr)" for kernel in kernels),
        _FUNCTIONS.replace("NAME", name),
    ]
    return "\n".join(lines), t


#: The C interface; see `header.py`.
_FUNCTIONS = """
declare i32 @fb_program_run(ptr, ptr, ptr)
declare i32 @fb_program_check(ptr)
declare ptr @fb_last_error()
define i32 @NAME_run(ptr %inputs, ptr %outputs) {
  %status = tail call i32 @fb_program_run(ptr @NAME_program, ptr %inputs, ptr %outputs)
  ret i32 %status
}
define i32 @NAME_check() {
  %status = tail call i32 @fb_program_check(ptr @NAME_program)
  ret i32 %status
}
define ptr @NAME_error() {
  %message = tail call ptr @fb_last_error()
  ret ptr %message
}
"""


def _struct(fields: Sequence[tuple[str, Any]]) -> tuple[str, str]:
    """Type and literal of a struct of (type, value) fields."""
    kind = "{ " + ", ".join(k for k, _ in fields) + " }"
    return kind, struct(kind, [v for _, v in fields])


def _plan(t: Tables, program: Program, name: str, numbers: dict[str, int]) -> list[tuple[str, Any]]:
    """The fields of the `fb_plan_spec`; `numbers` are those of kernels by their text."""
    spec = program.spec
    refs: list[tuple[int, int, int]] = []
    dims: list[int] = []
    steps = []
    for kernel, n, grain, scratch, step_refs, step_dims in spec.steps:
        steps.append((kernel, n, grain, scratch, len(refs), len(step_refs), len(dims), len(step_dims)))
        refs += step_refs
        dims += step_dims
    kernels = [f"@{kernel_name(name, numbers[source.text])}" for source in program.kernels]
    counts = (spec.n_symbols, len(spec.inputs), len(spec.outputs), len(spec.exprs), len(steps), spec.n_fallible)
    return [
        *(("i32", c) for c in (*counts, len(refs), len(dims), spec.n_kernels)),
        ("ptr", t.numbers("i32", spec.inputs)),
        ("ptr", t.structs("{ i32, i32, i32 }", spec.outputs)),
        ("ptr", t.structs("{ i32, i64, i64 }", spec.exprs)),
        ("ptr", t.structs("{ i32, i32, i32, i32, i32, i32, i32, i32 }", steps)),
        ("ptr", t.structs("{ i32, i32, i32 }", refs)),
        ("ptr", t.numbers("i32", dims)),
        ("ptr", t.array("ptr", kernels)),
        ("i32", spec.arena_bytes),
        ("ptr", t.blob(spec.constants)),
        ("i64", len(spec.constants)),
        ("ptr", t.structs("{ i32, i32 }", spec.guards)),
        ("i32", len(spec.guards)),
        ("i32", 0),  # devices
        *(("ptr", "null") for _ in range(4)),
        ("i32", 0),  # kept results
        ("ptr", "null"),
        ("i32", 0),
    ]


def _program(t: Tables, contents: Contents, target: str) -> list[tuple[str, Any]]:
    """The fields of the `fb_program`."""
    errors = [t.text(e) for e in contents.program.errors]
    return [
        ("ptr", t.text(contents.name)),
        ("ptr", t.text(target)),
        ("ptr", "@plan.0"),
        ("i32", len(contents.inputs)),
        ("i32", len(contents.outputs)),
        ("i32", len(errors)),
        ("i32", len(contents.checks)),
        ("ptr", t.structs(_TENSOR, [_tensor(t, aval) for aval in contents.inputs])),
        ("ptr", t.structs(_TENSOR, [_tensor(t, aval) for aval in contents.outputs])),
        ("ptr", t.structs(_SOURCE, [_source(t, source) for source in contents.sources])),
        ("ptr", t.array("ptr", errors)),
        ("ptr", t.array("ptr", [t.elements(a) for a in contents.sample_inputs])),
        ("ptr", t.array("ptr", [t.elements(a) for a in contents.expected])),
        ("ptr", "@state"),
        ("ptr", "@plan.1" if contents.explanation else "null"),
        ("ptr", t.structs(_CHECK, [_check(t, check) for check in contents.checks])),
    ]


def _check(t: Tables, check: Checked) -> tuple[Any, ...]:
    """The fields of an `fb_check`. Bounds are doubles where the operand is one of floats."""
    domain, aval = check
    kind = "NONZERO" if domain.low is None else "FLOATS" if aval.dtype.is_floating_point else "INTEGERS"
    bounds = [domain.low or 0, domain.high or 0]
    ints = [int(x) for x in bounds] if kind == "INTEGERS" else [0, 0]
    floats = [_double(float(x)) for x in bounds] if kind == "FLOATS" else [_double(0.0)] * 2
    shown = 0 if domain.whole or kind == "NONZERO" else 1
    rank = 0 if domain.whole else len(aval.shape)
    texts = t.text(domain.before), t.text(domain.after)
    numbers = _CHECKS[kind], shown, aval.dtype.itemsize, rank, t.numbers("i64", aval.shape), aval.size
    return (*texts, *numbers, *ints, *floats)


def _double(x: float) -> str:
    """A literal of LLVM's: the number's bits."""
    return f"0x{int(np.float64(x).view(np.uint64)):016X}"


def _tensor(t: Tables, aval: Aval) -> tuple[Any, ...]:
    return t.text(aval.dtype.name), len(aval.shape), t.numbers("i64", aval.shape), aval.nbytes


def _source(t: Tables, source: int | np.ndarray) -> tuple[Any, ...]:
    return (source, "null", 0) if isinstance(source, int) else (-1, t.elements(source), source.nbytes)


# ---- object code ----------------------------------------------------------------------------------------------


def write_object(file: BinaryIO, contents: Contents, target: Target) -> None:
    """Write the object file. Raises CompileError, RuntimeError if it would need more than the runtime, and OSError."""
    text, t = tables(contents, target.name)
    code = _object_code(text, contents, target)
    defined = {t.symbol} if t.data else set()
    if unknown := set(elf.undefined_symbols(code)) - RUNTIME_SYMBOLS - defined:
        raise RuntimeError(
            f"[export] the code for {target.name} calls {', '.join(sorted(unknown))}, which the runtime lacks. Export for a CPU "
            "with fused multiply-adds, or report this."
        )
    if t.data:
        elf.write_with_data(file, code, t.symbol, t.data)
    else:
        file.write(code)


def _object_code(text: str, contents: Contents, target: Target) -> bytes:
    """Tables and kernels, linked."""
    import llvmlite.binding as llvm

    machine = object_code.machine(target)
    module = llvm.parse_assembly(text)
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    options = Options(target=target.name)
    for k, source in enumerate(contents.kernels()):
        kernel = object_code.compile_module(source, options)
        kernel.get_function("kernel").name = kernel_name(contents.name, k)
        module.link_in(kernel)
    module.verify()
    return machine.emit_object(module)
