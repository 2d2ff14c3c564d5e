"""Train a convolutional network on scikit-learn's digits and look at what it gets wrong.

python examples/cnn.py --out out
"""

import argparse
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
from pictures import batches, digits, plot, show
from tqdm import trange


class Network(nn.Module):
    """Images [n, 1, 8, 8] to 10 classes: two convolutions with batch normalization, then two layers."""

    def __init__(self, width=16):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(2 * width * 16, 64), nn.ReLU(), nn.Linear(64, 10)
        )

    def forward(self, images):
        return self.head(self.features(images))


def train(model, images, labels, steps, batch=64):
    """Train with AdamW and a learning rate that falls along a cosine; returns the losses."""
    optimizer = fb.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = fb.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    data, losses = batches(batch, images, labels), []
    model.train()
    for _ in (bar := trange(steps)):
        x, y = next(data)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_description(f"loss {losses[-1]:.4f}")
    return losses


def predict(model, images):
    """The most probable class of each image."""
    model.eval()
    with fb.no_grad():
        return model(images).argmax(1)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args(arguments)
    fb.manual_seed(0)
    images, labels = digits()
    model = Network()
    losses = train(model, images[:1400], labels[:1400], options.steps)
    found, wanted = predict(model, images[1400:]), labels[1400:]
    right = (found == wanted).float().mean().item()
    print(f"Right on {right:.2%} of the images that it has not seen.")
    plot(options.out / "cnn_loss.png", "Digits by convolutions", loss=losses)
    wrong = (found != wanted).nonzero()[:20, 0]
    if len(wrong):
        show(options.out / "cnn_wrong.png", f"Taken for {found[wrong].tolist()}", images[1400:][wrong])
    return losses, right


if __name__ == "__main__":
    main()
