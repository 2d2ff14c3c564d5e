"""Graphs as text in the `tape` dialect. Needs no MLIR.

In: a `Graph`. Out: text, which `irdl.py` beside this file reads. Extents in symbols are `?` in a type, whose encoding has their
expressions in order; as attributes they are dictionaries with the entry `size`. Ops with regions, and calls of the host, are
`control.<name>`, with a block for each region. Next: `irdl.py`.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from flambeau.dialects import dtypes
from flambeau.dialects.aval import Aval
from flambeau.dialects.graph import Graph, Node, Region
from flambeau.dialects.size import Size, repr_of

#: The name before the dot of ops with regions, and of what ends a region.
CONTROL = "control"


def _float(x: float) -> str:
    if math.isfinite(x):
        text = repr(x)
        return text if "." in text or "inf" in text else text.replace("e", ".0e")
    return f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"


def _attribute(x: Any) -> str:
    """MLIR syntax of a static attribute; `_decode` is its inverse."""
    match x:
        case bool():
            return "true" if x else "false"
        case int():
            return f"{x} : i64"
        case float():
            return f"{_float(x)} : f64"
        case str():
            return '"' + x.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case Size():
            return f'{{size = "{repr_of(x)}"}}'
        case None:
            return "unit"
        case dtypes.DType():
            return x.mlir
        case tuple():
            return "[" + ", ".join(map(_attribute, x)) + "]"
    raise TypeError(
        f"[tape] attribute {x!r} of type {type(x).__name__} has no MLIR form. Use numbers, strings, tuples."
    )


def _node(node: Node, graph: Graph, prefix: str = "", indent: str = "    ") -> str:
    operands = ", ".join(f"%{prefix}{v}" for v in node.operands)
    attrs = ", ".join(f"{k} = {_attribute(v)}" for k, v in zip(node.op.attrs, node.attrs) if not isinstance(v, Region))
    types = ", ".join(graph.avals[v].mlir for v in node.operands)
    results = ", ".join(graph.avals[v].mlir for v in node.results)
    results = results if len(node.results) == 1 else f"({results})"
    names = ", ".join(f"%{prefix}{v}" for v in node.results)
    loc = f' loc("{node.loc.file}":{node.loc.line}:0)' if node.loc else ""
    attrs = f" {{{attrs}}}" if attrs else ""
    regions = f" ({_regions(node, prefix, indent)})" if node.op.regions else ""
    name = f'"{node.op.family.dialect}.{node.op.name}"'
    return f"{indent}{names} = {name}({operands}){regions}{attrs} : ({types}) -> {results}{loc}"


def _regions(node: Node, prefix: str, indent: str) -> str:
    """The op's regions, a block each. What they name is named after the op's first result."""
    return ", ".join(
        _region(region.graph, f"{prefix or 'r'}{node.results[0]}_{k}_", indent) for k, region in enumerate(node.regions)
    )


def _region(graph: Graph, prefix: str, indent: str) -> str:
    arguments = ", ".join(f"%{prefix}{v}: {graph.avals[v].mlir}" for v in graph.inputs)
    values = ", ".join(f"%{prefix}{v}" for v in graph.outputs)
    types = ", ".join(graph.avals[v].mlir for v in graph.outputs)
    body = "".join(f"{_nodes(n, graph, prefix, indent + '  ')}\n" for n in graph.nodes)
    end = f'{indent}  "{CONTROL}.yield"({values}) : ({types}) -> ()'
    return f"{{\n{indent}^bb0({arguments}):\n{body}{end}\n{indent}}}"


def _pairs(node: Node, graph: Graph, prefix: str) -> list[tuple[str, tuple[str, ...], tuple[Aval, ...], Aval]]:
    """concat as a chain of two-operand ops: an IRDL op cannot list operands of different types. Same bits."""
    (dim,) = node.attrs
    names, avals = [f"%{prefix}{v}" for v in node.operands], [graph.avals[v] for v in node.operands]
    chain: list[tuple[str, tuple[str, ...], tuple[Aval, ...], Aval]] = []
    left, shape = names[0], avals[0]
    for i, (name, aval) in enumerate(zip(names[1:], avals[1:]), 1):
        size = shape.shape[dim] + aval.shape[dim]
        joined = aval._replace(shape=(*shape.shape[:dim], size, *shape.shape[dim + 1 :]))
        last = i == len(names) - 1
        result = f"%{prefix}{node.results[0]}" if last else f"%{prefix}part{node.results[0]}_{i}"
        chain.append((result, (left, name), (shape, aval), joined))
        left, shape = result, joined
    return chain


def _nodes(node: Node, graph: Graph, prefix: str = "", indent: str = "    ") -> str:
    if node.op.name != "concat":
        return _node(node, graph, prefix, indent)
    if len(node.operands) == 1:
        (x,), (y,) = node.operands, node.results
        type_, shape = graph.avals[x].mlir, _attribute(graph.avals[x].shape)
        return f'{indent}%{prefix}{y} = "tape.reshape"(%{prefix}{x}) {{shape = {shape}}} : ({type_}) -> {type_}'
    return "\n".join(
        f'{indent}{result} = "tape.concat"({", ".join(operands)}) {{dim = {_attribute(node.attrs[0])}}} : '
        f"({', '.join(a.mlir for a in types)}) -> {aval.mlir}"
        for result, operands, types, aval in _pairs(node, graph, prefix)
    )


def print_function(graph: Graph, name: str = "main") -> str:
    """The graph as a function in the `tape` dialect; value ids become SSA names."""
    inputs = ", ".join(f"%{v}: {graph.avals[v].mlir}" for v in graph.inputs)
    types = ", ".join(graph.avals[v].mlir for v in graph.outputs)
    updates = ", ".join(f"[{k} : i64, {i} : i64]" for k, i in sorted(graph.updates.items()))
    entries = [f"tape.sizes = {_attribute(graph.sizes)}"] if graph.sizes else []
    entries += [f"tape.updates = [{updates}]"] if updates else []
    attributes = f" attributes {{{', '.join(entries)}}}" if entries else ""
    values = ", ".join(f"%{v}" for v in graph.outputs)
    body = "\n".join(_nodes(n, graph) for n in graph.nodes)
    result = f"    return {values} : {types}" if graph.outputs else "    return"
    lines = [f"  func.func @{name}({inputs}) -> ({types}){attributes} {{", *([body] if body else []), result, "  }"]
    return "\n".join(lines)


def print_graph(graph: Graph) -> str:
    """The graph as a module with one function."""
    return f"module {{\n{print_function(graph)}\n}}\n"
