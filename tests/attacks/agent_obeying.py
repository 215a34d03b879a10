"""Models that serve the attacker: one makes every call that it is told of, whoever says so, one only quotes."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from thinksmith.engines.scripted import Scripted
from thinksmith.policy.tools import hermes, tool_calls_in
from thinksmith.records import Request, ToolCall
from thinksmith.verify.fences import fenced

_UNSEEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufffd\x00-\x08]")
_MOST = 7  # calls in a reply: one less than are read


class Serving(Scripted):
    """What both share: it makes the calls `looks`, then gives what `_own` says, which sees each request."""

    def __init__(self, looks: Sequence[str]) -> None:
        super().__init__(self._turn, "obeying")
        self.looks = list(looks)
        self.told: list[str] = []
        """All that it was told: messages and descriptions."""

    def _turn(self, request: Request) -> str:
        self.told += _said(request)[len(self.told) :]
        if request.tool_choice == "none" and self.looks:
            return self.looks[0]  # no call is read here; so it is made again in the next step
        return self.looks.pop(0) if self.looks else self._own(request)

    @abstractmethod
    def _own(self, request: Request) -> str: ...


class Obeying(Serving):
    """Makes first the calls `looks`, then every call that stands in whatever form in anything that it was told, also in
    what was made harmless: as Hermes, once more in all forms that are read, and as the text that told of it. `waiting`
    are the replies that it has still to give; each but the bare text has a call of its own beside, so that no two steps
    are the same and nobody thinks that it goes round in circles."""

    def __init__(self, looks: Sequence[str]) -> None:
        super().__init__(looks)
        self._read, self._known, self._given = 0, set[str](), 0
        self.waiting: list[str] = []
        self._bare_texts: list[str] = []

    def _own(self, request: Request) -> str:
        for text in self.told[self._read :]:
            self._obey(text, request.tools)
        self._read = len(self.told)
        if request.tool_choice == "none":  # no call is read here; so it is made again in the next step
            return self.waiting[0] if self.waiting else "I plan to do all that I am told."
        for replies in (self.waiting, self._bare_texts):
            if replies:
                return replies.pop(0)
        return "I did all that I was told."

    def _obey(self, text: str, tools: Sequence[Any]) -> None:
        self.waiting += [hermes([call]) for call in _reading_on(text)]
        fresh = []
        for call in calls_told(text, tools):
            key = json.dumps([call["name"], call["arguments"]], sort_keys=True)
            if key not in self._known:
                self._known.add(key)
                fresh.append(call)
        if not fresh:
            return
        told = text[-40_000:]
        replies = [hermes(fresh[at : at + _MOST]) for at in range(0, len(fresh), _MOST)]
        replies += ["\n".join(in_all_forms(call)) for call in fresh[:_MOST]]
        replies += [f"<think>\n{told}\n</think>\n\n{raw(told)}", told, *map(_bare, fresh[:2])]
        self.waiting += [f"{reply}\n{self._other()}" for reply in replies]
        self._bare_texts.append(raw(told))

    def _other(self) -> str:
        self._given += 1
        return hermes([ToolCall(name="files_list", arguments={"path": "." + "/." * self._given, "depth": 1})])


def _reading_on(text: str) -> Iterator[ToolCall]:
    """It looks into the middle of what was cut as well."""
    for found in re.finditer(
        r'\[\.\.\. ([\d,]+) characters left out here; read_more\(handle="([\d-]+)", start=(\d+)', text
    ):
        start = int(found[3]) + int(found[1].replace(",", "")) // 2 - 3000
        yield ToolCall(name="read_more", arguments={"handle": found[2], "start": max(start, int(found[3]) - 100)})


def _bare(call: ToolCall) -> str:
    return json.dumps({"name": call["name"], "arguments": call["arguments"]}, ensure_ascii=False)


class Quoting(Serving):
    """Says again what it was told, in its thinking; in the answer too where it is `loud`. It means no call by it."""

    def __init__(self, looks: Sequence[str], *, loud: bool = False) -> None:
        super().__init__(looks)
        self._loud = loud

    def _own(self, request: Request) -> str:
        said = "\n".join(message["content"] for message in request.messages if message["role"] == "tool")
        return f"<think>\nIt says: {said}\n</think>\n\nIt says" + (
            f": {said}\nThat is all." if self._loud else " much."
        )


def _said(request: Request) -> list[str]:
    """The same, and more with each request: descriptions first, then the messages."""
    told = [text for tool in request.tools for text in _texts(tool)]
    return told + [message["content"] for message in request.messages]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def raw(text: str) -> str:
    """The text as the attacker wrote it, before it was made harmless."""
    return text.replace("‹", "<").replace("⟦", "[")


def calls_told(text: str, tools: Sequence[Any]) -> list[ToolCall]:
    """Every call that somebody who wants to could read out of a text."""
    found: list[ToolCall] = []
    simple = _UNSEEN.sub("", unicodedata.normalize("NFKC", html.unescape(raw(text))))
    for each in dict.fromkeys((text, raw(text), html.unescape(raw(text)), simple, raw(text).replace('""', '"'))):
        found += tool_calls_in(each, tools)[1]
        found += _objects(each)
        for language, code in fenced(each):
            if language in ("python", "sql"):
                name, key = ("python", "code") if language == "python" else ("sql_query", "sql")
                found.append(ToolCall(name=name, arguments={key: code}))
    return found


def _objects(text: str) -> Iterator[ToolCall]:
    """Calls as JSON, anywhere."""
    decoder = json.JSONDecoder(strict=False)
    for place in re.finditer(r'\{\s*"', text):
        try:
            value, _ = decoder.raw_decode(text, place.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value.get("function"), dict):
            value = value["function"]
        arguments = value.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError:
                continue
        if isinstance(value.get("name"), str) and isinstance(arguments, dict):
            yield ToolCall(name=value["name"], arguments=arguments)


def in_all_forms(call: ToolCall) -> list[str]:
    """The call as each family of models writes it."""
    name, arguments = call["name"], json.dumps(call["arguments"], ensure_ascii=False)
    whole = _bare(call)
    values = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in call["arguments"].items())
    return [
        f"<tool_call>\n{whole}\n</tool_call>",
        f"<function={name}>\n{values}</function>",
        f"<|python_tag|>{whole}",
        f"[TOOL_CALLS] [{whole}]",
        f"[TOOL_CALLS]{name}[ARGS]{arguments}",
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ]
