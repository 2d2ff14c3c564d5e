"""Train a generative adversarial network of convolutions (DCGAN, Radford et al., 2015) on digits.

python examples/dcgan.py --out out
"""

import argparse
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
from pictures import batches, digits, plot, show
from tqdm import trange


def generator(noise=32, width=16):
    """Noise [n, noise, 1, 1] to images [n, 1, 16, 16] from -1 to 1."""
    return nn.Sequential(
        nn.ConvTranspose2d(noise, 4 * width, 4, bias=False),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, 1, 4, stride=2, padding=1),
        nn.Tanh(),
    )


def discriminator(width=16):
    """Images [n, 1, 16, 16] to one logit: is it real?"""
    return nn.Sequential(
        nn.Conv2d(1, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 4),
        nn.Flatten(0),
    )


def initialize(module):
    """Small normal weights, as the paper has them."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def train(make, judge, images, steps, noise=32, batch=64):
    """Both in turn; returns the losses of the judge and of the maker."""
    makers = fb.optim.Adam(make.parameters(), lr=1e-3, betas=(0.5, 0.999))
    judges = fb.optim.Adam(judge.parameters(), lr=4e-4, betas=(0.5, 0.999))
    real, fake = fb.full((batch,), 0.9), fb.zeros(batch)  # labels smoothed on one side
    data, losses = batches(batch, images), ([], [])
    for _ in (bar := trange(steps)):
        (x,) = next(data)
        made = make(fb.randn(batch, noise, 1, 1))
        judges.zero_grad()
        loss = F.binary_cross_entropy_with_logits(judge(x), real)
        loss = loss + F.binary_cross_entropy_with_logits(judge(made.detach()), fake)
        loss.backward()
        judges.step()
        makers.zero_grad()
        deceit = F.binary_cross_entropy_with_logits(judge(made), fb.ones(batch))
        deceit.backward()
        makers.step()
        for history, value in zip(losses, (loss, deceit)):
            history.append(value.item())
        bar.set_description(f"judge {losses[0][-1]:.3f}  maker {losses[1][-1]:.3f}")
    return losses


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--steps", type=int, default=1500)
    options = parser.parse_args(arguments)
    fb.manual_seed(0)
    images, _ = digits(16)
    make, judge = generator(), discriminator()
    make.apply(initialize)
    judge.apply(initialize)
    judged, made = train(make, judge, images * 2 - 1, options.steps)
    make.eval()
    with fb.no_grad():
        drawn = make(fb.randn(40, 32, 1, 1)) / 2 + 0.5
    plot(options.out / "dcgan_loss.png", "Two networks against each other", judge=judged, maker=made)
    show(options.out / "dcgan_digits.png", "Digits that nobody has written", drawn)
    return judged, made


if __name__ == "__main__":
    main()
