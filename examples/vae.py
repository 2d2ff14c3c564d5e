"""Train an autoencoder, or a variational one, on digits; draw what it makes of them.

python examples/vae.py --out out
python examples/vae.py --plain --out out     # without the distribution: a mere autoencoder
"""

import argparse
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
from flambeau.distributions import Normal, kl_divergence
from pictures import batches, digits, plot, show
from tqdm import trange


class Autoencoder(nn.Module):
    """Images to a distribution over `size` numbers, and back."""

    def __init__(self, size=8, hidden=128):
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 2 * size))
        self.decode = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, 64), nn.Unflatten(1, (1, 8, 8))
        )

    def posterior(self, images):
        """The distribution of the code of each image."""
        mean, raw = self.encode(images).chunk(2, 1)
        return Normal(mean, F.softplus(raw) + 1e-3)

    def loss(self, images, plain=False):
        """Negative evidence lower bound per image; or the reconstruction's part, of the mean alone."""
        code = self.posterior(images)
        logits = self.decode(code.mean if plain else code.rsample())
        reconstruction = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
        if plain:
            return reconstruction
        return reconstruction + kl_divergence(code, Normal(0.0, 1.0)).sum() / len(images)


def train(model, images, steps, plain, batch=64):
    optimizer = fb.optim.Adam(model.parameters(), lr=2e-3)
    data, losses = batches(batch, images), []
    for _ in (bar := trange(steps)):
        (x,) = next(data)
        optimizer.zero_grad()
        loss = model.loss(x, plain)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        bar.set_description(f"loss {losses[-1]:.2f}")
    return losses


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args(arguments)
    name = "autoencoder" if options.plain else "vae"
    fb.manual_seed(0)
    images, _ = digits()
    model = Autoencoder()
    losses = train(model, images, options.steps, options.plain)
    with fb.no_grad():
        again = model.decode(model.posterior(images[:10]).mean).sigmoid()
        drawn = model.decode(fb.randn(20, 8)).sigmoid()
    plot(options.out / f"{name}_loss.png", "Digits through 8 numbers", loss=losses)
    show(
        options.out / f"{name}_digits.png",
        "Digits, and what came back; then drawn ones",
        fb.cat([images[:10], again, drawn]),
    )
    return losses


if __name__ == "__main__":
    main()
