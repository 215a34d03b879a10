"""An estimate of memory: named parts, each with its reason, and when it is there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """`bytes` that `name` takes; `why` says in a few words how that was found. `phase`: the stage of a training step in
    which it is there; empty for what is always there."""

    name: str
    bytes: int
    why: str = ""
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What takes memory. At its peak the whole is what is always there, and the largest phase."""

    items: tuple[Item, ...]

    @property
    def phases(self) -> dict[str, int]:
        """Bytes at the peak of each phase, what is always there included; one phase without a name if there is none."""
        always = self.of("")
        names = list(dict.fromkeys(item.phase for item in self.items if item.phase)) or [""]
        return {name: always + (self.of(name) if name else 0) for name in names}

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return max(self.phases.values())

    @property
    def peak(self) -> str:
        """The phase that takes most; empty where there are none."""
        return max(self.phases.items(), key=lambda pair: pair[1])[0]

    def of(self, phase: str) -> int:
        """Bytes that are there in this phase alone ("": always)."""
        return sum(item.bytes for item in self.items if item.phase == phase)

    def named(self, name: str) -> int:
        """Bytes of the items of this name."""
        return sum(item.bytes for item in self.items if item.name == name)
