"""What an answer may be: the JSON schema or the calls that a request asks for, as a grammar over the model's tokens.

llguidance (github.com/guidance-ai/llguidance) turns a schema into a parser that tells, at each place, which tokens may
come next: all that spell a beginning of what may follow, or, where the text is certain, the one that the tokenizer
would take. Spaces between the parts of JSON are bounded: a model that may write line breaks without end does.
"""

from __future__ import annotations

import json
import re
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy
from thinksmith.policy.tools import name_of, parameters_of
from thinksmith.records import Request

KEPT = 64  # compiled grammars
SPACES = {"whitespace_pattern": r"(\x20|\n{1,2}[ \t]{0,20})"}  # as llama.cpp bounds them
MORE = "{0,7}"  # calls behind the first: a weak model calls without end
_PLACE = re.compile(r"^at \d+\(\d+\): |\n +\d+ \|.*", re.DOTALL)


def is_constrained(request: Request) -> bool:
    """Is there a law for the answer? Calls that the model is free to make, or not, have none."""
    return request.schema is not None or request.tool_choice not in ("auto", "none")


class Grammars:
    """Compiles grammars for one policy. Safe for threads.

    Raises UserError where llguidance is not installed, or does not know the tokenizer.
    """

    def __init__(self, policy: Policy) -> None:
        try:
            import llguidance
            import llguidance.hf
        except ImportError:
            raise UserError("answers by a schema need llguidance: pip install 'thinksmith[serve]'") from None
        if not policy.eos_ids:
            raise UserError(f"model {policy.name} has no end-of-turn token, so its answers cannot follow a schema")
        self._module: Any = llguidance
        self._policy = policy
        self._template = policy.tokenizer.chat_template or ""
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()
        try:
            slices = llguidance.LLTokenizer.json_slices()
            self.tokenizer: Any = llguidance.hf.from_tokenizer(
                policy.tokenizer, n_vocab=policy.vocab_size, eos_token=sorted(policy.eos_ids), slices=slices
            )
        except Exception as error:  # whatever it dislikes about a tokenizer
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"answers of {policy.name} cannot follow a schema: {reason}") from None
        self.vocabulary = Vocabulary(self.tokenizer.decode_bytes([number]) for number in range(policy.vocab_size))

    def matcher(self, request: Request, lead: bool) -> Any:
        """A parser at the beginning of the answer; copy it. `lead`: one or two line breaks may come first, as they do
        behind a thinking. Raises UserError for a schema that cannot be followed."""
        try:
            grammar = self._grammar(request, lead)
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"the schema is no JSON: {' '.join(str(error).split())[:200]}") from None
        with self._lock:
            if grammar in self._compiled:
                self._compiled.move_to_end(grammar)
                return self._compiled[grammar]
        limits = self._module.LLParserLimits(verbose_errors=False)
        lark = self._module.LLMatcher.grammar_from_lark(grammar)
        found = self._module.LLMatcher(self.tokenizer, lark, log_level=0, limits=limits)
        if found.is_error():
            raise UserError(f"the answer cannot follow this schema: {reason_of(found)}")
        with self._lock:
            self._compiled[grammar] = found
            if len(self._compiled) > KEPT:
                self._compiled.popitem(last=False)
        return found

    def _grammar(self, request: Request, lead: bool) -> str:
        """In llguidance's dialect of Lark."""
        rules: list[str] = []
        ways: list[str] = []
        if request.schema is not None and request.tool_choice in ("auto", "none"):
            rules.append(f"answer: {_json(request.schema or {'type': 'object'})}")
            ways.append("answer")
        if request.tools and (request.tool_choice != "none"):
            ways.append(self._calls(request, rules))
        start = " | ".join(ways)
        return "\n".join([f"start: (/\\n{{1,2}}/)? ({start})" if lead else f"start: {start}", *rules])

    def _calls(self, request: Request, rules: list[str]) -> str:
        """One call of the tool that is named, else one or more of any, as this model's template writes them."""
        one = request.tool_choice not in ("auto", "required")
        tools = [tool for tool in request.tools if not one or name_of(tool) == request.tool_choice]
        rules += [f"arguments{at}: {_json(_closed(parameters_of(tool)))}" for at, tool in enumerate(tools)]
        names = [json.dumps(name_of(tool)) for tool in tools]
        if "[TOOL_CALLS]" in self._template and "[ARGS]" in self._template:
            call = _any(f"{_text(name[1:-1])} {self._mark('[ARGS]')} arguments{at}" for at, name in enumerate(names))
            call, between = f"{self._mark('[TOOL_CALLS]')} ({call})", ""
        elif "[TOOL_CALLS]" in self._template:
            call = _objects(names, "arguments")
            more = "" if one else f' (", " ({call})){MORE}'
            return f'{self._mark("[TOOL_CALLS]")} "[" ({call}){more} "]"'
        elif "<｜tool▁call▁begin｜>" in self._template:
            return self._deepseek(names, one)
        elif "<|python_tag|>" in self._template:
            return f"({_objects(names, 'parameters')})"
        else:
            start, end = self._mark("<tool_call>"), self._mark("</tool_call>")
            call, between = f'{start} "\\n" ({_objects(names, "arguments")}) "\\n" {end}', '"\\n" '
        rules.append(f"call: {call}")
        return "call" if one else f"call ({between}call){MORE}"

    def _deepseek(self, names: Sequence[str], one: bool) -> str:
        begin, separator = self._mark("<｜tool▁call▁begin｜>"), self._mark("<｜tool▁sep｜>")
        if "```json" in self._template:
            ways = (
                f'"function" {separator} {_text(name[1:-1])} "\\n```json\\n" arguments{at} "\\n```"'
                for at, name in enumerate(names)
            )
        else:
            ways = (f"{_text(name[1:-1])} {separator} arguments{at}" for at, name in enumerate(names))
        call = f"{begin} ({_any(ways)}) {self._mark('<｜tool▁call▁end｜>')}"
        calls = call if one else f"({call}) ({call}){MORE}"
        return f"{self._mark('<｜tool▁calls▁begin｜>')} {calls} {self._mark('<｜tool▁calls▁end｜>')}"

    def _mark(self, text: str) -> str:
        """A mark as the model writes it: where it is one token of the vocabulary, by that."""
        ids = self._policy.encode(text)
        return f"<[{ids[0]}]>" if len(ids) == 1 else _text(text)


def reason_of(matcher: Any) -> str:
    """Why a matcher failed, in one line."""
    return " ".join(_PLACE.sub("", matcher.get_error()).split())[:300]


def _json(schema: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": SPACES}, allow_nan=False)


def _closed(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments that are not described are not made up, unless the schema says that there may be others."""
    says = {"additionalProperties", "patternProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref"}
    if "properties" not in parameters or says & set(parameters):
        return parameters
    return {**parameters, "additionalProperties": False}


def _objects(names: Sequence[str], key: str) -> str:
    """Any of the calls as an object. Written out, since references in a schema go from its root."""
    return _any(f'{_text(f"""{{"name": {name}, "{key}": """)} arguments{at} "}}"' for at, name in enumerate(names))


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _any(ways: Iterable[str]) -> str:
    return " | ".join(ways)


class Vocabulary:
    """The bytes of every token, to look up what goes on with a text."""

    def __init__(self, tokens: Iterable[bytes]) -> None:
        self.bytes = tuple(tokens)
        self._order = sorted(range(len(self.bytes)), key=self.bytes.__getitem__)
        self._sorted = [self.bytes[number] for number in self._order]
        self._starting: dict[bytes, tuple[int, ...]] = {}
        self._holding: dict[tuple[bytes, ...], tuple[int, ...]] = {}

    def starting(self, prefix: bytes) -> tuple[int, ...]:
        """The tokens that begin with `prefix`, or are it."""
        if prefix not in self._starting:
            first = bisect_left(self._sorted, prefix)
            last = first
            while last < len(self._sorted) and self._sorted[last].startswith(prefix):
                last += 1
            self._starting[prefix] = tuple(self._order[first:last])
        return self._starting[prefix]

    def holding(self, texts: tuple[bytes, ...]) -> tuple[int, ...]:
        """The tokens that hold one of `texts`."""
        if texts not in self._holding:
            pattern = re.compile(b"|".join(map(re.escape, texts)))
            self._holding[texts] = tuple(at for at, token in enumerate(self.bytes) if pattern.search(token))
        return self._holding[texts]

    def beginnings(self, text: bytes) -> list[int]:
        """The tokens that `text` begins with, itself included; without empty ones."""
        found: list[int] = []
        for length in range(1, len(text) + 1):
            at = bisect_left(self._sorted, text[:length])
            while at < len(self._sorted) and self._sorted[at] == text[:length]:
                found.append(self._order[at])
                at += 1
        return found
