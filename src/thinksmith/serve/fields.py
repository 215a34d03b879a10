"""Reads a client's JSON: what must be a number is one, or the client is told which field is wrong.

`null` counts as not set, everywhere, as OpenAI's clients mean it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from thinksmith.serve.asked import Refusal

DEEPEST = 64  # nested arrays and objects in a body; a schema or a tool's arguments need a dozen
SEEDS = 2**63
IDS = 2**31  # token ids lie below
NO_LEVER = "the sampler here has no such lever: leave it out"


def body_of(raw: bytes) -> dict[str, Any]:
    """The JSON object that a body holds. Raises Refusal for anything else: no JSON, no object, NaN and Infinity, halves
    of characters (`"\\ud83d"` alone), nested too deeply."""
    try:
        found = json.loads(raw.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise Refusal("the body is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise Refusal(f"the body is not JSON: {_short(str(error))}") from None
    if not isinstance(found, dict):
        raise Refusal("the body must be a JSON object")
    if b"\\u" in raw or b"\\U" in raw:
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError):
            raise Refusal("the body has half of a character (\\ud800 to \\udfff without its other half)") from None
    if _deeper(found, DEEPEST):
        raise Refusal(f"the body is nested more than {DEEPEST} deep")
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _deeper(value: object, left: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return left == 0 or any(_deeper(each, left - 1) for each in inner if isinstance(each, (dict, list)))


class Fields:
    """The fields of a JSON object by name; `at` is where it stands in the body, for what the client is told.

    Each reader gives None where the field is missing or null, and raises Refusal where it is of another
    kind or out of its bounds.
    """

    __slots__ = ("_at", "_body")

    def __init__(self, body: Mapping[str, Any], at: str = "") -> None:
        self._body, self._at = body, at

    def path(self, name: str) -> str:
        """Where the field stands, from the body's root: `messages[0].role`."""
        return f"{self._at}.{name}" if self._at else name

    def __contains__(self, name: str) -> bool:
        return self._body.get(name) is not None

    def raw(self, name: str) -> Any:
        """The value as it came."""
        return self._body.get(name)

    def wrong(self, name: str, wanted: str) -> Refusal:
        """What to raise: the field must be as `wanted`."""
        return Refusal(f"{self.path(name)} {wanted}, not {shown(self._body.get(name))}", field=self.path(name))

    def refuse(self, name: str, why: str) -> Refusal:
        """What to raise: the field cannot be served, because."""
        return Refusal(f"{self.path(name)}: {why}", field=self.path(name))

    def text(self, name: str, *, required: bool = False, longest: int | None = None) -> str | None:
        value = self._body.get(name)
        if value is None and not required:
            return None
        if not isinstance(value, str):
            raise self.wrong(name, "must be a text")
        if longest is not None and len(value) > longest:
            raise self.refuse(name, f"at most {longest} characters, not {len(value)}")
        return value

    def flag(self, name: str) -> bool | None:
        value = self._body.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "must be true or false")
        return value

    def whole(self, name: str, low: int | None = None, high: int | None = None) -> int | None:
        """A whole number; 5.0 is one, as JSON Schema has it."""
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "must be a whole number")
        self._bounded(name, value, low, high)
        return value

    def number(self, name: str, low: float | None = None, high: float | None = None) -> float | None:
        value = self._body.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(name, "must be a number")
        self._bounded(name, value, low, high)
        if not abs(value) < 1e300:
            raise self.wrong(name, "must be a number of usual size")
        return float(value)

    def _bounded(self, name: str, value: float, low: float | None, high: float | None) -> None:
        if low is not None and value < low:
            raise self.wrong(name, f"must be {low} or more")
        if high is not None and value > high:
            raise self.wrong(name, f"must be {high} or less")

    def one_of(self, name: str, choices: Sequence[str]) -> str | None:
        value = self._body.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(name, f"must be one of {', '.join(choices)}")
        return value

    def table(self, name: str) -> Fields | None:
        """A JSON object."""
        value = self._body.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "must be an object")
        return Fields(value, self.path(name))

    def items(self, name: str, *, most: int | None = None) -> list[Any]:
        """A JSON array; empty where it is missing."""
        value = self._body.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(name, "must be an array")
        if most is not None and len(value) > most:
            raise self.refuse(name, f"at most {most} entries, not {len(value)}")
        return value

    def tables(self, name: str, *, most: int | None = None) -> Iterator[Fields]:
        """An array of JSON objects."""
        for place, value in enumerate(self.items(name, most=most)):
            at = f"{self.path(name)}[{place}]"
            if not isinstance(value, dict):
                raise Refusal(f"{at} must be an object, not {shown(value)}", field=at)
            yield Fields(value, at)

    def texts(self, name: str, *, most: int | None = None) -> tuple[str, ...]:
        """A text, or an array of texts; both as a tuple."""
        value = self._body.get(name)
        if isinstance(value, str) and value:
            return (value,)
        found = self.items(name, most=most) if value is None or isinstance(value, list) else None
        if found is None or not all(isinstance(each, str) for each in found):
            raise self.wrong(name, "must be a text or an array of texts")
        if "" in found:
            raise self.refuse(name, "there is an empty text in it")
        return tuple(found)

    def ids(self, name: str) -> tuple[int, ...]:
        """An array of token ids."""
        found = self.items(name)
        if not all(type(each) is int and 0 <= each < IDS for each in found):
            found = [int(each) if isinstance(each, float) and each.is_integer() else each for each in found]
            if not all(type(each) is int and 0 <= each < IDS for each in found):
                raise self.refuse(name, f"token ids are whole numbers from 0 to {IDS - 1}")
        return tuple(found)

    def seed(self, name: str = "seed") -> int | None:
        """Any whole number of 64 bits, as one from 0 to 2**63 - 1: a negative one is as good as another."""
        value = self.whole(name, -SEEDS, SEEDS - 1)
        return None if value is None else value % SEEDS

    def off(self, *names: str, why: str) -> None:
        """Refuse these where they are set to anything that counts: not null, false, 0, "" or empty."""
        for name in names:
            if self._body.get(name):
                raise self.refuse(name, why)


def as_sampling(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a client set of `records.Sampling`, as that has it; None is not set."""
    kept = {name: value for name, value in found.items() if value is not None}
    if kept.get("top_p") == 0:  # the smallest nucleus there is: the likeliest token
        kept |= {"top_p": 1.0, "top_k": 1}
    return kept


def shown(value: object) -> str:
    """A value as the client wrote it, short enough for one line."""
    return _short(json.dumps(value, ensure_ascii=False, default=str))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:77] + "..."
