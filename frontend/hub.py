"""Where PyTorch programs look for `torch.hub`: models of a folder that has a `hubconf.py`. Nothing is downloaded.

In: a folder and a name. Out: what its function makes. Next: `serialization/`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from flambeau import border as _border
from flambeau import missing as _missing

_folder: list[str] = []


def get_dir() -> str:
    """Where downloads would lie: what `set_dir` named, else `$TORCH_HOME/hub`, else `~/.cache/torch/hub`."""
    home = os.environ.get("TORCH_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch"))
    return _folder[0] if _folder else os.path.join(os.path.expanduser(home), "hub")


def set_dir(d: str) -> None:
    """Say where downloads would lie."""
    _folder[:] = [os.path.expanduser(d)]


def _entries(op: str, repo_or_dir: str, source: str) -> Any:
    if source != "local":
        raise RuntimeError(
            f"[hub.{op}] '{repo_or_dir}' is of {source}: nothing is downloaded. Clone it; pass source='local'."
        )
    path = os.path.join(repo_or_dir, "hubconf.py")
    spec = importlib.util.spec_from_file_location("hubconf", path)
    if spec is None or spec.loader is None or not os.path.exists(path):
        raise FileNotFoundError(f"[hub.{op}] there is no '{path}'. Pass a folder that has one.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, repo_or_dir)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(repo_or_dir)
    return module


def list(github: str, *args: Any, source: str = "github", **kwargs: Any) -> Any:
    """The names of the functions in the folder's `hubconf.py`. Raises RuntimeError for other sources than "local"."""
    module = _entries("list", github, source)
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def load(repo_or_dir: str, model: str, *args: Any, source: str = "github", **kwargs: Any) -> Any:
    """What the function `model` of the folder's `hubconf.py` gives for the other arguments.

    Raises RuntimeError for other sources than "local" and for a name that is not there.
    """
    for flag in ("trust_repo", "force_reload", "verbose", "skip_validation"):
        kwargs.pop(flag, None)
    module = _entries("load", repo_or_dir, source)
    if not callable(getattr(module, model, None)):
        raise RuntimeError(f"[hub.load] there is no '{model}' in the hubconf.py of '{repo_or_dir}'. See hub.list.")
    return getattr(module, model)(*args, **kwargs)


def load_state_dict_from_url(url: str, *args: Any, **kwargs: Any) -> Any:
    """Raises RuntimeError: nothing is downloaded."""
    raise RuntimeError(
        f"[hub.load_state_dict_from_url] nothing is downloaded. Fetch '{url}' yourself; read it with flambeau.load."
    )


__all__ = ["get_dir", "list", "load", "load_state_dict_from_url", "set_dir"]

_border.publish(globals(), __all__)
__getattr__ = _missing.module_getattr("flambeau.hub")
