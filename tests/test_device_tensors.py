"""Tensors on another device, call by call: every public function on its samples, where things lie, what is refused, how they print.

In: the pretend device. Next: `test_device_training.py`.
"""

from __future__ import annotations

import copy
import pickle

import flambeau as fb
import function_cases as fc
import numpy as np
import pretend_device
import pytest
from flambeau.dialects.dtypes import float32
from flambeau.runtime import _binding as runtime
from flambeau.runtime import devices, recorder
from flambeau.runtime.recorder import Tensor
from support import arrays, for_users, rounds

pytestmark = pytest.mark.skipif(not pretend_device.can_open(), reason="needs a C compiler for the fake driver")
#: What users see if there is no such device, or if memory there is to be shared.
ELSEWHERE = (TypeError, BufferError)


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> str:
    return pretend_device.open_device(tmp_path_factory.mktemp("driver"))


@pytest.fixture(autouse=True)
def blocking():
    pretend_device.faults.clear()
    with fb.compiler_options(mode="blocking"):
        yield
    assert not pretend_device.faults


@pytest.fixture
def x(there) -> Tensor:
    return fb.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], device=there)


# ---- every function -------------------------------------------------------------------------------------------


def outcome(case: fc.Case, make) -> list:
    """What a call gives, wherever it lies; the class of the error that it raises."""
    try:
        found = case.results(make)
        return [np.array(r.detach().cpu().numpy()) if isinstance(r, Tensor) else r for r in found]
    except (RuntimeError, TypeError, ValueError, IndexError, BufferError) as error:
        return [for_users(error), "cannot be shared" in str(error)]


#: What tells devices apart; and what draws in a loop, whose regions do not go to the CPU with it yet (docs/differences.md).
UNLIKE = {"Tensor.get_device", "flambeau.binomial", "flambeau.poisson"}
#: Loops that count in tensors of their own: tried in every run.
COUNTING = ["flambeau.fori_loop", "flambeau.ctc_loss"]


@pytest.mark.parametrize(
    "name", dict.fromkeys([*COUNTING, *[n for n in fc.SAMPLED if n not in UNLIKE][7 :: rounds(25, 5, 1)]])
)
def test_functions_there_give_the_bits_of_the_cpu(there, name):
    """On float32 samples; what would share memory says that it cannot."""
    cases = [case for case in fc.cases(fc.SAMPLED[name]) if case.dtype is float32]
    for case in cases if name in COUNTING else cases[: rounds(4, 8, 100)]:
        expected = outcome(case, fb.tensor)
        found = outcome(case, lambda array: fb.tensor(array, device=there))
        if found[-1] is not True:
            assert len(found) == len(expected) and all(map(fc.same, found, expected)), (case, found, expected)


def test_a_root_that_is_chosen_there_has_the_canonical_nan(there):
    """The deviation of nothing is a choice between 0 and a root. LLVM finds that it is the root, and of which x that is NaN."""
    found = fb.zeros(0, 3, device=there).std()
    assert found.cpu().numpy().tobytes() == fb.zeros(0, 3).std().numpy().tobytes() == np.float32(np.nan).tobytes()


# ---- where things lie -----------------------------------------------------------------------------------------


def test_results_lie_where_operands_do(there, x):
    made = [x + 1, x[1], x.sum(), x.reshape(3, 2), x.mean(0) * 2.0, x.clone(), x.detach(), x.to(fb.float64), x @ x.T]
    made += [fb.zeros_like(x), x.new_ones(2), fb.rand_like(x), x + fb.tensor(1.0), x[fb.tensor([1, 0])], x > 2]
    assert {str(t.device) for t in made} == {there}
    assert x.cpu().device == fb.device("cpu") and x.to(x) is x and fb.ones(1).to(x).device == x.device


@pytest.mark.parametrize(
    "make",
    [
        lambda d: fb.zeros(2, 3, device=d), lambda d: fb.ones((2,), device=d), lambda d: fb.full((2,), 3, device=d),
        lambda d: fb.arange(5, device=d), lambda d: fb.arange(1.0, 2.0, 0.25, device=d), lambda d: fb.eye(3, device=d),
        lambda d: fb.linspace(0, 1, 4, device=d), lambda d: fb.rand(70, device=d), lambda d: fb.randn(2, 3, device=d),
        lambda d: fb.randint(9, (5,), device=d), lambda d: fb.randperm(6, device=d), lambda d: fb.tensor(True, device=d),
        lambda d: fb.as_tensor(arrays(3), device=d), lambda d: fb.tensor([1.0], device=d, requires_grad=True),
        lambda d: fb.empty(0, 2, device=d),
    ],
)  # fmt: skip
def test_tensors_are_made_there(there, make):
    fb.manual_seed(1)
    found = make(there)
    fb.manual_seed(1)
    expected = make(None)
    assert str(found.device) == there and str(expected.device) == "cpu"
    assert found.requires_grad == expected.requires_grad and found.dtype == expected.dtype
    assert found.detach().cpu().numpy().tobytes() == expected.detach().numpy().tobytes()


def test_writing_there(there, x):
    """Views are written through; `copy_` and assignment take values from anywhere."""
    base = x.clone()
    base[0, 1] = 7
    base[1] = fb.tensor([8.0, 9.0, 10.0])
    base[:, 2].copy_(fb.tensor([0.5, 1.5]))
    base += 1
    base.mul_(fb.tensor(2.0))
    assert base.tolist() == [[4.0, 16.0, 3.0], [18.0, 20.0, 5.0]] and str(base.device) == there
    here = fb.zeros(2, 3)
    here.copy_(base)
    assert here.tolist() == base.tolist() and str(here.device) == "cpu"


def test_gradients_lie_with_their_tensors(there):
    """Through a transfer, through hooks, and twice."""
    w = fb.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (w.to(there) * 2.0).sum().backward()
    assert str(w.grad.device) == "cpu" and w.grad.tolist() == [2, 2, 2]
    v = fb.tensor([1.0, 2.0, 3.0], device=there, requires_grad=True)
    (first,) = fb.autograd.grad((v * v * v).sum(), v, create_graph=True)
    (second,) = fb.autograd.grad(first.sum(), v)
    assert first.tolist() == [3, 12, 27] and second.tolist() == [6, 12, 18] and str(second.device) == there
    seen = []
    v.register_hook(lambda g: seen.append(str(g.device)))
    (v * v).sum().backward()
    assert seen == [there] == [str(v.grad.device)] and v.grad.tolist() == [2, 4, 6]


def test_control_flow_and_callbacks_take_values_from_there(there, x):
    found = fb.cond(x.sum() > 3, lambda a: a * 2, lambda a: a + 1, (x,))
    assert str(found.device) == there and found.tolist() == (x.cpu() * 2).tolist()
    count, total = fb.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, a * 2), (fb.tensor(0, device=there), x))
    last, rows = fb.scan(lambda h, row: (h + row, h * 2), x, fb.stack([x, x]))
    assert last.device == rows.device == x.device and last.tolist() == (x * 3).tolist()
    assert rows.tolist() == [(x * 2).tolist(), (x * 4).tolist()]
    assert fb.fori_loop(0, 3, lambda i, a: a * 2, x).tolist() == (x * 8).tolist()
    assert str(total.device) == there and (count.item(), total[1, 2].item()) == (3, 48.0)
    seen = []
    for t in (x, fb.ones(2), x.sum()):
        fb.debug.callback(lambda t: seen.append(t.tolist()), t)
    fb.debug.effects_barrier()
    assert seen == [x.tolist(), [1.0, 1.0], 21.0]
    with pytest.raises(RuntimeError, match=r"\[cond\] operands lie on pretend:0, cpu\. Move them"):
        fb.cond(x.sum() > 3, lambda a: a.cpu(), lambda a: a.cpu(), (x,))


# ---- reading, copying, text -----------------------------------------------------------------------------------


def test_values_are_read_from_there(there, x):
    assert (x.tolist()[1], x[0, 1].item(), bool(x[0, 0] > 0), int(x.sum())) == ([4.0, 5.0, 6.0], 2.0, True, 21)
    assert x.T.numpy(force=True).tolist() == [[1, 4], [2, 5], [3, 6]]
    assert repr(x[0]) == f"tensor([1., 2., 3.], device='{there}')"
    assert repr(x[0] > 1) == f"tensor([False,  True,  True], device='{there}')"
    for read in (lambda: x.numpy(), lambda: np.asarray(x), lambda: x.__dlpack__()):
        with pytest.raises(
            ELSEWHERE, match=r"the tensor lies on pretend:0, whose memory cannot be shared\. Use x\.cpu\(\)"
        ):
            read()


def test_copies_lie_there_and_files_bring_them_back(there, x, tmp_path):
    for made in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert str(made.device) == there and made.tolist() == x.tolist()
    fb.save({"x": x}, tmp_path / "x.bin")
    fb.save({"x": x}, tmp_path / "x.safetensors")  # which says nothing of devices
    assert str(fb.load(tmp_path / "x.safetensors")["x"].device) == "cpu"
    assert str(fb.load(tmp_path / "x.bin")["x"].device) == there
    assert str(fb.load(tmp_path / "x.bin", map_location="cpu")["x"].device) == "cpu"
    assert str(fb.load(tmp_path / "x.bin", map_location=lambda storage, place: storage.cpu())["x"].device) == "cpu"
    for name in ("x.bin", "x.safetensors"):
        assert str(fb.load(tmp_path / name, map_location=there)["x"].device) == there


def test_state_follows_parameters(there):
    """`load_state_dict` puts what it takes where the parameters lie."""
    net = fb.nn.Linear(2, 2)
    optimizer = fb.optim.Adam(net.parameters())
    net(fb.ones(1, 2)).sum().backward()
    optimizer.step()
    moved = fb.nn.Linear(2, 2, device=there)
    moved.load_state_dict(net.state_dict())
    other = fb.optim.Adam(moved.parameters())
    other.load_state_dict(optimizer.state_dict())
    assert {str(s.device) for p in moved.parameters() for s in (p, *other.state[p].values())} == {there}
    assert moved.weight.tolist() == net.weight.tolist()


@pytest.mark.parametrize("mode", ["blocking", "off"])
def test_an_op_that_fails_there_leaves_what_eager_execution_would(there, x, mode):
    with fb.compiler_options(mode=mode):
        w = x * 1.0
        w += 1
        picked = x[:, fb.tensor([7], device=there)]
        w += 1
        with pytest.raises(IndexError, match=r"\[getitem\] dimension 1: index\[0\] is out of range for size 3"):
            picked.tolist()
        assert w.tolist() == (x.cpu() + 1).tolist()


def test_sizes_that_change_there_become_symbols(there):
    """The third size finds a program for all of them, as on the CPU."""

    def run(n: int) -> list[float]:
        return (fb.ones(n, 4, device=there) * 2.0).sum(1).tolist()

    assert [run(n) for n in (3, 4, 5)] == [[8.0] * n for n in (3, 4, 5)]
    before = recorder.stats()["misses"]
    assert [run(n) for n in (6, 9)] == [[8.0] * 6, [8.0] * 9] and recorder.stats()["misses"] == before


# ---- what is refused ------------------------------------------------------------------------------------------


def test_operands_that_lie_apart_are_refused(there, x):
    y = fb.ones(2, 3)
    calls = {
        "add": lambda: x + y, "matmul": lambda: x @ y.T, "cat": lambda: fb.cat([x, y]), "add_": lambda: y.add_(x),
        "where": lambda: fb.where(y > 0, x, 0.0), "mul_": lambda: fb.tensor(1.0).mul_(x.sum()),
    }  # fmt: skip
    for name, call in calls.items():
        with pytest.raises(
            RuntimeError, match=rf"\[{name}\] operands lie on .*, .*\. Move them to one device with to\(device\)"
        ):
            call()
    w = fb.ones(3, device=there, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"\[grad\] the gradient lies on cpu, the tensor on pretend:0\."):
        w.grad = fb.ones(3)
    with pytest.raises(RuntimeError, match=r"\[backward\] the gradient lies on cpu, the tensor on pretend:0\."):
        (w * 2).backward(fb.ones(3))
    with pytest.raises(RuntimeError, match=r"\[data\] operands lie on pretend:0, cpu\."):
        (w * 2).data = fb.ones(3)


def test_a_program_there_is_not_exported(there, tmp_path):
    model = fb.nn.Linear(2, 2, device=there)
    with pytest.raises(
        RuntimeError, match=r"tensors lie on pretend:0: move the model to the CPU, with model\.to\('cpu'\)"
    ):
        fb.export(lambda x: model(x.to(there)), fb.ones(1, 2), tmp_path / "model")


# ---- where PyTorch's programs ask for a GPU -----------------------------------------------------------------------


@pytest.fixture
def gpu(there, monkeypatch) -> None:
    """`cuda:0` and `cuda:1`, both on the fake driver."""
    for number in (0, 1):
        handle = runtime.Device(pretend_device._driver[0].path, 0)
        device = devices.Device(f"cuda:{number}", pretend_device.TARGET, handle)
        monkeypatch.setitem(devices._known, device.name, device)


def test_cuda_moves_to_a_gpu_and_cpu_back(gpu):
    x = fb.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
    y = x.cuda()
    assert (
        str(y.device) == "cuda:0" and y.is_cuda and y.cuda() is y and y.cuda(0) is y and y.cuda(fb.device("cuda")) is y
    )
    assert str(x.cuda(1).device) == str(x.cuda("cuda:1", non_blocking=True).device) == str(x.to(1).device) == "cuda:1"
    assert str(y.cuda(1).device) == "cuda:1" and not y.cpu().is_cuda and x.cpu() is x
    np.testing.assert_array_equal(y.cpu().detach().numpy(), x.detach().numpy())
    y.cpu().backward(fb.ones(2, 3) * 2)
    assert x.grad.tolist() == [[2.0] * 3] * 2
    net = fb.nn.Linear(2, 3)
    weight = net.weight
    assert net.cuda() is net and net.weight is weight and str(weight.device) == "cuda:0"
    assert str(net.cuda(1).weight.device) == "cuda:1" and str(net.cpu().weight.device) == "cpu"


def test_memory_formats_where_tensors_move(gpu):
    x = fb.arange(24.0).reshape(1, 2, 3, 4)
    for moved in (x.cpu(memory_format=fb.channels_last), x.cuda(memory_format=fb.channels_last)):
        assert moved.is_contiguous(memory_format=fb.channels_last) and moved.stride() == (24, 1, 8, 2)
        np.testing.assert_array_equal(moved.cpu().numpy(), x.numpy())
