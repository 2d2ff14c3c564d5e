"""A family of ops with loops of its own, from a package (examples/family): on every tier, in groups, through training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_plugin import installed_from, python

EXAMPLE = Path(__file__).parent.parent / "examples" / "family"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return installed_from(EXAMPLE, tmp_path_factory.mktemp("family"))


def outcome(site, code, **environment):
    """What a program prints last, read as JSON."""
    found = python(site, "-c", code, **environment)
    assert found.returncode == 0 and found.stderr == "", found.stderr
    return json.loads(found.stdout.splitlines()[-1])


TRAINING = """
import json, time
import flambeau as fb
import numpy as np
from flambeau.compiler.tools import report
from flambeau_toy import cumprod, cumsum

def train():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    w, b = fb.tensor(draw(4, 6), requires_grad=True), fb.tensor(draw(6), requires_grad=True)
    losses = []
    for n in [5, 5, 7, 9, 11, 3, 1, 12, 5]:
        x = fb.tensor(draw(3, n, 4))
        w.grad = b.grad = None
        y = cumsum(fb.tanh(x @ w) * 0.1, 1).exp() + b     # along a middle axis, between ops that fuse
        z = cumprod(1.0 + fb.sigmoid(y) * 0.01, 0) * 2.0  # along the first
        loss = (z * z).mean()
        loss.backward()
        with fb.no_grad():
            w -= 0.1 * w.grad
            b -= 0.1 * b.grad
        losses.append(loss.item())
    return [v.hex() for v in [*losses, *map(float, w.detach().numpy().ravel()), *map(float, b.detach().numpy())]]

tiers = lambda: sorted({p.tier for p in report.programs()})
state = train()
deadline = time.monotonic() + 60
while report.programs()[-1].mode == "background" and tiers() != ["fused"] and time.monotonic() < deadline:
    time.sleep(0.1)
    assert train() == state
programs = report.programs()
kernels = {k for p in programs for k in p.kernels}
print(json.dumps([state, tiers(), sorted(kernels), [p.error for p in programs if p.error], max(p.symbols for p in programs)]))
"""


@pytest.fixture(scope="module")
def fused(site):
    return outcome(site, TRAINING, FLAMBEAU_COMPILE="blocking")


def test_training_runs_in_compiled_code_for_all_sizes(fused):
    state, tiers, kernels, errors, symbols = fused
    assert errors == [] and tiers == ["fused"] and symbols > 0
    assert "scan" in kernels and any("tanh" in label and "mul" in label for label in kernels)
    assert all(abs(float.fromhex(x)) < 100 for x in state)


@pytest.mark.parametrize("mode", ["off", "background"])
def test_every_tier_gives_the_same_bits(site, fused, mode):
    state, tiers, _, errors, _ = outcome(site, TRAINING, FLAMBEAU_COMPILE=mode)
    assert state == fused[0] and errors == []
    assert tiers == (["generic"] if mode == "off" else ["fused"])


BATCHES = """
import json
import flambeau as fb
from flambeau.func import grad, jvp, vmap
from flambeau_toy import cumsum

x = fb.arange(12.0).reshape(3, 4)
rows = vmap(lambda row: cumsum(row * row))(x)
gradients = vmap(grad(lambda row: cumsum(row * row).sum()))(x)
along = jvp(lambda x: cumsum(x * x, 1), (x,), (x,))[1]
print(json.dumps([rows.tolist(), gradients.tolist(), along.tolist()]))
"""


def test_batches_and_tangents(site):
    rows, gradients, along = map(np.array, outcome(site, BATCHES))
    x = np.arange(12.0).reshape(3, 4)
    assert (rows == np.cumsum(x * x, 1)).all() and (along == 2 * rows).all()
    assert (gradients == 2 * x * np.arange(4, 0, -1)).all()


RECORDS = """
import json
import flambeau as fb
import numpy as np
from flambeau.compiler.driver import compile
from flambeau.compiler.baseline.op_by_op import to_array
from flambeau.compiler.options import Options
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import from_numpy
from flambeau.dialects.record import find
from flambeau_toy import cumprod, cumsum

def run(record, x, attrs, mode):
    b = GraphBuilder()
    result = record(b.input(Aval(x.shape, from_numpy(x.dtype))), **attrs)
    b.graph.outputs = [result.id]
    return to_array(compile(b.graph, Options(mode=mode))([x])[0], result.aval)

checked = 0
for record in (find("toy_cumsum"), find("toy_cumprod")):
    for sample in record.samples():
        for dtype in (np.float32, np.float64) if sample.error is None else ():
            x = sample.operands[0].astype(dtype)
            expected = record.reference(x, *(sample.attrs[k] for k in record.attrs))
            for mode in ("off", "blocking"):
                assert run(record, x, sample.attrs, mode).tobytes() == expected.tobytes()
                checked += 1

def finite(f, x, order):
    # a directional derivative, by differences
    v, h = np.linspace(-1, 1, x.size).reshape(x.shape), 1e-4
    at = [f(x + k * h * v) for k in (-1, 0, 1)]
    return (at[2] - at[0]) / (2 * h) if order == 1 else (at[2] - 2 * at[1] + at[0]) / h**2

for scan in (cumsum, cumprod):
    for dim in (0, 1):
        data = np.linspace(0.5, 1.5, 12).reshape(3, 4)
        loss = lambda x: (scan(x, dim) ** 3).mean()
        v = fb.tensor(np.linspace(-1, 1, 12).reshape(3, 4))
        x = fb.tensor(data, requires_grad=True)
        (first,) = fb.autograd.grad(loss(x), x, create_graph=True)
        along = (first * v).sum()
        (second,) = fb.autograd.grad(along, x)
        value = lambda y: loss(fb.tensor(y)).item()
        assert abs(along.item() - finite(value, data, 1)) < 1e-6 * (1 + abs(along.item()))
        assert abs((second * v).sum().item() - finite(value, data, 2)) < 1e-5 * (1 + abs(along.item()))

errors = []
for call in (lambda: cumsum(fb.ones(3), 1), lambda: cumsum(fb.ones(3).to(fb.int64))):
    try:
        call()
    except Exception as error:
        errors.append(f"{type(error).__name__}: {error}".splitlines()[0])
print(json.dumps([checked, errors]))
"""


def test_samples_gradients_and_refusals(site):
    checked, errors = outcome(site, RECORDS, FLAMBEAU_COMPILE="blocking")
    assert checked == 2 * 10 * 2 * 2
    assert errors[0].startswith("IndexError: [cumsum] axis 1 is out of range")
    assert errors[1].startswith("RuntimeError: [cumsum] ")


GROUPS = """
import json
from flambeau.compiler import stages
from flambeau.compiler.groups import reading
from flambeau.compiler.groups.batching import batched
from flambeau.compiler.groups.verify import verify
from flambeau.compiler.groups.form import GroupError
from flambeau.compiler.groups.text import print_group
from flambeau.compiler.backend.mlir import MlirError
from flambeau.compiler.options import Options
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import float32
from flambeau.dialects.record import find

b = GraphBuilder()
x = b.input(Aval((4, 6), float32))
b.graph.outputs = [find("tanh")(find("toy_cumsum")(x * 2.0, axis=1, reverse=True)).id]
texts = []
for through_mlir in (False, True):
    work = stages.run(b.graph, Options(mode="blocking", through_mlir=through_mlir))
    texts.append([call.source.text for lowered in work.lowered for call in lowered.calls])
assert texts[0] == texts[1]
group = next(g for g in work.groups if '"toy.scan"' in print_group(g))
text = print_group(group)
assert reading.parse_group(text) == group

def refused(old, new):
    assert old in text
    try:
        reading.parse_group(text.replace(old, new))
    except (GroupError, MlirError) as error:
        return str(error)
    raise AssertionError(new)

said = [refused(*pair) for pair in (
    ("axis = 1", "axis = 7"), ("axis = 1 : i64, ", ""), ('"sequential"', '"lanes"'), ("toy.scan", "toy.other"),
)]
whole = batched(group, {0}, 3)  # one axis further in
verify(whole)
assert [op.attribute["axis"] for op in whole.ops] == [2] and whole.avals[1].shape == (3, 4, 6)
gpu = []
try:
    stages.run(b.graph, Options(mode="blocking", target="sm_90"))
except ValueError as error:
    gpu.append(str(error))
print(json.dumps([text, said, gpu, [c.kind for c in work.clusters]]))
"""


def test_its_op_goes_through_text_and_mlir(site, tmp_path):
    text, said, gpu, kinds = outcome(site, GROUPS)
    assert said[0].startswith("[toy.scan] value 1: its axis is 7 of tensor<4x6xf32>. Name one of its axes.")
    assert "[toy.scan] attribute 'axis' is missing. Give axis, order, reverse." in said[1]
    assert said[2].startswith("[toy.scan] value 1: its order is lanes. Scans go one after the other")
    assert "unregistered operation 'toy.other'" in said[3]
    assert gpu == ["[compile] ops of family 'toy' have no code generator for a gpu. There are: cpu."]
    assert kinds == ["loops", "toy", "loops"]
    file = tmp_path / "group.mlir"
    file.write_text(text.replace("arith.addf", "arith.maximumf"))  # what somebody edits is what is compiled
    found = python(site, "-m", "flambeau.compiler.opt", str(file), "--from", "linalg", "--to", "kernels")
    assert found.returncode == 0 and "arith.maximumf" in found.stdout and "arith.addf" not in found.stdout


SCHEDULES = """
import json
import flambeau as fb
from flambeau.compiler.tools import stage_text
from flambeau.compiler.options import Options
from flambeau_toy import cumsum

def run(**options):
    with fb.compiler_options(mode="blocking", **options):
        y = cumsum(fb.ones(5, 700) * 2.0, 1).numpy()
    return [text for label, text in fb.explain().schedules if label == "scan"][-1], y.sum().item()

found = [run(), run(schedules={"toy.lines": {"grain": 100}}), run(schedules={"toy.lines: sc*": "grain = 200"})]
refused = []
for given in ({"toy.lines": {"rows": 1}}, {"toy.lines": {"grain": 0}}):
    try:
        run(schedules=given)
    except ValueError as error:
        refused.append(str(error))
text = (
    "func.func @main(%x: tensor<4x6xf32>) -> tensor<4x6xf32> {"
    '%y = "tape.toy_cumsum"(%x) {axis = 1 : i64, reverse = false} : (tensor<4x6xf32>) -> tensor<4x6xf32> '
    "return %y : tensor<4x6xf32> }"
)
options = Options(mode="blocking")
written = stage_text.convert(text, (), "tape", "schedule", options)
edited = stage_text.convert(written.replace("4096", "128"), (), "schedule", "", options)
assert "toy.lines(grain = 128)" in edited
kernels = [stage_text.convert(*given, "kernels", options) for given in ((written, (), "schedule"), (text, (), "tape"))]
bodies = [[line for line in text.splitlines() if not line.startswith("// kernel")] for text in kernels]
assert bodies[0] == bodies[1]
print(json.dumps([found, refused]))
"""


def test_its_nests_have_schedules_of_its_own_kind(site):
    found, refused = outcome(site, SCHEDULES)
    assert [text for text, _ in found] == [f"toy.lines(grain = {n})" for n in (4096, 100, 200)]
    assert len({total for _, total in found}) == 1
    assert refused[0].startswith("[schedule] toy.lines has no field 'rows'. Its fields: grain.")
    assert refused[1].startswith("[schedule] toy.lines: grain is 0. Give ")
    listed = python(site, "-m", "flambeau.compiler.opt", "--list-schedules").stdout
    assert "toy.lines: The lines of a scan" in listed and "elements that a thread takes at a time" in listed


# ---- halves that do not work

USE = """
import json
import flambeau as fb
from flambeau.compiler.tools import report
from flambeau_toy import cumsum
values = cumsum(fb.tensor([1.0, 2.0, 3.0]) * 2.0).tolist()
print(json.dumps([values, [p.tier for p in report.programs()]]))
"""
BROKEN = {
    "does not import": (
        "SCAN = ",
        "SCAN = 1 / 0, ",
        "'toy' of flambeau-toy 0.1.0 cannot be imported: ZeroDivisionError: division by zero (compiled.py:",
    ),
    "has no structure": (
        'Rules("toy", structure,',
        'Rules("toy", None,',
        "the compiler's half of 'toy' has no `structure`. Say what structured ops a node is",
    ),
    "is another family's": (
        'Rules("toy",',
        'Rules("other",',
        "the compiler's half of family 'toy' of flambeau-toy 0.1.0 is Rules(",
    ),
    "names an op of another dialect": (
        'GroupOp("toy.scan"',
        'GroupOp("tensor.scan"',
        "Its op 'tensor.scan' is named like another family's. Name it toy.something.",
    ),
    "names a schedule like another family's": (
        '"toy.lines"',
        '"lines"',
        "Its schedule 'lines' is named like another family's. Name it toy.something.",
    ),
    "has a schedule that is none": (
        "schedules=(Lines,)",
        "schedules=(Call,)",
        "among its `schedules`. Give subclasses of Schedule that have a `kind`",
    ),
    "chooses a schedule that is none": (
        'fixed.get("grain", 4096)',
        'fixed.get("grain", 0)',
        "the code generator of family 'toy' of flambeau-toy 0.1.0 raised ScheduleError: [schedule] toy.lines: grain is 0",
    ),
    "generator raises": (
        "schedule.grain // length",
        "schedule.grain // 0",
        "the code generator of family 'toy' of flambeau-toy 0.1.0 raised ZeroDivisionError",
    ),
    "generator ends its process": (
        "    fragment = Fragment(nest.graph)",
        "    __import__('os').abort()",
        "'toy_cumsum' of flambeau-toy 0.1.0 does not compile: the compiler process was killed",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_half_that_does_not_work_is_named_and_its_ops_run_on_their_references(site, tmp_path, how):
    shutil.copytree(site, tmp_path / "site")
    old, new, said = BROKEN[how]
    file = tmp_path / "site" / "flambeau_toy" / "compiled.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    found = python(tmp_path / "site", "-c", USE)
    assert found.returncode == 0, found.stderr
    values, tiers = json.loads(found.stdout)
    assert values == [2.0, 6.0, 12.0] and tiers == ["fused"]
    assert said in found.stderr and "Its NumPy reference runs instead." in found.stderr, found.stderr


def test_a_family_without_a_piece_is_named_where_an_op_of_it_is_used(site, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    file = tmp_path / "site" / "flambeau_toy" / "family.py"
    file.write_text(file.read_text().replace('    compiler="flambeau_toy.compiled:RULES",\n', ""))
    found = python(tmp_path / "site", "-c", "from flambeau.dialects.record import find\nfind('toy_cumsum')")
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert "family 'toy' of flambeau-toy 0.1.0 is family toy. It has no `compiler`. Name the compiler's half" in last, (
        last
    )
