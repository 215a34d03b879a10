"""Rewards for the form of a turn: its tags, and the script that it thinks in. Meanings are not looked at."""

from __future__ import annotations

from dataclasses import dataclass

from thinksmith.audit.language import SCRIPTS, script_share
from thinksmith.records import Attempt, Trace
from thinksmith.thinking import TAGS, WHITESPACE, Tags, detect_tags


def think_format(attempt: Attempt) -> float | None:
    """1 when the thinking was closed and an answer follows, else 0. Judged on the whole turn, so a template that opens
    `<think>` does not zero it. An engine that failed wrote nothing to be judged.

    The format reward of DeepSeek-R1 (arXiv:2501.12948, section 2.2.2). Gamed by an empty thinking and any answer at
    all, so give it a small weight beside `correctness`.
    """
    if attempt.trace.finish == "error":
        return None
    return float(attempt.trace.thinking_status == "closed" and bool(attempt.trace.answer.strip()))


@dataclass(frozen=True, slots=True, kw_only=True)
class TagCount:
    """The share (0..1) of the format's tags that stand exactly once and in their place, in the whole turn: what the
    template opened, the prefill and the completion. A ladder to `think_format`: each tag pays for itself.

    With n tags each is worth 1/n. A tag is in its place behind all tags that come before it in the format and in front
    of all that come after it, as far as these are there; the first one at the turn's beginning, the closing one of
    `answer` at the end. `tags` names the format (think, thinking, channel, bracket; "": the one that the turn uses).
    `answer` is the name of a tag around the answer: with "answer" the tags are <think> </think> <answer> </answer>,
    a quarter each, as in Open-R1's reward of this name. A quoted tag is a tag here.

    Gamed by tags with nothing between them. An engine that failed: None.
    """

    tags: str = ""
    answer: str = ""

    def __post_init__(self) -> None:
        if self.tags and self.tags not in TAGS:
            raise ValueError(f"unknown tags {self.tags!r}; known are {', '.join(TAGS)}")

    def __call__(self, attempt: Attempt) -> float | None:
        if attempt.trace.finish == "error":
            return None
        turn = attempt.trace.text
        tags = TAGS[self.tags] if self.tags else detect_tags(turn)
        wanted = [tags.start, tags.end, *([tags.answer] if tags.answer else [])]
        if self.answer:
            wanted += [f"<{self.answer}>", f"</{self.answer}>"]
        places = [(turn.find(tag), turn.rfind(tag)) for tag in wanted]
        once = [i for i, (first, last) in enumerate(places) if first == last >= 0]
        return sum(self._in_place(i, places, turn, tags) for i in once) / len(wanted)

    def _in_place(self, index: int, places: list[tuple[int, int]], turn: str, tags: Tags) -> bool:
        """Whether tag `index`, which stands once, is at the beginning or the end where it should, and in order."""
        place = places[index][0]
        if index == 0 and turn[:place].strip(WHITESPACE) not in ("", tags.header):
            return False
        if self.answer and index == len(places) - 1 and turn[place + len(self.answer) + 3 :].strip(WHITESPACE):
            return False
        return all(last < place for _, last in places[:index]) and all(
            first < 0 or first > place for first, _ in places[index + 1 :]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """The share (0..1) of the thinking's letters that are of the wanted `script`; of the answer's where nothing was
    thought; 1 where there are no letters, as in bare arithmetic.

    Told by script, without a model: `script = "latin"` tells English from Chinese or Russian, never from French. A
    Chinese letter counts as one, as a Latin one does. Digits, signs and letters of formulas (`ℝ`, `𝑥`) do not count;
    Greek ones do. After the language consistency reward of DeepSeek-R1 (arXiv:2501.12948, section 2.3.2), which counts
    words. Gamed by thinking without letters, and it costs some accuracy, as is said there. An engine that failed: None.
    """

    script: str = "latin"

    def __post_init__(self) -> None:
        if self.script not in SCRIPTS:
            raise ValueError(f"unknown script {self.script!r}; known are {', '.join(SCRIPTS)}")

    def __call__(self, attempt: Attempt) -> float | None:
        if attempt.trace.finish == "error":
            return None
        return script_share(told(attempt.trace), self.script)


def told(trace: Trace) -> str:
    """The thinking, or the answer where a model does not think apart: what an audit looks at."""
    return trace.thinking if trace.thinking.strip() or not trace.answer.strip() else trace.answer
