"""REINFORCE as in PyTorch's examples: episodes of random lengths, each step looked at, one gradient at the end of each.

    python benchmarks/episodes.py [flambeau|torch] [episodes]

Prints processor seconds of all steps, and of all `backward()`s with their updates. States are random: the lengths of episodes
are what is measured, not what is learned.
"""

from __future__ import annotations

import importlib
import random
import sys
import time
from types import ModuleType
from typing import Any

import numpy as np

SHORTEST, LONGEST = 20, 200


def policy(torch: ModuleType) -> Any:
    nn = torch.nn
    return nn.Sequential(nn.Linear(4, 128), nn.Dropout(0.6), nn.ReLU(), nn.Linear(128, 2), nn.Softmax(1))


def act(torch: ModuleType, categorical: Any, model: Any, state: np.ndarray) -> Any:
    """The log-probability of an action that is drawn, and looked at."""
    actions = categorical(model(torch.from_numpy(state).unsqueeze(0)))
    action = actions.sample()
    action.item()
    return actions.log_prob(action)


def learn(torch: ModuleType, optimizer: Any, chosen: list[Any]) -> None:
    rewards = [0.0]
    for _ in chosen:
        rewards.append(1 + 0.99 * rewards[-1])
    returns = torch.tensor(rewards[:0:-1])
    returns = (returns - returns.mean()) / (returns.std() + 1e-7)
    optimizer.zero_grad()
    loss = torch.cat([-p * r for p, r in zip(chosen, returns, strict=True)]).sum()
    loss.backward()
    optimizer.step()


def main(name: str = "flambeau", episodes: str = "100") -> None:
    torch = importlib.import_module(name)
    categorical = importlib.import_module(f"{name}.distributions").Categorical
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = policy(torch)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    lengths, states = random.Random(1), np.random.default_rng(0)
    steps = updates = 0.0
    for _ in range(int(episodes)):
        start = time.process_time()
        n = lengths.randint(SHORTEST, LONGEST)
        chosen = [act(torch, categorical, model, states.normal(size=4).astype(np.float32)) for _ in range(n)]
        middle = time.process_time()
        learn(torch, optimizer, chosen)
        steps, updates = steps + middle - start, updates + time.process_time() - middle
    print(f"{name}: {episodes} episodes, steps {steps:.2f} s, gradients and updates {updates:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
