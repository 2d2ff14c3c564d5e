"""PyTorch: eager, eager + fused optimizers, torch.compile, max-autotune, freezing, AOTInductor."""

import numpy as np
import workloads as C
from workloads import Case, Unsupported

V = "eager"


def load(variant, threads):
    global torch, nn, F, V
    V = variant
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return {"torch": torch.__version__}


def comp(f):
    if V in ("compile", "compile_frz"):
        return torch.compile(f)
    if V == "maxauto":
        return torch.compile(f, mode="max-autotune")
    return f


def optim(kind, params, **kw):
    if V == "fused":
        kw["fused"] = True
    o = getattr(torch.optim, kind)(params, **kw)
    if V in ("compile", "maxauto"):
        step = torch.compile(lambda: o.step())
        return o, step
    return o, o.step


def T(a):
    return torch.from_numpy(np.ascontiguousarray(a))


def loaded(m, params):
    m.load_state_dict({k: T(v) for k, v in params.items()}, strict=False)
    return m


def modules():
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

    return dict(MLP=MLP, CNN=CNN, LSTM=LSTM, GPT=GPT, G=G, D=D)


def train(model, opt_kind, opt_kw, x, y):
    opt, opt_step = optim(opt_kind, model.parameters(), **opt_kw)
    loss_fn = comp(lambda x, y: F.cross_entropy(model(x).flatten(0, -2), y.flatten()))

    def step():
        opt.zero_grad(set_to_none=True)
        loss = loss_fn(x, y)
        loss.backward()
        opt_step()
        return loss

    return Case(step, lambda l: float(l))


def gan(M):
    gp, dp = C.gan()
    G, D = loaded(M["G"](), gp), loaded(M["D"](), dp)
    kw = dict(lr=C.GAN["lr"], betas=C.GAN["betas"])
    (og, og_step), (od, od_step) = optim("Adam", G.parameters(), **kw), optim("Adam", D.parameters(), **kw)
    real, z = map(T, C.batch("W5"))
    one, zero = torch.ones(C.GAN["B"]), torch.zeros(C.GAN["B"])
    bce = F.binary_cross_entropy_with_logits
    gen = comp(lambda z: G(z))
    d_loss = comp(lambda real, fake: bce(D(real), one) + bce(D(fake), zero))
    g_loss = comp(lambda fake: bce(D(fake), one))

    def step():
        fake = gen(z)
        od.zero_grad(set_to_none=True)
        ld = d_loss(real, fake.detach())
        ld.backward()
        od_step()
        D.requires_grad_(False)
        og.zero_grad(set_to_none=True)
        lg = g_loss(fake)
        lg.backward()
        og_step()
        D.requires_grad_(True)
        return ld, lg

    return Case(step, lambda l: float(l[0]) + float(l[1]))


def chain(x):
    return (torch.tanh(x * 2 + 1) * torch.sigmoid(x) - F.relu(x) ** 2).sum()


def infer(name, model):
    x = T(C.batch(name)[0])
    model.eval()
    if V == "aoti":
        import os
        import tempfile

        with torch.no_grad():
            ep = torch.export.export(model, (x,))
            path = torch._inductor.aoti_compile_and_package(ep, package_path=os.path.join(tempfile.mkdtemp(), "m.pt2"))
        run = torch._inductor.aoti_load_package(path)
    else:
        run = comp(lambda x: model(x)) if V != "eager" else model

    def step():
        with torch.inference_mode() if V == "eager" else torch.no_grad():
            return run(x)

    return Case(step, lambda r: float(r.sum()))


def make(name):
    if V == "aoti" and not name.startswith("W9"):
        raise Unsupported("inference only")
    M = modules()
    if name.startswith("W1"):
        x, y = map(T, C.batch(name))
        return train(loaded(M["MLP"](), C.mlp()), "Adam", dict(lr=C.MLP["lr"]), x, y)
    if name == "W2":
        x, y = map(T, C.batch(name))
        return train(loaded(M["CNN"](), C.cnn()), "SGD", dict(lr=C.CNN["lr"], momentum=C.CNN["momentum"]), x, y)
    if name == "W3":
        x, y = map(T, C.batch(name))
        return train(loaded(M["LSTM"](), C.lstm()), "Adam", dict(lr=C.LSTM["lr"]), x, y)
    if name == "W4":
        x, y = map(T, C.batch(name))
        return train(loaded(M["GPT"](), C.gpt()), "AdamW", dict(lr=C.GPT["lr"], weight_decay=C.GPT["wd"]), x, y)
    if name == "W5":
        return gan(M)
    if name.startswith("W6"):
        x = T(C.batch(name)[0])
        f = comp(chain)
        if "_fwd_" in name:
            return Case(lambda: f(x), float)
        x.requires_grad_()

        def step():
            x.grad = None
            l = f(x)
            l.backward()
            return l

        return Case(step, float)
    if name.startswith("W7"):
        a = list(map(T, C.batch(name)))
        if "mm" in name:
            f = comp(lambda a, b: a @ b)
        elif "softmax" in name:
            f = comp(lambda a, w, b: F.softmax(a, -1))
        else:
            f = comp(lambda a, w, b: F.layer_norm(a, (1024,), w, b))
        return Case(lambda: f(*a), lambda r: float(r[0, 0]))
    if name.startswith("W8"):
        x0, y = torch.zeros(10), torch.full((10,), 1e-3)
        g = name.endswith("grad")
        y.requires_grad_(g)
        f = comp(lambda x, y: x + y)

        def step():
            x = x0
            for _ in range(200):
                x = f(x, y)
            return x

        return Case(step, lambda r: float(r[0]), inner=200)
    if name == "W9_mlp":
        return infer(name, loaded(M["MLP"](), C.mlp()))
    if name == "W9_cnn":
        return infer(name, loaded(M["CNN"](), C.cnn()))
    raise Unsupported(name)
