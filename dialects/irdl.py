"""The `tape` dialect: graphs as MLIR text, parsed and verified by MLIR.

In: text, or a `Graph` (`tape_text.py`). Out: a verified `Graph` (`parse_graph`), or text (`print_graph`).
The ops are generated from the records: attributes are the record's, and the verifier runs the record's own type
rule. Extents in symbols are `?` in a type, whose encoding has their expressions in order; as attributes they are
dictionaries with the entry `size`; the function's `tape.sizes` are values for the symbols, at which types are checked.
Ops with regions, and calls of the host, are `control.<name>`: MLIR's dialects from Python have no lists of operands of
different types, so these ops are in none, and the reader checks them.
`plan.py` beside this file does the same for plans. Next: `compiler/opt.py`, the tool on top.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

import flambeau.dialects.history
import flambeau.dialects.tape  # noqa: F401  (their records are the dialect's ops)
from flambeau.dialects import dtypes, mlir, plugins
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.graph import Graph, Loc, Region
from flambeau.dialects.record import REGISTRY, OpRecord, find
from flambeau.dialects.size import symbols
from flambeau.dialects.size_guards import scope
from flambeau.dialects.size_text import parse
from flambeau.dialects.tape_text import CONTROL, print_function, print_graph
from flambeau.dialects.verify import verify_tokens

__all__ = ["context", "from_function", "parse_functions", "parse_graph", "print_function", "print_graph"]

# ---- the dialect ----------------------------------------------------------------------------------------------


def _list_of(operand: Any) -> Any:
    return Sequence[operand]


def _decode(attribute: Any) -> Any:
    ir = mlir.ir
    if isinstance(attribute, ir.BoolAttr):
        return ir.BoolAttr(attribute).value
    if isinstance(attribute, ir.IntegerAttr):
        return ir.IntegerAttr(attribute).value
    if isinstance(attribute, ir.FloatAttr):
        return ir.FloatAttr(attribute).value
    if isinstance(attribute, ir.StringAttr):
        return ir.StringAttr(attribute).value
    if isinstance(attribute, ir.UnitAttr):
        return None
    if isinstance(attribute, ir.TypeAttr):
        return _dtype(ir.TypeAttr(attribute).value)
    if isinstance(attribute, ir.ArrayAttr):
        return tuple(_decode(a) for a in ir.ArrayAttr(attribute))
    if isinstance(attribute, ir.DictAttr) and "size" in attribute:
        return parse(_decode(attribute["size"]))
    raise ValueError(f"[tape] attribute {attribute} is of no kind that ops use. Use numbers, strings, arrays, types.")


def _aval(type_: Any) -> Aval:
    ir = mlir.ir
    if not isinstance(type_, ir.RankedTensorType):
        raise ValueError(f"[tape] {type_} is not a ranked tensor. Ops of the tape dialect take and give tensors.")
    tensor = ir.RankedTensorType(type_)
    unknown = [k for k in range(tensor.rank) if tensor.is_dynamic_dim(k)]
    shape: list[Any] = [0 if k in unknown else d for k, d in enumerate(tensor.shape)]
    texts, device = _encoding(tensor.encoding)
    if not isinstance(texts, tuple) or len(texts) != len(unknown):
        raise ValueError(
            f'[tape] {type_} has unknown extents. Give an expression for each, as in tensor<?xf32, ["s0"]>.'
        )
    for k, text in zip(unknown, texts):
        shape[k] = parse(text)
    return Aval(tuple(shape), _dtype(tensor.element_type), device)


def _encoding(attribute: Any) -> tuple[Any, str]:
    """The expressions of unknown extents, and the device."""
    if attribute is None or not isinstance(attribute, mlir.ir.DictAttr):
        return () if attribute is None else _decode(attribute), CPU
    found = {entry.name: _decode(entry.attr) for entry in attribute}
    device = found.pop("device", CPU)
    if not isinstance(device, str) or not device or found.keys() - {"sizes"}:
        raise ValueError(
            f'[tape] {attribute} is no encoding. Give {{device = "cpu", sizes = ["s0"]}}, or the sizes alone.'
        )
    return found.get("sizes", ()), device


def _dtype(type_: Any) -> dtypes.DType:
    try:
        return dtypes.by_mlir(str(type_))
    except KeyError:
        known = ", ".join(d.mlir for d in dtypes.ALL)
        raise ValueError(f"[tape] {type_} is no element type of ours. Use one of {known}.") from None


def _attributes(op: Any, record: OpRecord) -> tuple[Hashable, ...]:
    """The attributes that are no regions."""
    missing = [name for name in record.attrs if name not in op.attributes and name not in record.regions]
    if missing:
        raise ValueError(f"[{record.name}] attribute '{missing[0]}' is missing. Attributes are {list(record.attrs)}.")
    return tuple(_decode(op.attributes[name]) for name in record.attrs if name not in record.regions)


def _check(op: Any, record: OpRecord) -> None:
    """Raise unless the op's operand, attribute and result types are what its record says."""
    names, variadic = _operand_names(record)
    if len(op.operands) != len(names) and not variadic:
        takes = ", ".join(names) or "no operands"
        raise ValueError(f"[{record.name}] takes {takes}, got {len(op.operands)} operand(s). Give every operand once.")
    avals, attrs = [_aval(v.type) for v in op.operands], _attributes(op, record)
    found = tuple(_aval(v.type) for v in op.results)
    with _scope(op.parent, (*(a.shape for a in (*avals, *found)), attrs)):
        expected = record.infer_results(avals, attrs, found[0].device if found else CPU)
        differs = found != expected
    if differs:
        shown = ", ".join(a.mlir for a in expected), ", ".join(a.mlir for a in found)
        raise ValueError(f"[{record.name}] result is {shown[1]}, but the operands give {shown[0]}.")


def _scope(function: Any, sizes: tuple) -> Any:
    """The scope in which sizes of a function, or of an op in it, are looked at. Raises ValueError if one of `sizes` has no value
    there."""
    while function.name != "func.func" and function.parent is not None:
        function = function.parent
    found = function.attributes
    values = _decode(found["tape.sizes"]) if "tape.sizes" in found else ()
    if not isinstance(values, tuple) or not all(type(v) is int for v in values):
        raise ValueError(f"[tape] tape.sizes is {values!r}. Give the value of each symbol.")
    if unknown := [i for i in symbols(sizes) if i >= len(values)]:
        raise ValueError(f"[tape] s{min(unknown)} has no value. Give the function one in tape.sizes.")
    return scope(values)


def _verifier(record: OpRecord) -> Any:
    def verify_invariants(self) -> bool:
        try:
            _check(self.operation, record)
        except Exception as e:
            self.location.emit_error(_words(e, record))
            return False
        return True

    return verify_invariants


def _words(error: Exception, record: OpRecord) -> str:
    """What a type rule raised. One that was given attributes of another kind fails in its own code."""
    if str(error).startswith("["):
        return str(error)
    return f"[{record.name}] bad attributes: {error}. Give {list(record.attrs)} as the op's record says."


def _operand_names(record: OpRecord) -> tuple[list[str], bool]:
    """Names of the operands from the type rule's signature, and whether there is a variadic tail."""
    if record.name == "concat":
        return ["lhs", "rhs"], False
    parameters = list(inspect.signature(record.infer).parameters.values())
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [n for n in plain if n not in record.attrs], variadic


def _dialect() -> Any:
    """The dialect's class with one operation class per record: built-in ones, plug-ins', and those defined by now."""
    for error in plugins.load_ops():
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)
    return _dialect_of(tuple(REGISTRY.values()))


@lru_cache(maxsize=4)
def _dialect_of(records: tuple[OpRecord, ...]) -> Any:
    ext = mlir.ext
    tape: Any = type("Tape", (ext.Dialect,), {}, name="tape")
    for record in records:
        if record.family.dialect == CONTROL:
            continue
        names, variadic = _operand_names(record)
        fields: dict[str, Any] = {}
        fields.update({f"{n}_": ext.Operand[Any] for n in names})
        if variadic:  # all of one type: an IRDL list has one constraint
            fields["rest_"] = _list_of(ext.Operand[Any])
        fields.update({f"{n}_": ext.Result[Any] for n in record.results or ()})
        members = {"__annotations__": fields, "verify_invariants": _verifier(record), "__module__": __name__}
        type(f"Tape_{record.name}", (tape.Operation,), members, name=record.name, traits=[ext.Pure])
    return tape


def context() -> Any:
    """A new MLIR context with the `tape` dialect and those of plug-ins loaded."""
    ir = mlir.ir
    made = ir.Context()
    made.allow_unregistered_dialects = True  # for ops with regions
    with made, ir.Location.unknown():
        _dialect().load()
        for error in plugins.load_dialects():
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)
    return made


# ---- parsing --------------------------------------------------------------------------------------------------


def _loc(op: Any) -> Loc | None:
    location = op.location
    if isinstance(location, mlir.ir.FileLineColLoc) and location.filename != "-":  # "-": the text itself
        return Loc(location.filename, location.start_line)
    return None


def from_function(function: Any) -> Graph:
    """The graph of a verified `func.func` whose body is in the tape dialect."""
    graph = Graph()
    blocks = function.regions[0].blocks
    if len(blocks) != 1:
        raise ValueError(f"[tape] the function at {function.location} has {len(blocks)} blocks. Give it one body.")
    block = blocks[0]
    ids = {argument: graph.add_input(_aval(argument.type)) for argument in block.arguments}
    with _scope(function, tuple(a.shape for a in graph.avals)) as asked:
        _add_nodes(graph, block, ids)
    graph.sizes = asked.hints
    for inner in {id(g): g for g, _ in graph.walk()}.values():
        verify_tokens(inner)
    if "tape.updates" in function.attributes:
        graph.updates = _updates(function.attributes["tape.updates"], graph)
    return graph


def _add_nodes(graph: Graph, block: Any, ids: dict[Any, int], end: str = "func.return") -> None:
    """The ops of a block, and what it returns; `ids` has its arguments."""
    for op in block.operations:
        op = op.operation
        if op.name == end:
            graph.outputs = [_known(op, v, ids) for v in op.operands]
            continue
        dialect, _, name = op.name.partition(".")
        if dialect not in ("tape", CONTROL) or (dialect == CONTROL and not _is_control(name)):
            raise ValueError(f"[tape] {op.name} at {op.location} is not an op of the tape dialect.")
        record = find(name)
        operands = [_known(op, v, ids) for v in op.operands]
        if record.family.dialect == CONTROL:
            results = _add_control(graph, op, record, operands)
        else:
            device = _aval(op.results[0].type).device
            results = graph.add_node(record, operands, _attributes(op, record), _loc(op), device)
        ids.update(zip(op.results, results))


def _known(op: Any, value: Any, ids: dict[Any, int]) -> int:
    """The number of an operand. In a region those from outside have none."""
    if value not in ids:
        raise ValueError(
            f"[{op.name}] at {op.location} reads a value from outside of its region. Make it an operand of the op, and an "
            "argument of the region."
        )
    return ids[value]


def _is_control(name: str) -> bool:
    return name in REGISTRY and REGISTRY[name].family.dialect == CONTROL


def _add_control(graph: Graph, op: Any, record: OpRecord, operands: list[int]) -> tuple[int, ...]:
    """An op that is in no dialect of MLIR's, which is verified here."""
    given = list(op.regions)
    if len(given) != len(record.regions):
        raise ValueError(
            f"[{record.name}] at {op.location} has {len(given)} regions. Give {', '.join(record.regions)}, in this order."
        )
    regions = iter([_read_region(op, record, r) for r in given])
    plain = iter(_attributes(op, record))
    attrs = tuple(next(regions) if name in record.regions else next(plain) for name in record.attrs)
    try:
        results = graph.add_node(record, operands, attrs, _loc(op))
    except Exception as e:
        raise ValueError(f"{_words(e, record)} ({op.location})") from None
    expected, found = [graph.avals[v] for v in results], [_aval(v.type) for v in op.results]
    if expected != found:
        shown = ", ".join(a.mlir for a in expected), ", ".join(a.mlir for a in found)
        raise ValueError(f"[{record.name}] results are {shown[1]}, but its regions give {shown[0]} ({op.location}).")
    return results


def _read_region(op: Any, record: OpRecord, region: Any) -> Region:
    blocks = list(region.blocks)
    ends = list(blocks[0].operations)[-1:] if blocks else []
    if len(blocks) != 1 or not ends or ends[0].operation.name != f"{CONTROL}.yield":
        raise ValueError(
            f"[{record.name}] at {op.location} has a region that is not one block ending with {CONTROL}.yield. Give it one."
        )
    graph = Graph()
    ids = {argument: graph.add_input(_aval(argument.type)) for argument in blocks[0].arguments}
    _add_nodes(graph, blocks[0], ids, f"{CONTROL}.yield")
    return Region(graph)


def _updates(attribute: Any, graph: Graph) -> dict[int, int]:
    pairs = _decode(attribute)
    limits = (len(graph.outputs), len(graph.inputs))
    well_formed = isinstance(pairs, tuple) and all(isinstance(p, tuple) and len(p) == 2 for p in pairs)
    if not well_formed or not all(type(n) is int and 0 <= n < limit for p in pairs for n, limit in zip(p, limits)):
        raise ValueError(
            f"[tape] tape.updates is {attribute}. "
            f"Give pairs [output, input] by position, below {limits[0]} and {limits[1]}."
        )
    return dict(pairs)


def parse_functions(text: str) -> dict[str, Graph]:
    """Parse and verify a module in the tape dialect: its functions by name, in order.

    Raises ValueError with MLIR's diagnostics when the text does not parse or does not verify.
    """
    ir = mlir.ir
    with context():
        try:
            module = ir.Module.parse(text)
        except ir.MLIRError as e:
            raise ValueError(f"[tape] {e}") from None
        functions = [op.operation for op in module.body.operations]
        if foreign := [op for op in functions if op.name != "func.func"]:
            raise ValueError(
                f"[tape] {foreign[0].name} at {foreign[0].location} is no program. Programs are func.funcs."
            )
        return {f.attributes["sym_name"].value: from_function(f) for f in functions}


def parse_graph(text: str) -> Graph:
    """The first function of a module in the tape dialect. Raises ValueError as `parse_functions` does."""
    functions = parse_functions(text)
    if not functions:
        raise ValueError("[tape] the module has no func.func.")
    return next(iter(functions.values()))
