"""`CheckpointManager`: trainings saved whole, and resumed.

In: what is trained, by name: anything with `state_dict` and `load_state_dict`. Out: a folder per step, with the model's weights
as safetensors, everything else in a file of `save`, and what the model is in JSON. A folder is written beside its place and
renamed when everything is on the disk; old ones are moved aside before they are removed: what has a name is whole. Next: `keys.py`.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flambeau import replacing
from flambeau.checkpoints import chance
from flambeau.checkpoints.keys import Rule, migrated
from flambeau.checkpoints.shape_of_models import architecture, difference, fingerprint
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor
from flambeau.serialization import load, save

_NAME = re.compile(r"step-(\d{10,})\Z")
_WEIGHTS, _REST, _FACTS = "model.safetensors", "training.pt", "checkpoint.json"
_FORMAT = 1


class CheckpointManager:
    """Checkpoints in `folder`, of which the last `keep` stay (None: all).

    `parts` are what is trained: `model=`, a module; `optimizer=`, `scheduler=`, `scaler=`, a `ResumableLoader`, or anything with
    `state_dict()` and `load_state_dict()`. States of random numbers (ours, NumPy's, Python's) are saved too. `config` is what JSON
    can hold and stands beside the weights. `version` is that of the model's names; `migrations[v]` are rules that bring those
    of version v to v + 1 (`migrated`).
    Raises ValueError for a `keep` below 1, TypeError for parts that cannot be saved and a `config` that JSON cannot hold.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        keep: int | None = 5,
        config: Any = None,
        version: int = 1,
        migrations: Mapping[int, Iterable[Rule]] | None = None,
        **parts: Any,
    ) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"[CheckpointManager] keep is {keep}. Use at least 1, or None.")
        for name, part in parts.items():
            if not hasattr(part, "state_dict") or not hasattr(part, "load_state_dict"):
                raise TypeError(f"[CheckpointManager] '{name}' is a {type(part).__name__}, which has no state_dict().")
        json.dumps(config)
        self.folder, self.keep, self.config, self.version = Path(folder), keep, config, version
        self.migrations = {v: list(rules) for v, rules in (migrations or {}).items()}
        self.parts = parts
        self._writer: threading.Thread | None = None
        self._error: BaseException | None = None

    # ---- what is there

    def steps(self) -> list[int]:
        """The steps of which there are checkpoints, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(found[1]) for name in os.listdir(self.folder) if (found := _NAME.match(name)))

    def latest(self) -> int | None:
        """The last step, None where there is no checkpoint."""
        return max(self.steps(), default=None)

    def path(self, step: int | None = None) -> Path:
        """The folder of a step, by default the last one. Raises FileNotFoundError where there is none."""
        chosen = self.latest() if step is None else step
        path = self.folder / f"step-{chosen or 0:010d}"
        if chosen is None or not path.is_dir():
            there = f"There are {self.steps()}." if self.steps() else "There are none."
            raise FileNotFoundError(f"[CheckpointManager] there is no checkpoint of step {chosen}. {there}")
        return path

    def facts(self, step: int | None = None) -> dict[str, Any]:
        """What stands beside the weights: "step", "config", "version", "parts", "architecture" and its hash. Raises
        FileNotFoundError where there is no checkpoint, ValueError where the file is malformed."""
        path = self.path(step) / _FACTS
        try:
            found = json.loads(path.read_text())
            if isinstance(found, dict) and found.get("format") == _FORMAT:
                return found
        except (ValueError, RecursionError):
            pass
        raise ValueError(f"[CheckpointManager] {path} is malformed, or of another version. Check who wrote it.")

    def keys(self, step: int | None = None) -> dict[str, tuple[tuple[int, ...], str]]:
        """The names of the model's tensors with their shapes and dtypes; no weights are read."""
        state = load(self.path(step) / _WEIGHTS, mmap=True)
        return {name: (tuple(t.shape), t.dtype.name) for name, t in state.items() if isinstance(t, Tensor)}

    # ---- saving

    def save(self, step: int, *, wait: bool = True, **more: Any) -> Path:
        """Save all parts, as they are now, as the checkpoint of `step`, and `more` beside them. With `wait=False` a thread writes
        while training goes on; `wait()` waits for it. Returns the folder's path.

        Raises ValueError for a step below 0, OSError where it cannot be written, also of the save before this one.
        """
        if step < 0:
            raise ValueError(f"[CheckpointManager] step is {step}. Use at least 0.")
        self.wait()
        model = self.parts.get("model")
        weights = None if model is None else model.state_dict()
        rest = {name: part.state_dict() for name, part in self.parts.items() if name != "model"}
        state = {"parts": rest, "random": chance.state(), "more": more}
        lines = [] if model is None else architecture(model)
        facts = {
            "format": _FORMAT, "step": step, "version": self.version, "config": self.config, "parts": sorted(self.parts),
            "architecture": lines, "hash": fingerprint(lines),
        }  # fmt: skip
        target = self.folder / f"step-{step:010d}"
        if wait:
            self._write(target, weights, state, facts)
            return target
        weights, state = snapshot((weights, state))
        recorder.flush()
        self._writer = threading.Thread(target=self._write_aside, args=(target, weights, state, facts))
        self._writer.start()
        return target

    def _write(self, target: Path, weights: Any, state: Any, facts: dict[str, Any]) -> None:
        with replacing.replaced_folder(target) as partial:
            if weights is not None:
                save(weights, partial / _WEIGHTS)
            save(state, partial / _REST)
            (partial / _FACTS).write_text(json.dumps(facts, indent=1))
        self._remove_old()

    def _write_aside(self, *arguments: Any) -> None:
        try:
            self._write(*arguments)
        except BaseException as error:  # told by `wait`
            self._error = error

    def wait(self) -> None:
        """Wait until what a thread writes is on the disk. Raises what went wrong there."""
        if self._writer is not None:
            self._writer.join()
        self._writer, error, self._error = None, self._error, None
        if error is not None:
            raise error

    def _remove_old(self) -> None:
        old = [] if self.keep is None else self.steps()[: -self.keep]
        if not old:
            return
        with replacing.private_folder(self.folder) as private:  # whoever is killed here leaves nothing that has a name
            for step in old:
                name = f"step-{step:010d}"
                os.rename(self.folder / name, private / name)

    # ---- loading

    def load(
        self, step: int | None = None, *, strict: bool = True, rules: Iterable[Rule] = (), check: bool = True
    ) -> dict[str, Any]:
        """Bring all parts, and random numbers, to where they were at `step`, by default the last one. Returns a report: "step",
        "more", "renamed" (by migrations and `rules`), "missing" and "unexpected" names of the model.

        `strict=False` loads what fits by name. `check=False` does not compare what the model is with what was saved; nor is it
        where names are migrated. Raises FileNotFoundError where there is no checkpoint, RuntimeError for another model, or for
        parts that were not saved; then nothing was loaded.
        """
        path, facts = self.path(step), self.facts(step)
        if absent := sorted(set(self.parts) - set(facts["parts"])):
            raise RuntimeError(f"[CheckpointManager] {path} has no {', '.join(absent)}. It has {facts['parts']}.")
        rules = [*self._rules(facts["version"]), *rules]
        model = self.parts.get("model")
        report: dict[str, Any] = {"step": facts["step"], "renamed": {}, "missing": [], "unexpected": []}
        state = load(path / _REST)
        if model is not None:
            if check and strict and not rules:
                _check_same(path, facts, model)
            weights, report["renamed"] = migrated(load(path / _WEIGHTS), rules)
            keys = model.load_state_dict(weights, strict=strict)
            report["missing"], report["unexpected"] = list(keys.missing_keys), list(keys.unexpected_keys)
        for name, part in self.parts.items():
            if name != "model":
                part.load_state_dict(state["parts"][name])
        chance.restore(state["random"])
        return {**report, "more": state["more"]}

    def _rules(self, version: int) -> list[Rule]:
        if version > self.version:
            raise RuntimeError(
                f"[CheckpointManager] the checkpoint has names of version {version}, this program of {self.version}. "
                "Use the newer program."
            )
        return [rule for v in range(version, self.version) for rule in self.migrations.get(v, [])]

    def load_slices(
        self, module: Any, slices: Mapping[str, Any] | Callable[[str, tuple[int, ...]], Any], step: int | None = None
    ) -> Any:
        """Load into `module` parts of the saved weights: `slices[name]`, or `slices(name, shape)`, is a slice, a tuple of slices,
        or None for all of it. The file is mapped: nothing else is read. Returns what `load_state_dict` does. Raises RuntimeError
        where a part has another shape than the module's tensor."""
        state = load(self.path(step) / _WEIGHTS, mmap=True)
        ask = slices if callable(slices) else lambda name, shape: slices.get(name)
        wanted = {name: ask(name, tuple(t.shape)) for name, t in state.items() if isinstance(t, Tensor)}
        parts = {n: t if (part := wanted.get(n)) is None else t[part] for n, t in state.items()}
        return module.load_state_dict(parts)

    def load_part(self, module: Any, path: str, step: int | None = None, *, strict: bool = True) -> Any:
        """Load the weights of one part of the saved model, such as "encoder.layers.0", into `module`; nothing else is read.
        Returns what `load_state_dict` does. Raises KeyError where the model had no such part."""
        state = load(self.path(step) / _WEIGHTS, mmap=True)
        prefix = path + "." if path else ""
        part = {name[len(prefix) :]: t for name, t in state.items() if name.startswith(prefix)}
        if not part:
            raise KeyError(f"[CheckpointManager] the saved model has nothing at '{path}'. See keys().")
        return module.load_state_dict(part, strict=strict)


def _check_same(path: Path, facts: dict[str, Any], model: Any) -> None:
    here = architecture(model)
    if fingerprint(here) != facts["hash"]:
        raise RuntimeError(
            f"[CheckpointManager] {path} is of another model: {difference(facts['architecture'], here)}. Nothing was "
            "loaded. Make the model that was saved, or pass check=False, strict=False or rules."
        )


def snapshot(value: Any) -> Any:
    """A state as it is now: later steps do not change its tensors, which share memory until then."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        made = {name: snapshot(each) for name, each in value.items()}
        return made
    if type(value) in (list, tuple):
        return type(value)(map(snapshot, value))
    return value
