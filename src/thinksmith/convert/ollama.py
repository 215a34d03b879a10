"""What Ollama needs beside the GGUF: a Modelfile with a TEMPLATE in Go's syntax, and sampling defaults.

The template is not looked up by a model's name: the model's own (Jinja) is rendered on probes, and what stands around
each turn is taken out. What was taken out must give the model's own rendering again for conversations of several
shapes; a template that says more than that (dates, tools, one turn that depends on another) is refused.

Ollama learns from `<think>{{ .Thinking }}</think>` inside the range over the messages that the model thinks, and
between which tags (github.com/ollama/ollama, thinking/template.go). Thinking of earlier turns is left out, as the
models' own templates do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinksmith.convert.tokenizer import adds_bos, template_of
from thinksmith.errors import UserError, one_line
from thinksmith.policy.policy import Policy
from thinksmith.records import Message
from thinksmith.thinking import detect_tags

ROLES = ("system", "user", "assistant")
_PROBE = "qzx{}vkj"  # a text that no template has


@dataclass(frozen=True, slots=True)
class Template:
    """`start` stands before all (where no system message does: `default`), `before` and `after` around the turn of each
    role, `prompt` where the assistant's turn begins."""

    start: str
    default: str
    before: dict[str, str]
    after: dict[str, str]
    prompt: str
    opening: str
    closing: str

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation as this template has it, up to the assistant's turn."""
        system = any(message["role"] == "system" for message in messages)
        turns = (self.before[m["role"]] + m["content"] + self.after[m["role"]] for m in messages)
        return self.start + ("" if system else self.default) + "".join(turns) + self.prompt

    def to_go(self) -> str:
        """For a Modelfile."""
        default = f"{{{{ if not .System }}}}{self.default}{{{{ end }}}}" if self.default else ""
        thinking = f"{{{{ if and $last .Thinking }}}}{self.opening}{{{{ .Thinking }}}}{self.closing}{{{{ end }}}}"
        turns: list[str] = []
        for role in (role for role in ROLES if role in self.before):
            body = f"{{{{ .Content }}}}{self.after[role]}"
            if role == "assistant":  # a last one is gone on with
                body = f"{thinking}{{{{ .Content }}}}{{{{ if not $last }}}}{self.after[role]}{{{{ end }}}}"
            word = "else if" if turns else "if"
            turns.append(f'{{{{ {word} eq .Role "{role}" }}}}{self.before[role]}{body}')
        return (
            f"{self.start}{default}{{{{ range $i, $_ := .Messages }}}}"
            "{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            f"{''.join(turns)}{{{{ end }}}}"
            f'{{{{ if and $last (ne .Role "assistant") }}}}{self.prompt}{{{{ end }}}}{{{{ end }}}}'
        )


def derive(tokenizer: Any, name: str) -> Template:
    """The template's pieces. Raises UserError for a model without one, and for one that is more than pieces."""
    source = template_of(tokenizer)
    if not source:
        raise UserError(f"{name} has no chat template, so there is nothing to make Ollama's of: --to gguf does without")
    rendering = _Rendering(tokenizer, name)
    found = _pieces(rendering, name)
    opening, closing = _tags(source, found.prompt)
    found = Template(found.start, found.default, found.before, found.after, found.prompt, opening, closing)
    for shape in ("u", "su", "uau", "suau", "uauau", "suauau"):
        messages = _conversation(shape)
        if not rendering.can(shape):
            continue
        if found.render(messages) != rendering.of(messages):
            raise UserError(
                f"the chat template of {name} is more than text around turns ({len(shape)} turns come out otherwise):"
                " write Ollama's TEMPLATE by hand, beside --to gguf"
            )
    return found


class _Rendering:
    """The model's own template on conversations."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer, self._name = tokenizer, name
        self.bos = str(getattr(tokenizer, "bos_token", None) or "")

    def of(self, messages: Sequence[Message], *, prompt: bool = True) -> str:
        try:
            text = self._tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # a template may raise whatever it likes
            raise UserError(f"the chat template of {self._name} fails: {one_line(error)}") from None
        return str(text)

    def can(self, shape: str) -> bool:
        """Some templates refuse a system message."""
        try:
            self.of(_conversation(shape))
        except UserError:
            return False
        return True


def _conversation(shape: str) -> list[Message]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[letter], "content": _PROBE.format(at)} for at, letter in enumerate(shape)]


def _pieces(rendering: _Rendering, name: str) -> Template:
    """From "user" and "user, assistant, user":

    what is around each, and what differs between the first and a later user.
    """
    one = rendering.of(_conversation("u"), prompt=False)
    three = rendering.of(_conversation("uau"), prompt=False)
    first, rest = _cut(one, 0, name)
    head, between, after_assistant_and_before_user, after_user = _cut_three(three, name)
    if head != first or after_user != rest or not between.startswith(rest):
        raise UserError(
            f"the chat template of {name} writes a turn otherwise when others follow: write TEMPLATE by hand"
        )
    bos = rendering.bos if first.startswith(rendering.bos) else ""
    before_user = _common_end(first.removeprefix(bos), after_assistant_and_before_user)
    system = rendering.of(_conversation("su"), prompt=False) if rendering.can("su") else ""
    if system:  # behind a system message too: what ends alike by chance does not belong to it
        before_user = _common_end(before_user, _cut(system, 0, name)[1].split(_PROBE.format(1))[0])
    before_user = before_user.removeprefix(rest)
    start = first.removesuffix(before_user)
    before = {"user": before_user, "assistant": between[len(rest) :]}
    after = {"user": rest, "assistant": after_assistant_and_before_user.removesuffix(before_user)}
    if system:
        before_system, tail = _cut(system, 0, name)
        before["system"] = before_system.removeprefix(bos)
        after["system"] = tail.split(_PROBE.format(1))[0].removesuffix(before_user)
    prompt = rendering.of(_conversation("u"))[len(one) :]
    return Template(bos, start.removeprefix(bos), before, after, prompt, "", "")


def _cut(text: str, probe: int, name: str) -> tuple[str, str]:
    before, found, after = text.partition(_PROBE.format(probe))
    if not found:
        raise UserError(f"the chat template of {name} changes what is said: write TEMPLATE by hand")
    return before, after


def _cut_three(text: str, name: str) -> tuple[str, str, str, str]:
    head, rest = _cut(text, 0, name)
    between, rest = _cut(rest, 1, name)
    last, end = _cut(rest, 2, name)
    return head, between, last, end


def _common_end(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return one[len(one) - length :]


def _tags(source: str, prompt: str) -> tuple[str, str]:
    """What stands around the thinking of the assistant's turn: as the prompt opens it, if it does."""
    tags = detect_tags(source + prompt)
    return f"{tags.start}\n", f"\n{tags.end}\n\n"


def modelfile(policy: Policy, gguf: Path) -> str:
    """The text of a Modelfile beside the GGUF. Raises UserError where the template cannot be said in Go's."""
    template = derive(policy.tokenizer, policy.name)
    go = template.to_go()
    tokenizer: Any = policy.tokenizer
    if adds_bos(tokenizer):  # llama.cpp puts it there itself
        go = go.removeprefix(str(tokenizer.bos_token))
    if '"""' in go:
        raise UserError(f'the chat template of {policy.name} has """ in it, which a Modelfile cannot hold')
    lines = [f"FROM ./{gguf.name}", f'TEMPLATE """{go}"""', ""]
    stop = template.after["assistant"].strip()
    if stop:
        lines.append(f'PARAMETER stop "{stop}"')
    advised: Any = policy.model.generation_config
    for name in ("temperature", "top_p", "top_k", "min_p"):
        value = getattr(advised, name, None) if advised is not None and getattr(advised, "do_sample", False) else None
        if value is not None:
            lines.append(f"PARAMETER {name} {value:g}")
    return "\n".join(lines) + "\n"
