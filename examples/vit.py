"""Train a tiny vision transformer on digits, and show where it looks.

python examples/vit.py --out out
"""

import argparse
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
from pictures import batches, digits, plot, show
from tqdm import trange


class ViT(nn.Module):
    """Images [n, 1, 8, 8] in patches of 2 by 2, with one more token for the class, to 10 classes."""

    def __init__(self, patch=2, width=48, heads=4, depth=2):
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.token = nn.Parameter(fb.zeros(1, 1, width))
        self.places = nn.Parameter(fb.randn(1, (8 // patch) ** 2 + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        x = fb.cat([self.token.expand(len(images), -1, -1), patches], 1) + self.places
        return self.head(self.encoder(x)[:, 0])


def train(model, images, labels, steps, batch=64):
    optimizer = fb.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = fb.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    data, losses = batches(batch, images, labels), []
    for _ in (bar := trange(steps)):
        x, y = next(data)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_description(f"loss {losses[-1]:.4f}")
    return losses


def saliency(model, images, labels):
    """How much each pixel matters for the logit of the right class: its gradient, from 0 to 1."""
    x = images.clone().requires_grad_()
    model(x).gather(1, labels[:, None]).sum().backward()
    size = x.grad.abs()
    return size / size.amax((2, 3), keepdim=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--steps", type=int, default=800)
    options = parser.parse_args(arguments)
    fb.manual_seed(0)
    images, labels = digits()
    model = ViT()
    losses = train(model, images[:1400], labels[:1400], options.steps)
    model.eval()
    with fb.no_grad():
        right = (model(images[1400:]).argmax(1) == labels[1400:]).float().mean().item()
    print(f"Right on {right:.2%} of the images that it has not seen.")
    looked = saliency(model, images[1400:1410], labels[1400:1410])
    plot(options.out / "vit_loss.png", "Digits by attention", loss=losses)
    show(options.out / "vit_saliency.png", "Digits, and the pixels that matter", fb.cat([images[1400:1410], looked]))
    return losses, right


if __name__ == "__main__":
    main()
