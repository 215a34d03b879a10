"""The records that flow through the house: Problem, Sampling, Request, Trace, Verdict, Attempt.

Everything the program does either makes attempts or uses them, so these types are shared by every
room and depend on none. They are frozen: a record that was stored is a fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict


class ToolCall(TypedDict):
    """A call that a model asks for: the function's `name`, and its `arguments` by name (JSON)."""

    name: str
    arguments: dict[str, Any]
    id: NotRequired[str]


class Message(TypedDict):
    """One chat message. `thinking` is what an assistant thought before its `content`; whether a model is told it again
    is a question of its template, or of the endpoint's `history`. `tool_calls` are those that an assistant asked for;
    a message of role `tool` is what one of them gave, and names it by `tool_call_id` and `name`."""

    role: str
    content: str
    thinking: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


ThinkingStatus = Literal["closed", "truncated", "none"]
Finish = Literal["stop", "length", "budget", "error"]
Status = Literal["correct", "wrong", "no_answer", "truncated", "timeout", "bad_gold", "error"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to think about, and how to tell whether the answer is right.

    `id` is stable: `family/split/hash` for own families, `dataset/split/index` or a content hash else.
    `answer` is the gold answer as text; None means that it cannot be verified.
    `kind` names the verifier. `meta` must be JSON-serialisable.
    """

    id: str
    prompt: str | tuple[Message, ...]
    answer: str | None = None
    kind: str = "number"
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The prompt as chat messages; a plain text is one user message."""
        if isinstance(self.prompt, str):
            return (Message(role="user", content=self.prompt),)
        return self.prompt

    @property
    def text(self) -> str:
        """The prompt as one text, for people and for hashing."""
        return "\n\n".join(message["content"] for message in self.messages)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. Token counts are in tokens of the model that samples.

    `temperature` 0 is greedy. `top_k` 0, `top_p` 1 and `min_p` 0 are off. A request's tokens are a function
    of (`seed`, index within the request, position) alone, never of its neighbours in a batch.
    `repetition_penalty` divides the positive and multiplies the negative logits of tokens that stand in the prompt or
    came already (Keskar et al. 2019, arXiv:1909.05858); 1 is off.

    `max_tokens` bounds the completion, `max_thinking_tokens` the thinking inside it (None: no bound): then the end tag
    is forced, with the text `closing` before it. Before `min_thinking_tokens` were thought, the end tag is withheld:
    where the model draws it, `wait` is put in its place (Muennighoff et al. 2025, arXiv:2501.19393), or with `wait` ""
    it draws among the other tokens. `stop` texts and `stop_ids` end the completion. With `top_logprobs` k > 0 the k
    likeliest tokens of each position are told.
    """

    temperature: float = 0.6
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int = 0
    max_tokens: int = 1024
    max_thinking_tokens: int | None = None
    min_thinking_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    repetition_penalty: float = 1.0
    closing: str = ""
    wait: str = "Wait"
    top_logprobs: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """Ask for `n` completions of one prompt: chat `messages` (rendered by the model's template) or raw `token_ids`.

    `prefill` is text with which the assistant's turn begins, after whatever the template itself opens
    (such as `<think>`); it is part of the trace's text, not of what was sampled. `first` is the number of the first of
    its samples: sample i of a request is the same, whether it comes among n or alone.

    `tools` are descriptions of functions as OpenAI writes them (`{"type": "function", "function": {...}}`), which the
    model may call: `tool_choice` auto, none, required, or the name of the one that it must call. `schema` is a JSON
    schema that the answer fulfils, {} any JSON object; the thinking is free. An engine that cannot do so raises
    UserError. `plain`: a stream tells the text as it stands, tags and all, as answer; the trace is split as ever.
    """

    messages: tuple[Message, ...] = ()
    token_ids: tuple[int, ...] = ()
    prefill: str = ""
    n: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    first: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str = "auto"
    schema: Mapping[str, Any] | None = None
    plain: bool = False

    def __post_init__(self) -> None:
        if bool(self.messages) == bool(self.token_ids):
            raise ValueError("a Request needs either messages or token_ids")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a trace from an endpoint cost, as far as its server tells.

    `cached_tokens` of the prompt were not computed again. `first_thinking_seconds` and `first_answer_seconds` run from
    the submission to the first piece of each; None where it did not come, or came all at once. `cost` is by the price
    table, in US dollars; None without a price. `calls` were needed, those that failed and were made again included, and
    `lost_tokens` were sampled in such. `counted` tells who counted the tokens: the `server`, or an `estimate` of ours.
    `notes` are what was noticed on the way, a sentence each: a budget that the server ignored, say.
    """

    cached_tokens: int = 0
    first_thinking_seconds: float | None = None
    first_answer_seconds: float | None = None
    cost: float | None = None
    calls: int = 1
    lost_tokens: int = 0
    counted: Literal["server", "estimate"] = "server"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """What a model thought and said.

    `thinking` and `answer` are text without the tags; `thinking_status` tells whether the thinking was closed,
    cut off (`truncated`) or absent (`none`). `token_ids` are the sampled ids, in order, the end-of-turn id
    included when it was sampled; `logprobs` (natural log, same length) are of the distribution that was
    sampled from at temperature 1 and without truncation, so training can use them as they are.
    `prompt_ids` are the ids that the model was given (template and prefill included); with `token_ids` any part can be
    replayed without tokenising again. `forced` are the positions in `token_ids` of tokens that the engine put there
    (the forced end of the thinking, a `Wait`): the model did not choose them, so nothing is learnt from them.
    `top_logprobs` holds for each token the likeliest (id, log-probability) pairs, where they were asked for.
    `seconds` is wall time from submission to finish. `text` is the
    assistant's turn as text: what the template opened and the prefill (`opened`), then the completion. `usage` is there
    where an endpoint answered.
    """

    thinking: str
    answer: str
    thinking_status: ThinkingStatus = "closed"
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    thinking_tokens: int = 0
    answer_tokens: int = 0
    finish: Finish = "stop"
    model: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    seconds: float = 0.0
    prompt_tokens: int = 0
    prompt_ids: tuple[int, ...] = ()
    opened: str = ""
    completion: str = ""
    error: str = ""
    forced: tuple[int, ...] = ()
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The assistant's whole turn, tags included."""
        return self.opened + self.completion

    @property
    def tokens(self) -> int:
        """Sampled tokens."""
        return len(self.token_ids) or self.thinking_tokens + self.answer_tokens


@dataclass(frozen=True, slots=True)
class Verdict:
    """Is it right? `score` is in 0..1, `extracted` what was taken as the answer, `reason` one line for people.

    `judge` names the model whose opinion this is; empty for the verdict of a rule.
    """

    status: Status
    score: float = 0.0
    extracted: str | None = None
    reason: str = ""
    judge: str = ""

    @property
    def correct(self) -> bool:
        return self.status == "correct"


@dataclass(frozen=True, slots=True)
class Attempt:
    """Problem + trace + verdict: the one record of the house. `sample` counts the attempts at one problem in a run.

    `notes` are what its maker wants to keep of it beside (JSON): of GRPO the `step`, the `reward` and its parts.
    """

    problem: Problem
    trace: Trace
    verdict: Verdict
    sample: int = 0
    strategy: str = "single"
    notes: Mapping[str, Any] = field(default_factory=dict)
