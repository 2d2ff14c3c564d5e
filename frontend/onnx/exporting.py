"""`export`: what a model computes for example inputs, as an ONNX file.

In: a model and example inputs. Out: a file, and an `ONNXProgram`. The model is recorded as for `flambeau.export`; the recorded
primitive ops are written one by one. Next: `builder.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from flambeau import exporting, host
from flambeau.dialects.graph import Graph
from flambeau.dialects.loops import unrolled
from flambeau.onnx import writing  # noqa: F401  (fills the table)
from flambeau.onnx.builder import OnnxBuilder, Unwritten
from flambeau.onnx.package import number_of, onnx
from flambeau.runtime.recorder import Tensor

#: The oldest set of ops that has all that is written, and of files the version that came with it.
OLDEST = 18
_IR = {18: 8, 19: 9, 20: 9, 21: 10}
_LARGEST = 2**31 - 2**20  # of a protobuf message

#: What PyTorch's function takes and what changes nothing here: every export is optimized, folded and with its parameters.
_IGNORED = (
    "verbose", "export_params", "do_constant_folding", "dynamo", "external_data", "optimize", "keep_initializers_as_inputs",
    "training", "report", "profile", "fallback", "artifacts_dir", "operator_export_type", "autograd_inlining",
    "dump_exported_program",
)  # fmt: skip


class ONNXProgram:
    """What `export` makes: `model_proto`, the model, and `save(path)`, which writes it, with its weights beside it where they
    are too large for one file or `external_data` is True."""

    def __init__(self, model_proto: Any) -> None:
        self.model_proto = model_proto

    def save(self, destination: Any, *, external_data: bool = False) -> None:
        """Write the model to a path or an open file."""
        if hasattr(destination, "write"):
            destination.write(self.model_proto.SerializeToString())
            return
        apart = external_data or self.model_proto.ByteSize() > _LARGEST
        onnx().save_model(self.model_proto, str(destination), save_as_external_data=apart)


def export(
    model: Callable[..., Any],
    args: Any = (),
    f: Any = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset_version: int | None = None,
    dynamic_axes: Any = None,
    dynamic_shapes: Any = None,
    verify: bool = False,
    **ignored: Any,
) -> ONNXProgram:
    """Write `model(*args, **kwargs)` to `f`, a path or an open file, as an ONNX model; without `f` it is only returned.

    `args` is a tensor or a sequence of tensors, whose shapes and dtypes are those of the model; `kwargs` are passed as they are.
    The model is recorded in eval mode under no_grad; parameters and buffers become initializers under their names. Inputs are
    called as `forward` calls them, outputs "output", or "output_0" and so on, unless names are given. `verify` compares what
    ONNX's own reference computes for the example with what the model did.

    Raises ImportError without the package onnx, ValueError for an `opset_version` below 18 and for names that are too few or too
    many, NotImplementedError for dynamic shapes, RuntimeError that lists every op that ONNX does not have with the line that
    recorded it, and where `verify` finds a difference.
    """
    _check(opset_version, dynamic_axes or dynamic_shapes, ignored)
    onnx()
    inputs = exporting._example_arrays(args)
    call = partial(model, **kwargs) if kwargs else model
    with exporting.evaluating(model):
        trace = _recorded(call, inputs)
    names = _inputs(model, len(inputs), input_names)
    proto = _model(trace, inputs, names, output_names, opset_version or OLDEST)
    onnx().checker.check_model(proto, full_check=proto.ByteSize() < _LARGEST)
    if verify:
        _verify(proto, dict(zip(names, inputs)), trace.expected)
    program = ONNXProgram(proto)
    if f is not None:
        program.save(f, external_data=bool(ignored.get("external_data")) and proto.ByteSize() > _LARGEST)
    return program


def _check(version: int | None, dynamic: Any, ignored: Mapping[str, Any]) -> None:
    if version is not None and version < OLDEST:
        raise ValueError(f"[onnx.export] opset_version is {version}. Use {OLDEST} or a later one.")
    if dynamic:
        raise NotImplementedError(
            "[onnx.export] dynamic shapes are not written: shapes are those of the example. Export once for each shape."
        )
    if unknown := [name for name in ignored if name not in _IGNORED]:
        raise TypeError(f"[onnx.export] there is no argument '{unknown[0]}'.")


def _recorded(call: Callable[..., Any], inputs: Sequence[np.ndarray]) -> exporting.Trace:
    try:
        return exporting.record(call, inputs, _problems)
    except RuntimeError as error:
        start, _, rest = str(error).partition("the model cannot be compiled ahead of time:")
        if start != "[export] ":
            raise
        raise RuntimeError(f"[onnx.export] the model cannot be written:{rest}") from error.__cause__


def _problems(graph: Graph) -> list[str]:
    """What cannot be written, a sentence each: found by writing it."""
    graph = unrolled(graph)
    builder = OnnxBuilder(graph)
    builder.names = {v: f"i{k}" for k, v in enumerate(graph.inputs)}
    found = []
    for node in graph.nodes:
        where = f" at {node.loc}" if node.loc else ""
        try:
            builder.add(node)
        except Unwritten as lack:
            builder.names.update({v: builder.fresh() for v in node.results})
            what = f" {lack}" if str(lack) else ""
            found.append(f"ONNX has nothing for {node.op.name}{what}{where}")
    return list(dict.fromkeys(found))


def _inputs(model: Any, count: int, given: Sequence[str] | None) -> list[str]:
    if given is not None:
        if len(given) != count:
            raise ValueError(f"[onnx.export] input_names are {len(given)} for {count} inputs. Give one for each.")
        return list(given)
    try:
        parameters = inspect.signature(getattr(model, "forward", model)).parameters.values()
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return plain[:count] if len(plain) >= count else [f"input_{k}" for k in range(count)]


def _outputs(count: int, given: Sequence[str] | None) -> list[str]:
    if given is not None and len(given) != count:
        raise ValueError(f"[onnx.export] output_names are {len(given)} for {count} outputs. Give one for each.")
    return list(given or (["output"] if count == 1 else [f"output_{k}" for k in range(count)]))


def _model(
    trace: exporting.Trace,
    inputs: Sequence[np.ndarray],
    names: Sequence[str],
    output_names: Sequence[str] | None,
    version: int,
) -> Any:
    graph = unrolled(trace.graph)  # ONNX's own loops are left to those that read its files
    builder, helper = OnnxBuilder(graph), onnx().helper
    for v, source, label in zip(graph.inputs, trace.sources, trace.names):
        if isinstance(source, int):
            builder.names[v] = names[source]
        elif isinstance(source, Tensor):
            taken = {each.name for each in builder.initializers} | {*names}
            label = label if label not in taken else f"{label}_{v}"
            builder.names[v] = builder.initializer(np.asarray(host.array_of(source)), label)
        else:
            builder.known[v] = source
    for node in graph.nodes:
        builder.add(node)
    outputs = _outputs(len(graph.outputs), output_names)
    for v, name in zip(graph.outputs, outputs):
        builder.nodes.append(helper.make_node("Identity", [builder.name(v)], [name], name=f"Identity_{name}"))
    types = [
        helper.make_tensor_value_info(n, number_of(host.from_numpy(a.dtype)), a.shape) for n, a in zip(names, inputs)
    ]
    results = [
        helper.make_tensor_value_info(n, number_of(builder.aval(v).dtype), builder.shape(v))
        for n, v in zip(outputs, graph.outputs)
    ]
    made = helper.make_graph(_needed(builder.nodes, outputs), "flambeau", types, results, _used(builder))
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", version)],
        ir_version=_IR.get(version, onnx().IR_VERSION),
        producer_name="flambeau",
    )


def _needed(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """The nodes that an output depends on, in order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _used(builder: OnnxBuilder) -> list[Any]:
    read = {name for node in builder.nodes for name in node.input}
    return [each for each in builder.initializers if each.name in read]


def _verify(proto: Any, feeds: Mapping[str, np.ndarray], expected: Sequence[np.ndarray]) -> None:
    from onnx.reference import ReferenceEvaluator

    found = ReferenceEvaluator(proto).run(None, dict(feeds))
    for name, f, e in zip((o.name for o in proto.graph.output), found, expected):
        if not np.allclose(np.asarray(f, np.float64), np.asarray(e, np.float64), rtol=1e-3, atol=1e-5, equal_nan=True):
            raise RuntimeError(
                f"[onnx.export] output '{name}' of the file differs from the model's, by up to "
                f"{np.abs(np.asarray(f, np.float64) - e).max():.3g}. Please report this."
            )
