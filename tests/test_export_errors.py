"""An exported program that fails says what Python says: op, place and bound; and the value that is out of place."""

import re
import shutil
import subprocess

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import opgen
import pytest
from flambeau.compiler.export import exporter as exporter
from flambeau.compiler.export.explanation import explanation
from flambeau.compiler.targets import platforms
from flambeau.dialects import reference
from flambeau.dialects.record import REGISTRY

HERE = next((p for p in platforms.PLATFORMS.values() if p.is_here), None)
pytestmark = pytest.mark.skipif(HERE is None or shutil.which("cc") is None, reason="needs Linux and a C compiler")


@pytest.fixture(scope="module")
def link(tmp_path_factory):
    """Executables from object files: the runtime is compiled once."""
    folder = tmp_path_factory.mktemp("link")
    exporter.copy_runtime(folder)
    sources = [str(p) for p in (folder / "runtime" / "src").glob("*.c")]
    include = f"-I{folder}/runtime/include"
    subprocess.run(["cc", "-O1", include, "-c", *sources], cwd=folder, check=True)

    def linked(object_file, name):
        program, objects = folder / f"{name}.exe", [str(p) for p in folder.glob("*.o")]
        command = ["cc", include, f"-DFB_PROGRAM={name}_program", folder / "runtime" / "main.c", object_file, *objects]
        subprocess.run([*map(str, command), "-pthread", "-o", str(program)], check=True)
        return program

    return linked


def said(program, arrays):
    """What it says on stderr, without the program's name."""
    data = b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)
    done = subprocess.run([program], input=data, capture_output=True, timeout=60)
    assert done.returncode == 1 and not done.stdout, done
    return done.stderr.decode().strip().partition(": ")[2]


def agree(message, error, value):
    """The messages are the same but for the value, which is `value`, and the line of the user's code."""
    python = re.sub(r"\n.*", "", str(error))
    shown = re.search(r" = (\S+)", message)
    assert message.replace(shown[0] if shown else "", "", 1) == python
    assert (shown is None) == (value is None) and (value is None or float(shown[1]) == value or value != value)


# ---- every op that may fail ---------------------------------------------------------------------------------------


def failures():
    for record in REGISTRY.values():
        samples = [s for s in record.samples() if record.fallible]
        good = next((s for s in samples if s.error is None and all(np.size(x) for x in s.operands)), None)
        for k, sample in enumerate(samples):
            if sample.error and record.domain:
                yield pytest.param(record, good, sample, id=f"{record.name}-{k}")


def test_every_op_that_may_fail_has_a_domain_or_is_refused():
    without = [r for r in REGISTRY.values() if r.fallible and r.domain is None]
    for record in without:
        sample = next(s for s in record.samples() if not s.error)
        assert exporter.problems(opgen.graph_of(record, [np.asarray(x) for x in sample.operands], sample.attrs))
    assert len([r for r in without if not r.family.calls]) < 3


@pytest.mark.parametrize(("record", "good", "sample"), failures())
def test_messages_of_records(record, good, sample, tmp_path, link):
    bad = [np.asarray(x) for x in sample.operands]
    try:
        graph = opgen.graph_of(record, bad, sample.attrs)
    except Exception:
        return  # refused by its types already
    with pytest.raises(sample.error[0]) as error:
        reference.run(graph, bad)
    inputs, expected = (
        [np.zeros_like(x) for x in bad],
        [np.zeros(graph.avals[v].shape, graph.avals[v].dtype.numpy) for v in graph.outputs],
    )
    request = exporter.ExportRequest("one", graph, list(range(len(bad))), inputs, expected)
    exporter.write(tmp_path, request, HERE.name, False)
    domain = record.domain(*(graph.avals[v] for v in graph.inputs), *graph.nodes[0].attrs)
    x = bad[domain.operand].reshape(-1)
    wrong = next((v for v in x if domain.low is not None and not domain.low <= v <= domain.high), None)
    agree(said(link(tmp_path / "one.o", "one"), bad), error.value, wrong)


# ---- models -------------------------------------------------------------------------------------------------------


def embedded(index):
    return F.embedding(index, fb.arange(15).float().reshape(5, 3)) * 2


def computed(x, index):
    """The index is the result of other ops, one of which may fail itself."""
    return x[:, (index * 3 + x.argmax().long()) // index]


def chained(index):
    """An index found by an index."""
    table = fb.tensor([0, 7, 2, 3, 1])
    return F.embedding(table.index_select(0, index), fb.ones(5, 2))


def divided(a, b):
    return (a.int() // b.int()) % 7


def bounded(x):
    return F.binary_cross_entropy(x * 2, fb.ones(3))


I, X = np.int64, np.float32  # noqa: E741
MODELS = {
    "a row": (embedded, ([0, 1, 2, 3],), ([0, 1, 2, 99],), 99),
    "a negative row": (embedded, ([[0, 1], [2, 3]],), ([[0, 1], [-1, 3]],), -1),
    "two wrong rows": (embedded, ([0, 1, 2, 3],), ([0, 6, 8, 5],), 6),
    "the least integer": (embedded, ([0],), ([-(2**63)],), -(2.0**63)),
    "a computed index": (computed, (np.eye(2, 8, dtype=X), [1, 1]), (np.eye(2, 8, dtype=X)[:, ::-1], [1, 1]), 10),
    "a computed divisor": (computed, (np.eye(2, 8, dtype=X), [1, 1]), (np.eye(2, 8, dtype=X), [1, 0]), None),
    "the first of two": (chained, ([0, 2],), ([0, 5],), 5),
    "the second of two": (chained, ([0, 2],), ([0, 1],), 7),
    "a narrow divisor": (divided, ([[6, 8]], [[2, 4]]), ([[6, 8]], [[2, 0]]), None),
    "a scalar divisor": (divided, (6, 2), (6, 0), None),
    "targets": (
        lambda x, t: F.cross_entropy(x, t),
        (np.ones((3, 4), X), [0, 1, 2]),
        (np.ones((3, 4), X), [0, 1, 4]),
        4,
    ),
    "probabilities": (bounded, (np.array([0.1, 0.2, 0.3], X),), (np.array([0.1, 0.75, 0.3], X),), 1.5),
    "no number": (bounded, (np.array([0.1, 0.2, 0.3], X),), (np.array([0.1, 0.2, np.nan], X),), np.nan),
}


@pytest.mark.parametrize("name", MODELS)
def test_messages_of_models(name, tmp_path, link):
    model, good, bad, value = MODELS[name]
    good, bad = ([np.asarray(x) for x in xs] for xs in (good, bad))
    made = fb.export(model, tuple(map(fb.tensor, good)), tmp_path / "model", HERE.name)
    with fb.no_grad(), pytest.raises((IndexError, RuntimeError)) as error:
        model(*map(fb.tensor, bad)).tolist()
    agree(said(link(made.object_file, "model"), bad), error.value, value)


def test_explanations_leave_out_what_is_not_asked_for(tmp_path):
    """A model whose indices are its inputs carries no second copy of itself."""
    seen = []
    stage = exporter.explanation

    def noted(graph):
        seen.append(stage(graph)[0])
        return stage(graph)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "explanation", noted)
        fb.export(lambda i: embedded(i).exp().sum(), fb.tensor([0, 1]), tmp_path / "model", HERE.name)
        fb.export(lambda x: x.exp().sum(), fb.ones(2), tmp_path / "other", HERE.name)
    assert len(seen) == 2 and {n.op.name for n in seen[0].nodes} <= {"reshape", "broadcast"} and not seen[1].nodes
    assert explanation(seen[1])[1] == []
