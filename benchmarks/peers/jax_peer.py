"""JAX: jax.jit over the whole train step (variant 'jit'); variant 'eager' is for W8 op dispatch.

`pure(name)` -> (fn, state, batch): fn(state, *batch) -> (out, new_state); reused by iree_peer.
Images are NHWC and conv kernels HWIO (the fast CPU layout in XLA, and Flax's default)."""

from functools import partial

import numpy as np
import workloads as C
from workloads import Case, Unsupported

V = "jit"


def load(variant, threads):
    global jax, jnp, lax, V
    V = variant
    import jax
    import jax.numpy as jnp
    from jax import lax

    jnp.zeros(1).block_until_ready()  # create the client
    import jaxlib

    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}


def ce(logits, y):
    lp = jax.nn.log_softmax(logits, -1)
    return -jnp.mean(jnp.take_along_axis(lp, y[..., None], -1))


def tm(f, *t):
    return jax.tree_util.tree_map(f, *t)


def adam_init(p):
    return (tm(jnp.zeros_like, p), tm(jnp.zeros_like, p), jnp.zeros((), jnp.float32))


def adam(p, g, s, lr, b1=0.9, b2=0.999, eps=1e-8, wd=0.0):
    m, v, t = s
    t = t + 1
    m = tm(lambda m, g: b1 * m + (1 - b1) * g, m, g)
    v = tm(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)
    c1, c2 = 1 - b1**t, 1 - b2**t
    p = tm(lambda p, m, v: p * (1 - lr * wd) - lr * (m / c1) / (jnp.sqrt(v / c2) + eps), p, m, v)
    return p, (m, v, t)


def lin(p, n, x):
    return x @ p[n + ".weight"].T + p[n + ".bias"]


def conv(x, w, stride=1, pad=0):
    return lax.conv_general_dilated(x, w, (stride,) * 2, [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def mlp_f(p, x):
    return lin(p, "fc3", jax.nn.relu(lin(p, "fc2", jax.nn.relu(lin(p, "fc1", x)))))


def cnn_p():
    p = C.cnn()
    for k in ("conv1", "conv2"):
        p[k + ".weight"] = p[k + ".weight"].transpose(2, 3, 1, 0)
    p["fc1.weight"] = p["fc1.weight"].reshape(128, 64, 12, 12).transpose(0, 2, 3, 1).reshape(128, 9216)
    return p


def cnn_f(p, x):
    x = jax.nn.relu(conv(x, p["conv1.weight"]) + p["conv1.bias"])
    x = jax.nn.relu(conv(x, p["conv2.weight"]) + p["conv2.bias"])
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").reshape(x.shape[0], -1)
    return lin(p, "fc2", jax.nn.relu(lin(p, "fc1", x)))


def lstm_f(p, x):
    e = p["emb.weight"][x]  # B,T,E
    g = (e @ p["lstm.weight_ih_l0"].T + p["lstm.bias_ih_l0"] + p["lstm.bias_hh_l0"]).swapaxes(0, 1)
    w = p["lstm.weight_hh_l0"].T
    h0 = jnp.zeros((x.shape[0], C.LSTM["hid"]))

    def cell(hc, gx):
        h, c = hc
        i, f, gg, o = jnp.split(gx + h @ w, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(gg)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    _, hs = lax.scan(cell, (h0, h0), g)
    return lin(p, "out", hs.swapaxes(0, 1))


def ln(p, n, x):
    m = x.mean(-1, keepdims=True)
    v = ((x - m) ** 2).mean(-1, keepdims=True)
    return (x - m) * lax.rsqrt(v + 1e-5) * p[n + ".weight"] + p[n + ".bias"]


def gpt_f(p, x):
    B, t = x.shape
    H, d = C.GPT["heads"], C.GPT["d"]
    h = p["tok.weight"][x] + p["pos.weight"][:t]
    mask = jnp.tril(jnp.ones((t, t), bool))
    for i in range(C.GPT["layers"]):
        b = f"blocks.{i}."
        q, k, v = (
            a.reshape(B, t, H, d // H).transpose(0, 2, 1, 3)
            for a in jnp.split(lin(p, b + "qkv", ln(p, b + "ln1", h)), 3, -1)
        )
        s = jnp.where(mask, q @ k.swapaxes(-1, -2) * (d // H) ** -0.5, -jnp.inf)
        a = jax.nn.softmax(s, -1) @ v
        h = h + lin(p, b + "proj", a.transpose(0, 2, 1, 3).reshape(B, t, d))
        h = h + lin(p, b + "fc2", jax.nn.gelu(lin(p, b + "fc", ln(p, b + "ln2", h)), approximate=True))
    return lin(p, "head", ln(p, "lnf", h))


def bn(p, n, x):
    m = x.mean((0, 1, 2))
    v = ((x - m) ** 2).mean((0, 1, 2))
    return (x - m) * lax.rsqrt(v + 1e-5) * p[n + ".weight"] + p[n + ".bias"]


def gen_f(p, x):
    for i in range(1, 6):
        s, pd = (1, 3) if i == 1 else (2, 2)  # conv_transpose as lhs-dilated conv, flipped kernel
        x = lax.conv_general_dilated(
            x,
            p[f"ct{i}.weight"],
            (1, 1),
            [(pd, pd)] * 2,
            lhs_dilation=(s, s),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.relu(bn(p, f"bn{i}", x)) if i < 5 else jnp.tanh(x)
    return x


def dis_f(p, x):
    x = jax.nn.leaky_relu(conv(x, p["c1.weight"], 2, 1), 0.2)
    for i in range(2, 5):
        x = jax.nn.leaky_relu(bn(p, f"bn{i}", conv(x, p[f"c{i}.weight"], 2, 1)), 0.2)
    return conv(x, p["c5.weight"]).reshape(-1)


def gan_pure():
    gp, dp = C.gan()
    for k in list(gp):
        if k.startswith("ct"):  # (in,out,kh,kw) -> flipped HWIO
            gp[k] = gp[k][:, :, ::-1, ::-1].transpose(2, 3, 0, 1)
    for k in list(dp):
        if k.startswith("c"):
            dp[k] = dp[k].transpose(2, 3, 1, 0)
    real, z = C.batch("W5")
    lr, (b1, b2) = C.GAN["lr"], C.GAN["betas"]

    def bce1(l):
        return jnp.mean(jax.nn.softplus(-l))

    def bce0(l):
        return jnp.mean(jax.nn.softplus(l))

    def step(state, real, z):
        gp, dp, gs, ds = state
        fake, vjp = jax.vjp(lambda gp: gen_f(gp, z), gp)
        ld, gd = jax.value_and_grad(lambda dp: bce1(dis_f(dp, real)) + bce0(dis_f(dp, fake)))(dp)
        dp, ds = adam(dp, gd, ds, lr, b1, b2)
        lg, df = jax.value_and_grad(lambda f: bce1(dis_f(dp, f)))(fake)
        gp, gs = adam(gp, vjp(df)[0], gs, lr, b1, b2)
        return ld + lg, (gp, dp, gs, ds)

    gp, dp = tm(jnp.asarray, gp), tm(jnp.asarray, dp)
    return step, (gp, dp, adam_init(gp), adam_init(dp)), (real.transpose(0, 2, 3, 1), z.transpose(0, 2, 3, 1))


def train_pure(fwd, params, upd, init, x, y):
    def step(state, x, y):
        p, s = state
        l, g = jax.value_and_grad(lambda p: ce(fwd(p, x), y))(p)
        return l, upd(p, g, s)

    p = tm(jnp.asarray, params)
    return step, (p, init(p)), (x, y.astype(np.int32))


def chain(x):
    return (jnp.tanh(x * 2 + 1) * jax.nn.sigmoid(x) - jax.nn.relu(x) ** 2).sum()


def pure(name):
    b = C.batch(name) if not name.startswith("W8") else None
    if name.startswith("W1"):
        return train_pure(mlp_f, C.mlp(), partial(adam, lr=C.MLP["lr"]), adam_init, *b)
    if name == "W2":

        def sgd(p, g, s):
            s = tm(lambda s, g: C.CNN["momentum"] * s + g, s, g)
            return tm(lambda p, s: p - C.CNN["lr"] * s, p, s), s

        return train_pure(cnn_f, cnn_p(), sgd, lambda p: tm(jnp.zeros_like, p), b[0].transpose(0, 2, 3, 1), b[1])
    if name == "W3":
        return train_pure(lstm_f, C.lstm(), partial(adam, lr=C.LSTM["lr"]), adam_init, *(a.astype(np.int32) for a in b))
    if name == "W4":
        return train_pure(
            gpt_f, C.gpt(), partial(adam, lr=C.GPT["lr"], wd=C.GPT["wd"]), adam_init, *(a.astype(np.int32) for a in b)
        )
    if name == "W5":
        return gan_pure()
    if name.startswith("W6"):
        if "_fwd_" in name:
            return (lambda s, x: (chain(x), s)), (), b
        return (lambda s, x: (jax.value_and_grad(chain)(x), s)), (), b
    if name.startswith("W7_mm"):
        return (lambda s, a, b: (a @ b, s)), (), b
    if name == "W7_softmax":
        return (lambda s, a: (jax.nn.softmax(a, -1), s)), (), b[:1]
    if name == "W7_layernorm":
        return (lambda s, a, w, bb: (ln({"n.weight": w, "n.bias": bb}, "n", a), s)), (), b
    if name == "W9_mlp":
        return (lambda p, x: (mlp_f(p, x), p)), tm(jnp.asarray, C.mlp()), b
    if name == "W9_cnn":
        return (lambda p, x: (cnn_f(p, x), p)), tm(jnp.asarray, cnn_p()), (b[0].transpose(0, 2, 3, 1),)
    raise Unsupported(name)


def to_loss(r):
    if isinstance(r, float):
        return r
    if isinstance(r, tuple):
        r = r[0]
    return float(r if r.ndim == 0 else (r.sum() if r.shape[0] == 1 else r.reshape(-1)[0]))


def make(name):
    if name == "W8_add":
        x0, y = jnp.zeros(10), jnp.full((10,), 1e-3)
        f = jax.jit(lambda x, y: x + y) if V == "jit" else (lambda x, y: x + y)

        def step():
            x = x0
            for _ in range(200):
                x = f(x, y)
            return x.block_until_ready()

        return Case(step, lambda r: float(r[0]), inner=200)
    if name == "W8_add_grad":
        raise Unsupported("no eager tape in JAX")
    if V == "eager":
        raise Unsupported("W8 only")
    if name in C.IMAGES or name == "decode":
        raise Unsupported("not written for JAX")
    fn, state, batch = pure(name)
    if name.startswith("W9"):  # from a NumPy array to a NumPy array
        serve, x = jax.jit(lambda x: fn(state, x)[0]), np.ascontiguousarray(batch[0])
        return Case(lambda: np.asarray(serve(x)), to_loss)
    batch = [jnp.asarray(b) for b in batch]
    if name[:2] in ("W6", "W7"):  # nothing to carry
        f = jax.jit(lambda s, *b: fn(s, *b)[0])
        return Case(lambda: jax.block_until_ready(f(state, *batch)), to_loss)
    f = jax.jit(fn, donate_argnums=0)
    box = [state]

    def step():
        l, box[0] = f(box[0], *batch)
        jax.block_until_ready(box[0])
        return float(l)

    return Case(step, to_loss)
