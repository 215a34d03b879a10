"""Rewards of ours as `reward_funcs` of TRL's GRPOTrainer, and TRL's as ours (`from_trl`). TRL itself is not needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thinksmith.engines.local.rows import opened_in
from thinksmith.errors import UserError
from thinksmith.records import Attempt, Finish, Message, Problem, Trace, Verdict
from thinksmith.thinking import THINK, Tags, detect_tags, split
from thinksmith.training.rl.rewards.binding import Option, find
from thinksmith.training.rl.rewards.named import ASK_VERDICT, REWARDS
from thinksmith.training.rl.rewards.scorer import Part, part
from thinksmith.training.rl.rewards.trl_functions import from_trl
from thinksmith.verify import verify_all

__all__ = ["TRLReward", "as_trl", "from_trl"]

_NOT_META = ("trainer_state", "log_extra", "log_metric", "environments")


@dataclass(frozen=True)
class TRLReward:
    """What `as_trl` makes: `f(prompts, completions, completion_ids, **columns) -> list[float | None]`."""

    part: Part
    tokenizer: Any
    tags: Tags
    opened: bool | None
    max_tokens: int
    answer: str
    kind: str
    default_kind: str
    verified: bool

    @property
    def __name__(self) -> str:
        """What TRL logs it by."""
        return self.part.name

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        rows = {key: value for key, value in columns.items() if key not in _NOT_META}
        problems = [self._problem(i, prompt, rows) for i, prompt in enumerate(prompts)]
        openings: dict[str, str] = {}
        for problem, prompt in zip(problems, prompts, strict=True):
            if problem.text not in openings:
                openings[problem.text] = self._opening(prompt)
        ids = completion_ids if completion_ids is not None else [()] * len(prompts)
        traces = [
            self._trace(openings[problem.text], completion, own)
            for problem, completion, own in zip(problems, completions, ids, strict=True)
        ]
        pairs = list(zip(problems, traces, strict=True))
        verdicts = verify_all(pairs) if self.verified else [Verdict("wrong", reason="not asked for")] * len(pairs)
        attempts = [
            Attempt(problem, trace, verdict, i, "trl")
            for i, ((problem, trace), verdict) in enumerate(zip(pairs, verdicts, strict=True))
        ]
        return self.part.scores(attempts)

    def _problem(self, row: int, prompt: Any, columns: Mapping[str, Sequence[Any]]) -> Problem:
        meta = {key: values[row] for key, values in columns.items()}
        column = self.answer or ("answer" if "answer" in meta else "solution")
        answer = meta.pop(column, None)
        if self.verified and self.answer and self.answer not in columns:
            raise UserError(f"reward {self.part.name!r}: no column {self.answer!r}; name the right one by answer=")
        kind = str(meta.pop(self.kind, None) or self.default_kind)
        if not isinstance(prompt, str):
            prompt = tuple(Message(role=message["role"], content=_text(message)) for message in prompt)
        name = str(meta.get("id", f"trl/{row}"))
        return Problem(name, prompt, None if answer is None else str(answer), kind, meta)

    def _opening(self, prompt: Any) -> str:
        """How the assistant's turn begins before the completion; "" if no thinking stands there."""
        if self.opened is not None:
            return self.tags.start if self.opened else ""
        if isinstance(prompt, str):
            return opened_in(prompt, self.tags)
        prefilled = bool(prompt) and prompt[-1]["role"] == "assistant"
        if self.tokenizer is None:
            return opened_in(_text(prompt[-1]), self.tags) if prefilled else ""
        messages = [{**message, "content": _text(message)} for message in prompt]
        rendered = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=not prefilled, continue_final_message=prefilled
        )
        return opened_in(rendered, self.tags)

    def _trace(self, opened: str, completion: Any, ids: Sequence[int]) -> Trace:
        if not isinstance(completion, str):
            said = [message for message in completion if message.get("role", "assistant") == "assistant"]
            thought = "\n\n".join(filter(None, map(_reasoning, said)))
            completion = "\n\n".join(filter(None, map(_text, said)))
            if thought:  # the tokenizer's response template has taken the tags away
                opened, completion = "", f"{self.tags.start}\n{thought}\n{self.tags.end}\n\n{completion}"
        found = split(opened + completion, self.tags)
        return Trace(
            found.thinking,
            found.answer,
            found.status,
            token_ids=tuple(ids),
            finish=self._finish(ids),
            opened=opened,
            completion=completion,
        )

    def _finish(self, ids: Sequence[int]) -> Finish:
        """TRL does not tell; a completion that is as long as may be and has no end of turn was cut off."""
        if not self.max_tokens or len(ids) < self.max_tokens:
            return "stop"
        end = getattr(self.tokenizer, "eos_token_id", None)
        return "stop" if end is not None and ids[-1] == end else "length"


def as_trl(
    reward: str | Callable[..., Any],
    *,
    options: Mapping[str, Option] | None = None,
    tokenizer: Any = None,
    tags: Tags | None = None,
    opened: bool | None = None,
    max_tokens: int = 0,
    answer: str = "",
    kind: str = "kind",
    default_kind: str = "number",
    name: str = "",
) -> TRLReward:
    """A reward of ours (its name, its import path, or itself) as a reward function for TRL's GRPOTrainer.

    Each row becomes a Problem: the gold answer from the column `answer` (by default "answer", or "solution" where there
    is no such column), the verifier from the column `kind` (`default_kind` where there is none), the other columns are
    its meta. The completion is split into thinking and answer by our splitter, and verified if the reward asks for it.

    Whether the prompt had opened the thinking decides about a completion without an end tag: is it cut-off thinking, or
    an answer? `opened` says so; else a prompt that is text is looked at, and one of messages is rendered by
    `tokenizer`'s chat template, since TRL gives only messages. Without `tokenizer` such a prompt counts as not opened,
    unless its last message is the assistant's. `tags` are those of the template (`<think>` without one).

    `max_tokens` is TRL's `max_completion_length`: options of that name take it, and a completion that long without an
    end of turn counts as cut off. Give `tokenizer`, or a completion that ends exactly there counts as cut off too.
    `name` is what TRL logs it by. Raises UserError, as the function that is made does.
    """
    function = find(reward) if isinstance(reward, str) else reward
    called = name or (reward if isinstance(reward, str) else getattr(reward, "__name__", type(reward).__name__))
    quiet = [known for key, known in REWARDS.items() if key not in ASK_VERDICT]
    if tags is None:
        tags = detect_tags(str(getattr(tokenizer, "chat_template", "") or "")) if tokenizer is not None else THINK
    return TRLReward(
        part(called, function, options or {}, max_tokens=max_tokens),
        tokenizer,
        tags,
        opened,
        max_tokens,
        answer,
        kind,
        default_kind,
        verified=function not in quiet and type(function) not in quiet,
    )


def _text(message: Mapping[str, Any]) -> str:
    """A message's text: content may also be a list of blocks, or missing."""
    content = message.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(str(block.get("text", "")) for block in content if isinstance(block, Mapping))


def _reasoning(message: Mapping[str, Any]) -> str:
    found = message.get("reasoning_content") or message.get("thinking")
    return found if isinstance(found, str) else ""
