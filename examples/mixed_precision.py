"""Mixed precision: the same network trained in float32, in bfloat16, and in float16 with scaled losses.

python examples/mixed_precision.py --out out
"""

import argparse
from pathlib import Path

import flambeau as fb
import flambeau.nn.functional as F
from cnn import Network
from flambeau.metrics import Accuracy
from pictures import batches, digits, plot
from tqdm import trange


def train(model, images, labels, steps, dtype=None, batch=64):
    """Train under autocast to `dtype`, None for none of it; returns the losses. The scaler doubles the loss's scale while nothing
    overflows, and leaves a step out where something does; no step waits to see which."""
    optimizer = fb.optim.AdamW(model.parameters(), lr=3e-3)
    scaler = fb.amp.GradScaler("cpu", enabled=dtype is fb.float16, growth_interval=50)
    data, losses = batches(batch, images, labels), []
    model.train()
    for _ in (bar := trange(steps)):
        x, y = next(data)
        optimizer.zero_grad()
        with fb.autocast("cpu", dtype=dtype or fb.bfloat16, enabled=dtype is not None):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
        bar.set_description(f"loss {losses[-1]:.4f}")
    return losses


def share_right(model, images, labels):
    """The share of images whose most probable class is theirs."""
    model.eval()
    with fb.no_grad():
        return Accuracy(10)(model(images).float(), labels).item()


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args(arguments)
    images, labels = digits()
    found = {}
    for dtype in (None, fb.bfloat16, fb.float16):
        fb.manual_seed(0)
        model, name = Network(), "float32" if dtype is None else dtype.name
        found[name] = train(model, images[:1400], labels[:1400], options.steps, dtype)
        print(f"{name}: right on {share_right(model, images[1400:], labels[1400:]):.2%} of images not seen.")
    plot(options.out / "mixed_precision_loss.png", "Digits in three precisions", **found)
    return list(found.values())


if __name__ == "__main__":
    main()
