"""Train an actor and a critic to balance a pole on a cart (Barto, Sutton and Anderson, 1983), many carts at once.

python examples/actor_critic.py --out out
"""

import argparse
import math
from pathlib import Path

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
from flambeau.distributions import Categorical
from pictures import plot
from tqdm import trange


class CartPoles:
    """`count` carts on tracks, all of whose states are one tensor [count, 4]: place, speed, angle, turn.

    A cart that leaves the track, or whose pole falls, starts anew.
    """

    def __init__(self, count):
        self.count, self.state = count, self.fresh(count)

    def fresh(self, count):
        return fb.rand(count, 4) * 0.1 - 0.05

    def step(self, action):
        """Push to the left (0) or right (1) for 20 ms; (the new states, whether a cart failed)."""
        place, speed, angle, turn = self.state.unbind(1)
        force, mass, pole, length = action.float() * 20 - 10, 1.1, 0.1, 0.5
        push = (force + pole * length * turn.square() * angle.sin()) / mass
        inertia = length * (4 / 3 - pole * angle.cos().square() / mass)
        twist = (9.8 * angle.sin() - angle.cos() * push) / inertia
        thrust = push - pole * length * twist * angle.cos() / mass
        moved = fb.stack([place + 0.02 * speed, speed + 0.02 * thrust, angle + 0.02 * turn, turn + 0.02 * twist], 1)
        failed = (moved[:, 0].abs() > 2.4) | (moved[:, 2].abs() > 12 * math.pi / 180)
        self.state = fb.where(failed[:, None], self.fresh(self.count), moved)
        return self.state, failed


class ActorCritic(nn.Module):
    """States [n, 4] to logits of the two actions, and the value of the state."""

    def __init__(self, hidden=64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.actor, self.critic = nn.Linear(hidden, 2), nn.Linear(hidden, 1)

    def forward(self, states):
        x = self.body(states)
        return self.actor(x), self.critic(x)[:, 0]


def train(model, carts, steps, horizon=16, discount=0.98):
    """Advantage actor-critic; returns how many steps a pole stands, on average, after each update."""
    optimizer = fb.optim.Adam(model.parameters(), lr=5e-3)
    standing = []
    for _ in (bar := trange(steps)):
        log_probs, values, entropies, fails = [], [], [], []
        for _ in range(horizon):
            logits, value = model(carts.state)
            choice = Categorical(logits=logits, validate_args=False)
            action = choice.sample()
            _, failed = carts.step(action)
            log_probs.append(choice.log_prob(action))
            values.append(value)
            entropies.append(choice.entropy())
            fails.append(failed.float())
        with fb.no_grad():
            target, targets = model(carts.state)[1], []
            for failed in reversed(fails):
                target = (1 - failed) * (1 + discount * target)
                targets.append(target)
        targets, values = fb.stack(targets[::-1]), fb.stack(values)
        advantage = (targets - values).detach()
        loss = F.smooth_l1_loss(values, targets) - 0.01 * fb.stack(entropies).mean()
        loss = loss - (advantage / (advantage.std() + 1e-6) * fb.stack(log_probs)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        rate = fb.stack(fails).mean().item()
        standing.append(1 / max(rate, 1 / 500))
        bar.set_description(f"a pole stands for {standing[-1]:.0f} steps")
    return standing


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--carts", type=int, default=64)
    options = parser.parse_args(arguments)
    fb.manual_seed(0)
    standing = train(ActorCritic(), CartPoles(options.carts), options.steps)
    plot(options.out / "actor_critic.png", "How long a pole stands", "steps", standing=standing)
    return standing


if __name__ == "__main__":
    main()
