"""Graphs compiled ahead of time: object file, C header and runtime sources, and an executable.

In: an `ExportRequest`: a graph, where its inputs come from, a sample. Out: files in a folder. The frontend reaches this
module by name and owns the folder. Next: `object_file.py` (the object file), `linker.py` (the executable),
`targets/platforms.py` (what can be exported for).
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import flambeau.runtime
import numpy as np
from flambeau.compiler import stages
from flambeau.compiler.export import linker
from flambeau.compiler.export.explanation import explanation
from flambeau.compiler.export.header import header
from flambeau.compiler.export.object_file import Contents, write_object
from flambeau.compiler.options import Options
from flambeau.compiler.plans.program import Program
from flambeau.compiler.plugins import foreign
from flambeau.compiler.targets import platforms
from flambeau.compiler.targets.platforms import Platform
from flambeau.compiler.workers import pool
from flambeau.dialects.aval import CPU, Aval
from flambeau.dialects.dtypes import SUPPORTED, from_numpy
from flambeau.dialects.graph import Graph

_RUNTIME = Path(flambeau.runtime.__file__).parent


@dataclass
class ExportRequest:
    """What to export. `sources` has, per graph input, the number of the caller's input or the array that it always is;
    `sample_inputs` are the caller's inputs of an example and `expected` the graph's outputs for them."""

    name: str
    graph: Graph
    sources: Sequence[int | np.ndarray]
    sample_inputs: Sequence[np.ndarray]
    expected: Sequence[np.ndarray]


def check_target(target: str, executable: bool) -> Platform:
    """The platform called `target`. Raises ValueError if there is none, RuntimeError without a linker if one is needed."""
    platform = platforms.find(target)
    if executable:
        linker.find(platform)
    return platform


def problems(graph: Graph) -> list[str]:
    """Why the graph cannot be compiled ahead of time, op by op; empty when it can."""
    found = []
    if graph.sizes:
        found.append(f"{len(graph.sizes)} extents are known at run time only: record the program for one shape")
    if places := sorted({a.device for a in graph.avals} - {CPU}):
        found.append(f"tensors lie on {', '.join(places)}: move the model to the CPU, with model.to('cpu')")
    for inner, node in graph.walk():
        where = f" at {node.loc}" if node.loc else ""
        if node.op.effect:
            found.append(f"{node.op.name}{where} calls Python: leave out debug.callback() and debug.print()")
        if node.op.name == "reference_call":
            found.append(f"{node.attrs[0]}{where} runs on its NumPy reference, and there is no Python: use another op")
        if called := node.op.family.calls:
            found.append(f"{node.op.name}{where} calls {called}, which exported programs do not have: pass its result")
        if inner is not graph and node.op.fallible:
            found.append(
                f"{node.op.name}{where} may fail within a branch or a loop, where a program cannot say why yet"
            )
        if node.op.name == "random_bits":
            found.append(f"{node.op.name}{where} would draw the same numbers in every run: pass them as an input")
        for v in (*node.operands, *node.results):
            if inner.avals[v].dtype not in SUPPORTED:
                found.append(
                    f"{node.op.name}{where} works on {inner.avals[v].dtype.name}, for which there are no kernels"
                )
                break
    return found


def write(folder: Path, request: ExportRequest, target: str, executable: bool) -> Path | None:
    """Write the program's files into `folder`; returns the executable. Raises RuntimeError where compiling fails."""
    platform = platforms.find(target)
    contents = compile(request, platform)
    object_file = folder / f"{request.name}.o"
    with object_file.open("wb") as file:
        write_object(file, contents, platform.machine_target())
    (folder / f"{request.name}.h").write_text(header(contents, platform))
    copy_runtime(folder)
    if not executable:
        return None
    output = folder / request.name
    sources = [folder / "runtime" / "main.c", *sorted((folder / "runtime" / "src").glob("*.c"))]
    defines = [f"FB_PROGRAM={request.name}_program"]
    linker.find(platform).link([*sources, object_file], folder / "runtime" / "include", defines, output)
    return output


def compile(request: ExportRequest, platform: Platform) -> Contents:
    """The fused plan of the request's graph for the platform's machine, with everything else that the object needs."""
    graph = request.graph
    options = Options(mode="blocking", target=platform.target)
    program = _program(graph, options)
    told, checks = explanation(graph)
    explained = _program(told, options) if checks else None
    inputs = [Aval(a.shape, from_numpy(a.dtype)) for a in request.sample_inputs]
    outputs = [graph.avals[v] for v in graph.outputs]
    return Contents(
        request.name,
        program,
        inputs,
        outputs,
        request.sources,
        request.sample_inputs,
        request.expected,
        explained,
        checks,
    )


def _program(graph: Graph, options: Options) -> Program:
    """The graph's program. Code of plug-ins runs in a worker: a pass that does not work is left out with a warning.
    Raises RuntimeError where the graph cannot be compiled, as for an op whose lowering does not work."""
    if not foreign.involved(graph, options):
        return stages.run(graph, options).program
    if refused := foreign.left_out(graph):
        raise RuntimeError(f"[export] {refused}.")
    asked = foreign.remembered(options)
    job = pool.shared().submit("program", graph, asked, urgent=True)
    job.wait()
    if job.error is None:
        return job.result
    foreign.leave_out_ops(graph, job.blamed, job.error)
    error, blamed = job.error.rstrip("."), foreign.culprits(asked, job.error, job.crash is not None, job.blamed)
    if not blamed:
        named = foreign.named(foreign.ops(graph)) or "none"
        raise RuntimeError(f"[export] the program was not compiled: {error} (ops of plug-ins in it: {named}).")
    warnings.warn(
        f"[export] {error}. The program is compiled without {foreign.named(blamed)}.", RuntimeWarning, stacklevel=2
    )
    return _program(graph, replace(asked, without=(*asked.without, *(o.name for o in blamed))))


def copy_runtime(folder: Path) -> None:
    """The C runtime's sources but the GPU's, and the executable's main.c, into `folder/runtime`."""
    target, no_gpu = folder / "runtime", shutil.ignore_patterns("cuda*")
    shutil.copytree(_RUNTIME / "include", target / "include", ignore=no_gpu)
    shutil.copytree(_RUNTIME / "src", target / "src", ignore=no_gpu)
    shutil.copy(_RUNTIME / "export" / "main.c", target / "main.c")
