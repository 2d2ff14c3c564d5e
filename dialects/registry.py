"""Things by name, of one kind: the built-in ones, and those that other packages offer through an entry-point group.

In: a name. Out: the object. One class serves passes, targets, ops and dialects alike: built-in ones are "module:attribute" and
imported when asked for, as are plug-ins; a plug-in that is no such thing, or is written for another version of the interface, is
refused with its package named. Next: `compiler/passes/registry.py`, `compiler/targets`, `plugins.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar

from flambeau.dialects import entry_points
from flambeau.dialects.entry_points import INTERFACES, Offer, PluginError

T = TypeVar("T")


class Registry(Generic[T]):
    """`group` is the entry-point group, `what` what people call one of these. `check(name, found)` says what to make of
    an object that is none, None if it is one. An offer with the name of a built-in one, or of another package's that comes first,
    is not used."""

    def __init__(
        self, group: str, what: str, built_in: Mapping[str, str | T], check: Callable[[str, Any], str | None]
    ) -> None:
        self.group, self.what, self.built_in, self._check = group, what, built_in, check

    def offers(self) -> tuple[Offer, ...]:
        """What other packages offer, in order of name, then package."""
        return entry_points.offers(self.group)

    def usable(self) -> tuple[Offer, ...]:
        """Those offers that have a name of their own."""
        first = {o.name: o for o in reversed(self.offers())}
        return tuple(o for o in self.offers() if o.name not in self.built_in and first[o.name] is o)

    def names(self) -> list[str]:
        """Every name that `find` knows, built-in ones first."""
        return [*self.built_in, *(o.name for o in self.usable())]

    def origins(self) -> dict[str, str]:
        """Where each comes from: "flambeau", or the package that offers it."""
        return {**dict.fromkeys(self.built_in, "flambeau"), **{o.name: o.package for o in self.usable()}}

    def offer(self, name: str) -> Offer | None:
        """The offer of that name, None for a built-in one and for one that nobody offers."""
        return next((o for o in self.usable() if o.name == name), None)

    def find(self, name: str) -> T:
        """The one called `name`. Raises ValueError with the known names when there is none, PluginError when a
        plug-in's cannot be used."""
        if name in self.built_in:
            found = self.built_in[name]
            if not isinstance(found, str):
                return found
            module, _, attribute = found.partition(":")
            return getattr(import_module(module), attribute) if attribute else import_module(module)  # type: ignore[return-value]
        offer = self.offer(name)
        if offer is not None:
            return self.load(offer)
        unread = "".join(f" {text}" for text in entry_points.problems())
        kind = self.group.rpartition(".")[2]
        raise ValueError(
            f"[{kind}] there is no {self.what} named '{name}'. Known {kind}: {', '.join(self.names())}.{unread}"
        )

    def load(self, offer: Offer) -> T:
        """What a plug-in offers. Raises PluginError when it cannot be imported, is written for another version, or is no such
        thing."""
        named = f"[plug-in] {self.what} '{offer.name}' of {offer.package}"
        if (refusal := INTERFACES[self.group].refusal(offer.interface)) is not None:
            raise PluginError(f"{named} {refusal}")
        found = offer.load()
        if (advice := self._check(offer.name, found)) is not None:
            raise PluginError(f"{named} is {found!r}. {advice}")
        return found
