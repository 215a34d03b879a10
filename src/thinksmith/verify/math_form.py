r"""How an answer of kind `math` is written: a number, words, a list, a tuple, an interval, a matrix, or one expression.

`read(text)` takes an answer apart down to expressions, without understanding those. Sizes, spaces, text macros, units
and a name in front (`x =`, `x \in`, `(x, y) =`) come off; what is written in many ways gets one writing; inequalities
in one variable become intervals. `verify/math.py` says what equals what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from thinksmith.verify.expression import ExpressionError, evaluate
from thinksmith.verify.latex import plain, undress
from thinksmith.verify.number import Number, names_quantity, read_number, unit

MAX_PARTS, MAX_NESTING = 64, 6


@dataclass(frozen=True, slots=True)
class Form:
    r"""An answer or a part of one.

    `kind`: "number", "words", "base" (`52_8`), "time" (`7:30 pm`), "list" (also a set), "union", a pair of brackets
    such as "[)" (tuples, points, intervals), "matrix 2,2" (cells of each row), "relation" (an equation or an
    inequality), or "expression".
    `text` is the writing to compare, `source` the one to do algebra with, `name` the variable that was named in front.
    """

    kind: str
    text: str
    source: str
    parts: tuple[Form, ...] = ()
    name: str = ""
    number: Number | None = None

    @property
    def equation(self) -> str:
        """The source with its name, as an equation, if it has both."""
        return f"{self.name}={self.source}" if self.name else self.source


_WRITTEN = {
    "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "≤": r"\leq ", "≥": r"\geq ", "π": r"\pi ",
    "∞": r"\infty ", "∪": r"\cup ", "∈": r"\in ", "±": r"\pm ", "√": r"\sqrt ", "²": "^2", "³": "^3", "≠": r"\neq ",
    "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "**": "^", ";": ",",
    "<=": r"\leq ", ">=": r"\geq ",
}  # fmt: skip
_COMMANDS = {
    r"\le": r"\leq ", r"\leqslant": r"\leq ", r"\ge": r"\geq ", r"\geqslant": r"\geq ", r"\ne": r"\neq ", r"\lt": "<",
    r"\gt": ">", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\langle": "(", r"\rangle": ")", r"\lbrack": "[",
    r"\rbrack": "]", r"\ast": r"\cdot ", r"\varnothing": r"\emptyset ", r"\dots": r"\ldots ", r"\cdots": r"\ldots ",
    r"\lvert": "|", r"\rvert": "|", r"\vert": "|", r"\colon": ":",
    r"\lg": r"\log_{10}", r"\degree": "°", r"\backslash": r"\setminus ", r"\infinity": r"\infty ",
}  # fmt: skip
_BARE_COMMAND = re.compile(
    r"(?<![\\a-zA-Z])(sqrt|pi|sin|cos|tan|sec|csc|cot|arcsin|arccos|arctan|ln|log|infty|infinity)(?![a-zA-Z])"
)
_UNIT = (
    r"(?:degrees?|radians?|units?|square|sq|cubic|cu|inch(?:es)?|feet|foot|ft|cm|mm|km|met(?:er|re)s?|miles?|yards?|mph|"
    r"hours?|minutes?|seconds?|days?|weeks?|months?|years?|dollars?|cents?|percent|people|kg|grams?|pounds?|"
    r"lit(?:er|re)s?|per)"
)
_UNITS_BEHIND = re.compile(rf"(?<=[\s\d}})°])(?:[\s/]*\b{_UNIT}\b\.?(?:\s?\^\s?\{{?[23]\}}?)?)+\s*$")
_TEXT_BEHIND = re.compile(
    r"(?<=[\d})\]°i])\s*(?:\\[,;: ]|~)*\s*\\(?:text|mbox|textrm|mathrm)\s*\{\s*(?!(?:i|e|[ap]\.?\s?m\.?|mod)\s*\})"
    r"(?P<words>[a-zA-Z][a-zA-Z./ ]*)(?:\^?[23])?\s*\}(?:\s?\^\s?\{?[23]\}?)?\s*$"
)
_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?|[a-zA-Z])|(?<![\\a-zA-Z])sqrt\s*(\d+(?:\.\d+)?|[a-zA-Z](?![a-zA-Z]))")
r"""`√13` and `sqrt 13`, where all of the digits are meant; of `\sqrt13` it is the first."""
_TOKEN = re.compile(r"\s*(\\(?!frac|binom|sqrt|text)[a-zA-Z]+|[0-9a-zA-Z])")
_ROW_END = re.compile(r"\\\\\s?\[\s?-?[\d.]{1,6}\s?(?:pt|em|ex|mm|cm)\s?\]|\\cr(?![a-zA-Z])")
_TIME = re.compile(r"0?(\d{1,2})\s?:\s?(\d\d)(?:\s?([ap])\.?\s?m\.?)?", re.IGNORECASE)
_WORDS = re.compile(r"[a-zA-Z]{2,}(?:[ -][a-zA-Z]+)*")
_CHOICE = re.compile(r"\(([A-Z])\)|([A-Z])\)?")
_PROSE = re.compile(
    r"(?<![\\a-zA-Z])(?:[a-zA-Z]{4,}|if|is|for|mod|the|not|no|yes|odd|all|per)(?![a-zA-Z])"
    r"|\\[pb]?mod(?![a-zA-Z])|\\ldots"
)
_ENVIRONMENTS = re.compile(r"\\(?:begin|end|mathbb|mathcal)\{[a-zA-Z]*\}")
_BASE = re.compile(r"\(?([0-9A-Z]+)\)?_\{?\(?(?:(1?[0-9]|2[0-9]|3[0-6])|([a-z]+))\)?\}?")
_BASES = {
    "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "ten": "10", "eleven": "11", "twelve": "12", "sixteen": "16",
}  # fmt: skip
_LETTER = r"(?:[a-zA-Z]|\\[a-zA-Z]{2,10})"
_NAME = re.compile(
    rf"(?:\\vec\s?\{{?\s?(?P<vector>[a-zA-Z])\s?\}}?|(?P<name>{_LETTER}(?:_\{{?\w{{1,5}}\}}?)?(?:\^\{{-1\}}(?=\())?'?"
    r"(?:\([a-z](?:,\s?[a-z])*\))?|\([a-z](?:\s?,\s?[a-z])+\)))"
    r"\s*(?:=|\\in(?![a-zA-Z])|\\approx(?![a-zA-Z]))"
)
_EQUALS = re.compile(r"=|\\approx(?![a-zA-Z])")
_NO_NAME = re.compile(r"\\(?:frac|sqrt|pi|infty|sin|cos|tan|log|ln|begin|left|pm|mathbb|emptyset|text)(?![a-zA-Z])")
_RELATION = re.compile(r"\\(leq|geq|neq)(?![a-zA-Z])|[<>]|(?<!\\)=")
_ENVIRONMENT = re.compile(
    r"[(\[]?\s*\\begin\{([pbB]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\1\}\s*[)\]]?", re.DOTALL
)
_JOIN = re.compile(r",|\s(?:and|or)\s")
_REPEATING = re.compile(r"(\d{0,20})\.(\d{0,20})\\(?:overline|bar)\{(\d{1,20})\}")
_BUILDER = re.compile(r"\\\{\s*([a-z])\s*(?:\\in\s?\\mathbb\{R\}\s*)?(?:\\mid|\||:)(.*)\\\}")


@lru_cache(maxsize=4096)
def read(text: str) -> Form:
    """The form of an answer, of at most MAX_ANSWER characters. Never raises."""
    number = read_number(text)
    dressed = plain(text)
    if choice := _CHOICE.fullmatch(dressed):
        letter = choice.group(1) or choice.group(2)
        return Form("expression", letter, letter)
    if _WORDS.fullmatch(dressed) and not _BARE_COMMAND.search(dressed) and not re.search(r"\b(?:and|or)\b", dressed):
        return _words(dressed)
    source = tidy(text)
    if number is not None:
        return _number(number, source)
    return _form(source, 0)


def read_beside(gold: Form, text: str) -> Form:
    """The form of an answer. If the gold answer is a list, its length says what commas before three digits are.

    `100,200` is `100, 200`, and `1,000, 2,000` is `1000, 2000`.
    """
    form = read(text)
    if gold.kind != "list" or len(gold.parts) < 2 or len(form.parts) == len(gold.parts):
        return form
    more = len(form.parts) < len(gold.parts)
    other = read(re.sub(r"(?<=\d),(?=\d{3}(?!\d))", ", " if more else "", text))
    return other if other.kind == "list" and len(other.parts) == len(gold.parts) else form


def _words(text: str) -> Form:
    """Words in any case; two or three capitals are names of points or a product, and `AB` is not `ab`."""
    return Form("words", text if re.fullmatch("(?!NO|YES)[A-Z]{2,3}", text) else text.casefold(), text)


def _number(number: Number, source: str) -> Form:
    return Form("number", str(number.value), str(number.value), name=_name(source)[0], number=number)


def _form(source: str, nesting: int) -> Form:
    """The form of a tidy text."""
    source = source.strip()
    if (number := read_number(source)) is not None:
        return _number(number, source)
    name, value = ("", source) if _outside(_JOIN, source) else _name(source)
    if value != source and (number := read_number(value)) is not None:
        return Form("number", str(number.value), str(number.value), name=name, number=number)
    if nesting and _WORDS.fullmatch(source):
        return _words(source)
    if base := _base(value):
        return Form("base", base, value, name=name)
    if time := _TIME.fullmatch(value):
        half = f" {time[3].lower()}m" if time[3] else ""
        return Form("time", f"{time[1]}:{time[2]}{half}", value, name=name)
    if nesting < MAX_NESTING:
        for way in (_matrix, _union, _interval, _collection):
            if (made := way(value, nesting)) is not None:
                return Form(made.kind, squeeze(value), value, made.parts, made.name or name)
    kind = "relation" if _relations(value) else "expression"
    return Form(kind, squeeze(value), value, name=name)


def tidy(text: str) -> str:
    """One writing for signs and commands that have many; what is left is LaTeX that still can be read."""
    text = plain(_TEXT_BEHIND.sub(_without_units, undress(text).strip("$")))
    text = _UNITS_BEHIND.sub("", text).strip()
    text = _ROOT.sub(lambda match: rf"\sqrt{{{match[1] or match[2]}}}", text)
    for sign, command in _WRITTEN.items():
        text = text.replace(sign, command)
    text = _BARE_COMMAND.sub(r"\\\1", text)
    text = re.sub(r"\\[a-zA-Z]+", lambda match: _COMMANDS.get(match.group(), match.group()), text)
    text = re.sub(r"\\mathbb\s([A-Z])(?![a-zA-Z])", r"\\mathbb{\1}", text)
    text = _ROW_END.sub(r"\\\\", text).replace("{smallmatrix}", "{matrix}")
    text = re.sub(r"(\d{1,3})((?:,\d{3})+)(?=\s?\\?[a-zA-Z])", lambda m: m[1] + m[2].replace(",", ""), text)
    text = _REPEATING.sub(_repeating, text)
    text = re.sub(r"\\sqrt\s*(?:([0-9a-zA-Z])|(?=\())", lambda m: rf"\sqrt{{{m[1]}}}" if m[1] else r"\sqrt", text)
    text = _grouped(_braced(text))
    return re.sub(r"\s+", " ", text).strip()


def _repeating(match: re.Match[str]) -> str:
    r"""`0.1\overline{6}` as an exact fraction."""
    whole, fixed, cycle = match.groups()
    below = (10 ** len(cycle) - 1) * 10 ** len(fixed)
    above = int(whole + fixed + cycle) - int(whole + fixed or "0")
    return rf"\frac{{{above}}}{{{below}}}"


def _without_units(match: re.Match[str]) -> str:
    """Nothing, if the text behind an expression is a unit; `complement` and `divided by two` are none and stay."""
    behind = unit(" " + match["words"])
    return "" if behind == Number(Fraction(1)) else match.group()


def _braced(text: str) -> str:
    r"""`\frac\pi2`, `\frac x{3}` and `\binom n2` with braces around what is a single sign; the last 32 of them."""
    for match in list(re.finditer(r"\\(?:frac|binom)(?![a-zA-Z])", text))[:-33:-1]:
        position = match.end()
        for _ in range(2):
            if token := _TOKEN.match(text, position):
                text = f"{text[:position]}{{{token[1]}}}{text[token.end() :]}"
            position += len(text[position:]) - len(text[position:].lstrip())
            if not text.startswith("{", position) or (position := _closing(text, position) + 1) == 0:
                break
    return text


def _grouped(text: str) -> str:
    r"""`\sqrt(…)` and `^(…)` with braces, where the bracket ends the group."""
    for opening in (r"\sqrt(", "^("):
        for _ in range(16):
            start = text.find(opening)
            if start < 0:
                break
            end = _closing(text, start + len(opening) - 1)
            if end < 0:
                return text
            inside = text[start + len(opening) : end]
            text = f"{text[:start]}{opening[:-1]}{{{inside}}}{text[end + 1 :]}"
    return text


def squeeze(text: str) -> str:
    """A tidy text without what does not change how it reads: the writing in which two answers are compared."""
    text = re.sub(r"(?<=\d) +(?=\d)", "~", text.replace("°", ""))  # 2 3 is not 23
    text = re.sub(r"\s+", "", re.sub(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])", r"\1{}", text))
    text = re.sub(r"([\^_])([0-9a-zA-Z])(?![{}0-9])", r"\1{\2}", text)
    text = re.sub(r"\\(?:cdot|times)(?:\{\})?(?=[\\a-zA-Z(])|\*(?=[\\a-zA-Z(])", "", text)
    return text.removeprefix("+")


def _name(source: str) -> tuple[str, str]:
    r"""(name, value) of `x = 3`, `x \in (1, 2)`, `V = \pi r^2 = 9\pi` (the last side counts), else ("", source)."""
    match = _NAME.match(source)
    name = re.sub(r"\s", "", match["name"] or match["vector"]) if match and not _NO_NAME.match(source) else ""
    if not name:
        match = _EQUALS.search(source)
        if match and not names_quantity(source[: match.start()].strip()):
            match = None
    if match is None:
        return "", _before_approx(source)
    sides = _split(source[match.end() :], "=")
    if (len(sides) > 1 and not _agree(sides)) or _occurs(name, sides[-1]):
        return "", source
    return name, _before_approx(sides[-1].strip())


def _occurs(name: str, value: str) -> bool:
    """Whether a variable stands in its own value, so that `x = 2x + 3` is an equation; `y_0` is not `y`."""
    others = rf"{re.escape(name)}_|[a-zA-Z]{{4,}}"
    return re.fullmatch(_LETTER, name) is not None and _free(name, " " + re.sub(others, "", value))


def _agree(sides: list[str]) -> bool:
    """Whether those sides of an equation that are plain arithmetic have the same value."""
    values = set()
    for side in sides:
        try:
            values.add(evaluate(side))
        except ExpressionError:
            continue
    return len(values) <= 1


def _before_approx(source: str) -> str:
    r"""`2\sqrt{2} \approx 2.83` is `2\sqrt{2}`: who gives both means the exact one."""
    before = re.split(r"\\approx(?![a-zA-Z])|≈", source)[0].strip()
    return before or source


def _base(text: str) -> str | None:
    """`(52)_{eight}` as `52_8`: a numeral is compared as it is written, in its base."""
    match = _BASE.fullmatch(text.replace(" ", ""))
    if match is None or not any(digit.isdigit() for digit in match[1]):
        return None
    base = match[2] or _BASES.get(match[3])
    return f"{match[1].lstrip('0') or '0'}_{base}" if base else None


def _matrix(text: str, nesting: int) -> Form | None:
    match = _ENVIRONMENT.fullmatch(text)
    if match is None or r"\begin" in match.group(2):
        return None
    rows = [row.split("&") for row in re.split(r"\\\\", match.group(2).strip().removesuffix(r"\\"))]
    cells = [cell for row in rows for cell in row]
    if len(cells) > MAX_PARTS:
        return None
    return Form("matrix " + ",".join(str(len(row)) for row in rows), "", "", _forms(cells, nesting))


def _union(text: str, nesting: int) -> Form | None:
    pieces = _split(text, r"\cup")
    if len(pieces) == 1 and r"\leq" not in text and re.search(r"[<>]|\\geq", text):
        pieces = re.split(r"\bor\b", text)
        if any(_interval(piece.strip(), nesting) is None for piece in pieces):
            return None
    if not 1 < len(pieces) <= MAX_PARTS:
        return None
    forms = _forms(pieces, nesting)
    return Form("union", "", "", forms, _shared_name(forms))


def _shared_name(forms: tuple[Form, ...]) -> str:
    names = {form.name for form in forms}
    return names.pop() if len(names) == 1 else ""


def _interval(text: str, nesting: int) -> Form | None:
    r"""`-1 < x \leq 2` as the interval `(-1, 2]` with the name x. None if `text` is no such thing."""
    if builder := _BUILDER.fullmatch(text):
        return _interval(builder.group(2).strip(), nesting)
    signs = _relations(text)
    if not 1 <= len(signs) <= 2 or any(sign in ("=", r"\neq") for sign in signs):
        return None
    sides = [side.strip() for side in _RELATION.sub("\0", text).split("\0")]
    upward = [sign in ("<", r"\leq") for sign in signs]
    if len(set(upward)) > 1:
        return None
    if not upward[0]:
        sides, signs = sides[::-1], signs[::-1]
    middle = 1 if len(sides) == 3 else int(not re.fullmatch(_LETTER, sides[0]))
    variable = sides[middle]
    ends = [side for place, side in enumerate(sides) if place != middle]
    if not re.fullmatch(_LETTER, variable) or any(_free(variable, end) for end in ends):
        return None
    if len(sides) == 2:
        ends, signs = ([*ends, r"\infty"], [*signs, "<"]) if middle else ([r"-\infty", *ends], ["<", *signs])
    brackets = ("[" if signs[0] in (r"\leq", r"\geq") else "(") + ("]" if signs[1] in (r"\leq", r"\geq") else ")")
    return Form(brackets, "", "", _forms(ends, nesting), variable)


def _free(variable: str, text: str) -> bool:
    return not text or variable in re.sub(r"\\[a-zA-Z]+" if variable.isalpha() else r"$^", "", text)


def _collection(text: str, nesting: int) -> Form | None:
    inner, brackets = _outer(text)
    inner = re.sub(r",?\s(?:and|or)\s", ", ", inner)
    parts = [value for part in _split(inner, ",") for value in _two_signs(part.strip())]
    if len(parts) > MAX_PARTS:
        return None
    if brackets == r"\{\}":
        return Form("list", "", "", _forms([part for part in parts if part], nesting))
    if len(parts) < 2 or not all(parts):
        return None
    return Form(brackets or "list", "", "", _forms(parts, nesting))


def _forms(texts: list[str], nesting: int) -> tuple[Form, ...]:
    return tuple(_form(text, nesting + 1) for text in texts)


def _relations(text: str) -> list[str]:
    """The signs of relation outside all brackets, in order."""
    return _outside(_RELATION, text)


def _outside(pattern: re.Pattern[str], text: str) -> list[str]:
    """What `pattern` finds where no bracket is open, in one pass."""
    found, depth, seen = [], 0, 0
    for match in pattern.finditer(text):
        for character in text[seen : match.start()]:
            depth += (character in "([{") - (character in ")]}")
        seen = match.start()
        if depth == 0:
            found.append(match.group())
    return found


def _outer(text: str) -> tuple[str, str]:
    """The inside and the brackets, if one pair stands around the whole text."""
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return text[2:-2], r"\{\}"
    if len(text) > 1 and text[0] in "([" and text[-1] in ")]" and _closing(text, 0) == len(text) - 1:
        return text[1:-1], text[0] + text[-1]
    return text, ""


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` is closed, by any kind; -1 if nowhere."""
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] in "([{") - (text[position] in ")]}")
        if depth == 0:
            return position
    return -1


def _split(text: str, separator: str) -> list[str]:
    """Split where no bracket is open."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        if depth == 0 and text.startswith(separator, position):
            parts.append(text[start:position])
            position += len(separator)
            start = position
            continue
        depth += (text[position] in "([{") - (text[position] in ")]}")
        position += 1
    return [*parts, text[start:]]


def _two_signs(part: str) -> list[str]:
    r"""`a \pm b` as its two values."""
    if len(re.findall(r"\\pm(?![a-zA-Z])", part)) != 1:
        return [part]
    signs = ((r"\pm", "+"), (r"\mp", "-")), ((r"\pm", "-"), (r"\mp", "+"))
    return [_replaced(part, pairs).strip().removeprefix("+").strip() for pairs in signs]


def _replaced(text: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for command, sign in pairs:
        text = re.sub(re.escape(command) + r"(?![a-zA-Z])\s?", sign, text)
    return text


def is_prose(form: Form) -> bool:
    """Whether there is text in it that is no mathematics, so that only the same text is the same answer."""
    return form.kind == "words" or (not form.parts and _PROSE.search(_ENVIRONMENTS.sub("", form.source)) is not None)
