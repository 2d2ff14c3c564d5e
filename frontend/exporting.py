"""Programs without Python: `flambeau.export` compiles what a model does with example inputs ahead of time.

In: a model, example inputs, a target. Out: a folder with an object file, a C header, the weights, the C runtime and, if
asked for, an executable. The model is recorded as always; the trace is taken before it runs. Next: `programs.py` for
traces as graphs, the compiler's `export/exporter.py` (found by name, see `EXPORTER`) for the files.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from flambeau import host, safetensors_format
from flambeau.assembly import Assembly
from flambeau.autograd import no_grad
from flambeau.c_names import program_name
from flambeau.capture import Capture, captured
from flambeau.declarations import Unsampled, declared
from flambeau.dialects.graph import Graph
from flambeau.dialects.size_guards import scope
from flambeau.programs import program_graph
from flambeau.replacing import replaced_folder
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.sizing import bound

EXPORTER = "flambeau.compiler.export.exporter"
#: In every exported folder: what may be replaced by the next export.
MARK = "EXPORTED"


class Exported(NamedTuple):
    """What `export` wrote: paths of the folder, the object file, the header, the weights and the executable (or None),
    and how long it took."""

    folder: Path
    object_file: Path
    header: Path
    weights: Path
    executable: Path | None
    seconds: float


class Trace(NamedTuple):
    """A model's recorded call: its graph, per graph input the number of the caller's input or the value it always has,
    the names of those values, which of the numbers that the call took each is (None: none of them), and what it computed for the
    example, if it was to."""

    graph: Graph
    sources: list[int | Tensor | np.ndarray]
    names: list[str]
    numbers: list[int | None]
    expected: list[np.ndarray]


@declared(free="flambeau", samples=Unsampled("writes programs"))
def export(
    model: Callable[..., Any], example_inputs: Any, path: Any, target: str = "x86_64-linux", executable: bool = False
) -> Exported:
    """Compile `model(*example_inputs)` for `target` into the folder `path`, to run without Python.

    `example_inputs` is a tensor or a sequence of tensors: their shapes and dtypes are those of the program. The model is
    recorded in eval mode under `no_grad`; its parameters and buffers, and other tensors it reads, become part of the
    program. It returns a tensor, or a tuple or list of tensors. `executable` also links a static executable that reads
    and writes raw bytes (with Zig, `pip install "flambeau[export]"`, or for this machine with its C compiler).

    Nothing is left behind by a failure: ValueError for an unknown target or a name that C cannot have, TypeError for
    examples or results that are not tensors, RuntimeError that lists everything in the model that cannot be exported,
    or says that there is no linker, OSError where the folder cannot be written.
    """
    start = perf_counter()
    exporter = importlib.import_module(EXPORTER)
    exporter.check_target(target, executable)
    folder = Path(os.path.abspath(path))
    name = program_name(folder.name)
    inputs = _example_arrays(example_inputs)
    with staged(folder) as partial:
        trace = record(model, inputs, exporter.problems)
        weights = {n: s for n, s in zip(trace.names, trace.sources) if isinstance(s, Tensor)}
        with open(partial / f"{name}.safetensors", "wb") as stream:
            safetensors_format.write(stream, weights, {"format": "pt"})
        sources = [np.array(host.array_of(s)) if isinstance(s, Tensor) else s for s in trace.sources]
        request = exporter.ExportRequest(name, trace.graph, sources, inputs, trace.expected)
        made = exporter.write(partial, request, target, executable)
    object_file, header, weight_file = (folder / f"{name}{suffix}" for suffix in (".o", ".h", ".safetensors"))
    program = folder / made.name if made else None
    return Exported(folder, object_file, header, weight_file, program, perf_counter() - start)


# ---- recording ------------------------------------------------------------------------------------------------


def _at_these_sizes(export: Sequence[tuple]) -> Assembly:
    return Assembly(bound(export))


def record(
    model: Callable[..., Any],
    inputs: Sequence[np.ndarray],
    problems: Callable[[Graph], list[str]],
    assemble: Callable[[Sequence[tuple]], Assembly] = _at_these_sizes,
    compute: bool = True,
) -> Trace:
    """Record one call of the model and take its trace. `assemble` makes a graph of it, by default one without symbols; the example
    is computed if `compute` says so. Raises RuntimeError with all that `problems` and we find."""
    with captured(model) as capture, no_grad(), evaluating(model):
        examples = [host.copied(a) for a in inputs]
        returned = _called(model, [x.clone() for x in examples], capture)  # not computed: reading one is noticed
        results = [r.clone() for r in _tensors(returned)]
        slots = [recorder.slot_for_tensor(r) for r in results]
        own = {recorder.slot_for_tensor(x): k for k, x in enumerate(examples)}
        names = {recorder.slot_for_tensor(t): n for n, t in _named_tensors(model)}
        scalars = recorder.trace_scalars()
        with scope(recorder.trace_sizes()):
            asm = assemble(recorder.trace_export())
        names = {asm.roots.get(s, s): n for s, n in names.items()}
        graph, used = program_graph(asm, slots)
        graph.updates = {}
        read = set(used)
        _refuse(
            problems(graph)
            + capture.problems(lambda t: asm.roots.get(s := recorder.slot_for_tensor(t), s) in read)
            + _reading()
        )
        numbers = {s: np.asarray(x, graph.avals[asm.slots[s]].dtype.numpy) for s, x in scalars.items()}
        sources = [own[s] if s in own else numbers[s] if s in numbers else recorder.tensor_for_slot(s) for s in used]
        labels = [names.get(s, f"constant_{k}") for k, s in enumerate(used)]
        ordinals = {s: k for k, s in enumerate(scalars)}
        recorder.capture_open()
        expected = [np.array(host.array_of(r)) for r in results] if compute else []
    return Trace(graph, sources, labels, [ordinals.get(s) for s in used], expected)


def _called(model: Callable[..., Any], arguments: Sequence[Tensor], capture: Capture) -> Any:
    """What the model returns. If it fails because it reads what is not computed yet, that is said, and all else so far."""
    try:
        return model(*arguments)
    except Exception as error:
        if reading := _reading():
            _refuse(reading + capture.problems(), error)
        raise


def _reading() -> list[str]:
    place = recorder.capture_read()
    if place is None:
        return []
    return [
        f"the model reads values while it runs{_at(place)} (item(), print, if on a tensor, ...), so what it does next "
        "depends on them: compute with tensors only; where() chooses between values"
    ]


def _at(place: Sequence[Any]) -> str:
    return f" at {place[0]}:{place[1]}" if place else ""


def _refuse(found: Sequence[str], cause: Exception | None = None) -> None:
    if found:
        listed = "".join(f"\n  - {problem}" for problem in found)
        raise RuntimeError(f"[export] the model cannot be compiled ahead of time:{listed}") from cause


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Eval mode, if the model has modes; then every module is as it was."""
    modules = list(model.modules()) if hasattr(model, "modules") else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes):
            module.training = mode


def _named_tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    if hasattr(model, "named_parameters"):
        yield from model.named_parameters()
        yield from model.named_buffers()


def _tensors(returned: Any) -> list[Tensor]:
    results = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    for r in results:
        if not isinstance(r, Tensor):
            raise TypeError(
                f"[export] the model returned a {type(r).__name__}. Return a tensor, or a tuple of tensors."
            )
    if not results:
        raise TypeError("[export] the model returned nothing. Return a tensor, or a tuple of tensors.")
    return results


def _example_arrays(examples: Any) -> list[np.ndarray]:
    """Copies of the example inputs. Raises TypeError if they are not tensors or arrays of a supported dtype."""
    listed = list(examples) if isinstance(examples, (tuple, list)) else [examples]
    arrays = []
    for k, x in enumerate(listed):
        if not isinstance(x, (Tensor, np.ndarray)):
            raise TypeError(
                f"[export] example input {k} is a {type(x).__name__}. Pass tensors: flambeau.tensor(value)."
            )
        arrays.append(np.array(host.array_of(x) if isinstance(x, Tensor) else x, order="C"))
        host.check_supported("export", host.from_numpy(arrays[-1].dtype))
    return arrays


# ---- the folder -----------------------------------------------------------------------------------------------


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A new folder that takes the place of `folder` if the block succeeds, and is removed otherwise.

    Raises FileExistsError if `folder` holds anything but an earlier export.
    """
    if folder.exists() and not (folder.is_dir() and ((folder / MARK).exists() or not any(folder.iterdir()))):
        raise FileExistsError(f"[export] {folder} exists and is not an earlier export. Choose another path.")
    with ExitStack() as stack:
        try:
            partial = stack.enter_context(replaced_folder(folder))
        except OSError as error:
            raise type(error)(f"[export] cannot write to {folder.parent}: {error}. Choose another path.") from error
        yield partial
        (partial / MARK).write_text("Written by flambeau.export; a new export to this path replaces the folder.\n")
