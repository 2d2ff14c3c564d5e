"""The stages from kernel text to mapped code: what they keep, what they refuse, what they write when asked."""

import ctypes
import marshal
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from flambeau.compiler import targets
from flambeau.compiler.backend import literals, loader, mlir, object_code
from flambeau.compiler.caches.object_store import ObjectStore
from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.export import elf
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.targets import host
from flambeau.runtime import _binding

OPTIONS = Options()


def source(write, label: str = "sample") -> KernelSource:
    b = Emitter()
    write(b)
    return b.source(label)


def doubling(b):
    with b.loop(b.lo, b.hi, 16) as loop:
        x = b.load(b.buffer(0), loop.index, "f32", 16)
        b.store(b.add(b.mul(x, x), 1.0), b.buffer(1), loop.index)


def with_body(body: str) -> KernelSource:
    empty = Emitter().source("broken").text
    return KernelSource(empty.replace("    llvm.return", f"    {body}\n    llvm.return"), "broken")


def assembly(write, target: str, tmp_path) -> str:
    object_code.compile_object(source(write), Options(target=target, dump=str(tmp_path / target)))
    (path,) = (tmp_path / target).glob("*.s")
    return path.read_text()


def test_every_stage_can_be_dumped(tmp_path):
    object_code.compile_object(source(doubling, "a label/with * signs"), Options(dump=str(tmp_path)))
    stages = {p.name.split(".", 1)[1]: p.read_text() for p in tmp_path.iterdir()}
    assert sorted(stages) == ["0-kernel.mlir", "1-llvm.mlir", "2-translated.ll", "3-optimised.ll", "4-assembly.s"]
    assert "scf.for" in stages["0-kernel.mlir"] and "scf.for" not in stages["1-llvm.mlir"]
    assert "define" in stages["2-translated.ll"] and "kernel:" in stages["4-assembly.s"]
    assert all(re.fullmatch(r"a-label-with---signs-[0-9a-f]{12}", p.name.split(".")[0]) for p in tmp_path.iterdir())


def test_object_code_is_reproducible():
    assert object_code.compile_object(source(doubling), OPTIONS) == object_code.compile_object(
        source(doubling, "b"), OPTIONS
    )


def test_nothing_is_contracted(tmp_path):
    for target in ("x86-64-v3", "x86-64-v4"):
        text = assembly(doubling, target, tmp_path)
        assert "vmulps" in text and "vaddps" in text and "vfmadd" not in text


def test_targets_use_their_vectors(tmp_path):
    assert "%zmm" in assembly(doubling, "x86-64-v4", tmp_path)
    narrow = assembly(doubling, "x86-64-v3", tmp_path)
    assert "%ymm" in narrow and "%zmm" not in narrow


def test_targets():
    host = targets.find("host")
    assert host is targets.find("host") and host.vector_bytes in (16, 32, 64)
    assert host.lanes(4) == host.vector_bytes // 4 and host.l1 >= 8 << 10 and host.l2 >= host.l1
    known = "aarch64-neon, host, sm_100, .*, sm_90, x86-64-v3, x86-64-v4"
    with pytest.raises(ValueError, match=rf"\[target\] unknown target 'vax'. Choose one of {known}"):
        targets.find("vax")


def test_cache_sizes_come_from_sysfs(tmp_path):
    from flambeau.compiler.targets.host import cache_sizes, cache_ways

    caches = [("Data", 1, "48K", 12), ("Instruction", 1, "32K", 8), ("Unified", 2, "2M", 16), ("Unified", 3, "8M", 0)]
    for i, (kind, level, size, ways) in enumerate(caches):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", level), ("size", size), ("ways_of_associativity", ways)):
            (folder / name).write_text(f"{text}\n")
    (tmp_path / "index9").mkdir()
    assert cache_sizes(tmp_path) == {1: 48 << 10, 2: 2 << 20, 3: 8 << 20}
    assert cache_ways(tmp_path) == {1: 12, 2: 16}
    assert cache_sizes(tmp_path / "absent") == cache_ways(tmp_path / "absent") == {}


def test_lines_that_share_cache_sets_drive_each_other_out():
    machine = replace(targets.find("x86-64-v3"), l1=32 << 10, l1_ways=8, l2=512 << 10, l2_ways=8)
    assert machine.lines_kept(1, 4) == machine.lines_kept(1, 1984) == 512  # everywhere
    assert machine.lines_kept(1, 1920) == 256  # in every second set
    assert machine.lines_kept(1, 2048) == 16 and machine.lines_kept(1, 4096) == machine.lines_kept(1, 0) == 8
    assert machine.lines_kept(2, 4096, 16) == 128 * 16 and machine.lines_kept(2, 8192, 16) == 64 * 16
    assert machine.lines_kept(2, 3136, 16) == 8192


def test_loops_that_fill_or_copy_call_nothing():
    def write(b):
        with b.loop(0, b.hi) as loop:
            b.store(b.const(0.0, "f32"), b.buffer(0), loop.index)
        with b.loop(0, b.hi, 8) as loop:
            b.store(b.load(b.buffer(1), loop.index, "f32", 8), b.buffer(2), loop.index)

    assert elf.undefined_symbols(object_code.compile_object(source(write), OPTIONS)) == []


def test_loops_compute_once_what_they_do_not_change():
    """Also where a kernel's text says it within the loop, twice. And a loop ends in the one branch that it takes."""

    def write(b):
        x = b.load(b.buffer(0), b.const(0, "i64"), "f32")
        with b.loop(b.lo, b.hi, 8) as loop:
            for place in (1, 2):
                b.store(b.splat(b.div(x, 3.0), 8), b.buffer(place), loop.index)

    text = str(object_code.compile_module(source(write), OPTIONS))
    before, loop = text.split("\n.lr.ph:")
    assert before.count("fdiv") == 1 and "fdiv" not in loop
    body = loop.split("\n\n")[0]
    assert body.count("store <8 x float>") == 2 and body.count("br i1") == 1


@pytest.mark.accept("ERR-01")
def test_bad_text_names_kernel_stage_diagnostic_and_reproducer(tmp_path):
    with pytest.raises(object_code.CompileError) as caught:
        object_code.compile_object(with_body("%x = arith.addf %lo, %lo : i64"), Options(dump=str(tmp_path)))
    message = str(caught.value)
    assert message.startswith("[compile] kernel 'broken' failed at stage 'parse': ")
    assert "arith.addf" in message
    path = re.search(r"The kernel's text is in (\S+)\.$", message).group(1)
    assert "arith.addf" in open(path).read()


@pytest.mark.parametrize(
    ("body", "stage", "words"),
    [
        ("gpu.barrier", "translate", "ops not lowered to the llvm dialect: gpu.barrier"),
        ("%y = arith.sitofp %lo : i64 to f32\n    %z = math.exp %y : f32\n    llvm.store %z, %bufs : f32, !llvm.ptr",
         "emit", "the code calls expf"),
        ("this is no op", "parse", "not found for custom op"),
    ],
)  # fmt: skip
def test_what_does_not_compile_raises(body, stage, words, tmp_path):
    with pytest.raises(object_code.CompileError, match=f"failed at stage '{stage}': .*{re.escape(words)}"):
        object_code.compile_object(with_body(body), Options(dump=str(tmp_path)))
    object_code.compile_object(source(doubling), OPTIONS)  # and the next kernel does


def test_unknown_passes_raise():
    with pytest.raises(mlir.MlirError, match="no-such-pass"):
        mlir.run(mlir.parse("module {}"), "builtin.module(no-such-pass)")


def test_damaged_objects_do_not_load():
    code = object_code.compile_object(source(doubling), OPTIONS)
    for bad in (b"", b"not an object", code[: len(code) // 2], b"\0" * 4096):
        with pytest.raises(loader.LoadError, match="does not link"):
            loader.load(bad)


X86_64 = pytest.mark.skipif(
    not targets.find("host").triple.startswith("x86_64") or sys.platform != "linux", reason="LLVM links"
)


def tripling(b):
    with b.loop(b.lo, b.hi) as loop:
        x = b.load(b.buffer(0), loop.index, "f32")
        b.store(b.add(b.mul(x, 3.0), 0.625), b.buffer(1), loop.index)


@X86_64
def test_the_runtime_maps_what_the_compiler_makes():
    """By itself, without LLVM: code with constants gives what it gives behind LLVM's linker."""
    code = object_code.compile_object(source(tripling), OPTIONS)
    x = np.arange(7, dtype=np.float32)
    kernel_type = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
    )
    for address in (_binding.map_object(code, loader.SYMBOL), loader.link(code)):
        y = np.zeros(7, np.float32)
        kernel_type(address)((ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data), None, 0, 7, None)
        assert y.tolist() == [3 * v + 0.625 for v in x.tolist()]
    assert _binding.map_object(code, "absent") is None


@X86_64
def test_the_runtime_maps_nothing_that_it_does_not_understand():
    """Whatever is changed in an object, or cut off: it is mapped within its bounds, or it is not."""
    code = object_code.compile_object(source(tripling), OPTIONS)
    head = 64
    sections = int.from_bytes(code[40:48], "little")
    for cut in range(0, len(code), 16):
        assert _binding.map_object(code[:cut], loader.SYMBOL) is None or cut > sections
    for at in (*range(head), *range(sections, len(code))):
        for value in (0, 1, 0x7F, 0xFF):
            found = _binding.map_object(code[:at] + bytes([value]) + code[at + 1 :], loader.SYMBOL)
            assert found is None or found > 0


def test_what_llvm_said_of_this_cpu_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path))
    first = host._described()
    assert first == host._asked() and len(list((tmp_path / "hosts").rglob("*"))) == (
        2 if _binding.cpu_identity() else 0
    )
    if _binding.cpu_identity():
        monkeypatch.setattr(host, "_asked", lambda: pytest.fail("LLVM is asked again"))
    assert host._described() == first and _binding.cpu_identity() == _binding.cpu_identity()


@pytest.mark.skipif(_binding.cpu_identity() is None, reason="nothing is kept")
@pytest.mark.parametrize(
    "kept", [None, 5, (1, 2), (1, 2, 3), ("x86_64", "skylake", 1), ("x86_64", "skylake", {"avx": 1}, 4)]
)
def test_what_another_version_kept_of_this_cpu_is_asked_again(kept, tmp_path, monkeypatch):
    """Sound entries of another form: whoever wrote them had the same CPU and LLVM."""
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path))
    asked = host._described()
    store = ObjectStore.of_user("host")
    names = [path.name for path in store.folder.glob("??/*")]
    assert len(names) == 1
    store.write(names[0], marshal.dumps(kept))
    assert host._described() == asked and host.target().cpu == asked[1]
    assert marshal.loads(store.read(names[0])) == asked


def test_equal_symbols_are_loaded_side_by_side():
    out = np.zeros(1, np.int64)
    bufs = (ctypes.c_void_p * 1)(out.ctypes.data)
    kernel_type = ctypes.CFUNCTYPE(
        None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
    )
    addresses = [
        loader.load(
            object_code.compile_object(source(lambda b, n=n: b.store(b.const(n, "i64"), b.buffer(0), 0)), OPTIONS)
        )
        for n in range(3)
    ]
    for number, address in reversed(list(enumerate(addresses))):
        kernel_type(address)(bufs, None, 0, 1, None)
        assert out[0] == number


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("float 1.5", "float 0x3FF8000000000000"),
        ("float 0.1", "float 0x3FB99999A0000000"),
        ("double 0.1", "double 0x3FB999999999999A"),
        ("double -0.0", "double 0x8000000000000000"),
        ("float +inf", "float 0x7FF0000000000000"),
        ("float -inf", "float 0xFFF0000000000000"),
        ("float +qnan", "float 0x7FF8000000000000"),
        ("float -nan(0x1)", "float 0xFFF8000020000000"),
        ("float f0x00000001", "float 0x36A0000000000000"),
        ("float 1.0e-45", "float 0x36A0000000000000"),
        ("half 1.0", "half 0xH3C00"),
        ("bfloat -2.5", "bfloat 0xRC020"),
        ("i32 15, float 2.0", "i32 15, float 0x4000000000000000"),
        ('"a float 1.5 string"', '"a float 1.5 string"'),
    ],
)
def test_literals_become_hexadecimal(text, want):
    assert literals.to_hexadecimal(text) == want
