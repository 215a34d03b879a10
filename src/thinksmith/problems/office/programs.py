"""Tasks over Python programs: mend one, write one. Judged is what they compute of things that were not shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from random import Random
from typing import Any

from thinksmith.problems.office.task import Task, program, read, write
from thinksmith.problems.office.words import THINGS, code


@dataclass(frozen=True, slots=True)
class _Fault:
    """A function with something wrong in it: `wrong` is to become `right`. `about` says what it should do; `made` draws
    a list, and `result` is what it should give for one."""

    name: str
    about: str
    source: str
    wrong: str
    right: str
    made: Callable[[Random], list[Any]]
    result: Callable[[list[Any]], object]


def _median(values: list[int]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return float(ordered[half]) if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _longest(values: list[int]) -> int:
    best = run = 0
    before: int | None = None
    for value in values:
        run = run + 1 if before is None or value > before else 1
        best, before = max(best, run), value
    return best


def _counted(words: list[str]) -> list[tuple[str, int]]:
    return sorted(((word, words.count(word)) for word in set(words)), key=lambda each: (-each[1], each[0]))


_FAULTS = (
    _Fault(
        "median",
        "the median of a list: the middle value in order of size, or the mean of the two in the middle",
        "def median(values):\n    half = len(values) // 2\n    {line}\n    if len(values) % 2:\n"
        "        return float(values[half])\n    return (values[half - 1] + values[half]) / 2\n",
        "values = list(values)",
        "values = sorted(values)",
        lambda rng: [rng.randint(1, 99) for _ in range(4)] + [rng.randint(100, 400), rng.randint(1, 40)],
        _median,
    ),
    _Fault(
        "longest_rise",
        "how long the longest stretch is in which each value is larger than the one before",
        "def longest_rise(values):\n    best = run = 0\n    before = None\n    for value in values:\n"
        "        run = run + 1 if before is None or value > before else {line}\n        best = max(best, run)\n"
        "        before = value\n    return best\n",
        "0",
        "1",
        lambda rng: [
            9,
            *sorted(rng.sample(range(10, 90), rng.randint(4, 7)))[::-1],
            *sorted(rng.sample(range(1, 10), 4)),
        ],
        _longest,
    ),
    _Fault(
        "ranking",
        "the words with how often each comes, the most frequent first, equally frequent ones by the alphabet",
        "def ranking(words):\n    counts = {{}}\n    for word in words:\n"
        "        counts[word] = counts.get(word, 0) + 1\n"
        "    return sorted(counts.items(), key=lambda each: {line})\n",
        "(each[1], each[0])",
        "(-each[1], each[0])",
        lambda rng: [rng.choice(THINGS[:6]) for _ in range(9)] + [THINGS[0]] * 5,
        _counted,
    ),
)


def fix_script(rng: Random) -> Task:
    """A program that prints something wrong. It is mended where it is right for other arguments too."""
    fault = rng.choice(_FAULTS)
    shown = fault.made(rng)
    hidden = fault.made(rng)
    tail = f"\n\nprint({fault.name}({shown!r}))\n"
    before = fault.source.format(line=fault.wrong) + tail
    after = fault.source.format(line=fault.right) + tail
    name = f"{fault.name}.py"
    right = str(fault.result(shown))
    return Task(
        level=3,
        prompt=f"{name} should print {fault.about}. What it prints is wrong. Find the fault and mend it in {name}; the "
        f"function keeps its name and its argument, and must be right for any list.",
        files={name: before, "README.txt": f"{name}: {fault.about}.\n"},
        wanted={
            name: {
                "runs": {
                    "prints": f"{right}\n",
                    "probe": f"print(given.{fault.name}({hidden!r}))\nprint(given.{fault.name}({shown!r}))",
                    "tells": f"{fault.result(hidden)}\n{right}\n",
                }
            }
        },
        solution=(
            read(name),
            program(before, "I look at what it prints now."),
            write(name, after, f"Not {fault.wrong}, but {fault.right}."),
            program(after, "I run it as it is now.", printed=r"\n(.+)\n"),
        ),
        said="It is mended, and prints {{printed}}.",
        foolish=(write(name, f"print({right})\n" if "[" not in right else f"print({right!r})\n", "So it prints it."),),
        nonsense=f"It prints {right} now.",
    )


@dataclass(frozen=True, slots=True)
class _Wish:
    """A function that is wished for: what it should do, code that does, code that nearly does, what it is tried on
    (drawn by `made`), and what it should give (`result`, which is ours: the code is never run here)."""

    name: str
    about: str
    works: str
    nearly: str
    made: Callable[[Random], list[str]]
    result: Callable[[str], str]


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def _shorten(text: str) -> str:
    parts = ((sign, len(list(run))) for sign, run in groupby(text))
    return "".join(sign + (str(count) if count > 1 else "") for sign, count in parts)


def _check_digit(text: str) -> str:
    return str(-sum(int(sign) * (3 if at % 2 else 1) for at, sign in enumerate(text)) % 10)


_WISHES = (
    _Wish(
        "slug",
        "turns a title into a name for addresses: lower case, each run of signs that are no letters a-z and no digits "
        "becomes one hyphen, and none stands at the beginning or the end",
        "import re\n\n\ndef slug(text):\n    return re.sub('[^a-z0-9]+', '-', text.lower()).strip('-')\n",
        "def slug(text):\n    return text.lower().replace(' ', '-')\n",
        lambda rng: [
            f"  The {rng.choice(THINGS).title()}: no. {code(rng)}!",
            f"{rng.choice(THINGS)} & -- {rng.choice(THINGS)}",
        ],
        _slug,
    ),
    _Wish(
        "shorten",
        "writes a text so that each run of the same sign is the sign and how often it stands there, and a sign that "
        "stands alone is only itself: aaab becomes a3b",
        "from itertools import groupby\n\n\ndef shorten(text):\n    parts = ((sign, len(list(run))) for sign, run in "
        "groupby(text))\n    return ''.join(sign + (str(count) if count > 1 else '') for sign, count in parts)\n",
        "def shorten(text):\n    return ''.join(sign + str(text.count(sign)) for sign in dict.fromkeys(text))\n",
        lambda rng: ["".join(rng.choice("xyz") * rng.randint(1, 11) for _ in range(6)) + "q", "z" * rng.randint(2, 30)],
        _shorten,
    ),
    _Wish(
        "check_digit",
        "takes a text of digits and gives one digit as text: the sum of all digits, each one in an even place (the "
        "2nd, the 4th, …) counted three times; how much is missing to the next multiple of ten (0 if nothing is)",
        "def check_digit(text):\n    total = sum(int(sign) * (3 if at % 2 else 1) for at, sign in enumerate(text))\n"
        "    return str(-total % 10)\n",
        "def check_digit(text):\n    total = sum(int(sign) * (1 if at % 2 else 3) for at, sign in enumerate(text))\n"
        "    return str(10 - total % 10)\n",
        lambda rng: [str(code(rng, 12)), "19", str(code(rng, 12)), str(code(rng, 7))],
        _check_digit,
    ),
)


def write_function(rng: Random) -> Task:
    """A function by its description, tried on texts that were not shown."""
    wish = rng.choice(_WISHES)
    path = f"{rng.choice(('tools', 'lib', 'scripts'))}/{wish.name}.py"
    texts = [text for _ in range(4) for text in wish.made(rng)]
    tells = "".join(f"{wish.result(text)}\n" for text in texts)
    return Task(
        level=3,
        prompt=f"Write {path} as wish.txt describes it.",
        files={"wish.txt": f"A Python function `{wish.name}(text)` that {wish.about}. Nothing is printed.\n"},
        wanted={
            path: {
                "runs": {
                    "prints": "",
                    "probe": f"for text in {texts!r}:\n    print(given.{wish.name}(text))",
                    "tells": tells,
                }
            }
        },
        solution=(
            read("wish.txt"),
            program(f"{wish.works}\n\nprint({wish.name}({texts[0]!r}))", "I try it before I write it."),
            write(path, wish.works),
        ),
        said=f"{path} is written and tried.",
        foolish=(write(path, wish.nearly, "About so."),),
        nonsense=f"{path} is written.",
    )
