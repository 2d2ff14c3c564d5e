"""Train a small network on the handwritten digits of scikit-learn, save it, load it, and predict.

    python examples/digits.py --out out

Everything below is what one would write with PyTorch. Every training step runs as one compiled program; with
FLAMBEAU_COMPILE=background (the default) the loop starts at once, op by op, and speeds up when the program is ready.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
from flambeau.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm


class Classifier(nn.Module):
    """64 pixels to 10 classes."""

    def __init__(self, hidden=128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 10),
        )

    def forward(self, images):
        return self.layers(images)


def load_data():
    """Images scaled to [0, 1], split into training and test sets of 1347 and 450."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    train_x, test_x, train_y, test_y = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    train = TensorDataset(fb.tensor(train_x), fb.tensor(train_y))
    return train, fb.tensor(test_x), fb.tensor(test_y)


def train(model, data, epochs, batch_size):
    """Train with AdamW; returns the loss and the duration of every step."""
    loader = DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True)
    optimizer = fb.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    losses, durations = [], []
    model.train()
    bar = tqdm(total=epochs * len(loader), unit="step")
    for epoch in range(epochs):
        for images, labels in loader:
            start = time.perf_counter()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels, label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            durations.append(time.perf_counter() - start)
            bar.update()
        bar.set_description(f"epoch {epoch + 1:2d}/{epochs}  loss {losses[-1]:.4f}")
    bar.close()
    return losses, durations


def accuracy(model, images, labels):
    """The share of images whose class is predicted right."""
    model.eval()
    with fb.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def plot_losses(losses, path):
    """Write the loss curve as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    axes.plot(losses, linewidth=0.8)
    axes.set(xlabel="step", ylabel="cross entropy", yscale="log", title="Training on digits")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main():
    """Train, report, save, load, predict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the checkpoint and the loss curve")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint, picture = options.out / "digits.safetensors", options.out / "digits_loss.png"

    fb.manual_seed(options.seed)
    data, test_x, test_y = load_data()
    model = Classifier()
    print(model)
    losses, durations = train(model, data, options.epochs, options.batch_size)

    print("\nWhat was compiled:")
    print(fb.explain())
    first, last = statistics.median(durations[:5]), statistics.median(durations[-200:])
    print(
        f"\nA step took {first * 1e3:.2f} ms at first and {last * 1e3:.3f} ms in the end ({first / last:.0f}x faster)."
    )

    score = accuracy(model, test_x, test_y)
    print(f"Test accuracy: {score:.2%}")
    fb.save(model.state_dict(), checkpoint)
    plot_losses(losses, picture)

    restored = Classifier()
    restored.load_state_dict(fb.load(checkpoint))
    restored.eval()
    with fb.no_grad():
        predicted = restored(test_x[:10]).argmax(1)
    print(f"Checkpoint {checkpoint} loaded again; first test digits: {test_y[:10].tolist()}")
    print(f"{'predicted:':>{len(str(checkpoint)) + 49}} {predicted.tolist()}")
    print(f"Loss curve: {picture}")
    if score < 0.97:
        sys.exit(f"Test accuracy {score:.2%} is below 97 %.")


if __name__ == "__main__":
    main()
