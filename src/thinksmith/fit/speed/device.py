"""A machine, as far as memory and speed go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["cuda", "cpu", "metal"]


@dataclass(frozen=True, slots=True)
class Device:
    """`memory`: bytes that programs can have, with nothing else running; `reserve`: bytes of it that the system and the
    desktop take. `unified`: GPU and CPU share it. `bandwidth`: bytes per second from that memory, as its maker states
    or as it was measured. `flops`: multiply-adds count as two; dense operations per second by the format that is
    multiplied (`fp32`, `bf16`, `fp8`, `int8`, `fp4`); a format that is missing is multiplied as the next wider one.
    `dollars_per_hour`: what an hour of it costs, 0 where nobody said. `source`: where the figures are from.
    """

    name: str
    title: str
    kind: Kind
    memory: int
    bandwidth: float
    flops: Mapping[str, float] = field(repr=False)
    reserve: int = 0
    unified: bool = False
    dollars_per_hour: float = 0.0
    source: str = ""

    @property
    def usable(self) -> int:
        """Bytes that a model can have."""
        return self.memory - self.reserve
