"""Tools that a model may call: what a description says of one, and how calls are read out of what a model wrote.

Each family of models writes calls in its own way, and each begins them with a mark of its own, so one reader knows them
all: Hermes and Qwen (`<tool_call>` around JSON), Qwen3-Coder (`<function=…>` with a tag for each parameter), Llama 3
(`<|python_tag|>`, or bare JSON), Mistral (`[TOOL_CALLS]`, as a list or name by name), DeepSeek (its own brackets, with
or without a fence). Bare JSON is a call only at the beginning of an answer, and only of a tool that is known.

The result is a function of the text alone, whatever its chunks. What is malformed, cut off, or a mark that somebody
only writes about, is text as it stands; whitespace beside a call belongs to the call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeVar

from thinksmith.errors import UserError
from thinksmith.records import ToolCall

T = TypeVar("T")
FORMATS = ("hermes", "qwen_xml", "llama", "mistral", "deepseek", "json")
CHOICES = ("auto", "none", "required")
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SPACE = re.compile(r"\s*")


# --- descriptions


def name_of(tool: Mapping[str, Any]) -> str:
    """The function's name."""
    return str(tool["function"]["name"])


def parameters_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema of its arguments; one that takes none where nothing is said."""
    found = tool["function"].get("parameters")
    return found if isinstance(found, Mapping) and found else {"type": "object", "properties": {}}


def check_tools(tools: Sequence[Mapping[str, Any]], choice: str = "auto") -> None:
    """Raises UserError for descriptions that are none, and for a choice that there is not."""
    for at, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
            raise UserError(f'tools[{at}] must be {{"type": "function", "function": {{"name": …, "parameters": …}}}}')
        name = function.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise UserError(f"tools[{at}] needs a name of 1 to 128 letters, digits and _ - . :, not {name!r:.80}")
        if not isinstance(function.get("parameters"), Mapping | None):
            raise UserError(f"tools[{at}]: the parameters of {name} must be a JSON schema, an object")
    names = [name_of(tool) for tool in tools]
    if len(set(names)) < len(names):
        raise UserError(f"two tools have the same name: {next(n for n in names if names.count(n) > 1)}")
    if choice not in CHOICES and choice not in names:
        raise UserError(f"tool_choice {choice!r:.80} is none of {', '.join((*CHOICES, *names))}")
    if choice == "required" and not tools:
        raise UserError("tool_choice is required, and there are no tools")


# --- writing


def hermes(calls: Sequence[ToolCall], *, tagless: bool = False) -> str:
    """The calls as Hermes writes them, one below the other. `tagless`: arguments hold no tag that a reader could take
    for one, since `<` is written as JSON's escape."""
    return "\n".join(f"<tool_call>\n{_written(call, tagless)}\n</tool_call>" for call in calls)


def _written(call: ToolCall, tagless: bool) -> str:
    said: dict[str, Any] = {"name": call["name"], "arguments": call["arguments"]}
    if "id" in call:
        said["id"] = call["id"]
    text = json.dumps(said, ensure_ascii=False)
    return text.replace("<", "\\u003c") if tagless else text


# --- reading


def tool_calls_in(
    answer: str, tools: Sequence[Mapping[str, Any]] = (), formats: Sequence[str] = FORMATS
) -> tuple[str, tuple[ToolCall, ...]]:
    """The text of an answer without its calls, and the calls; see `CallReader`."""
    reader = CallReader(tools, formats)
    found = reader.feed(answer) + reader.finish()
    texts = [each for each in found if isinstance(each, str)]
    return "".join(texts), tuple(each for each in found if not isinstance(each, str))


class CallReader:
    """Reads an answer as it comes. `feed` and `finish` give what is settled, in order: text, and whole calls.

    `tools` give the types of parameters that are written without quotes, and the names that bare JSON may call.
    `formats`: those of `FORMATS` that are looked for. A call has an `id` where the model wrote one.
    """

    def __init__(self, tools: Sequence[Mapping[str, Any]] = (), formats: Sequence[str] = FORMATS) -> None:
        self._marks = {mark: parse for format in FORMATS if format in formats for mark, parse in _MARKS[format].items()}
        self._mark = re.compile("|".join(map(re.escape, self._marks)) or "(?!)")
        self._longest = max(map(len, self._marks), default=1)
        self._bare = "json" in formats
        self._source = _Source({name_of(tool): parameters_of(tool) for tool in tools})
        self._parse: Generator[None, None, _Found] | None = None  # of what the source begins with,
        self._begun = 0  # and the length of its mark
        self._space = ""  # after text, or at the start: whitespace that goes if a call follows
        self._after_call = False

    def feed(self, text: str) -> list[str | ToolCall]:
        """The next piece of the answer, of any length."""
        self._source.text += text
        return self._read()

    def finish(self) -> list[str | ToolCall]:
        """The answer is over; do not feed after it."""
        self._source.final = True
        found = self._read()
        if self._space and not self._after_call:
            found.append(self._space)
            self._space = ""
        return found

    def _read(self) -> list[str | ToolCall]:
        out: list[str | ToolCall] = []
        while self._parse is not None or self._begin(out):
            assert self._parse is not None
            try:
                next(self._parse)
                return out  # it wants more
            except StopIteration as stop:
                found: _Found = stop.value
            self._parse = None
            if found is None:  # no call: the mark is text, and what follows it is looked at anew
                self._bare = False
                self._tell(self._source.take(self._begun), out)
            else:
                end, calls = found
                self._source.take(end)
                self._space, self._after_call = "", True
                out += calls
        return out

    def _begin(self, out: list[str | ToolCall]) -> bool:
        """Tell the text before the next mark, and begin to parse there; False where none is in sight."""
        source = self._source
        if self._bare:
            begins = len(source.text) - len(source.text.lstrip())
            if begins == len(source.text) and not source.final:
                return False
            if source.text[begins : begins + 1] in ("{", "["):
                self._tell(source.take(begins), out)
                self._parse, self._begun = _bare(source), 0
                return True
        match = self._mark.search(source.text)
        if match:
            before = source.take(match.start())
            self._bare = self._bare and not before.strip()
            self._tell(before, out)
            self._parse, self._begun = self._marks[match.group()](source), len(match.group())
            return True
        settled = len(source.text) if source.final else self._settled(source.text)
        text = source.take(settled)
        self._bare = self._bare and not text.strip() and not source.text
        self._tell(text, out)
        return False

    def _settled(self, text: str) -> int:
        """How much of a text without a mark can be no beginning of one."""
        for at in range(max(0, len(text) - self._longest + 1), len(text)):
            if any(mark.startswith(text[at:]) for mark in self._marks):
                return at
        return len(text)

    def _tell(self, text: str, out: list[str | ToolCall]) -> None:
        text = self._space + text
        body = text.rstrip()
        if body and self._after_call:
            body, self._after_call = body.lstrip(), False
        self._space = text[len(text.rstrip()) :]
        if body:
            out.append(body)


class _Source:
    """What is not read yet, and what is known of the tools."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        self.text = ""
        self.final = False
        self.schemas = schemas

    def take(self, count: int) -> str:
        taken, self.text = self.text[:count], self.text[count:]
        return taken


_Found = tuple[int, list[ToolCall]] | None
"""Where the calls end, and they; None: that was no call."""
_Parse = Generator[None, None, T]
"""Yields where it needs more text, or the word that there is none."""


# --- pieces of all formats; `at` is where one stands in the source's text


def _space(source: _Source, at: int) -> _Parse[int]:
    """Behind whitespace."""
    while True:
        at = _SPACE.match(source.text, at).end()  # type: ignore[union-attr]  # it matches "" too
        if at < len(source.text) or source.final:
            return at
        yield


def _word(source: _Source, at: int, *words: str) -> _Parse[str]:
    """The one of `words` that stands there; "" if none does."""
    longest = max(map(len, words))
    while True:
        rest = source.text[at : at + longest]
        for word in words:
            if rest.startswith(word):
                return word
        if source.final or not any(word.startswith(rest) for word in words):
            return ""
        yield


def _until(source: _Source, at: int, *words: str) -> _Parse[tuple[int, str] | None]:
    """Where the first of `words` stands, and which; None if none comes."""
    pattern, longest = re.compile("|".join(map(re.escape, words))), max(map(len, words))
    while True:
        if match := pattern.search(source.text, at):
            return match.start(), match.group()
        if source.final:
            return None
        at = max(at, len(source.text) - longest + 1)
        yield


def _optional(source: _Source, at: int, *words: str) -> _Parse[int]:
    """Behind one of `words`, with whitespace before it, if it stands there; else where one was."""
    behind = yield from _space(source, at)
    found = yield from _word(source, behind, *words)
    return behind + len(found) if found else at


_OUTSIDE, _INSIDE = re.compile(r'["{}\[\]<]'), re.compile(r'["\\]')


def _json(source: _Source, at: int, stop: str = "") -> _Parse[tuple[int, Any] | None]:
    """The object or list that begins there, and where it ends; None if it is none.

    Brackets that are still open where `stop` comes, outside of strings, are closed: models forget them.
    """
    start, open_, inside = at, [], False
    while True:
        match = (_INSIDE if inside else _OUTSIDE).search(source.text, at)
        if match is None:
            if source.final:
                return None
            at = len(source.text)
            yield
            continue
        at, sign = match.end(), match.group()
        if sign == "\\":
            while at >= len(source.text) and not source.final:
                yield
            at += 1
        elif sign == '"':
            inside = not inside
        elif sign in "{[":
            open_.append("}" if sign == "{" else "]")
        elif sign == "<":
            if stop and (yield from _word(source, at - 1, stop)):
                body = source.text[start : at - 1].rstrip() + "".join(reversed(open_))
                return _loaded(at - 1, body)
        elif not open_ or open_.pop() != sign:
            return None
        elif not open_:
            return _loaded(at, source.text[start:at])


def _loaded(end: int, text: str) -> tuple[int, Any] | None:
    """Line breaks within strings are let pass, since models write them; what is no JSON, or no UTF-8, is nothing."""
    try:
        value = json.loads(text, strict=False, parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return end, value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _calls(value: Any) -> list[ToolCall] | None:
    """The calls that a value is: an object, or a list of them."""
    found = [_call(each) for each in (value if isinstance(value, list) else [value])]
    calls = [call for call in found if call is not None]
    return calls if calls and len(calls) == len(found) else None


def _call(value: Any) -> ToolCall | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = {"id": value.get("id")} | value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):  # OpenAI's own form
        loaded = _loaded(0, arguments)
        arguments = loaded[1] if loaded else None
    elif arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return None
    call = ToolCall(name=value["name"], arguments=arguments)
    if isinstance(value.get("id"), str) and value["id"]:
        call["id"] = value["id"]
    return call


# --- the formats; each begins with its mark, at 0


def _hermes(source: _Source) -> _Parse[_Found]:
    end = "</tool_call>"
    at = yield from _space(source, len("<tool_call>"))
    if (yield from _word(source, at, "<function=")):
        found = yield from _function(source, at)
        if found is None:
            return None
        return (yield from _optional(source, found[0], end)), found[1]
    calls: list[ToolCall] = []
    while (yield from _word(source, at, "{", "[")):
        read = yield from _json(source, at, end)
        more = _calls(read[1]) if read else None
        if read is None or more is None:
            return None
        calls += more
        at = yield from _space(source, read[0])
        if not (yield from _word(source, at, "{", "[")):
            at = read[0]
            break
    if not calls:
        return None
    return (yield from _optional(source, at, end)), calls


def _qwen_xml(source: _Source) -> _Parse[_Found]:
    found = yield from _function(source, 0)
    if found is None:
        return None
    return (yield from _optional(source, found[0], "</tool_call>")), found[1]


def _function(source: _Source, at: int) -> _Parse[_Found]:
    """`<function=NAME>`, then a tag for each parameter (Qwen3-Coder) or an object (Llama 3), then `</function>`."""
    at += len("<function=")
    head = yield from _until(source, at, ">", "\n")
    if head is None or head[1] != ">" or not NAME.fullmatch(name := source.text[at : head[0]].strip(" \"'")):
        return None
    at = yield from _space(source, head[0] + 1)
    if (yield from _word(source, at, "{")):
        read = yield from _json(source, at, "</function>")
        if read is None:
            return None
        behind = yield from _optional(source, read[0], "</function>")
        return behind, [ToolCall(name=name, arguments=read[1])]
    arguments: dict[str, Any] = {}
    while (yield from _word(source, at, "<parameter=")):
        read_one = yield from _parameter(source, at + len("<parameter="))
        if read_one is None:
            return None
        at, key, raw = read_one
        arguments[key] = _typed(raw, source.schemas.get(name, {}), key)
    if not (yield from _word(source, at, "</function>")):
        return None
    return at + len("</function>"), [ToolCall(name=name, arguments=arguments)]


def _parameter(source: _Source, at: int) -> _Parse[tuple[int, str, str] | None]:
    """The place of the next tag, the key and the text. A value may hold `</parameter>` itself: code does."""
    head = yield from _until(source, at, ">", "\n")
    if head is None or head[1] != ">":
        return None
    key, start = source.text[at : head[0]].strip(" \"'"), head[0] + 1
    look = start
    while True:
        found = yield from _until(source, look, "</parameter>")
        if found is None:
            return None
        look = found[0] + len("</parameter>")
        at = yield from _space(source, look)
        if (yield from _word(source, at, "<parameter=", "</function>")):
            raw = source.text[start : found[0]]
            return at, key, raw.removeprefix("\n").removesuffix("\n")


def _typed(raw: str, schema: Mapping[str, Any], key: str) -> Any:
    """A parameter's value: text where the schema says so or says nothing, else JSON, where it is that."""
    properties = schema.get("properties")
    declared = properties.get(key) if isinstance(properties, Mapping) else None
    if not isinstance(declared, Mapping) or _may_be_text(declared, raw):
        return raw
    python = {"True": True, "False": False, "None": None}
    if raw.strip() in python:
        return python[raw.strip()]
    loaded = _loaded(0, raw)
    return loaded[1] if loaded else raw


def _may_be_text(declared: Mapping[str, Any], raw: str) -> bool:
    kinds = declared.get("type")
    if kinds is None:
        values = declared.get("enum")
        return raw in values if isinstance(values, list) else "anyOf" not in declared and "oneOf" not in declared
    return "string" in kinds if isinstance(kinds, list) else bool(kinds == "string")


def _llama(source: _Source) -> _Parse[_Found]:
    end, calls = yield from _more(source, len("<|python_tag|>"), [])
    return (end, calls) if calls else None


def _more(source: _Source, end: int, calls: list[ToolCall]) -> _Parse[tuple[int, list[ToolCall]]]:
    """These calls, and the objects that follow, `;` between them, as far as they are calls."""
    while True:
        at = yield from _space(source, end)
        if calls and (yield from _word(source, at, ";")):
            at = yield from _space(source, at + 1)
        read = (yield from _json(source, at)) if (yield from _word(source, at, "{")) else None
        more = _calls(read[1]) if read else None
        if read is None or more is None:
            return end, calls
        calls += more
        end = read[0]


def _mistral(source: _Source) -> _Parse[_Found]:
    at = yield from _space(source, len("[TOOL_CALLS]"))
    if (yield from _word(source, at, "[")):
        read = yield from _json(source, at)
        calls = _calls(read[1]) if read else None
        return (read[0], calls) if read and calls else None
    head = yield from _until(source, at, "{", "[CALL_ID]", "[ARGS]", "\n")
    if head is None or not NAME.fullmatch(name := source.text[at : head[0]].strip()):
        return None
    identity, place = "", head[0]
    if head[1] == "[CALL_ID]":
        begins = place + len("[CALL_ID]")
        args = yield from _until(source, begins, "[ARGS]", "{")
        if args is None:
            return None
        identity, place = source.text[begins : args[0]].strip(), args[0]
    if (yield from _word(source, place, "[ARGS]")):
        place += len("[ARGS]")
    place = yield from _space(source, place)
    read = (yield from _json(source, place)) if (yield from _word(source, place, "{")) else None
    if read is None:
        return None
    call = ToolCall(name=name, arguments=read[1])
    if identity:
        call["id"] = identity
    return read[0], [call]


_BEGIN, _SEP = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"
_END, _ALL_BEGIN, _ALL_END = "<｜tool▁call▁end｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"


def _deepseek(source: _Source) -> _Parse[_Found]:
    """`function`, the separator, the name and a fence (R1, V3), or the name, the separator and the object (V3.1)."""
    first = yield from _word(source, 0, _ALL_BEGIN)
    at = yield from _space(source, len(first))
    if not (yield from _word(source, at, _BEGIN)):
        return None
    at += len(_BEGIN)
    separator = yield from _until(source, at, _SEP, "\n")
    if separator is None or separator[1] != _SEP:
        return None
    name, at = source.text[at : separator[0]].strip(), separator[0] + len(_SEP)
    begins = yield from _until(source, at, "{", _END)
    if begins is None or begins[1] != "{":
        return None
    head = source.text[at : begins[0]].split()
    if name == "function" and head and head[0] != "```json":
        name = head[0]
    read = yield from _json(source, begins[0], _END)
    if read is None or not isinstance(read[1], dict) or not NAME.fullmatch(name):
        return None
    at = yield from _optional(source, read[0], "```")
    at = yield from _optional(source, at, _END)
    at = yield from _optional(source, at, _ALL_END)
    return at, [ToolCall(name=name, arguments=read[1])]


_KEY = re.compile(r'(?:\[\s*)?\{\s*"([^"\\]{0,16})"')
_KEY_BEGUN = re.compile(r'(?:\[\s*)?(?:\{\s*(?:"[^"\\]{0,16})?)?')


def _bare(source: _Source) -> _Parse[_Found]:
    """An object, or a list of them, that begins as calls do; decided early, so that other JSON is not held up."""
    while not (key := _KEY.match(source.text)):
        if source.final or not _KEY_BEGUN.fullmatch(source.text):
            return None
        yield
    if key.group(1) not in ("name", "type", "function", "id", "arguments", "parameters"):
        return None
    read = yield from _json(source, 0)
    calls = _calls(read[1]) if read else None
    if read is None or calls is None or any(call["name"] not in source.schemas for call in calls):
        return None
    return (yield from _more(source, read[0], calls))


_MARKS: Mapping[str, Mapping[str, Callable[[_Source], _Parse[_Found]]]] = {
    "hermes": {"<tool_call>": _hermes},
    "qwen_xml": {"<function=": _qwen_xml},
    "llama": {"<|python_tag|>": _llama},
    "mistral": {"[TOOL_CALLS]": _mistral},
    "deepseek": {_ALL_BEGIN: _deepseek, _BEGIN: _deepseek},
    "json": {},
}


def marks() -> tuple[str, ...]:
    """What calls begin with, of all formats."""
    return tuple(mark for marks in _MARKS.values() for mark in marks)
