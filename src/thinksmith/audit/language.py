"""In which script a text is written, and in which language, as far as that can be told without a model.

Scripts are told by letters, and so are languages that have a script of their own. Languages of Latin letters are told
by their commonest short words, which are rare in one another. Letters of formulas say nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache

SCRIPTS = {
    "latin": ("LATIN",),
    "cyrillic": ("CYRILLIC",),
    "greek": ("GREEK",),
    "arabic": ("ARABIC",),
    "hebrew": ("HEBREW",),
    "devanagari": ("DEVANAGARI",),
    "bengali": ("BENGALI",),
    "tamil": ("TAMIL",),
    "thai": ("THAI",),
    "han": ("CJK",),
    "japanese": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "korean": ("HANGUL", "CJK"),
}
"""Scripts by the first word of their letters' Unicode names."""
_FORMULA = ("MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER", "MICRO", "PLANCK", "MODIFIER")

_FORMULAS = re.compile(r"\\[a-zA-Z]+|(?<![a-zA-Z])[a-zA-Z]{1,2}(?![a-zA-Z])")

_WORDS = {
    "en": "the and of is to that so we in are this have for it then which with be by from not can let what",
    "de": "der die das und ist nicht wir ein eine auf den dem mit von zu für also sich auch sind ich dass wenn wird",
    "fr": "le les et est une nous dans que pour donc sur avec pas des du cette alors sont ce qui par au il ou",
    "es": "el los las es una por para entonces con del que como son este esta pero su si lo muy más también y se",
    "it": "il che di una per non con sono della quindi gli questo abbiamo è si le nel dei anche come più ma ha allora",
    "pt": "os as uma não para com então são mais por isso é temos que dos da do ao também se mas como seu ou",
    "nl": "het een en van is dat we niet met voor op dus zijn er aan als maar ook dan nu wij naar hebben kan",
    "pl": "i w nie na to jest się że z do jak więc dla co ale czy tak po jego są mamy przez oraz który",
}
_OF_SCRIPT = {"zh": "han", "ja": "japanese", "ko": "korean", "ru": "cyrillic", "uk": "cyrillic", "bg": "cyrillic",
              "el": "greek", "ar": "arabic", "fa": "arabic", "he": "hebrew", "hi": "devanagari", "bn": "bengali",
              "ta": "tamil", "th": "thai"}  # fmt: skip
LANGUAGES = tuple(sorted([*_WORDS, *_OF_SCRIPT]))
"""The languages that can be told, by their codes (ISO 639-1)."""
_COMMON: dict[str, tuple[str, ...]] = {}
for _language, _words in _WORDS.items():
    for _word in set(_words.split()):
        _COMMON[_word] = (*_COMMON.get(_word, ()), _language)


def script_share(text: str, script: str) -> float:
    """The share (0..1) of the text's letters that are of a script of `SCRIPTS`; 1 where there are no letters."""
    if script == "latin" and text.isascii():
        return 1.0
    own, letters = 0, 0
    for sign, count in Counter(text).items():
        if found := _script(sign):
            letters += count
            own += count * (found in SCRIPTS[script])
    return own / letters if letters else 1.0


def script_of_text(text: str, share: float) -> str:
    """The script that `share` of the text's letters are of; "" where there is none, or no letters."""
    if text.isascii():
        return "latin" if any(map(str.isalpha, text)) else ""
    if not any(map(_script, text)):
        return ""
    prose = without_formulas(text)
    return next(
        (script for script in SCRIPTS if script_share(prose if script != "latin" else text, script) >= share), ""
    )


def without_formulas(text: str) -> str:
    """Without the Latin letters of formulas, which stand in texts of every script: LaTeX's commands, and one or two
    letters alone."""
    return _FORMULAS.sub("", text)


def script_of(language: str) -> str:
    """The script of a language of `LANGUAGES`."""
    return _OF_SCRIPT.get(language, "latin")


def latin_language(words: Iterable[str], fewest: int = 5) -> str:
    """The language of Latin letters whose common words are the most among these (in small letters); "" where fewer than
    `fewest` are, or two languages have as many."""
    counts = Counter(language for word in words if word in _COMMON for language in _COMMON[word])
    ranked = counts.most_common(2)
    if not ranked or ranked[0][1] < fewest or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
        return ""
    return ranked[0][0]


def is_foreign(text: str, words: Collection[str], language: str, share: float) -> str:
    """Why a text is not in a language of `LANGUAGES`; "" where it is, or where that cannot be told.

    `share` of its letters must be of the language's script. `words` are those of its beginning, in small letters.
    """
    script = script_of(language)
    own = script_share(text if script == "latin" else without_formulas(text), script)
    if own < share:
        return f"{own:.0%} of its letters are {script}"
    found = latin_language(words) if script == "latin" else ""
    return f"its words are {found}" if found and found != language else ""


@lru_cache(maxsize=8192)
def _script(sign: str) -> str:
    """The first word of a letter's name, without its width; "" for what is no letter, or one of a formula."""
    if not sign.isalpha():
        return ""
    words = unicodedata.name(sign, "").removeprefix("FULLWIDTH ").removeprefix("HALFWIDTH ").split()
    return words[0] if words and words[0] not in _FORMULA else ""
