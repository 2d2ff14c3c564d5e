"""Flambeau under the name `torch`: what `flambeau run` puts in place before a script starts.

In: nothing. Out: `import torch` and its submodules mean Flambeau in this process, in libraries too. Next: `finder.py`.
"""

from flambeau.as_torch.finder import VERSION, install

__all__ = ["VERSION", "install"]
