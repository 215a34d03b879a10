"""What the recipes of all trainers have in common: how strictly a table is read, and the adapter's table."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Above = Annotated[float, Field(gt=0.0)]
Weight = Annotated[float, Field(ge=0.0)]
Names = Annotated[tuple[str, ...], Field(strict=False)]  # TOML's lists


class Table(BaseModel):
    """Unknown keys are errors, and so are values of another type and numbers that are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class LoRATable(Table):
    """The adapter that is trained where `training.tuning` is "lora". No `targets`: all linear layers of the decoder."""

    rank: Positive = 16
    alpha: Above = 32.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    targets: Names = ()
