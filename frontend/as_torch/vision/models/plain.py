"""Nets without residuals, and MobileNet: AlexNet (Krizhevsky, 2014), VGG (Simonyan and Zisserman, 2014), SqueezeNet (Iandola and
others, 2016), MobileNetV2 (Sandler and others, 2018).

In: images [N, 3, height, width]. Out: scores [N, num_classes]. Next: `weights.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau import nn
from flambeau.as_torch.vision.models.weights import refuse
from flambeau.functions.assemble import cat


class AlexNet(nn.Module):
    """Five convolutions and three layers that are fully connected."""

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(256 * 6 * 6, 4096), nn.ReLU(inplace=True),
            nn.Dropout(dropout), nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, num_classes),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class VGG(nn.Module):
    """Convolutions of 3 by 3 (`features`) and three layers that are fully connected."""

    def __init__(
        self, features: nn.Module, num_classes: int = 1000, init_weights: bool = True, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.features, self.avgpool = features, nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(True), nn.Dropout(dropout),
            nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(dropout), nn.Linear(4096, num_classes),
        )  # fmt: skip
        if init_weights:
            _initialize(self)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def _initialize(model: nn.Module) -> None:
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0, 0.01)
            nn.init.zeros_(m.bias)


_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def _vgg_features(depth: int, batch_norm: bool) -> nn.Sequential:
    stages = zip((64, 128, 256, 512, 512), _STAGES[depth])
    return make_layers([each for width, count in stages for each in (*[width] * count, "M")], batch_norm)


def make_layers(cfg: list[Any], batch_norm: bool = False) -> nn.Sequential:
    """The convolutions of a VGG: `cfg` has widths, and "M" for a pooling."""
    layers: list[nn.Module] = []
    fan_in = 3
    for width in cfg:
        if width == "M":
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(fan_in, width, 3, padding=1)]
        layers += [nn.BatchNorm2d(width)] if batch_norm else []
        layers += [nn.ReLU(inplace=True)]
        fan_in = width
    return nn.Sequential(*layers)


class Fire(nn.Module):
    """A convolution of 1 by 1 to few channels, then those of 1 by 1 and of 3 by 3 side by side."""

    def __init__(self, inplanes: int, squeeze_planes: int, expand1x1_planes: int, expand3x3_planes: int) -> None:
        super().__init__()
        self.inplanes, self.squeeze = inplanes, nn.Conv2d(inplanes, squeeze_planes, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze_planes, expand1x1_planes, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze_planes, expand3x3_planes, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Any) -> Any:
        x = self.squeeze_activation(self.squeeze(x))
        parts = [self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))]
        return cat(parts, 1)


_FIRES = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
#: How many fires there are before each pooling.
_POOLED = {"1_0": (0, 3, 7), "1_1": (0, 2, 4)}


class SqueezeNet(nn.Module):
    """Eight `Fire`s, of `version` "1_0" or "1_1", which pools earlier."""

    def __init__(self, version: str = "1_0", num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        if version not in _POOLED:
            raise ValueError(f"[SqueezeNet] version is {version!r}. Use '1_0' or '1_1'.")
        self.num_classes = num_classes
        width = 96 if version == "1_0" else 64
        layers: list[nn.Module] = [nn.Conv2d(3, width, 7 if version == "1_0" else 3, stride=2), nn.ReLU(inplace=True)]
        for k, (few, many) in enumerate(_FIRES):
            layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] if k in _POOLED[version] else []
            layers.append(Fire(width, few, many, many))
            width = 2 * many
        self.features = nn.Sequential(*layers)
        last = nn.Conv2d(512, num_classes, 1)
        pool = nn.AdaptiveAvgPool2d((1, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), last, nn.ReLU(inplace=True), pool)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                (nn.init.normal_(m.weight, 0.0, 0.01) if m is last else nn.init.kaiming_uniform_(m.weight))
                nn.init.zeros_(m.bias)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x)).flatten(1)


def _normalized(fan_in: int, fan_out: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(fan_in, fan_out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(fan_out), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Wide within: 1 by 1 to more channels, 3 by 3 of each by itself, 1 by 1 to fewer."""

    def __init__(self, inp: int, oup: int, stride: int, expand_ratio: int) -> None:
        super().__init__()
        hidden = round(inp * expand_ratio)
        self.stride, self.use_res_connect, self.out_channels = stride, stride == 1 and inp == oup, oup
        layers: list[nn.Module] = [_normalized(inp, hidden, 1)] if expand_ratio != 1 else []
        layers += [_normalized(hidden, hidden, 3, stride, hidden), nn.Conv2d(hidden, oup, 1, bias=False)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(oup))

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


#: Of each stage: how much wider within, channels, blocks, stride of the first.
_MOBILE = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def _divisible(width: float) -> int:
    """A multiple of 8 near to it, and not below nine tenths of it."""
    found = max(8, int(width + 4) // 8 * 8)
    return found + 8 if found < 0.9 * width else found


class MobileNetV2(nn.Module):
    """`InvertedResidual`s, all of which are `width_mult` as wide."""

    def __init__(self, num_classes: int = 1000, width_mult: float = 1.0, dropout: float = 0.2) -> None:
        super().__init__()
        width, self.last_channel = _divisible(32 * width_mult), _divisible(1280 * max(1.0, width_mult))
        layers: list[nn.Module] = [_normalized(3, width, stride=2)]
        for ratio, channels, count, stride in _MOBILE:
            for k in range(count):
                layers.append(InvertedResidual(width, _divisible(channels * width_mult), 1 if k else stride, ratio))
                width = _divisible(channels * width_mult)
        self.features = nn.Sequential(*layers, _normalized(width, self.last_channel, 1))
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.last_channel, num_classes))
        _initialize(self)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


def alexnet(*, weights: Any = None, **kwargs: Any) -> AlexNet:
    """An `AlexNet`. Raises RuntimeError where trained weights are asked for."""
    return AlexNet(**refuse("alexnet", weights, kwargs))


def squeezenet1_0(*, weights: Any = None, **kwargs: Any) -> SqueezeNet:
    """A `SqueezeNet` of the first version."""
    return SqueezeNet("1_0", **refuse("squeezenet1_0", weights, kwargs))


def squeezenet1_1(*, weights: Any = None, **kwargs: Any) -> SqueezeNet:
    """A `SqueezeNet` of the second version."""
    return SqueezeNet("1_1", **refuse("squeezenet1_1", weights, kwargs))


def mobilenet_v2(*, weights: Any = None, **kwargs: Any) -> MobileNetV2:
    """A `MobileNetV2`."""
    return MobileNetV2(**refuse("mobilenet_v2", weights, kwargs))


def _vgg(depth: int, batch_norm: bool) -> Callable[..., VGG]:
    name = f"vgg{depth}{'_bn' if batch_norm else ''}"

    def make(*, weights: Any = None, **kwargs: Any) -> VGG:
        return VGG(_vgg_features(depth, batch_norm), **refuse(name, weights, kwargs))

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"A `VGG` of {depth} layers. Raises RuntimeError where trained weights are asked for."
    return make


_VGGS = {made.__name__: made for depth in _STAGES for made in (_vgg(depth, False), _vgg(depth, True))}
globals().update(_VGGS)

__all__ = [
    "VGG", "AlexNet", "Fire", "InvertedResidual", "MobileNetV2", "SqueezeNet", "alexnet", "make_layers", "mobilenet_v2",
    "squeezenet1_0", "squeezenet1_1", *_VGGS,
]  # fmt: skip
