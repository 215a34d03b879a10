"""How a set of problems is named in one string: `SOURCE[:key=value,…]`, such as `arithmetic:digits=2`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from thinksmith.errors import UserError

_WITH_OPTIONS = re.compile(r"(?P<source>.+?):(?P<options>\w+=.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Spec:
    """The two halves of the string: where the problems come from, and the options as they were written."""

    source: str
    options: Mapping[str, str]


def parse_spec(text: str) -> Spec:
    """Split at the first colon that an option follows; a string that is a file's name is that file.

    Raises UserError for an empty string, for an option that is not `key=value`, and for one that is given twice.
    """
    text = text.strip()
    if not text:
        raise UserError("name a set of problems, such as `arithmetic`, `gsm8k` or `my.jsonl`")
    match = _WITH_OPTIONS.fullmatch(text)
    if "://" in text:
        raise UserError(f"{text!r} is an address: download it and name the file, or name a hub set as hub/OWNER/NAME")
    if is_file(text) or (match is None and ":" not in text):
        return Spec(text, {})
    source, rest = (match["source"], match["options"]) if match else text.rsplit(":", 1)
    options: dict[str, str] = {}
    for part in rest.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise UserError(f"{part!r} in {text!r}: options are written key=value, with commas between them")
        if key in options:
            raise UserError(f"{text!r} gives {key} twice")
        options[key] = value
    return Spec(source.strip(), options)


def is_file(text: str) -> bool:
    """Whether a file (not a folder) of this name is here; False for what cannot be a file's name."""
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, no home folder
        return False


def did_you_mean(wrong: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """`; did you mean 'right'?` with up to three of the known names, else `otherwise`."""
    by_lower = {name.lower(): name for name in known}
    near = [repr(by_lower[name]) for name in get_close_matches(wrong[:100].lower(), by_lower, 3)]
    return f"; did you mean {' or '.join(near)}?" if near else otherwise


def split_of(spec: Spec, split: str, prefix: str = "") -> tuple[str, str, dict[str, str]]:
    """Name (without `prefix`), split and the other options of `name/split:…` or `name:split=…`.

    `split` stands where neither names one. Raises UserError where both do.
    """
    name, _, in_name = spec.source.removeprefix(prefix).partition("/")
    options = dict(spec.options)
    in_options = options.pop("split", "")
    if in_name and in_options:
        raise UserError(
            f"{spec.source!r} names the split {in_name!r} and split={in_options} another time; leave one out"
        )
    return name, in_name or in_options or split, options
