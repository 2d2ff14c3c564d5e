"""Train a small GPT to write like a text file, letter by letter.

python examples/gpt.py --text docs/architecture.md --out out
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


class Block(nn.Module):
    """Attention to what came before, then two layers; both are added to their input."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        n, time, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(n, time, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Letters [n, time] to logits of the letters after them."""

    def __init__(self, letters, context=64, width=64, heads=4, depth=2):
        super().__init__()
        self.context = context
        self.letters, self.places = nn.Embedding(letters, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)), nn.LayerNorm(width))
        self.head = nn.Linear(width, letters, bias=False)

    def forward(self, letters):
        places = self.places(fb.arange(letters.shape[1]))
        return self.head(self.blocks(self.letters(letters) + places))


def train(model, text, steps, batch=16):
    optimizer = fb.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    schedule = fb.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    offsets, losses = fb.arange(model.context + 1), []
    for _ in (bar := trange(steps)):
        starts = fb.randint(len(text) - model.context, (batch, 1))
        pieces = text[starts + offsets]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_description(f"loss {losses[-1]:.3f}")
    return losses


def write(model, text, count, temperature=0.7):
    """`count` letters after those of `text`, as many as the model looks back."""
    seen, written = text[: model.context].reshape(1, -1), []
    model.eval()
    with fb.no_grad():
        for _ in range(count):
            letter = Categorical(logits=model(seen)[:, -1] / temperature).sample()
            seen = fb.cat([seen[:, 1:], letter.reshape(1, 1)], 1)
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
    encoded = fb.tensor([places[letter] for letter in text])
    model = GPT(len(alphabet))
    losses = train(model, encoded, options.steps)
    written = "".join(alphabet[k] for k in write(model, encoded, options.letters))
    print(written)
    plot(options.out / "gpt_loss.png", f"Writing like {options.text.name}", loss=losses)
    return losses, written


if __name__ == "__main__":
    main()
