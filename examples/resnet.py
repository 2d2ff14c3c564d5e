"""ResNet-18 and ResNet-50 (He et al., 2015), with the parameters' names and shapes of torchvision's, and a driver that trains them.

python examples/resnet.py --out out                          # synthetic images
python examples/resnet.py --images folder --model resnet50   # a folder of images for each class
"""

import argparse
from functools import partial
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
from pictures import batches, plot, show
from tqdm import trange


def convolution(inputs, outputs, size, stride=1):
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class Basic(nn.Module):
    """Two convolutions of 3 by 3, added to the input."""

    expansion = 1

    def __init__(self, inputs, width, stride=1):
        super().__init__()
        self.conv1, self.bn1 = convolution(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """A convolution of 3 by 3 between two of 1 by 1, added to the input."""

    expansion = 4

    def __init__(self, inputs, width, stride=1):
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = convolution(inputs, width, 1), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = convolution(width, width, 3, stride), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = convolution(width, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = shortcut(inputs, outputs, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


def shortcut(inputs, outputs, stride):
    """What brings the input to the shape of the output; None where it has it."""
    same = stride == 1 and inputs == outputs
    return None if same else nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Images [n, 3, height, width] to classes."""

    def __init__(self, block, depths, classes=1000, width=64):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        inputs = width
        for k, depth in enumerate(depths):
            blocks = []
            for i in range(depth):
                blocks.append(block(inputs, width << k, 2 if k and not i else 1))
                inputs = (width << k) * block.expansion
            setattr(self, f"layer{k + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


resnet18 = partial(ResNet, Basic, (2, 2, 2, 2))
resnet50 = partial(ResNet, Bottleneck, (3, 4, 6, 3))


def from_folder(folder, size):
    """(images, labels) of a folder with a folder of images for each class, cut to squares of `size`."""
    from PIL import Image, ImageOps

    images, labels = [], []
    for label, inner in enumerate(sorted(p for p in folder.iterdir() if p.is_dir())):
        for path in sorted(inner.iterdir()):
            image = ImageOps.fit(Image.open(path).convert("RGB"), (size, size))
            images.append(fb.tensor(list(image.tobytes()), dtype=fb.uint8).reshape(size, size, 3).permute(2, 0, 1))
            labels.append(label)
    return fb.stack(images).float() / 255, fb.tensor(labels)


def synthetic(count, size, classes=4):
    """Stripes whose direction is the class, of random phase and colour, in noise."""
    labels = fb.arange(count) % classes
    angle = labels.float()[:, None, None] * (fb.pi / classes)
    y, x = fb.meshgrid(fb.arange(size).float(), fb.arange(size).float(), indexing="ij")
    waves = ((x * angle.cos() + y * angle.sin()) * 0.7 + fb.rand(count, 1, 1) * 6).sin() / 4 + 0.5
    return (waves[:, None] * fb.rand(count, 3, 1, 1) + fb.randn(count, 3, size, size) * 0.1).clamp(0, 1), labels


def train(model, images, labels, steps, batch):
    optimizer = fb.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = fb.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    data, losses = batches(batch, images, labels), []
    for _ in (bar := trange(steps)):
        x, y = next(data)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        schedule.step()
        bar.set_description(f"loss {losses[-1]:.4f}")
    return losses


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"steps": 100, "batch": 16, "size": 32, "width": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", choices=("resnet18", "resnet50"), default="resnet18")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args(arguments)
    fb.manual_seed(0)
    source, given = (from_folder, options.images) if options.images else (synthetic, 256)
    images, labels = source(given, options.size)
    model = globals()[options.model](int(labels.max().item()) + 1, options.width)
    losses = train(model, images, labels, options.steps, options.batch)
    plot(options.out / f"{options.model}_loss.png", f"{options.model} on {len(images)} images", loss=losses)
    show(options.out / f"{options.model}_images.png", "What it is trained on", images[:10])
    return losses


if __name__ == "__main__":
    main()
