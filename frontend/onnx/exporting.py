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
from flambeau.dialects.size import symbols
from flambeau.dialects.size_guards import Guard
from flambeau.dialects.size_scopes import current
from flambeau.onnx import dynamic, writing  # noqa: F401  (fills the table)
from flambeau.onnx.builder import OnnxBuilder, Unwritten
from flambeau.onnx.package import number_of, onnx
from flambeau.onnx.program import used
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
    many, RuntimeError that lists every op that ONNX does not have with the line that recorded it, that says which dynamic sizes the
    model fixes, and where `verify` finds a difference.

    Sizes of the inputs that differ when the file is run have names, by `dynamic_axes={"x": {0: "batch"}}` or, also by the names of
    parameters, `dynamic_shapes={"x": {0: "batch"}}`; sizes of one name are one size. `verify` then compares at two sizes.
    """
    _check(opset_version, ignored)
    onnx()
    inputs = exporting._example_arrays(args)
    call = partial(model, **kwargs) if kwargs else model
    parameters = _parameters(model, len(inputs))
    names = _inputs(parameters, len(inputs), input_names)
    if dynamic_axes or dynamic_shapes:
        named = dynamic.size_names(dynamic_axes, dynamic_shapes, names, output_names or ["output"], parameters)
        named = dynamic.completed(named, inputs, names)
        with exporting.evaluating(model):
            sized = dynamic.record(call, inputs, named, names, partial(_problems_of, names=names))
            tried = [inputs, dynamic.resized(inputs, named, 0)[0]] if verify else []
            expected = [exporting.record(call, each, lambda graph: []).expected for each in tried]
        proto = _model(sized, names, output_names, opset_version or OLDEST, named)
    else:
        with exporting.evaluating(model):
            trace = _recorded(call, inputs)
        tried, expected = [inputs] if verify else [], [trace.expected]
        sized, named = dynamic.SizedTrace(trace, {}, {}, inputs), dynamic.SizeNames([{} for _ in inputs], {})
        proto = _model(sized, names, output_names, opset_version or OLDEST, named)
    onnx().checker.check_model(proto, full_check=proto.ByteSize() < _LARGEST)
    for given, wanted in zip(tried, expected):
        _verify(proto, dict(zip(names, given)), wanted)
    program = ONNXProgram(proto)
    if f is not None:
        program.save(f, external_data=bool(ignored.get("external_data")) and proto.ByteSize() > _LARGEST)
    return program


def _check(version: int | None, ignored: Mapping[str, Any]) -> None:
    if version is not None and version < OLDEST:
        raise ValueError(f"[onnx.export] opset_version is {version}. Use {OLDEST} or a later one.")
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
    return _lacks(builder, {})


def _problems_of(sized: dynamic.SizedTrace, names: Sequence[str]) -> list[str]:
    with dynamic.asked(sized):
        return _lacks(_begun(sized, names), sized.places)


def _lacks(builder: OnnxBuilder, places: Mapping[int, tuple[int, int, str]]) -> list[str]:
    """Write all nodes, and say which cannot be written, and which need the value of a dynamic size."""
    found, scope = [], current()
    for node in builder.graph.nodes:
        where = f" at {node.loc}" if node.loc else ""
        known = {*scope.guards} if scope else set()
        try:
            builder.add(node)
        except Unwritten as lack:
            builder.names.update({v: builder.fresh() for v in node.results})
            what = f" {lack}" if str(lack) else ""
            found.append(f"ONNX has nothing for {node.op.name}{what}{where}")
        if scope and (pinned := _pinned([g for g in scope.guards if g not in known], places)):
            found.append(f"{node.op.name}{where} is written for one value of {pinned} only")
    return list(dict.fromkeys(found))


def _pinned(guards: Sequence[Guard], places: Mapping[int, tuple[int, int, str]]) -> str:
    """The names of sizes that have one value by these guards."""
    found = {places[i][2]: None for g in guards if g.relation == "==" for i in sorted(symbols(g.size))}
    return ", ".join(f"'{name}'" for name in found)


def _parameters(model: Any, count: int) -> list[str]:
    """What `forward` calls its inputs; nothing where that cannot be told."""
    try:
        parameters = inspect.signature(getattr(model, "forward", model)).parameters.values()
    except (TypeError, ValueError):
        return []
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return plain[:count] if len(plain) >= count else []


def _inputs(parameters: Sequence[str], count: int, given: Sequence[str] | None) -> list[str]:
    if given is not None:
        if len(given) != count:
            raise ValueError(f"[onnx.export] input_names are {len(given)} for {count} inputs. Give one for each.")
        return list(given)
    return list(parameters or [f"input_{k}" for k in range(count)])


def _outputs(count: int, given: Sequence[str] | None) -> list[str]:
    if given is not None and len(given) != count:
        raise ValueError(f"[onnx.export] output_names are {len(given)} for {count} outputs. Give one for each.")
    return list(given or (["output"] if count == 1 else [f"output_{k}" for k in range(count)]))


def _begun(sized: dynamic.SizedTrace, names: Sequence[str]) -> OnnxBuilder:
    """A builder that knows what enters the graph."""
    trace = sized.trace
    graph = unrolled(trace.graph, all_of_them=False)
    builder = OnnxBuilder(graph, {i: (names[k], d) for i, (k, d, _) in sized.places.items()})
    for v, source, label in zip(graph.inputs, trace.sources, trace.names):
        if isinstance(source, int):
            builder.names[v] = names[source]
        elif isinstance(source, Tensor):
            taken = {each.name for each in builder.initializers} | {*names}
            label = label if label not in taken else f"{label}_{v}"
            builder.names[v] = builder.initializer(np.asarray(host.array_of(source)), label)
        else:
            builder.known[v] = source
    for v, size in zip(graph.inputs, [sized.numbers.get(v) for v in trace.graph.inputs]):
        if size is not None:
            del builder.known[v]
            builder.names[v] = builder.cast(builder.number(size), builder.aval(v).dtype)
    return builder


def _model(
    sized: dynamic.SizedTrace,
    names: Sequence[str],
    output_names: Sequence[str] | None,
    version: int,
    called: dynamic.SizeNames,
) -> Any:
    helper = onnx().helper
    with dynamic.asked(sized):
        builder = _begun(sized, names)
        graph = builder.graph
        for node in graph.nodes:
            builder.add(node)
        outputs = _outputs(len(graph.outputs), output_names)
        for v, name in zip(graph.outputs, outputs):
            builder.nodes.append(helper.make_node("Identity", [builder.name(v)], [name], name=f"Identity_{name}"))
    types = [
        helper.make_tensor_value_info(
            n, number_of(host.from_numpy(a.dtype)), [said.get(d, size) for d, size in enumerate(a.shape)]
        )
        for n, a, said in zip(names, sized.inputs, called.inputs)
    ]
    results = [
        helper.make_tensor_value_info(
            n,
            number_of(builder.aval(v).dtype),
            dynamic.dimensions(builder.shape(v), sized.places, called.outputs.get(n, {})),
        )
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
            wanted.update(_reads(node))
            kept.append(node)
    return kept[::-1]


def _reads(node: Any) -> list[str]:
    return [*node.input, *(name for each in node.attribute if each.HasField("g") for name in used(each.g))]


def _used(builder: OnnxBuilder) -> list[Any]:
    read = {name for node in builder.nodes for name in _reads(node)}
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
