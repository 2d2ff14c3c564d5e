"""Train an LSTM to write like a text file, letter by letter.

python examples/char_rnn.py --text docs/architecture.md --out out
"""

import argparse
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
from flambeau.distributions import Categorical
from pictures import plot
from tqdm import trange

README = Path(__file__).resolve().parent.parent / "README.md"


class Writer(nn.Module):
    """Letters [n, time] and a state to logits of the next letters, and the state after them."""

    def __init__(self, letters, hidden=128):
        super().__init__()
        self.embed = nn.Embedding(letters, 32)
        self.lstm = nn.LSTM(32, hidden, batch_first=True)
        self.head = nn.Linear(hidden, letters)

    def forward(self, letters, state=None):
        found, state = self.lstm(self.embed(letters), state)
        return self.head(found), state


def train(model, text, steps, batch=16, length=48):
    """Truncated back-propagation: the state goes on from piece to piece, gradients do not."""
    optimizer = fb.optim.AdamW(model.parameters(), lr=3e-3)
    rows = text[: len(text) // batch * batch].reshape(batch, -1)
    state, losses, at = (fb.zeros(1, batch, 128), fb.zeros(1, batch, 128)), [], 0
    for _ in (bar := trange(steps)):
        if at + length + 1 > rows.shape[1]:
            at = 0
        x, y = rows[:, at : at + length], rows[:, at + 1 : at + length + 1]
        at += length
        optimizer.zero_grad()
        logits, state = model(x, state)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state = tuple(s.detach() for s in state)
        losses.append(loss.item())
        bar.set_description(f"loss {losses[-1]:.3f}")
    return losses


def write(model, first, count, temperature=0.7):
    """`count` letters after `first`, drawn one by one."""
    letter, state, written = fb.tensor([[first]]), None, []
    model.eval()
    with fb.no_grad():
        for _ in range(count):
            logits, state = model(letter, state)
            letter = Categorical(logits=logits[:, -1] / temperature).sample().reshape(1, 1)
            written.append(letter.item())
    return written


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, default=README)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--letters", type=int, default=300, help="how many to write in the end")
    options = parser.parse_args(arguments)
    fb.manual_seed(0)
    text = options.text.read_text(encoding="utf-8")
    alphabet = sorted(set(text))
    places = {letter: k for k, letter in enumerate(alphabet)}
    model = Writer(len(alphabet))
    losses = train(model, fb.tensor([places[letter] for letter in text]), options.steps)
    written = "".join(alphabet[k] for k in write(model, places["\n"], options.letters))
    print(written)
    plot(options.out / "char_rnn_loss.png", f"Writing like {options.text.name}", loss=losses)
    return losses, written


if __name__ == "__main__":
    main()
