"""Transfer learning: a network that knows the digits 0 to 4 learns 5 to 9 with a new head, its features frozen.

python examples/transfer.py --out out
"""

import argparse
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
from cnn import Network, predict, train
from pictures import digits, plot


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args(arguments)
    fb.manual_seed(0)
    images, labels = digits()
    small = labels < 5
    model = Network()
    first = train(model, images[small], labels[small], options.steps)

    for parameter in model.features.parameters():
        parameter.requires_grad_(False)
    model.head = nn.Sequential(nn.Flatten(), nn.Linear(512, 5))
    known = {name: p.clone() for name, p in model.features.named_parameters()}
    large, others = images[~small], labels[~small] - 5
    second = train(model, large[:700], others[:700], options.steps)
    assert all(fb.equal(p, known[name]) for name, p in model.features.named_parameters())

    right = (predict(model, large[700:]) == others[700:]).float().mean().item()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"With {trained} trained numbers of {sum(p.numel() for p in model.parameters())}: right on {right:.2%}.")
    plot(options.out / "transfer_loss.png", "From digits to other digits", first=first, second=second)
    return first, second, right


if __name__ == "__main__":
    main()
