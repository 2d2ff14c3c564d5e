"""Train a convolutional autoencoder that takes noise away from digits; draw what it is given and what it makes of it.

python examples/autoencoder.py --out out
"""

import argparse
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
from pictures import batches, digits, plot, show
from tqdm import trange


class Autoencoder(nn.Module):
    """Images [n, 1, 8, 8] to maps of 2x2, and back."""

    def __init__(self, width=16):
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
        )

    def forward(self, images):
        return self.decode(self.encode(images)).sigmoid()


def noisy(images, amount):
    return (images + amount * fb.randn_like(images)).clamp(0, 1)


def train(model, images, steps, amount, batch=64):
    optimizer = fb.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = fb.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    data, losses = batches(batch, images), []
    for _ in (bar := trange(steps)):
        (x,) = next(data)
        optimizer.zero_grad()
        loss = F.mse_loss(model(noisy(x, amount)), x)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_description(f"loss {losses[-1]:.4f}")
    return losses


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.3)
    options = parser.parse_args(arguments)
    fb.manual_seed(0)
    images, _ = digits()
    model = Autoencoder()
    losses = train(model, images[:1400], options.steps, options.noise)
    clean = images[1400:1410]
    with fb.no_grad():
        given = noisy(clean, options.noise)
        found = model(given)
    print(
        f"Mean squared error {F.mse_loss(given, clean).item():.4f} before, {F.mse_loss(found, clean).item():.4f} after."
    )
    plot(options.out / "autoencoder_loss.png", "Noise taken away from digits", loss=losses)
    show(options.out / "autoencoder_digits.png", "Noise, what came back, the digits", fb.cat([given, found, clean]))
    return losses


if __name__ == "__main__":
    main()
