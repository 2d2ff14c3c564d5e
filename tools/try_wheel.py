"""Trains a net for a few steps with an installed wheel, where there is no compiler: what `tools/wheels.sh` does with what it has
built."""

import shutil
import sys

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F

for compiler in ("cc", "gcc", "clang", "ld"):
    if shutil.which(compiler):
        sys.exit(f"there is a compiler, {compiler}: this tries nothing")
if not fb.__file__.startswith(sys.prefix):
    sys.exit(f"this is the package in {fb.__file__}, not the one that was installed")
fb.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
optimizer = fb.optim.Adam(model.parameters(), lr=1e-2)
x, y = fb.randn(32, 1, 8, 8), fb.randint(0, 10, (32,))
losses = []
for _ in range(20):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
if not losses[-1] < losses[0] / 2:
    sys.exit(f"the loss does not fall: {losses}")
print(f"flambeau {fb.__version__}: loss {losses[0]:.3f}, after 20 steps {losses[-1]:.3f}")
