"""What is dropped and what is chosen: named thresholds, each with a default that is meant to be left alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from thinksmith.audit.language import LANGUAGES
from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean

Choose = Literal["shortest", "diverse", "all"]
Unjudged = Literal["judge", "keep", "drop"]


class Curation(BaseModel):
    """The options of `curate`. Shares and rates are of 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unjudged: Unjudged = Field(
        "judge", description="traces without a verdict: judge those with a gold answer, keep or drop"
    )
    need_thinking: bool = Field(True, description="drop traces without thinking")
    min_tokens: int = Field(0, ge=0, description="drop shorter traces")
    max_tokens: int = Field(32_768, ge=1, description="drop longer traces")
    language: str = Field(
        "question", description="what traces are written in: that of the question, any, or a code such as en"
    )
    language_share: float = Field(0.9, ge=0, le=1, description="least share of letters in the language's script")
    answer_in_thinking: bool = Field(True, description="drop traces whose answer never came up in their thinking")
    loops: bool = Field(True, description="drop traces that say one thing again and again")
    against: tuple[str, ...] = Field((), description="evaluations whose problems must not be learnt")
    gram: int = Field(
        8, ge=3, le=50, description="so many words on end, shared with an evaluation's problem, are too many"
    )
    trace_share: float = Field(
        0.5, gt=0, le=1, description="a trace holds a problem with this share of its word n-grams"
    )
    duplicates: bool = Field(True, description="drop traces that are there already, word for word")
    similarity: float = Field(0.8, gt=0, le=1, description="drop traces this similar to an earlier one; 1 keeps them")
    easiest: float = Field(0.9, ge=0, le=1, description="drop problems that are solved more often")
    hardest: float = Field(0.1, ge=0, le=1, description="drop problems that are solved less often")
    min_attempts: int = Field(4, ge=1, description="attempts without which a problem's rate says nothing")
    false_equations: float = Field(
        0.1, ge=0, le=1, description="drop traces with a larger share of false equations; 1 keeps them"
    )
    choose: Choose = Field("shortest", description="of each problem: the shortest, the most diverse, or all")
    per_problem: int = Field(1, ge=1, description="so many traces of each problem")
    most: int | None = Field(None, ge=1, description="so many traces in all, drawn by the seed")
    seed: int = Field(0, description="decides between what is equally good, and draws")

    @field_validator("language")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ("question", "any", *LANGUAGES):
            known = f"; known are question, any, {', '.join(LANGUAGES)}"
            raise ValueError(f"language {value!r} cannot be told{did_you_mean(value, LANGUAGES, otherwise=known)}")
        return value


def curation(options: Mapping[str, Any]) -> Curation:
    """The options as a `Curation`; None values are left at their defaults. Raises UserError with the option, and for an
    unknown one with the nearest that is known."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in Curation.model_fields:
            known = f"; known are {', '.join(Curation.model_fields)}"
            raise UserError(
                f"curate has no option {name!r}{did_you_mean(name, Curation.model_fields, otherwise=known)}"
            )
    try:
        found = Curation.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        about = Curation.model_fields[name].description if name in Curation.model_fields else ""
        told = str(first["msg"]).removeprefix("Value error, ")
        raise UserError(f"{name}: {told}, got {first['input']!r} ({about})") from None
    if found.hardest > found.easiest:
        raise UserError(f"hardest={found.hardest} is above easiest={found.easiest}: no problem lies between them")
    if found.min_tokens > found.max_tokens:
        raise UserError(
            f"min_tokens={found.min_tokens} is above max_tokens={found.max_tokens}: no trace lies between them"
        )
    return found
