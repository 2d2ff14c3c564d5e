"""Stages on text: what each one reads and writes, and the way from one to a later one.

In: text in the form of one stage. Out: text in the form of another. The forms are programs and clusters in the `tape`
dialect, fusion groups in `linalg` and what goes with it, kernels in MLIR (those of GPUs in the `gpu` dialect), plans in the
`plan` dialect, LLVM IR, assembly. What one stage writes the next one reads: several clusters or kernels stand one after the
other with a separator between them, groups in one module. Next: `opt.py`, the tool on top.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flambeau.compiler import stages, targets
from flambeau.compiler.backend import mlir, object_code
from flambeau.compiler.groups import reading
from flambeau.compiler.groups.form import Group
from flambeau.compiler.groups.text import print_groups
from flambeau.compiler.kernel import Cluster, KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.passes import Pass, on_groups, pipeline, registry
from flambeau.compiler.passes.cluster import kind_of
from flambeau.compiler.plugins import boundary
from flambeau.compiler.schedules import scheduling
from flambeau.compiler.stages import KERNEL, PROGRAM, Compilation
from flambeau.dialects.graph import Graph
from flambeau.dialects.irdl import parse_functions, print_function
from flambeau.dialects.plan import parse_plan, print_plan
from flambeau.dialects.size_scopes import within
from flambeau.runtime._binding import Plan
from flambeau.runtime.plan_spec import KERNEL_COPY, KERNEL_TRANSFER, LAUNCH_FIELDS, ExprOp, PlanSpec, RefKind

#: Stages whose form is a program in the `tape` dialect: all before the first that makes clusters.
TAPE = stages.ON_PROGRAMS
#: The stage whose form is that of fusion groups: structured ops on tensors, `compiler/groups`.
LINALG = pipeline.GROUPS
#: The stage whose form is that of fusion groups, each of which says how its nests are looped.
SCHEDULE = "schedule"
#: What starts a comment in a stage's form, where that is not the `//` of MLIR and PTX.
_COMMENT = {"ir": ";", "optimised": ";", "assembly": "#"}
_SEPARATOR = re.compile(r"^(?://|;|#) -----\s*$", re.MULTILINE)
_TITLE = re.compile(r"\s*(?://|;|#) (kernel .*)\n")


def split(text: str) -> list[str]:
    """The parts between separators (`// -----` on a line, or with the form's own comment sign), without those that hold
    nothing but comments. Each is moved down with empty lines, so that line numbers in errors are those of `text`."""
    parts, start = [], 0
    for end in [*_SEPARATOR.finditer(text), None]:
        part = text[start : end.start() if end else len(text)]
        if any(line and not line.lstrip().startswith("//") for line in map(str.strip, part.splitlines())):
            parts.append("\n" * text.count("\n", 0, start) + part)
        start = end.end() if end else start
    return parts


def join(parts: Iterable[str], stage: str, target: str = "host") -> str:
    """The inverse of `split`."""
    return separator(stage, target).join(parts)


def separator(stage: str, target: str = "host") -> str:
    """The line between two parts in the form of `stage`."""
    return f"{_comment(stage, target)} -----\n"


def _comment(stage: str, target: str) -> str:
    is_ptx = stage == "assembly" and targets.find(target).family == "gpu"
    return "//" if is_ptx else _COMMENT.get(stage, "//")


def convert(text: str, passes: Sequence[Pass], first: str, last: str, options: Options, upstream: str = "") -> str:
    """One part of a text in the form of stage `first`, after `passes` and the stages up to `last`.

    With no `last`, what there is after the passes. `upstream` is a pipeline of MLIR's own passes, for fusion groups. Raises
    ValueError or RuntimeError for text that does not parse or verify, for unknown stages, and where there is no way
    between the two.
    """
    check_names(first, last)
    if upstream and first != LINALG:
        raise ValueError(
            f"[opt] MLIR's passes run on fusion groups, and the text is that of '{first}'. Leave them out."
        )
    _check_target(options.target, first, last)
    if first in TAPE:
        return _programs(text, passes, first, last, options)
    last = last or first
    _check_order(first, last)
    if first in (LINALG, SCHEDULE):
        return _from_groups(text, passes, first, last, options, upstream)
    if passes:
        raise ValueError(f"[opt] passes work on programs, and the text is that of stage '{first}'. Name stages only.")
    if first == "plan":
        return _plan(text, last)
    if first == "cluster":
        return _clusters(text, last, options)
    return _kernel(text, first, last, options.target)


def check_names(*names: str) -> None:
    """Raise ValueError unless every name is that of a stage, or empty."""
    for name in names:
        if name not in ("", *stages.names()):
            raise ValueError(f"[stages] there is no stage named '{name}'. The stages are {', '.join(stages.names())}.")


def _check_target(target: str, *names: str) -> None:
    ours = stages.of_kernels(target)
    for name in names:
        if name in KERNEL and name not in ours:
            raise ValueError(f"[stages] kernels for {target} have no stage '{name}'. Theirs are {', '.join(ours)}.")


def _check_order(first: str, last: str) -> None:
    if first == last:
        return
    order = stages.names()
    if order.index(last) < order.index(first):
        raise ValueError(f"[stages] '{last}' comes before '{first}'. The order is {', '.join(order)}.")
    if last == "plan" and first in ("cluster", LINALG, SCHEDULE, "kernels"):
        raise ValueError(f"[plan] the text of stage '{first}' does not say what its parts share. Start from a program.")


# ---- programs -------------------------------------------------------------------------------------------------


def _programs(text: str, passes: Sequence[Pass], first: str, last: str, options: Options) -> str:
    graphs = parse_functions(text)
    if not graphs:
        raise ValueError("[tape] the module has no func.func.")
    works = {}
    for name, graph in graphs.items():
        works[name], at = run_passes(graph, passes, first, options)
    last = last or at
    _check_order(first, last)
    for work in works.values():
        run_stages(work, at, last)
    return _text(works, last, options.target)


def run_passes(graph: Graph, passes: Sequence[Pass], first: str, options: Options) -> tuple[Compilation, str]:
    """The program of stage `first` after `passes`, and the stage whose form it then has."""
    work, at = Compilation(graph, options), first
    for each in passes:
        if isinstance(each, on_groups.GroupPass):
            raise ValueError(f"[{each.name}] the pass works on groups. Give it those: --to linalg writes them.")
        if at == "cluster":
            raise ValueError(f"[{each.name}] there are clusters already. Name the pass that makes them last.")
        with within(work.asked):
            result = _run_pass(each, work.graph)
        if isinstance(result, Graph):
            work.graph = result
        elif isinstance(result, list) and all(isinstance(c, Cluster) for c in result):
            work.clusters, at = result, "cluster"
        else:
            raise TypeError(f"[{each.name}] the pass gave {type(result).__name__}. A pass gives a Graph or clusters.")
    return work, at


def _run_pass(each: Pass, graph: Graph) -> object:
    """What a pass gives for a copy of the graph; a program is verified. Raises PluginError for one of a plug-in's, with
    the place that raised; ValueError for an invalid program."""
    offer = registry.offer(each.name)
    if offer is None:
        try:
            with boundary.watch(f"'{each.name}'", boundary.SECONDS):
                result = each(boundary.copied(graph))
        except boundary.TooLong as e:
            raise TimeoutError(f"[{each.name}] the pass {e}. Give it more time, or report this as a bug.") from e
    else:
        with boundary.beyond(offer, len(graph.nodes)):
            result = each(boundary.copied(graph))
    if isinstance(result, Graph) and offer is not None:
        pipeline.check(offer, graph, result)
    elif isinstance(result, Graph):
        try:
            boundary.check(graph, result)
        except ValueError as e:
            raise ValueError(f"[{each.name}] the pass gave an invalid program: {e}. Report this as a bug.") from e
    return result


def run_stages(work: Compilation, first: str, last: str) -> None:
    """The stages after `first` up to `last`, as far as they work on whole programs."""
    order = list(PROGRAM)
    end = "kernels" if last in KERNEL else last
    if order.index(end) < order.index(first):
        raise ValueError(f"[stages] '{last}' comes before '{first}', which the passes already reached.")
    with within(work.asked):
        for stage in order[order.index(first) + 1 : order.index(end) + 1]:
            stages.advance(work, stage)


def _from_groups(text: str, passes: Sequence[Pass], first: str, last: str, options: Options, upstream: str) -> str:
    """Fusion groups after a pipeline of MLIR's passes and then `passes`, verified, and what later stages make of them. Groups
    of stage `schedule` have the schedules that they say."""
    whole = upstream if upstream.startswith("builtin.module(") else f"builtin.module({upstream})"
    mlir.prepare(whole)  # refuses a pipeline before the text is read
    module = reading.module(text)
    said = reading.schedules(module)
    if said and (first == LINALG or passes):
        raise ValueError(
            "[opt] the groups say their schedules, which hold for them as they are. Leave passes out; --from schedule."
        )
    mlir.run(module, whole)
    passes = _after_modules(module, passes)
    works = {}
    for name, group in reading.read(module).items():
        work = works[name] = Compilation(Graph(sizes=group.sizes), options)
        with within(work.asked):
            for each in passes:
                group = _on_group(each, group)
        work.groups = [group]
        if first == SCHEDULE:
            with within(work.asked):
                work.scheduled = [scheduling.read(group, targets.find(options.target), said.get(name, ()))]
        run_stages(work, first, last)
    return _text(works, last, options.target)


def _after_modules(module: Any, passes: Sequence[Pass]) -> list[Pass]:
    """Run the passes on what is no group yet, which come first; returns the others."""
    on_modules = [p for p in passes if isinstance(p, on_groups.ModulePass) and p.on_modules]
    if on_modules != list(passes[: len(on_modules)]):
        raise ValueError(
            f"[{on_modules[-1].name}] the pass works on what is no group yet. Name it before other passes."
        )
    with mlir.context():
        for each in on_modules:
            each.rewrite(module)
    return list(passes[len(on_modules) :])


def _on_group(each: Pass, group: Group) -> Group:
    """What a pass gives for a group, verified."""
    if not isinstance(each, on_groups.GroupPass):
        raise ValueError(
            f"[{each.name}] the pass works on programs, and the text is that of groups. Give it a program."
        )
    offer = registry.offer(each.name)
    with boundary.beyond(offer, len(group.ops)) if offer else boundary.watch(each.name, boundary.SECONDS):
        found = each(group)
    if offer is not None:
        pipeline.check_group(offer, group, found, lambda g: None)
    else:
        on_groups.check(group, found)
    return found


def _clusters(text: str, last: str, options: Options) -> str:
    works = {}
    for name, graph in parse_functions(text).items():
        work = works[name] = Compilation(graph, options)
        work.clusters = [Cluster(kind_of(graph), graph)]
        run_stages(work, "cluster", last)
    return _text(works, last, options.target)


# ---- writing --------------------------------------------------------------------------------------------------


def text(work: Compilation, stage: str, name: str = "main") -> str:
    """What `stage` made of the program called `name`."""
    return _text({name: work}, stage, work.options.target)


def _text(works: Mapping[str, Compilation], stage: str, target: str) -> str:
    if stage in (LINALG, SCHEDULE):
        groups = {n: g for name, work in works.items() for n, g in _named_groups(work, name)}
        said = (
            {n: x for name, work in works.items() for n, x in _named_schedules(work, name)} if stage == SCHEDULE else {}
        )
        return print_groups(groups, notes=True, schedules=said)
    if stage in TAPE:
        functions = "".join(f"{print_function(_at_hints(work, work.graph), name)}\n" for name, work in works.items())
        return f"module {{\n{functions}}}\n"
    parts: list[str] = []
    for name, work in works.items():
        if stage == "cluster":
            parts += _cluster_texts(work, name)
        elif stage == "plan":
            parts.append(_plan_text(work, name))
        else:
            parts += _kernel_texts(work, name, stage)
    return join(parts, stage, target)


def _cluster_texts(work: Compilation, name: str) -> list[str]:
    names = [f"{name}_{k}" if len(work.clusters) > 1 else name for k in range(len(work.clusters))]
    texts = [print_function(_at_hints(work, c.graph), n) for n, c in zip(names, work.clusters)]
    return [f"// {c.kind} cluster\nmodule {{\n{text}\n}}\n" for c, text in zip(work.clusters, texts)]


def _named_groups(work: Compilation, name: str) -> list[tuple[str, Group]]:
    several = len(work.groups) > 1
    named = [(f"{name}_{k}" if several else name, group) for k, group in enumerate(work.groups)]
    return [(n, replace(group, sizes=work.asked.hints)) for n, group in named if group is not None]


def _named_schedules(work: Compilation, name: str) -> list[tuple[str, list[str]]]:
    several = len(work.scheduled) > 1
    named = [(f"{name}_{k}" if several else name, found) for k, found in enumerate(work.scheduled)]
    return [(n, [str(schedule) for schedule in found.schedules]) for n, found in named if found is not None]


def _at_hints(work: Compilation, graph: Graph) -> Graph:
    """A part of the program, with the values that its symbols had: its text stands alone."""
    return replace(graph, sizes=work.asked.hints)


def _plan_text(work: Compilation, name: str) -> str:
    kernels = [f"//   kernel {k}: {source.label}\n" for k, source in enumerate(work.program.kernels)]
    errors = [f"//   error {k}: {op}\n" for k, op in enumerate(work.program.errors, 1)]
    return "".join([f"// plan of @{name}\n", *kernels, *errors, print_plan(work.program.spec)])


def _kernel_texts(work: Compilation, name: str, stage: str) -> list[str]:
    found = (source for low in work.lowered for call in low.calls for source in call.sources())
    sources = {source.text: source for source in found if source.text}
    titles = [f"kernel {k} of @{name}: {source.label}" for k, source in enumerate(sources.values())]
    return [_kernel_text(title, source, stage, work.options) for title, source in zip(titles, sources.values())]


def _kernel_text(title: str, source: KernelSource, stage: str, options: Options) -> str:
    """A kernel in the form of a stage, or of that which its device has in the place of it."""
    target = options.target_of(source.device)
    stage = targets.find(target).dialect if stage in stages.DIALECTS else stage
    return _titled(title, lower_kernel(source.text, "kernels", stage, target), stage, target)


def _titled(title: str, text: str, stage: str, target: str) -> str:
    return f"{_comment(stage, target)} {title}\n{text.rstrip()}\n"


# ---- kernels and plans ----------------------------------------------------------------------------------------


def _kernel(text: str, first: str, last: str, target: str) -> str:
    title = _TITLE.match(text)
    body = lower_kernel(_read(text, first), first, last, target)
    return _titled(title[1], body, last, target) if title else body.rstrip() + "\n"


def _read(text: str, stage: str) -> str:
    """The text of a kernel as its parser prints it. Raises RuntimeError when it does not parse or verify."""
    if stage in ("kernels", *stages.DIALECTS):
        return str(mlir.parse(text))
    if stage == "assembly":
        raise ValueError("[stages] assembly is the last form; nothing reads it.")
    return str(_llvm_module(text))


def lower_kernel(text: str, first: str, last: str, target: str) -> str:
    """A kernel's text taken from the form of one stage to that of a later one."""
    order = ("kernels", *stages.of_kernels(target))
    for stage in order[order.index(first) + 1 : order.index(last) + 1]:
        text = _lower_once(text, stage, target)
    return text


def _lower_once(text: str, stage: str, target_name: str) -> str:
    target = targets.find(target_name)
    if stage in stages.DIALECTS:
        module = mlir.parse(text)
        object_code.lower(module, target)
        return str(module)
    if stage == "ir":
        return object_code.translate(mlir.parse(text))
    if stage == "optimised":
        return str(object_code.optimise(text, target))
    return object_code.emit_assembly(_llvm_module(text), target)


def _llvm_module(text: str) -> object:
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(text)
    module.verify()
    return module


def _plan(text: str, last: str) -> str:
    if last != "plan":
        raise ValueError(f"[plan] a plan does not hold its kernels, so there is no way from it to '{last}'.")
    spec = parse_plan(text)
    Plan(_with_steps_only(spec), (1,) * spec.n_kernels)  # the runtime checks what the types do not say; nothing runs
    return print_plan(spec)


def _with_steps_only(spec: PlanSpec) -> PlanSpec:
    """The plan with calls over their grids in the places of launches, copies in those of transfers, and one arena: what a runtime
    without devices can check."""
    exprs, whole = list(spec.exprs), spec.arena_bytes
    for _, size, *_ in spec.devices:
        exprs.append((ExprOp.ADD, whole, size))
        whole = len(exprs) - 1

    def here(step: tuple) -> tuple:
        refs = tuple((kind, 0 if kind == RefKind.ARENA else k, offset) for kind, k, offset in step[-2])
        domain = step[1] if len(step) == LAUNCH_FIELDS else step[1:4]
        return (KERNEL_COPY if step[0] == KERNEL_TRANSFER else step[0], *domain, refs, step[-1])

    return spec._replace(exprs=tuple(exprs), arena_bytes=whole, steps=tuple(map(here, spec.steps)), devices=())
