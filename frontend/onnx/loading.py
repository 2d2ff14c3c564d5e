"""`load`: a module that computes what an ONNX file says.

In: a path, bytes or a file. Out: `OnnxModule`, whose parameters are the file's initializers of floating-point numbers, under their
names. Next: `program.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from flambeau.nn.module import Module
from flambeau.nn.parameter import Parameter
from flambeau.onnx.names import fb
from flambeau.onnx.package import onnx
from flambeau.onnx.program import OnnxProgram, OnnxStep, as_tensor
from flambeau.runtime.recorder import Tensor

_SHOWN = 10


class OnnxModule(Module):
    """What `load` makes. `input_names` and `output_names` are the file's; `forward` takes tensors in that order, or by name.

    Its parameters are the initializers of floating-point numbers under their own names, a dot in which makes a submodule, and can
    be trained; whole numbers and what is made of constants alone are part of the program. Nodes run in eval mode whatever the
    module's mode is: Dropout passes on, BatchNormalization takes the statistics that it holds.
    """

    def __init__(self, program: OnnxProgram) -> None:
        super().__init__()
        self._weights: dict[str, tuple[Module, str]] = {}
        self._tensors: dict[str, Tensor] = {}
        for name, value in _weights(program):
            self._weights[name] = self._place(name, Parameter(fb.from_numpy(np.array(value))))
            del program.constants[name]
        program.fold({})
        given = {*self._weights, *program.constants}
        self._program = program
        self.input_names = [name for name in program.inputs if name not in given]
        self.output_names = list(program.outputs)

    def _place(self, name: str, parameter: Parameter) -> tuple[Module, str]:
        """Where a parameter is kept: below a submodule for each dot in its name, unless another name is in the way."""
        module: Module = self
        *path, last = name.split(".")
        if not all((*path, last)):
            path, last = [], name.replace(".", "_")
        for part in path:
            if part not in module._modules:
                if hasattr(module, part):
                    module, last = self, name.replace(".", "_")
                    break
                module.add_module(part, Module())
            module = module._modules[part]  # type: ignore[assignment]
        while hasattr(module, last):
            last += "_"
        module.register_parameter(last, parameter)
        return module, last

    def _find(self, name: str) -> Any:
        if name in self._weights:
            module, last = self._weights[name]
            return getattr(module, last)
        raise KeyError(name)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The outputs: a tensor, or a tuple of them. Raises TypeError for an input too many, too few or of no such name."""
        if len(inputs) > len(self.input_names):
            raise TypeError(f"[OnnxModule] got {len(inputs)} inputs, takes {', '.join(self.input_names) or 'none'}.")
        values = dict(zip(self.input_names, inputs)) | named
        wrong = {*values} ^ {*self.input_names}
        if wrong or len(values) != len(inputs) + len(named):
            raise TypeError(
                f"[OnnxModule] got {', '.join(values) or 'nothing'}, takes {', '.join(self.input_names)}, each once."
            )
        results = self._program.run({n: as_tensor(v) for n, v in values.items()}, self._find)
        found = tuple(as_tensor(r) for r in results)
        return found[0] if len(found) == 1 else found

    def extra_repr(self) -> str:
        return f"{', '.join(self.input_names)} -> {', '.join(self.output_names)}"


def load(f: Any) -> OnnxModule:
    """The model in an ONNX file as a module: `f` is a path, bytes, or an open file.

    Weights that lie in files beside it are read, too. Raises ImportError without the package onnx, ValueError for what is no
    ONNX model, and NotImplementedError that names every op that we do not have, with its node.
    """
    proto = _read(f)
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    import flambeau.onnx.rules  # noqa: F401  (fills the table)

    program = OnnxProgram(proto.graph, version)
    _check(list(program.missing()), {function.name for function in proto.functions})
    module = OnnxModule(program)
    return module.eval()


def _read(f: Any) -> Any:
    package = onnx()
    try:
        if isinstance(f, bytes):
            return package.load_model_from_string(f)
        if isinstance(f, package.ModelProto):
            return f
        return package.load_model(f if hasattr(f, "read") else os.fspath(f))
    except OSError:
        raise
    except Exception as error:  # protobuf's, which is of no class of ours
        name = "the bytes" if isinstance(f, bytes) else getattr(f, "name", f)
        raise ValueError(f"[onnx.load] {name}: no ONNX model: {str(error).splitlines()[0]}") from error


def _check(missing: list[OnnxStep], local: set[str]) -> None:
    if not missing:
        return
    by_kind: dict[str, list[str]] = {}
    for step in missing:
        domain = f"{step.proto.domain}." if step.proto.domain not in ("", "ai.onnx") else ""
        by_kind.setdefault(domain + step.node.kind, []).append(step.node.name)
    said = ", ".join(
        f"{kind} (node '{names[0]}'{f' and {len(names) - 1} more' if len(names) > 1 else ''})"
        for kind, names in list(by_kind.items())[:_SHOWN]
    )
    more = f" and {len(by_kind) - _SHOWN} others" if len(by_kind) > _SHOWN else ""
    hint = "onnx.inliner.inline_local_functions puts the model's own functions in place." if local else ""
    hint = hint or "docs/onnx.md lists those that it has."
    raise NotImplementedError(f"[onnx.load] the model uses ops that Flambeau does not have: {said}{more}. {hint}")


def _weights(program: OnnxProgram) -> Iterator[tuple[str, np.ndarray]]:
    """What is trained: floating-point initializers that some node takes as a tensor."""
    from flambeau.onnx.node import RULES  # that module imports this one

    wanted = set()
    for step in program.steps:
        rule = RULES.get(step.node.kind)
        for k, name in enumerate(step.inputs):
            if rule is not None and k not in rule.host and not (rule.raw and k > 0):
                wanted.add(name)
        for inner in step.inner.values():
            wanted |= inner.reads()
    for name, value in list(program.constants.items()):
        if name in wanted and name in program.initializers and value.dtype.kind in "fV":
            yield name, value
