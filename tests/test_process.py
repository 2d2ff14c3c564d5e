"""Names that PyTorch programs look for: compile, jit, backends, hub, accelerator, switches, and the memory of tensors."""

import flambeau as fb
import numpy as np
import pytest


def test_what_would_be_compiled_is_returned():
    def double(x):
        return x * 2

    layer = fb.nn.Linear(2, 2)
    assert fb.compile(double) is double and fb.compile(mode="max-autotune", fullgraph=True)(layer) is layer
    for wrap in (fb.jit.script, fb.jit.ignore, fb.jit.unused, fb.jit.export, fb.jit.script_if_tracing):
        assert wrap(double) is double
    assert fb.jit.ignore(drop=False)(double) is double and fb.jit.trace(layer, fb.ones(2)) is layer
    assert not fb.jit.is_scripting() and not fb.jit.is_tracing()
    for refused in (lambda: fb.jit.save(layer, "x"), lambda: fb.jit.load("x")):
        with pytest.raises(NotImplementedError, match=r"\[jit\.(save|load)\] there are no scripts in files"):
            refused()


def test_switches_are_remembered_and_change_no_bit():
    x = fb.tensor(np.linspace(-1, 1, 3000, dtype=np.float32).reshape(50, 60))
    before = (x @ x.t()).numpy().tobytes()
    fb.use_deterministic_algorithms(True, warn_only=True)
    fb.set_float32_matmul_precision("medium")
    fb.backends.cuda.matmul.allow_tf32 = True
    try:
        assert fb.are_deterministic_algorithms_enabled() and fb.get_deterministic_debug_mode() == 1
        assert fb.get_float32_matmul_precision() == "medium"
        assert (x @ x.t()).numpy().tobytes() == before
        with pytest.raises(RuntimeError, match=r"\[set_float32_matmul_precision\] 'low' is unknown"):
            fb.set_float32_matmul_precision("low")
        fb.set_deterministic_debug_mode("error")
        assert fb.get_deterministic_debug_mode() == 2
    finally:
        fb.set_deterministic_debug_mode(0)
        fb.set_float32_matmul_precision("highest")
        fb.backends.cuda.matmul.allow_tf32 = False


def test_what_is_not_there_says_so():
    assert (
        not fb.backends.cudnn.is_available() and not fb.backends.mps.is_available() and not fb.set_flush_denormal(True)
    )
    with fb.backends.cudnn.flags(enabled=False):
        assert fb.backends.cudnn.enabled is False
    assert fb.backends.cudnn.enabled is True
    fb.set_default_device("cpu")
    with pytest.raises(NotImplementedError, match=r"\[set_default_device\] tensors are made on the CPU"):
        fb.set_default_device("cuda")
    if not fb.accelerator.is_available():
        assert fb.accelerator.current_accelerator() is None and fb.accelerator.device_count() == 0
        with pytest.raises(RuntimeError, match=r"\[accelerator\.synchronize\] there is no accelerator"):
            fb.accelerator.synchronize()


def test_hub_reads_folders_and_downloads_nothing(tmp_path):
    (tmp_path / "hubconf.py").write_text("def twice(n, by=2):\n    return n * by\n")
    assert fb.hub.list(str(tmp_path), source="local") == ["twice"]
    assert fb.hub.load(str(tmp_path), "twice", 3, by=5, source="local", trust_repo=True) == 15
    with pytest.raises(RuntimeError, match="nothing is downloaded"):
        fb.hub.load("pytorch/vision", "resnet18")
    with pytest.raises(RuntimeError, match="there is no 'thrice'"):
        fb.hub.load(str(tmp_path), "thrice", source="local")


def test_default_types():
    try:
        fb.set_default_tensor_type(fb.DoubleTensor)
        assert fb.tensor(1.0).dtype is fb.float64
    finally:
        fb.set_default_tensor_type("flambeau.FloatTensor")
    assert fb.tensor(1.0).dtype is fb.float32
    assert fb.typename(fb.ones(1)) == "flambeau.FloatTensor" and fb.typename("a") == "str"
    assert fb.is_nonzero(fb.tensor([2])) and not fb.is_nonzero(fb.tensor(0.0))


def test_memory():
    x = fb.arange(12).reshape(3, 4)
    part = x[1:, 2:]
    assert part.storage_offset() == 6 and part.data_ptr() - x.data_ptr() == 6 * 8
    assert x.untyped_storage() == part.untyped_storage() != fb.ones(1).untyped_storage()
    assert part.untyped_storage().nbytes() == 96 and part.untyped_storage().data_ptr() == x.data_ptr()
    assert fb.is_storage(x.untyped_storage()) and not fb.is_storage(x)
    assert x.is_set_to(x.view(3, 4)) and not x.is_set_to(part)
    assert x.get_device() == -1 and fb.ones(0).data_ptr() == 0


def test_elements_by_python_functions():
    x = fb.tensor([[1.0, -2.0], [3.0, -4.0]])
    assert x.apply_(abs) is x and x.tolist() == [[1, 2], [3, 4]]
    assert x.map_(fb.tensor([2.0, 1.0]), max).tolist() == [[2, 2], [3, 4]]
    with pytest.raises(RuntimeError, match=r"\[apply_\] the tensor requires grad"):
        fb.ones(2, requires_grad=True).apply_(abs)


def test_a_subclass_shares_the_storage():
    class Named(fb.Tensor):
        pass

    x = fb.ones(2)
    named = x.as_subclass(Named)
    named.add_(1)
    assert type(named) is Named and x.tolist() == [2, 2]
