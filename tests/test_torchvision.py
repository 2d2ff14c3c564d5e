"""What stands for torchvision under `flambeau run`: models, datasets, ops on boxes, grids of images."""

import struct
import subprocess
import sys

import flambeau as fb
import numpy as np
import pytest
from flambeau.as_torch.vision import datasets, models, ops, utils


@pytest.fixture
def undrawn(monkeypatch):
    """Parameters are not drawn: they only have shapes here."""
    for name in ("kaiming_uniform_", "kaiming_normal_", "uniform_", "normal_", "constant_", "ones_", "zeros_"):
        monkeypatch.setattr(fb.nn.init, name, lambda tensor, *args, **kwargs: tensor)


# ---- models ---------------------------------------------------------------------------------------------------

#: How many parameters, and entries of the state dict, torchvision's models have.
SIZES = {
    "resnet18": (11_689_512, 122), "resnet34": (21_797_672, 218), "resnet50": (25_557_032, 320),
    "resnext50_32x4d": (25_028_904, 320), "squeezenet1_0": (1_248_424, 52), "squeezenet1_1": (1_235_496, 52),
    "mobilenet_v2": (3_504_872, 314),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_models_have_torchvisions_parameters(name, undrawn):
    model = getattr(models, name)()
    assert (sum(p.numel() for p in model.parameters()), len(model.state_dict())) == SIZES[name]


def test_keys_and_shapes_are_torchvisions(undrawn):
    state = {k: tuple(v.shape) for k, v in models.resnet50(num_classes=7).state_dict().items()}
    assert [*state][:3] == ["conv1.weight", "bn1.weight", "bn1.bias"] and state["fc.weight"] == (7, 2048)
    assert state["layer2.0.downsample.0.weight"] == (512, 256, 1, 1)
    assert state["layer2.0.conv2.weight"] == (128, 128, 3, 3) and "layer1.0.downsample.1.running_var" in state
    keys = set(models.mobilenet_v2(num_classes=2).state_dict())
    assert {"features.0.0.weight", "features.1.conv.0.0.weight", "features.1.conv.1.weight", "classifier.1.bias"} < keys
    assert {"features.2.conv.2.weight", "features.18.1.num_batches_tracked"} < keys
    assert "features.3.expand3x3.weight" in models.squeezenet1_0(num_classes=2).state_dict()
    layers = [type(layer).__name__ for layer in models.plain._vgg_features(11, True)]
    assert len(layers) == 29 and layers[:4] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]


def test_models_compute():
    fb.manual_seed(0)
    blocks = models.ResNet(models.Bottleneck, [1, 1, 1, 1], num_classes=3, groups=2, width_per_group=4).eval()
    with fb.no_grad():
        y = blocks(fb.randn(2, 3, 32, 32))
    assert y.shape == (2, 3) and bool(y.isfinite().all())


def test_strides_give_way_to_dilations(undrawn):
    dilated = models.resnet50(num_classes=2, replace_stride_with_dilation=[False, True, True])
    assert dilated.layer4[1].conv2.dilation == (4, 4) and dilated.layer4[0].conv2.stride == (1, 1)


def test_a_residual_block_by_hand():
    block = models.BasicBlock(2, 2).eval()
    x = fb.randn(1, 2, 4, 4)
    with fb.no_grad():
        inner = fb.nn.functional.conv2d(x, block.conv1.weight, padding=1) / (1 + 1e-5) ** 0.5
        outer = fb.nn.functional.conv2d(inner.clamp(min=0), block.conv2.weight, padding=1) / (1 + 1e-5) ** 0.5
        np.testing.assert_allclose(block(x).numpy(), (outer + x).clamp(min=0).numpy(), rtol=1e-5, atol=1e-6)


def test_trained_weights_are_refused():
    for asked in ({"weights": models.ResNet18_Weights.DEFAULT}, {"pretrained": True}):
        with pytest.raises(RuntimeError, match=r"\[resnet18\] trained weights are not downloaded"):
            models.resnet18(**asked)
    assert (
        models.squeezenet1_1(weights=None, progress=False, num_classes=2)
        and models.Wide_ResNet50_2_Weights.IMAGENET1K_V1
    )
    with pytest.raises(AttributeError, match="has no attribute 'ResNet19_Weights'"):
        _ = models.ResNet19_Weights


# ---- boxes ----------------------------------------------------------------------------------------------------

BOXES = fb.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 2, 1.9], [5, 5, 6, 6]])


def test_overlaps():
    wanted = [[1, 1 / 7, 0.95, 0], [1 / 7, 1, 0.9 / 6.9, 0], [0.95, 0.9 / 6.9, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(ops.box_iou(BOXES, BOXES).numpy(), wanted, rtol=1e-6)
    far = (2 * 2 + 1) / 36  # of the first and the last box: what both fill of what is around them
    np.testing.assert_allclose(ops.generalized_box_iou(BOXES, BOXES)[0, 3].item(), far - 1, rtol=1e-6)
    np.testing.assert_allclose(ops.box_area(BOXES).numpy(), [4, 4, 3.8, 1], rtol=1e-6)
    scores = fb.tensor([0.5, 0.7, 0.9, 0.1])
    assert ops.nms(BOXES, scores, 0.5).tolist() == [2, 1, 3]
    assert ops.batched_nms(BOXES, scores, fb.tensor([0, 1, 1, 0]), 0.5).tolist() == [2, 1, 0, 3]
    assert ops.batched_nms(fb.zeros(0, 4), fb.zeros(0), fb.zeros(0), 0.5).tolist() == []


def test_boxes_in_other_forms():
    assert ops.box_convert(BOXES, "xyxy", "xywh")[1].tolist() == [1, 1, 2, 2]
    assert ops.box_convert(BOXES, "xyxy", "cxcywh")[1].tolist() == [2, 2, 2, 2]
    for form in ("xywh", "cxcywh"):
        again = ops.box_convert(ops.box_convert(BOXES, "xyxy", form), form, "xyxy")
        np.testing.assert_allclose(again.numpy(), BOXES.numpy(), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match=r"\[box_convert\] the format is 'xxyy'"):
        ops.box_convert(BOXES, "xxyy", "xyxy")
    assert ops.clip_boxes_to_image(BOXES, (2, 5)).tolist()[3] == [5, 2, 5, 2]
    assert ops.remove_small_boxes(BOXES, 1.95).tolist() == [0, 1]


def test_focal_loss_and_stochastic_depth():
    x, t = fb.tensor([-1.0, 0.5, 2.0]), fb.tensor([0.0, 1.0, 1.0])
    p = 1 / (1 + np.exp(-np.array([-1.0, 0.5, 2.0])))
    right = np.array([1 - p[0], p[1], p[2]])
    wanted = np.array([0.75, 0.25, 0.25]) * (1 - right) ** 2 * -np.log(right)
    np.testing.assert_allclose(ops.sigmoid_focal_loss(x, t).numpy(), wanted, rtol=1e-5)
    np.testing.assert_allclose(ops.sigmoid_focal_loss(x, t, reduction="sum").item(), wanted.sum(), rtol=1e-5)
    kept = ops.stochastic_depth(fb.ones(400, 2), 0.25, "row")
    rows = kept[:, 0].numpy()
    np.testing.assert_allclose(np.unique(rows), [0, 4 / 3], rtol=1e-6)
    assert 0.15 < (rows == 0).mean() < 0.35 and bool((kept[:, 0] == kept[:, 1]).all())
    assert ops.StochasticDepth(0.5, "batch").eval()(x) is x
    with pytest.raises(ValueError, match=r"\[stochastic_depth\] mode is 'all'"):
        ops.stochastic_depth(x, 0.5, "all")


# ---- datasets and images --------------------------------------------------------------------------------------


def test_noise_is_the_same_each_time():
    pytest.importorskip("PIL.Image")
    data = datasets.FakeData(5, (3, 8, 6), 4, transform=fb.transforms.ToTensor())
    x, y = data[2]
    assert x.shape == (3, 8, 6) and x.dtype is fb.float32 and 0 <= y < 4 and 0.4 < x.mean().item() < 0.6
    assert fb.equal(x, datasets.FakeData(5, (3, 8, 6), 4, fb.transforms.ToTensor(), None, 1)[1][0])
    assert datasets.FakeData(1, (3, 8, 6))[0][0].size == (6, 8)
    with pytest.raises(IndexError, match="index 5 is out of range for 5 samples"):
        data[5]


def test_mnist_as_torchvision_has_it(tmp_path):
    pytest.importorskip("PIL.Image")
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    for name, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", np.array([3, 1, 4], np.uint8))):
        head = struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape)
        (tmp_path / f"train-{name}").write_bytes(head + array.tobytes())
    data = datasets.MNIST(tmp_path, train=True, download=True, transform=fb.transforms.ToTensor())
    assert data.data.shape == (3, 28, 28) and data.targets.tolist() == [3, 1, 4] and data.class_to_idx["3"] == 3
    x, y = data[1]
    assert x.shape == (1, 28, 28) and y == 1
    np.testing.assert_allclose(x.numpy()[0], images[1] / np.float32(255), rtol=1e-6)
    assert datasets.MNIST(tmp_path)[0][0].mode == "L"
    with pytest.raises(FileNotFoundError, match="Nothing is downloaded"):
        datasets.MNIST(tmp_path, train=False, download=True)
    with pytest.raises(RuntimeError, match=r"\[torchvision\.datasets\.ImageNet\]"):
        datasets.ImageNet(tmp_path)
    with pytest.raises(ValueError, match=r"\[VisionDataset\] transforms is given beside"):
        datasets.VisionDataset(transforms=abs, transform=abs)


def test_grids(tmp_path):
    x = fb.arange(24.0).reshape(3, 1, 2, 4)
    grid = utils.make_grid(x, nrow=2, padding=1, pad_value=-1.0)
    assert grid.shape == (3, 7, 11) and fb.equal(grid[0, 1:3, 6:10], x[1, 0]) and fb.equal(grid[2, 4:6, 1:5], x[2, 0])
    assert grid[0, 0].tolist() == [-1.0] * 11 and grid[1, 5, 7].item() == -1
    scaled = utils.make_grid(x, normalize=True)
    assert (scaled.min().item(), scaled.max().item()) == (0, 1)
    assert utils.make_grid(x, normalize=True, value_range=(0, 8), scale_each=True).max().item() == 1
    image = pytest.importorskip("PIL.Image")
    utils.save_image(x / 24, tmp_path / "grid.png", nrow=3, padding=0)
    array = np.asarray(image.open(tmp_path / "grid.png"))
    assert array.shape == (2, 12, 3) and array[0, 5, 0] == int(9 / 24 * 255 + 0.5)


@pytest.mark.accept("SER-17")
def test_scripts_find_it_under_its_names(tmp_path):
    (tmp_path / "script.py").write_text(
        "import torch, torchvision\n"
        "import torchvision.models as models, torchvision.datasets as datasets, torchvision.transforms as transforms\n"
        "from torchvision import utils\nfrom torchvision.models.resnet import ResNet, BasicBlock\n"
        "from torchvision.models import resnet18, ResNet18_Weights\nfrom torchvision.ops import box_iou\n"
        "from torchvision.ops.boxes import nms\nfrom torchvision.datasets import ImageFolder\n"
        "names = [n for n in dir(models) if n.startswith('resnet')]\n"
        "assert 'resnet34' in names and torchvision.models is models and torchvision.ops.nms is nms\n"
        "data = datasets.FakeData(4, (3, 32, 32), 3, transforms.Compose([transforms.ToTensor()]))\n"
        "net = ResNet(BasicBlock, [1, 1, 1, 1], 3)\noptimizer = torch.optim.SGD(net.parameters(), lr=0.01)\n"
        "for x, y in torch.utils.data.DataLoader(data, 2):\n"
        "    optimizer.zero_grad()\n    loss = torch.nn.functional.cross_entropy(net(x), y)\n    loss.backward()\n"
        "    optimizer.step()\nprint(loss.isfinite().item(), isinstance(net, ResNet), torchvision.__version__)\n"
    )
    pytest.importorskip("PIL.Image")
    program = [sys.executable, "-m", "flambeau.run", "script.py"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "True True 0.28.0+flambeau\n", done.stderr
