"""What a user writes, with what basedpyright is to say of a line behind it: a type that it reveals, or an error of that kind.

Read by `test_types.py`; never run.
"""

from typing import reveal_type

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
from flambeau import Tensor, nn, optim

x = fb.randn(3, 4, requires_grad=True)

reveal_type(x)  # Tensor
reveal_type(x + 1)  # Tensor
reveal_type(2 / x)  # Tensor
reveal_type(x * np.ones(4, np.float32))  # Tensor
reveal_type(x.T @ x)  # Tensor
reveal_type(x > 0)  # Tensor
reveal_type(x == 0)  # Tensor
reveal_type(x[1:, None])  # Tensor
reveal_type(x.shape)  # Size
reveal_type(x.shape[0])  # int
reveal_type(x.dtype)  # DType
reveal_type(x.device)  # device
reveal_type(x.ndim)  # int
reveal_type(x.grad)  # Tensor | None
reveal_type(x.requires_grad)  # bool
reveal_type(x.sum())  # Tensor
reveal_type(x.mean(axis=0, keepdims=True))  # Tensor
reveal_type(x.max())  # Tensor
reveal_type(x.max(dim=1))  # max
reveal_type(x.max(1).values)  # Tensor
reveal_type(fb.max(x, x))  # Tensor
reveal_type(x.reshape(4, 3))  # Tensor
reveal_type(x.reshape((4, 3)))  # Tensor
reveal_type(x.to(fb.float64))  # Tensor
reveal_type(x.size())  # Size
reveal_type(x.size(0))  # int
reveal_type(x.add_(1))  # Tensor
reveal_type(x.numpy())  # ndarray[tuple[Any, ...], dtype[Any]]
reveal_type(x.split(2))  # tuple[Tensor, ...]
reveal_type(x.unique())  # Tensor
reveal_type(x.unique(return_counts=True))  # tuple[Tensor, ...]
reveal_type(fb.where(x > 0))  # tuple[Tensor, ...]
reveal_type(fb.where(x > 0, x, 0))  # Tensor
reveal_type(fb.is_tensor(x))  # bool
reveal_type(fb.float32)  # DType
reveal_type(fb.zeros(2, 3, dtype=float))  # Tensor
reveal_type(fb.zeros((2, 3), names=("N", "C")))  # Tensor
reveal_type(fb.linalg.svd(x))  # linalg_svd
reveal_type(fb.linalg.svd(x).S)  # Tensor
reveal_type(fb.fft.rfft(x))  # Tensor
reveal_type(fb.special.expit(x))  # Tensor
reveal_type(F.cross_entropy(x, x.argmax(1)))  # Tensor
reveal_type(F.max_pool2d(x, 2))  # Tensor
reveal_type(F.max_pool2d(x, 2, return_indices=True))  # tuple[Tensor, ...]
reveal_type(fb.distributions.Normal(0.0, 1.0).rsample((2,)))  # Tensor

model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
optimizer = optim.Adam(model.parameters(), lr=1e-3)
reveal_type(model)  # Sequential
reveal_type(nn.Linear(3, 4).weight)  # Parameter
reveal_type(list(model.parameters()))  # list[Parameter]
reveal_type(optimizer)  # Adam


def loss(y: Tensor) -> Tensor:
    with fb.no_grad():
        y[0] = 1
    return (y.exp() * 2).sum()


loss(x).backward()
optimizer.step()
for row in x:
    reveal_type(row)  # Tensor

x.sums()  # reportAttributeAccessIssue
x.sum(keepdim="yes")  # reportArgumentType
x.sum(keep=True)  # reportCallIssue
x + "a"  # reportOperatorIssue
fb.relu(3)  # reportArgumentType
fb.zeros(2, dtype="float32")  # reportArgumentType
fb.nothing  # reportAttributeAccessIssue
F.softmax()  # reportCallIssue
count: int = x.mean()  # reportAssignmentType
nn.Linear("a", 3)  # reportArgumentType
optim.Adam(lr=1)  # reportCallIssue
loss(3)  # reportArgumentType
x.size("N").nothing  # reportAttributeAccessIssue
