"""Classes of the nets, in PyTorch's API: `modules(torch)`, or `modules(flambeau)`.

Weights are named as in `workloads.py`. Next: `nets.py`, which trains and runs them.
"""

from __future__ import annotations

from types import ModuleType

import workloads as C


def modules(torch: ModuleType) -> dict[str, type]:
    """The classes of nets, of `torch` or `flambeau`."""
    nn, F = torch.nn, torch.nn.functional

    class MLP(nn.Module):
        def __init__(s):
            super().__init__()
            s.fc1, s.fc2, s.fc3 = nn.Linear(784, 512), nn.Linear(512, 256), nn.Linear(256, 10)

        def forward(s, x):
            return s.fc3(F.relu(s.fc2(F.relu(s.fc1(x)))))

    class CNN(nn.Module):
        def __init__(s):
            super().__init__()
            s.conv1, s.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
            s.fc1, s.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)

        def forward(s, x):
            x = F.relu(s.conv2(F.relu(s.conv1(x))))
            x = torch.flatten(F.max_pool2d(x, 2), 1)
            return s.fc2(F.relu(s.fc1(x)))

    class LSTM(nn.Module):
        def __init__(s):
            super().__init__()
            c = C.LSTM
            s.emb = nn.Embedding(c["vocab"], c["emb"])
            s.lstm = nn.LSTM(c["emb"], c["hid"], batch_first=True)
            s.out = nn.Linear(c["hid"], c["vocab"])

        def forward(s, x):
            return s.out(s.lstm(s.emb(x))[0])

    class Block(nn.Module):
        def __init__(s, d):
            super().__init__()
            s.ln1, s.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
            s.qkv, s.proj, s.fc, s.fc2 = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

        def forward(s, x):
            B, t, d = x.shape
            q, k, v = (a.view(B, t, C.GPT["heads"], -1).transpose(1, 2) for a in s.qkv(s.ln1(x)).split(d, dim=2))
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + s.proj(a.transpose(1, 2).reshape(B, t, d))
            return x + s.fc2(F.gelu(s.fc(s.ln2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(s):
            super().__init__()
            c = C.GPT
            s.tok, s.pos = nn.Embedding(c["vocab"], c["d"]), nn.Embedding(c["T"], c["d"])
            s.blocks = nn.ModuleList([Block(c["d"]) for _ in range(c["layers"])])
            s.lnf, s.head = nn.LayerNorm(c["d"]), nn.Linear(c["d"], c["vocab"])

        def forward(s, x):
            h = s.tok(x) + s.pos(torch.arange(x.shape[1]))
            for b in s.blocks:
                h = b(h)
            return s.head(s.lnf(h))

    class G(nn.Module):
        def __init__(s):
            super().__init__()
            f = C.GAN["ngf"]
            ch = [C.GAN["nz"], 8 * f, 4 * f, 2 * f, f, 3]
            for i in range(1, 6):
                setattr(
                    s,
                    f"ct{i}",
                    nn.ConvTranspose2d(ch[i - 1], ch[i], 4, 1 if i == 1 else 2, 0 if i == 1 else 1, bias=False),
                )
                if i < 5:
                    setattr(s, f"bn{i}", nn.BatchNorm2d(ch[i]))

        def forward(s, x):
            for i in range(1, 5):
                x = F.relu(getattr(s, f"bn{i}")(getattr(s, f"ct{i}")(x)))
            return torch.tanh(s.ct5(x))

    class D(nn.Module):
        def __init__(s):
            super().__init__()
            f = C.GAN["ndf"]
            ch = [3, f, 2 * f, 4 * f, 8 * f, 1]
            for i in range(1, 6):
                setattr(s, f"c{i}", nn.Conv2d(ch[i - 1], ch[i], 4, 1 if i == 5 else 2, 0 if i == 5 else 1, bias=False))
                if 1 < i < 5:
                    setattr(s, f"bn{i}", nn.BatchNorm2d(ch[i]))

        def forward(s, x):
            x = F.leaky_relu(s.c1(x), 0.2)
            for i in range(2, 5):
                x = F.leaky_relu(getattr(s, f"bn{i}")(getattr(s, f"c{i}")(x)), 0.2)
            return s.c5(x).view(-1)

    class Basic(nn.Module):
        """A residual block of ResNet-18."""

        def __init__(s, a, b, stride):
            super().__init__()
            s.conv1, s.bn1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b)
            s.conv2, s.bn2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b)
            s.down = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b)) if stride > 1 else None

        def forward(s, x):
            y = s.bn2(s.conv2(F.relu(s.bn1(s.conv1(x)))))
            return F.relu(y + (x if s.down is None else s.down(x)))

    class ResNet18(nn.Module):
        def __init__(s):
            super().__init__()
            s.conv, s.bn = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
            blocks = [Basic(*shape) for a, b, stride in C.RESNET for shape in ((a, b, stride), (b, b, 1))]
            s.blocks, s.fc = nn.Sequential(*blocks), nn.Linear(512, 1000)

        def forward(s, x):
            x = s.blocks(F.max_pool2d(F.relu(s.bn(s.conv(x))), 3, 2, 1))
            return s.fc(x.mean((2, 3)))

    class Encoder(nn.Module):
        """A block of a transformer, for ViT and, with keys and values kept, for decoding."""

        def __init__(s, d, heads):
            super().__init__()
            s.heads, s.ln1, s.ln2 = heads, nn.LayerNorm(d), nn.LayerNorm(d)
            s.qkv, s.proj, s.fc, s.fc2 = nn.Linear(d, 3 * d), nn.Linear(d, d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

        def forward(s, x, at=None, cache=None):
            b, t, d = x.shape
            q, k, v = (a.view(b, t, s.heads, -1).transpose(1, 2) for a in s.qkv(s.ln1(x)).split(d, dim=2))
            mask = None
            if cache is not None:
                k, v = (kept.index_copy_(2, at, new) for kept, new in zip(cache, (k, v)))
                mask = (torch.arange(k.shape[2]) <= at).view(1, 1, 1, -1)
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            x = x + s.proj(a.transpose(1, 2).reshape(b, t, d))
            return x + s.fc2(F.gelu(s.fc(s.ln2(x))))

    class ViT(nn.Module):
        def __init__(s):
            super().__init__()
            c = C.VIT
            s.patches = nn.Conv2d(3, c["d"], c["patch"], c["patch"])
            s.token = nn.Parameter(torch.zeros(1, 1, c["d"]))
            s.places = nn.Parameter(torch.zeros(1, (224 // c["patch"]) ** 2 + 1, c["d"]))
            s.blocks = nn.Sequential(*[Encoder(c["d"], c["heads"]) for _ in range(c["layers"])])
            s.ln, s.head = nn.LayerNorm(c["d"]), nn.Linear(c["d"], 1000)

        def forward(s, x):
            x = s.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([s.token.expand(x.shape[0], -1, -1), x], dim=1) + s.places
            return s.head(s.ln(s.blocks(x))[:, 0])

    class Decoder(nn.Module):
        def __init__(s):
            super().__init__()
            c = C.DECODE
            s.tok, s.pos = nn.Embedding(c["vocab"], c["d"]), nn.Embedding(c["T"], c["d"])
            s.blocks = nn.ModuleList([Encoder(c["d"], c["heads"]) for _ in range(c["layers"])])
            s.ln, s.head = nn.LayerNorm(c["d"]), nn.Linear(c["d"], c["vocab"])

        def forward(s, token, at, caches):
            h = s.tok(token) + s.pos(at)
            for block, cache in zip(s.blocks, caches):
                h = block(h, at, cache)
            return s.head(s.ln(h)).argmax(-1)

    return dict(MLP=MLP, CNN=CNN, LSTM=LSTM, GPT=GPT, G=G, D=D, ResNet18=ResNet18, ViT=ViT, Decoder=Decoder)
