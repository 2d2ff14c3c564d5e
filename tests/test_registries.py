"""One mechanism for all that other packages offer: passes, ops, targets and dialects by name, with the version of the interface
that they are written for; what cannot be read, imported or used is told with package and file, and does no harm."""

import subprocess
import sys
import warnings

import flambeau as fb
import pytest
from flambeau.compiler import targets
from flambeau.compiler.export import linker
from flambeau.compiler.options import Options
from flambeau.compiler.passes import registry as passes
from flambeau.compiler.plugins import foreign
from flambeau.compiler.schedules.registry import SCHEDULE_REGISTRY
from flambeau.compiler.targets import platforms
from flambeau.dialects import entry_points, irdl, plugins
from flambeau.dialects.entry_points import INTERFACES, Interface, PluginError

MODULE = """
from flambeau.compiler.passes import Pass
from flambeau.compiler.targets import Target

class Mine(Pass):
    name = "mine"
    def __call__(self, graph):
        return graph

chip = Target("chip", "x86_64-unknown-linux-gnu", "x86-64", "+sse2", 16, 16)
board = Target("board", "x86_64-unknown-linux-gnu", "x86-64", "+avx,+fma", 16, 16)
gpu = Target("gpu", "nvptx64-nvidia-cuda", "sm_90", "", 16, 16, family="gpu")

def schedule(group, machine, default):
    return None

class Dialect:
    loaded = 0
    @classmethod
    def load(cls):
        cls.loaded += 1
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`package(text)` installs a package with this `entry_points.txt`, beside a module `mine_{n}`; its file is returned."""
    count = 0

    def install(text, name="theirs"):
        nonlocal count
        count += 1
        site = tmp_path / f"site{count}"
        folder = site / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (site / f"{tmp_path.name}_{count}.py").write_text(MODULE)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\nA text.\n")
        (folder / "entry_points.txt").write_text(text.replace("MODULE", f"{tmp_path.name}_{count}"))
        monkeypatch.syspath_prepend(str(site))
        return folder / "entry_points.txt"

    monkeypatch.setattr(sys, "path", list(sys.path))
    return install


KINDS = {
    "passes": (passes.PASS_REGISTRY, "mine = MODULE:Mine", "mine", "Make it a Pass subclass with name 'wrong'"),
    "targets": (targets.REGISTRY, "chip = MODULE:chip", "chip", "Make it a Target with name 'wrong'"),
    "dialects": (
        plugins.dialects,
        "own = MODULE:Dialect",
        "own",
        r"Make it a class of the MLIR bindings' `dialects.ext",
    ),
    "schedules": (SCHEDULE_REGISTRY, "own = MODULE:schedule", "own", r"Make it a function \(group, machine, default\)"),
    "families": (
        plugins.families,
        "wrong = MODULE:Mine",
        None,
        r"Make it a flambeau.dialects.family.Family with name 'wrong'",
    ),
    "ops": (plugins.ops, "wrong = MODULE:Mine", None, "Make it an OpRecord with name 'wrong'"),
}


def test_every_group_has_a_registry():
    assert {r.group for r in foreign.registries()} == set(INTERFACES) == {f"flambeau.{kind}" for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_packages_offer_each_kind_alike(kind, package):
    registry, entry, name, advice = KINDS[kind]
    package(f"[flambeau.{kind}]\n{entry}\nwrong = builtins:int\n" if name else f"[flambeau.{kind}]\n{entry}\n")
    if name:
        assert name in registry.names() and registry.origins()[name] == "theirs 1.0" and registry.find(name) is not None
    with pytest.raises(PluginError, match=rf"\[plug-in\] {registry.what} 'wrong' of theirs 1\.0 is .*\. {advice}"):
        registry.find("wrong")
    with pytest.raises(ValueError, match=rf"there is no {registry.what} named 'nothing'"):
        registry.find("nothing")


@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_for_another_version_is_refused_with_what_changed(kind, package, monkeypatch):
    registry = KINDS[kind][0]
    group = f"flambeau.{kind}"
    package(f"[{group}]\nmine = MODULE:Mine\n", "silent")
    (offer,) = [o for o in registry.offers() if o.package == "silent 1.0"]
    assert offer.interface == 1  # what a package says nothing of
    package(f"[{group}]\nlater = MODULE:Mine\n[flambeau.interface]\n{kind} = v3\n", "ahead")
    ahead = rf"{registry.what} 'later' of ahead 1\.0 is written for version 3 of the interface, this Flambeau has 1\. Upgrade"
    with pytest.raises(PluginError, match=ahead):
        registry.find("later")
    monkeypatch.setitem(INTERFACES, group, Interface(3, 3, {2: "Other names.", 3: "Two results."}))
    behind = r"'mine' of silent 1\.0 is written for version 1 of the interface, this Flambeau serves 3 to 3\. "
    with pytest.raises(
        PluginError, match=behind + r"Version 2: Other names\. Version 3: Two results\. Upgrade the package"
    ):
        registry.load(offer)
    monkeypatch.setitem(INTERFACES, group, Interface(3, 1, {2: "Other names."}))
    assert INTERFACES[group].refusal(offer.interface) is None


def test_lines_that_are_no_entry_points_are_named_and_the_others_count(package):
    file = package("""[flambeau.passes]
mine = MODULE:Mine
nonsense
: = :
[flambeau.passses]
a = b:c
[flambeau.interface]
passes = 2
[console_scripts]
whatever this is
""")
    assert passes.find("mine").name == "mine"
    found = [p for p in entry_points.problems() if str(file) in p]
    assert found == [
        f"[plug-in] theirs 1.0: {file}, line 3: 'nonsense' is no entry point. Write: name = module:attribute.",
        f"[plug-in] theirs 1.0: {file}, line 4: ': = :' is no entry point. Write: name = module:attribute.",
        f"[plug-in] theirs 1.0: {file}, line 5: there is no group 'flambeau.passses'. Use one of "
        f"{', '.join(INTERFACES)}, flambeau.interface.",
        f"[plug-in] theirs 1.0: {file}: 'passes = 2' of flambeau.interface says no version. "
        f"Write one of {', '.join(group.removeprefix('flambeau.') for group in INTERFACES)}, and v1, v2, ...",
    ]
    with pytest.warns(RuntimeWarning, match="'nonsense' is no entry point"):
        foreign.warn_of_names()
    with pytest.raises(ValueError, match=r"there is no pass named 'b'.*'nonsense' is no entry point"):
        passes.find("b")


def test_metadata_that_are_no_text_do_no_harm(package):
    file = package("[flambeau.passes]\nmine = MODULE:Mine\n")
    file.write_bytes(file.read_bytes() + b"\xff\xfe = \x00\n")
    file.with_name("METADATA").unlink()
    assert "mine" in passes.names() and passes.origins()["mine"] == "theirs 1.0"
    assert any(str(file) in p for p in entry_points.problems())


def test_names_that_are_taken_are_not_used_and_told(package):
    package("[flambeau.targets]\nx86-64-v3 = MODULE:chip\nchip = MODULE:chip\n", "one")
    package("[flambeau.targets]\nchip = MODULE:chip\n", "two")
    assert targets.REGISTRY.find("x86-64-v3") is targets.KNOWN["x86-64-v3"]
    assert targets.REGISTRY.offer("chip").package == "one 1.0"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        foreign.warn_of_names()
    said = {str(w.message) for w in caught}
    assert (
        "[plug-in] target 'x86-64-v3' of one 1.0 is not used: one of Flambeau's own has its name. Rename or uninstall it."
        in said
    )
    assert (
        "[plug-in] target 'chip' of two 1.0 is not used: 'chip' of one 1.0 has its name. Rename or uninstall it."
        in said
    )


def test_what_cannot_be_imported_names_package_and_file(package):
    file = package("[flambeau.passes]\nlost = no_such_module_at_all:Mine\n")
    with pytest.raises(
        PluginError, match=r"'lost' of theirs 1\.0 cannot be imported: ModuleNotFoundError: .*offered in .*"
    ) as caught:
        passes.find("lost")
    assert str(file) in str(caught.value)


def test_programs_are_compiled_for_a_target_of_a_plugin(package):
    package("[flambeau.targets]\nchip = MODULE:chip\n")
    options = Options(target="chip")
    assert targets.find("chip").vector_bytes == 16
    (offer,) = foreign.target(options)
    assert offer.package == "theirs 1.0" and b"Target(" in offer.source()  # part of the keys of caches
    with pytest.raises(ValueError, match="target"):
        Options(target="no-such-chip")
    from flambeau.compiler.tools import stage_text

    program = """
func.func @main(%x: tensor<64xf32>) -> tensor<64xf32> {
  %0 = "tape.neg"(%x) : (tensor<64xf32>) -> tensor<64xf32>
  return %0 : tensor<64xf32>
}
"""
    text = stage_text.convert(program, [], "tape", "assembly", options)
    assert "xorps" in text and "ymm" not in text


def test_programs_are_exported_for_a_target_of_a_plugin(package, tmp_path, monkeypatch):
    # Workers that neighbours have started, and what these left to them, know nothing of the package.
    monkeypatch.setattr(foreign, "involved", lambda graph, options: False)
    package("[flambeau.targets]\nchip = MODULE:chip\nboard = MODULE:board\ngpu = MODULE:gpu\n")
    net, x = fb.nn.Linear(3, 2), fb.ones(4, 3)
    here = linker.native(platforms.find("board-linux")) is not None
    made = fb.export(net, (x,), tmp_path / "model", target="board-linux", executable=here)
    assert made.object_file.read_bytes()[:4] == b"\x7fELF" and "board" in (tmp_path / "model" / "model.h").read_text()
    if here:
        assert subprocess.run([made.executable, "--check"], timeout=60).returncode == 0
    with pytest.raises(
        ValueError, match=r"unknown target 'no-board-linux'. Choose one of .*aarch64-linux, board-linux, chip-linux"
    ):
        fb.export(net, (x,), tmp_path / "other", target="no-board-linux")
    with pytest.raises(ValueError, match=r"target 'gpu' is a gpu of triple nvptx64-nvidia-cuda"):
        fb.export(net, (x,), tmp_path / "other", target="gpu-linux")
    with pytest.raises(
        RuntimeError, match=r"the code for chip calls fmaf, which the runtime lacks. Export for a CPU with fused"
    ):
        fb.export(net, (x,), tmp_path / "other", target="chip-linux")


def test_dialects_of_plugins_are_loaded_where_programs_are_read(package):
    package("[flambeau.dialects]\nown = MODULE:Dialect\nnone = builtins:int\n")
    with pytest.warns(RuntimeWarning, match="dialect 'none' of theirs 1.0 is <class 'int'>"):
        irdl.context()
    assert plugins.dialects.find("own").loaded == 1
