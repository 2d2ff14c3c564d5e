"""Flambeau under the name `torch`: what `flambeau run` puts in place before a script starts.

In: nothing. Out: `import torch` and its submodules mean Flambeau in this process, in libraries too. Next: `finder.py`.
"""


def install() -> None:
    """Make `import torch` mean Flambeau from here on. Raises RuntimeError where PyTorch has been imported."""
    from flambeau.as_torch import finder  # that module imports this one

    finder.install()


__all__ = ["install"]
