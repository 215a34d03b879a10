"""Kind `gym`, rule `scorer`: the package's own scorer decides, in the sandbox.

Only for data sets whose scorer does not run the answer as a program; an answer is data on the guest's stdin, and the
score comes back beside a secret that stood there too. (An answer that made the scorer print something would not know
the secret.) The scorers skip what they cannot read, so the form of the answer is checked first.
"""

from __future__ import annotations

import importlib.util
import json
import re
import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from thinksmith.errors import UserError
from thinksmith.sandbox import Limits, Result, open_sandbox
from thinksmith.verify.gym.forms import bare
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.sandboxed import see
from thinksmith.verify.workers import DEADLINE, WorkerFailed

RIGHT = 0.999
"""What the package pays for a right answer is 1; anything less is its part of a reward for a wrong one."""


class Scorer(NamedTuple):
    """The module of a data set, what an answer looks like that its scorer is given, and the settings for a problem."""

    module: str
    form: re.Pattern[str]
    settings: Callable[[Mapping[str, Any]], dict[str, int]] = lambda facts: {}


SCORERS = {
    "rubiks_cube": Scorer("cognition.rubiks_cube", re.compile(r"[UDLRFBMESXYZ]w?'?(?: [UDLRFBMESXYZ]w?'?){0,999}")),
    "sokoban": Scorer("games.sokoban", re.compile(r"[LDRU]{1,5000}")),
    "word_ladder": Scorer(
        "algorithmic.word_ladder",
        re.compile(r"[A-Z]{1,20}(?:,[A-Z]{1,20}){1,200}"),
        lambda facts: dict.fromkeys(("min_word_length", "max_word_length"), len(facts["end_word"])),
    ),
}

_INSIDE = Path(__file__).parent / "inside"
_LIMITS = Limits(seconds=DEADLINE, cpu_seconds=DEADLINE, output=1 << 16)


def judge(meta: Mapping[str, Any], answer: str) -> str | None:
    """None if the package pays in full, else why not.

    Raises BadGold, Unreadable, Exceeded, WorkerFailed; UserError where there is no sandbox or no reasoning-gym.
    """
    name = _known(meta)
    score = _score(name, json.dumps(meta.get("metadata"), sort_keys=True), _form(name, answer))
    return None if score >= RIGHT else f"reasoning-gym's scorer pays {score:g}"


def check(meta: Mapping[str, Any], gold: str) -> str | None:
    """Why the gold answer cannot be used; None when it looks as if it can. Nothing is run."""
    try:
        _form(_known(meta), gold)
    except (BadGold, Unreadable) as error:
        return str(error)
    return None if isinstance(meta.get("metadata"), Mapping) else 'meta["metadata"] is missing'


def _known(meta: Mapping[str, Any]) -> str:
    name = meta.get("dataset")
    if name not in SCORERS:
        raise BadGold(f'meta["dataset"] {str(name)[:40]!r} is none whose scorer is used')
    return str(name)


def _form(name: str, answer: str) -> str:
    """The answer as the scorer wants it. Raises Unreadable."""
    text = " ".join(bare(answer).replace("’", "'").split())
    if name == "word_ladder":
        text = text.upper().replace(" ", "").replace("→", ",").replace("->", ",")
    if SCORERS[name].form.fullmatch(text) is None:
        raise Unreadable(f"that is no answer of the form of gym/{name}")
    return text


@lru_cache(maxsize=4096)
def _score(name: str, metadata: str, answer: str) -> float:
    """What the package's scorer pays, 0 to 1. The same question is asked once."""
    secret = secrets.token_hex(16)
    scorer, facts = SCORERS[name], json.loads(metadata)
    request = {
        "secret": secret,
        "name": name,
        "module": f"reasoning_gym.{scorer.module}",
        "settings": scorer.settings(facts),
        "answer": answer,
        "entry": {"answer": None, "metadata": facts},
    }
    result = open_sandbox().run(
        "import guest\nguest.main()",
        stdin=json.dumps(request).encode(),
        packages=(_INSIDE, *_folders()),
        limits=_LIMITS,
    )
    return _told(result, secret)


def _told(result: Result, secret: str) -> float:
    """The score that stands beside the secret on the last line."""
    see(result)
    lines = result.stdout.decode("utf-8", "replace").strip().splitlines()
    marked, _, score = lines[-1].partition(" ") if lines else ("", "", "")
    if result.status != "ok" or not secrets.compare_digest(marked.encode(), secret.encode()):
        said = result.stderr.decode("utf-8", "replace").strip().splitlines()
        raise WorkerFailed(f"reasoning-gym's scorer failed: {result.reason or (said or ['no score'])[-1]}")
    return float(score)


@lru_cache(maxsize=1)
def _folders() -> tuple[Path, ...]:
    """The folders where reasoning-gym and what its scorers import are installed. Raises UserError."""
    folders: dict[Path, None] = {}
    for package in ("reasoning_gym", "numpy", "magiccube"):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise UserError("gym/NAME needs reasoning-gym: pip install 'thinksmith[gym]'")
        folders[Path(spec.submodule_search_locations[0]).resolve().parent] = None
    return tuple(folders)
