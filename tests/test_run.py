"""`flambeau run`: scripts written for PyTorch, unchanged, as `python script.py` would run them."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import flambeau as fb
import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("torch_script.py")
#: What PyTorch 2.13 prints.
LOSSES = [2.681184, 2.422670, 2.344796, 2.386719, 2.430645, 2.242942, 2.220079, 2.270548]


def run(*arguments, program=("-m", "flambeau.run"), cwd=None):
    return subprocess.run([sys.executable, *program, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


def ran(tmp_path, text, *arguments):
    (tmp_path / "script.py").write_text(text)
    return run("script.py", *arguments, cwd=tmp_path)


@pytest.mark.accept("SER-17", "VER-10")
def test_a_script_for_pytorch_trains_to_its_losses(tmp_path):
    found = run(SCRIPT, "--epochs", 2, "--save", tmp_path / "net.pt")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["torch"] == "2.13.0+flambeau"
    np.testing.assert_allclose(told["losses"], LOSSES, rtol=1e-4)
    assert fb.load(tmp_path / "net.pt")["norm.num_batches_tracked"].item() == 8


@pytest.mark.accept("SER-17")
def test_the_losses_are_pytorchs():
    pytest.importorskip("torch")
    found = run("--epochs", 2, program=(str(SCRIPT),))
    np.testing.assert_allclose(json.loads(found.stdout)["losses"], LOSSES, rtol=1e-5)


def test_the_program_is_as_python_starts_it(tmp_path):
    (tmp_path / "beside.py").write_text("import torch\nvalue = torch.ones(2)\n")
    found = ran(
        tmp_path,
        "import sys, os, pickle, beside, torch\n"
        "class Local:\n    pass\n"
        "assert type(pickle.loads(pickle.dumps(Local()))) is Local\n"
        "assert sys.modules['__main__'].Local is Local and __file__ == os.path.abspath('script.py') and __name__ == '__main__'\n"
        "assert os.path.samefile(sys.path[0], os.getcwd()) and beside.value.tolist() == [1, 1]\n"
        "print(sys.argv)\nsys.exit(7)\n",
        "a", "-b",
    )  # fmt: skip
    assert (found.returncode, found.stdout, found.stderr) == (7, "['script.py', 'a', '-b']\n", "")


def test_tracebacks_are_those_of_the_script(tmp_path):
    text = "import torch\ndef f():\n    raise KeyError('gone')\nf()\n"
    found = ran(tmp_path, text)
    (tmp_path / "plain.py").write_text(text.replace("import torch", ""))
    plain = run("plain.py", program=(), cwd=tmp_path)
    assert found.returncode == 1 and found.stderr == plain.stderr.replace("plain.py", "script.py")
    found = ran(tmp_path, "x = (\n")
    assert (
        found.returncode == 1 and "SyntaxError: '(' was never closed" in found.stderr and "run.py" not in found.stderr
    )


def test_what_is_asked_for_in_vain(tmp_path):
    found = run("absent.py", cwd=tmp_path)
    assert found.returncode == 2 and "can't open file 'absent.py'" in found.stderr
    assert run(cwd=tmp_path).returncode == 2 and run("-h").returncode == 0
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text("import sys, torch; print(sys.argv[1:], torch.__version__)")
    found = run("-m", "package", "x", cwd=tmp_path)
    assert found.stdout == "['x'] 2.13.0+flambeau\n", found.stderr


def in_script(tmp_path, text):
    found = ran(tmp_path, text)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_names_are_found_where_pytorch_has_them(tmp_path):
    told = in_script(
        tmp_path,
        "import importlib.metadata, importlib.util, torch, torch.nn as nn\n"
        "from torch.nn.modules.module import Module\nfrom torch.nn.modules.conv import Conv2d\n"
        "from torch.utils.data.dataloader import default_collate\nfrom torch.optim.optimizer import Optimizer\n"
        "import torch.nn.functional as F, torch.distributed as dist, torch._dynamo, torch.utils.checkpoint\n"
        "assert issubclass(nn.Linear, Module) and nn.Conv2d is Conv2d and torch.nn.functional is F\n"
        "assert not dist.is_available() and not torch.compiler.is_compiling() and torch.version.cuda is None\n"
        "assert torch.utils.data.default_collate is default_collate and isinstance(torch.ones(1), torch.Tensor)\n"
        "assert importlib.util.find_spec('torch') and not hasattr(torch, 'never') and torch.is_tensor(torch.ones(1))\n"
        "F.double = lambda x: x * 2\nassert F.double(torch.ones(1)).item() == 2\n"
        "print(importlib.metadata.version('torch'))\n",
    )
    assert told == "2.13.0+flambeau\n"


def test_ops_of_users(tmp_path):
    told = in_script(
        tmp_path,
        "import torch\n"
        "@torch.library.custom_op('mine::double', mutates_args=())\n"
        "def double(x: torch.Tensor) -> torch.Tensor:\n    return x * 2\n"
        "@double.register_fake\ndef _(x):\n    return x\n"
        "lib = torch.library.Library('mine', 'FRAGMENT')\nlib.define('triple(Tensor x) -> Tensor')\n"
        "lib.impl('triple', lambda x: x * 3, 'CPU')\nlib.impl('triple', lambda x: x * 5, 'CUDA')\n"
        "x = torch.ones(1)\n"
        "print(double(x).item(), torch.ops.mine.double(x).item(), torch.ops.mine.triple.default(x).item())\n"
        "try:\n    torch.ops.torchvision.nms(x)\nexcept RuntimeError as e:\n    print(e)\n",
    )
    first, second = told.splitlines()
    assert first == "2.0 2.0 3.0" and second.startswith("[torch.ops] there is no op 'torchvision::nms'")


def test_missing_names_say_where_they_are_asked_for(tmp_path):
    told = in_script(
        tmp_path,
        "import torch\n"
        "for text in ('from torch import nested', 'torch.nested', 'import torch.nested', 'from torch.nn import Sparse', "
        "'from torch.nn.parallel import Split'):\n"
        "    try:\n        exec(compile(text, 'asker.py', 'exec'))\n"
        "    except (ImportError, AttributeError) as e:\n        print(type(e).__name__, e)\n",
    )
    lines = told.splitlines()
    assert [line.split()[0] for line in lines] == [
        "ImportError",
        "AttributeError",
        "ModuleNotFoundError",
        "ImportError",
        "ImportError",
    ]
    assert "PyTorch has 'nested', Flambeau does not have it yet" in lines[0] and "docs/differences.md" in lines[0]
    assert all("asked for in asker.py, line 1" in line for line in (lines[0], lines[1], lines[3]))


def test_pytorch_itself_must_not_be_there_already():
    if importlib.util.find_spec("torch") is None:
        pytest.importorskip("torch")
    code = "import torch, flambeau.as_torch as a\ntry:\n    a.install()\nexcept RuntimeError as e:\n    print(e)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "[flambeau run] PyTorch has been imported in this process. Start another one.\n"


def test_the_command_is_there():
    command = Path(sys.executable).with_name("flambeau")
    code = "import sys; sys.argv = ['flambeau', *sys.argv[1:]]; from flambeau.run import command; sys.exit(command())"
    program = (str(command),) if os.access(command, os.X_OK) else (sys.executable, "-c", code)
    found = subprocess.run([*program, "run", str(SCRIPT), "--epochs", "0"], capture_output=True, text=True)
    assert json.loads(found.stdout)["losses"] == [], found.stderr
    assert subprocess.run([*program, "walk"], capture_output=True).returncode == 2


def test_what_libraries_take_beside_tensors(tmp_path):
    told = in_script(
        tmp_path,
        "import torch, importlib.metadata, torchvision\n"
        "from torch.utils import _pytree as trees\nfrom torchvision.transforms import InterpolationMode, Normalize\n"
        "from torchvision.ops import nms\nfrom collections import namedtuple\n"
        "Pair = namedtuple('Pair', 'a b')\ngiven = {'x': [1, (2, Pair(3, 4))], 'y': 5}\n"
        "leaves, spec = trees.tree_flatten(given)\n"
        "assert leaves == [1, 2, 3, 4, 5] and trees.tree_unflatten(leaves, spec) == given and spec.num_leaves == 5\n"
        "assert trees.tree_map(lambda a, b: a + b, given, given)['x'] == [2, (4, Pair(6, 8))]\n"
        "class Box:\n    def __init__(self, x):\n        self.x = x\n"
        "trees.register_pytree_node(Box, lambda box: ([box.x], None), lambda children, _: Box(*children))\n"
        "assert trees.tree_map(lambda x: x * 2, [Box(3)])[0].x == 6\n"
        "boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6]])\n"
        "assert nms(boxes, torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist() == [1, 2]\n"
        "assert torch.finfo(torch.float8_e4m3fn).max == 448 and str(torch.uint4) == 'torch.uint4'\n"
        "assert torch.nn.attention.SDPBackend.MATH == 0 and InterpolationMode.BILINEAR.value == 'bilinear'\n"
        "assert torch.cuda.memory_allocated() == 0 and not hasattr(torch.cuda, 'nonsense')\n"
        "with torch.random.fork_rng():\n    first = torch.rand(1)\nassert torch.equal(first, torch.rand(1))\n"
        "print(importlib.metadata.version('torchvision'), torchvision.__version__)\n",
    )
    assert told == "0.28.0+flambeau 0.28.0+flambeau\n"


def test_what_libraries_take_of_submodules(tmp_path):
    in_script(
        tmp_path,
        "import torch\n"
        "from torch.utils.hooks import RemovableHandle\nfrom torch.utils.dlpack import from_dlpack, to_dlpack\n"
        "from torch.futures import Future, collect_all, wait_all\nfrom torch.jit import ScriptModule\n"
        "from torch.distributions.utils import _standard_normal, _sum_rightmost\nimport torch.distributed.rpc as rpc\n"
        "from torch.distributions.constraints import __all__ as names\nfrom torch.utils._foreach_utils import "
        "_group_tensors_by_device_and_dtype as grouped\nfrom torch.utils.data.dataloader import _BaseDataLoaderIter\n"
        "x, net = torch.ones(2, 3), torch.nn.Linear(1, 1)\n"
        "assert isinstance(net.register_forward_hook(print), RemovableHandle) and not isinstance(net, ScriptModule)\n"
        "assert torch.equal(from_dlpack(to_dlpack(x)), x) and _sum_rightmost(x, 1).tolist() == [3, 3]\n"
        "assert _standard_normal((2,), torch.float64, 'cpu').dtype == torch.float64 and 'positive' in names\n"
        "first, second = Future(), Future()\nsums = collect_all([first, second]).then(lambda f: sum(wait_all(f.value())))\n"
        "first.set_result(2)\nassert not sums.done()\nsecond.set_result(3)\nassert sums.wait() == 5\n"
        "failed = first.then(lambda f: f.missing)\n"
        "for act in (lambda: second.set_result(4), rpc.rpc_sync, torch.Stream):\n"
        "    try:\n        act()\n    except RuntimeError:\n        continue\n    raise SystemExit('not refused')\n"
        "try:\n    failed.wait()\nexcept AttributeError:\n    pass\nelse:\n    raise SystemExit('not raised')\n"
        "groups = grouped([[x, x.double(), x], [x, x, x]], True)\n"
        "assert [(len(lists), where) for lists, where in groups.values()] == [(2, [0, 2]), (2, [1])]\n"
        "assert isinstance(iter(torch.utils.data.DataLoader([1, 2])), _BaseDataLoaderIter)\n"
        "assert not x.is_xpu and not x.is_mps and 'USE_MKL' in torch.__config__.show() and torch.UntypedStorage\n"
        "assert torch.nn.modules.linear.NonDynamicallyQuantizableLinear is torch.nn.Linear\n",
    )


def test_what_libraries_take_of_lists_devices_and_testing(tmp_path):
    in_script(
        tmp_path,
        "import torch\nfrom torch.testing import assert_close\nfrom torch.optim.lr_scheduler import _LRScheduler\n"
        "x = [torch.tensor([1.0, 4.0]), torch.tensor([9.0])]\n"
        "assert_close(torch._foreach_sqrt(x), [torch.tensor([1.0, 2.0]), torch.tensor([3.0])])\n"
        "torch._foreach_add_(x, [torch.ones(2), torch.ones(1)], alpha=2)\ntorch._foreach_maximum_(x, 4.0)\n"
        "torch._foreach_addcdiv_(x, x, x, [1.0, 2.0])\n"
        "assert [each.tolist() for each in x] == [[5, 7], [13]]\n"
        "assert torch._foreach_norm([torch.tensor([3.0, 4.0])])[0].item() == 5\n"
        "assert_close({'a': [1.0, torch.ones(2)]}, {'a': [1.0 + 1e-9, torch.ones(2)]})\n"
        "told = []\n"
        "for a, b in ((torch.ones(2), torch.ones(3)), (torch.ones(2), torch.ones(2).double()), (1.0, 2.0), "
        "([1.0], [1.0, 2.0]), ({'a': 1}, {'b': 1}), (torch.ones(2), torch.tensor([1.0, 1.1])), (float('nan'),) * 2):\n"
        "    try:\n        assert_close(a, b)\n    except AssertionError as e:\n        told.append(str(e))\n"
        "assert len(told) == 7 and '1 of 2 elements differ' in told[5] and 'shapes differ' in told[0], told\n"
        "assert_close(float('nan'), float('nan'), equal_nan=True)\n"
        "assert not torch.xpu.is_available() and torch.mps.device_count() == 0 and torch.mtia.empty_cache() is None\n"
        "for act in (lambda: torch.xpu.get_device_name(), lambda: torch.cuda.get_device_capability(), "
        "lambda: torch._assert_async(torch.tensor(False))):\n"
        "    try:\n        act()\n    except RuntimeError:\n        continue\n    raise SystemExit('not refused')\n"
        "torch._assert_async(torch.tensor(True))\n"
        "assert issubclass(torch.optim.lr_scheduler.StepLR, _LRScheduler) and torch.torch is torch\n",
    )


def test_what_libraries_take_of_groups_storages_and_trees(tmp_path):
    in_script(
        tmp_path,
        "import collections, torch\nimport torch.distributed as dist, torch.utils._pytree as tree\n"
        "from torch.distributed.tensor import DTensor\nfrom torch.distributed.fsdp import FullyShardedDataParallel as FSDP\n"
        "from torch._subclasses.fake_tensor import is_fake\nfrom torch.nn.parameter import UninitializedParameter, is_lazy\n"
        "from torch.utils.flop_counter import FlopCounterMode\nfrom torchvision.models.vgg import make_layers\n"
        "x, net = torch.ones(2, 3), torch.nn.Linear(1, 1)\n"
        "assert not isinstance(x, DTensor) and not isinstance(net, FSDP) and not is_fake(x) and not is_lazy(net.weight)\n"
        "assert isinstance(torch.nn.LazyLinear(2).weight, UninitializedParameter) and not isinstance(3, torch.SymInt)\n"
        "for act in (lambda: FSDP(net), lambda: dist.all_reduce(x), lambda: DTensor(x), lambda: FlopCounterMode().__enter__(), "
        "lambda: torch.UntypedStorage.from_file('data', shared=True), lambda: torch.ones(4)[1:].untyped_storage()[:4]):\n"
        "    try:\n        act()\n    except RuntimeError:\n        continue\n    raise SystemExit('not refused')\n"
        "assert [type(m).__name__ for m in make_layers([4, 'M', 8], True)] == "
        "['Conv2d', 'BatchNorm2d', 'ReLU', 'MaxPool2d', 'Conv2d', 'BatchNorm2d', 'ReLU']\n"
        "assert issubclass(vars(torch.distributions)['Normal'], torch.distributions.Distribution)\n"
        "torch.cuda.manual_seed_all(3)\ntorch.cuda.set_rng_state_all(torch.cuda.get_rng_state_all())\n"
        "torch.cuda.empty_cache()\nassert torch.cuda.max_memory_allocated() == 0\n"
        "assert torch._C._nn._parse_to('cpu', torch.float64) == (torch.device('cpu'), torch.float64, False, None)\n"
        "with open('data', 'wb') as file:\n    file.write(torch.arange(8.0).numpy().tobytes())\n"
        "whole = torch.UntypedStorage.from_file('data', shared=False, nbytes=32)\n"
        "part = torch.asarray(whole.untyped()[8:24], dtype=torch.uint8).view(torch.float32)\n"
        "part += 1\nassert part.tolist() == [3, 4, 5, 6] and len(whole) == 32\n"
        "assert torch.asarray(whole).view(torch.float32).tolist() == list(range(8))\n"
        "assert torch.tensor([1.0]).untyped_storage()[2:].as_bytes().tolist() == [128, 63]\n"
        "point = collections.namedtuple('point', 'x y')\n"
        "made = {'a': [1, point(2, (3,))], 'b': collections.defaultdict(list, c=4), 'd': collections.deque([5], maxlen=2)}\n"
        "found = tree.tree_map(lambda v: v * 10, made)\n"
        "assert found == {'a': [10, point(20, (30,))], 'b': {'c': 40}, 'd': collections.deque([50])}, found\n"
        "assert found['b'].default_factory is list and found['d'].maxlen == 2 and type(found['a'][1]) is point\n"
        "assert [p for p, _ in tree.tree_leaves_with_path(made)] == "
        "[('a', 0), ('a', 1, 0), ('a', 1, 1, 0), ('b', 'c'), ('d', 0)]\n"
        "assert tree.tree_map_with_path(lambda p, v, w: (p, v + w), [1, 2], [3, 4]) == [((0,), 4), ((1,), 6)]\n"
        "assert tree._get_node_type(point(1, 2)) in tree.SUPPORTED_NODES and tree.tree_is_leaf(3) and not tree.tree_is_leaf([])\n"
        "assert tree.SUPPORTED_NODES[list].flatten_fn([1])[0] == [1] and tree.tree_flatten(made)[1].child(0).num_children == 2\n",
    )


#: What PyTorch 2.13 prints, of the packages of tests/parity.txt.
MODELS = {
    "timm": ([2.043178558, 0.425319254, 0.072240099], None),  # with a stand-in for torchvision there, too
    "vit_pytorch": ([1.576629400, 1.573574662, 1.570591211], None),
    "x_transformers": ([2.855666399, 2.642426252, 2.536134243], [[18, 18, 18, 18, 18], [13, 15, 18, 13, 2]]),
    "transformers": (
        [2.984730482, 2.981099606, 2.977521896],
        [[4, 16, 2, 0, 0, 13, 13, 13], [13, 17, 11, 13, 13, 13, 13, 13]],
    ),
    "bert": ([2.947033882, 2.941243887, 2.935357809], None),
    "denoising_diffusion_pytorch": ([0.384918004, 0.383810163, 0.382716209], None),
    "torch_geometric": ([1.090222359, 1.082575202, 1.075695753], None),
    "torchdiffeq": ([1.514013171, 1.486640930, 1.468816996, 1.454491496, 1.442136049, 1.431069851], None),
    "stable_baselines3": ([0.391546875, 0.358720720, 0.328583926], 16),
}
#: Where a model is none of a package of its name.
PACKAGES = {"bert": "transformers"}


@pytest.mark.accept("SER-17")
@pytest.mark.parametrize("model", MODELS)
def test_public_models_train_and_generate_as_with_pytorch(model):
    package = PACKAGES.get(model, model)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"could not import '{package}'")
    found = run(SCRIPT.with_name("public_models.py"), model)
    assert found.returncode == 0, found.stderr
    losses, generated = MODELS[model]
    told = json.loads(found.stdout.splitlines()[-1])
    np.testing.assert_allclose(told["losses"], losses, rtol=1e-4)
    assert told["generated"] == generated
