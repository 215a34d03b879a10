"""The tables, and how text and times are written in them.

Four tables: `thinksmith_meta` (the schema's version), `runs`, `problems` (each stored once, under the hash of its
content) and `attempts`. Rows of `problems` and `attempts` are never updated or deleted.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

SCHEMA_VERSION = 6
"""Raised by one whenever a table changes. A store of a higher version is refused, one of a lower is upgraded."""

_AWKWARD = re.compile("[\x00\u241b\ud800-\udfff]")
_ESCAPED = re.compile("\u241b([0-9a-f]{4})")


def escape(text: str) -> str:
    """Text that every database takes, from any Python string; `unescape` is its exact inverse.

    A model can write NUL, and data sets hold lone surrogates. Neither a surrogate (not UTF-8) nor NUL (refused by
    PostgreSQL, and the end of the text for SQLite's functions) can be stored as it is, so each is written as U+241B
    (the sign for "escape") and its four hex digits, and so is U+241B itself.
    """
    if text.isascii() and "\x00" not in text:  # most texts: ten times as fast
        return text
    return _AWKWARD.sub(lambda found: f"\u241b{ord(found[0]):04x}", text)


def unescape(text: str) -> str:
    """The string that `escape` was given."""
    if "\u241b" not in text:
        return text
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


class AnyText(TypeDecorator[str]):
    """Text column for any Python string (see `escape`)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else escape(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else unescape(value)


class UTCTime(TypeDecorator[datetime]):
    """An aware time, kept as UTC without an offset (so that texts in SQLite sort by time)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


tables = MetaData()

meta = Table(
    "thinksmith_meta",
    tables,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

runs = Table(
    "runs",
    tables,
    Column("id", AnyText, primary_key=True),
    Column("kind", AnyText, nullable=False),
    Column("name", AnyText, nullable=False),
    Column("model", AnyText, nullable=False),
    Column("weights_hash", AnyText, nullable=False),
    Column("config", AnyText, nullable=False),  # JSON
    Column("config_hash", Text, nullable=False),
    Column("started", UTCTime, nullable=False),
    Column("finished", UTCTime),
    Column("summary", AnyText),  # JSON
    Index("runs_by_config", "kind", "config_hash"),
)

problems = Table(
    "problems",
    tables,
    Column("hash", Text, primary_key=True),
    Column("problem_id", AnyText, nullable=False),
    Column("prompt", AnyText, nullable=False),  # JSON: a text, or a list of messages
    Column("gold", AnyText),
    Column("kind", AnyText, nullable=False),
    Column("meta", AnyText, nullable=False),  # JSON
)

# SQLite numbers rows by itself only where the primary key is exactly INTEGER.
_RowId = BigInteger().with_variant(Integer, "sqlite")

# Short columns stand first: SQLite then reads them without following the overflow pages of the long ones.
attempts = Table(
    "attempts",
    tables,
    Column("id", _RowId, primary_key=True),
    Column("run_id", AnyText, ForeignKey("runs.id"), nullable=False),
    Column("made", UTCTime, nullable=False),
    Column("problem_id", AnyText, nullable=False),
    Column("problem_hash", Text, ForeignKey("problems.hash"), nullable=False),
    Column("sample", Integer, nullable=False),
    Column("strategy", AnyText, nullable=False),
    Column("status", AnyText, nullable=False),
    Column("score", Double),  # NULL stands for NaN, which SQLite cannot hold; so does it in `seconds`
    Column("extracted", AnyText),
    Column("reason", AnyText, nullable=False),
    Column("model", AnyText, nullable=False),
    Column("thinking_status", AnyText, nullable=False),
    Column("finish", AnyText, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("thinking_tokens", Integer, nullable=False),
    Column("answer_tokens", Integer, nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("seconds", Double),
    Column("error", AnyText, nullable=False),
    Column("sampling", AnyText, nullable=False),  # JSON
    Column("thinking", AnyText, nullable=False),
    Column("answer", AnyText, nullable=False),
    Column("opened", AnyText, nullable=False),
    Column("completion", AnyText, nullable=False),
    Column("token_ids", LargeBinary, nullable=False),  # int32, little-endian
    Column("prompt_ids", LargeBinary, nullable=False),  # int32, little-endian
    Column("logprobs", LargeBinary),  # of the type that the next column names
    Column("logprobs_type", Text),  # '<f4' or '<f8' (NumPy's names)
    Column("forced", LargeBinary),  # int32, little-endian; NULL where the engine forced nothing
    Column("top_logprobs", AnyText),  # JSON: for each token the likeliest [id, log-probability] pairs
    Column("judge", AnyText),  # the model whose verdict it is; NULL for a rule's
    Column("notes", AnyText),  # JSON; NULL for none
    Column("usage", AnyText),  # JSON; NULL where no endpoint answered
    Column("spent", Integer),  # sampled tokens of all traces of the attempt; NULL: those of this one, `tokens`
    Column("traces", Integer),  # how many traces the attempt took; NULL: this one
    Column("cost", Double),  # US dollars, of all traces; NULL where it is not known
    UniqueConstraint("run_id", "problem_id", "sample", name="attempts_once"),
    # Covers the counts of a run and the orders by length, so none of them touches the traces.
    Index("attempts_by_status", "run_id", "status", "tokens", "id"),
    # The attempts of a status in the order of storing: a page of them is read without looking at the others.
    Index("attempts_in_order", "run_id", "status", "id"),
    # Covers `Store.figures`: all that statistics need, without touching the traces.
    Index(
        "attempts_figures",
        *("run_id", "problem_id", "sample", "problem_hash", "status", "score", "extracted", "finish", "judge"),
        *("tokens", "thinking_tokens", "answer_tokens", "spent", "traces", "seconds", "cost", "id"),
    ),
)

# The columns of `attempts` that came with a version. New ones take NULL, so older rows stay as they are (but see
# `connect.py`: what is known of an older row's new columns is filled in).
ADDED: dict[int, tuple[str, ...]] = {
    2: ("forced", "top_logprobs"),
    3: ("judge",),
    4: ("notes",),
    5: ("usage",),
    6: ("spent", "traces", "cost"),
}
# The indexes that came with a version; one of the same name is made anew.
INDEXED: dict[int, tuple[str, ...]] = {6: ("attempts_by_status", "attempts_in_order", "attempts_figures")}
