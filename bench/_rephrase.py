r"""Other writings of MATH-500's answers, each of which says the same: made by rule, so that none is picked by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction

_THOUSANDS = r"\d,(?:\\!\s?)?\d{3}"


def rephrased(gold: str) -> Iterator[tuple[str, str]]:
    """(rule, text) for every rule that changes `gold`."""
    for rule, change in RULES.items():
        text = change(gold)
        if text is not None and text != gold:
            yield rule, text


def _swapped(gold: str, pattern: str, replacement: str) -> str | None:
    text, changed = re.subn(pattern, replacement, gold)
    return text if changed else None


def _decimal(gold: str) -> str | None:
    r"""`\frac{3}{4}` as `0.75`, where that is exact."""
    match = re.fullmatch(r"(-?)\\d?frac\{(\d+)\}\{(\d+)\}", gold)
    if match is None:
        return None
    value, below = Fraction(int(match[2]), int(match[3])), int(match[3])
    while below % 2 == 0:
        below //= 2
    while below % 5 == 0:
        below //= 5
    return match[1] + f"{float(value)!r}" if below == 1 and len(repr(float(value))) < 12 else None


def _reordered(gold: str) -> str | None:
    """A plain list, last part first."""
    if not re.fullmatch(r"[^()\[\]{}]+(?:,[^()\[\]{}]+)+", gold) or re.search(_THOUSANDS, gold):
        return None
    return ", ".join(reversed([part.strip() for part in gold.split(",")]))


def _swapped_sum(gold: str) -> str | None:
    """`a + b` as `b + a`, for two terms without brackets."""
    match = re.fullmatch(r"([0-9a-z\\{}^ ]+)\+([0-9a-z\\{}^ ]+)", gold)
    if match is None or any(part.count("{") != part.count("}") for part in match.groups()):
        return None
    return f"{match[2].strip()} + {match[1].strip()}"


def _spaced(gold: str) -> str | None:
    if "text" in gold or re.search(_THOUSANDS, gold):
        return None
    return re.sub(r"([=+,])", r" \1 ", gold)


def _square_root_inside(gold: str) -> str | None:
    r"""`2\sqrt{3}` as `\sqrt{12}`."""
    match = re.fullmatch(r"(\d+) ?\\sqrt\{?(\d+)\}?", gold)
    return rf"\sqrt{{{int(match[1]) ** 2 * int(match[2])}}}" if match else None


def _bracketed(gold: str) -> str | None:
    plain = gold.replace(r"\left", "").replace(r"\right", "")
    if not re.fullmatch(r"[(\[].*[)\]]", plain) or ("{" not in gold and "," not in gold):
        return None
    return rf"\left{plain[0]} {plain[1:-1]} \right{plain[-1]}"


RULES: dict[str, Callable[[str], str | None]] = {
    "dfrac": lambda gold: _swapped(gold, r"\\frac(?=\{)", r"\\dfrac"),
    "tfrac": lambda gold: _swapped(gold, r"\\frac(?=\{)", r"\\tfrac"),
    "slash": lambda gold: _swapped(gold, r"^(-?)\\frac\{(\d+)\}\{(\d+)\}$", r"\1\2/\3"),
    "decimal": _decimal,
    "no spaces": lambda gold: None if re.search(r"\\[a-zA-Z]+ [a-zA-Z]|text|mbox", gold) else gold.replace(" ", ""),
    "spaces": _spaced,
    "thin spaces": lambda gold: _swapped(gold, r",\s*(?!\\!|\d{3})", r",\\, "),
    "left right": _bracketed,
    "no left right": lambda gold: _swapped(gold, r"\\(?:left|right)(?![a-zA-Z])", ""),
    "dollars": lambda gold: f"${gold}$",
    "display": lambda gold: rf"\displaystyle {gold}",
    "text": lambda gold: rf"\text{{{gold}}}" if re.fullmatch("[A-Za-z]{2,}", gold) else None,
    "no text": lambda gold: _swapped(gold, r"^\\text\{\(?([A-Za-z]+)\)?\}$", r"\1"),
    "name": lambda gold: f"x = {gold}" if re.fullmatch(r"-?(\d+|\\frac\{\d+\}\{\d+\})", gold) else None,
    "units": lambda gold: rf"{gold} \text{{ units}}" if re.fullmatch(r"\d+(\\sqrt\{\d+\}|\\pi)?", gold) else None,
    "thousands": lambda gold: f"{int(gold):,}" if re.fullmatch(r"\d{4,15}", gold) else None,
    "point zero": lambda gold: f"{gold}.0" if re.fullmatch(r"\d{1,9}", gold) else None,
    "degrees": lambda gold: _swapped(gold, r"\^\{?\\circ\}?$", r"\\text{ degrees}"),
    "reordered": _reordered,
    "sum": _swapped_sum,
    "root": _square_root_inside,
    "bmatrix": lambda gold: _swapped(gold, r"\{pmatrix\}", "{bmatrix}"),
    "braces": lambda gold: _swapped(gold, r"\^([0-9a-z])(?![{}])", r"^{\1}"),
    "half": lambda gold: _swapped(gold, r"^\\frac\{([a-z0-9+\-^ ]+)\}\{2\}$", r"\\frac{1}{2}(\1)"),
}
