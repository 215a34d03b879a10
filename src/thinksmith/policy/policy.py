"""The model in memory: one copy of the weights that is sampled, trained and asked for log-probabilities."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from typing import Any

import torch

from thinksmith.errors import UserError
from thinksmith.policy.logprobs import LogProbs, likeliest, sequence_logprobs
from thinksmith.policy.messages import for_template
from thinksmith.policy.plain import Plain, special_words
from thinksmith.records import Message, Sampling, ToolCall
from thinksmith.thinking import Tags, detect_tags, split


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt as the model gets it. `opened`: how the assistant's turn begins, by the template and the prefill."""

    ids: tuple[int, ...]
    opened: str
    text: str


class Policy:
    """A causal language model with its tokenizer.

    There is one copy of the weights: the local engine reads `model` while training updates it. Whoever changes the
    weights calls `touch`, so that `weights_hash` is computed anew. `adapter` is what `thinksmith.policy.adapter` notes
    of the adapter that is on, beside its weights; empty where none is. `base` is the name of the model without it.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.base = name
        self.adapter = ""
        self._hash = ""
        self._touched = 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    @cached_property
    def tags(self) -> Tags:
        """The tags of the model's thinking, as its chat template writes them."""
        return detect_tags(self.tokenizer.chat_template or "")

    @cached_property
    def eos_ids(self) -> frozenset[int]:
        """The ids that end a turn, from the generation config, the config and the tokenizer."""
        found: set[int] = set()
        for ids in (
            getattr(self.model.generation_config, "eos_token_id", None),
            getattr(self.model.config, "eos_token_id", None),
            self.tokenizer.eos_token_id,
        ):
            found.update(ids if isinstance(ids, list | tuple) else [] if ids is None else [ids])
        return frozenset(found)

    @cached_property
    def sampling(self) -> Sampling:
        """How the model's makers sample it, as far as its generation_config.json says so."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        config = getattr(self.model, "generation_config", None)
        said = {name: value for name in names if (value := getattr(config, name, None)) is not None}
        return Sampling(**said)

    @cached_property
    def context_length(self) -> int:
        """The most tokens that the model takes, prompt and completion together."""
        return int(self.model.config.get_text_config().max_position_embeddings)

    @cached_property
    def vocab_size(self) -> int:
        """Rows of the embedding; ids lie below it."""
        return int(self.model.get_input_embeddings().num_embeddings)

    @cached_property
    def opens_thinking(self) -> bool:
        """Does the template open a thinking when the assistant's turn begins?"""
        try:
            opened = self.render([Message(role="user", content="?")]).opened
        except UserError:
            return False
        return bool(opened) and split(opened, self.tags).status == "truncated"

    def render(
        self, messages: Sequence[Message], prefill: str = "", *, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Rendered:
        """The prompt of a chat: the model's template with its generation prompt, then `prefill`. A prefill that begins
        with a thinking of its own takes the place of the one that the template opens. What tools gave, their
        descriptions and the arguments of calls are text, whatever stands in them (`plain.py`).

        Raises UserError if the model has no chat template or the template refuses the messages.
        """
        plain = Plain(self._special_words, messages, tools)
        text, before = self._templated(plain.messages(messages), plain.tools(tools), (True, False))
        # Some templates change earlier turns with the generation prompt; then only the end is comparable.
        turn = text[len(before) :] if text.startswith(before) else text.rsplit("\n", 2)[-1]
        at = turn.find(self.tags.start)
        opened = turn[at:] if at >= 0 else ""
        if opened and prefill.lstrip().startswith(tuple(self.tags.starts)):
            parts = split(opened, self.tags)
            if not parts.thinking and not parts.answer:
                text, opened = text[: len(text) - len(opened)], ""
        text += prefill
        return Rendered(plain.encode(text, self.encode), plain.text(opened + prefill), plain.text(text))

    def turn(self, messages: Sequence[Message], *, ended: bool) -> tuple[int, ...]:
        """The ids between what the assistant sampled and where it goes on after `messages` (of the user, the system,
        or tools): the end of its turn, unless it sampled that itself (`ended`), the messages, and the opening of its
        next turn.

        It is what the template writes behind a turn of the assistant's, so what was sampled is never written again.
        Raises UserError for a template that writes no two turns one behind the other.
        """
        plain = Plain(self._special_words, messages, ())
        said = _unsaid(messages)
        spoken: list[Message] = [Message(role="user", content="?"), Message(role="assistant", content=said)]
        (closed,) = self._templated(spoken, (), (False,))
        if messages and messages[0]["role"] == "tool":
            spoken[-1]["tool_calls"] = _calls_before(messages, said)
        (alone,) = self._templated(spoken, (), (False,))
        (whole,) = self._templated([*spoken, *plain.messages(messages)], (), (True,))
        # What stands before may depend on what follows: whether earlier thinking is shown, say.
        (_, found, end), (_, _, rest), (_, _, more) = (text.rpartition(said) for text in (closed, alone, whole))
        if not found or not more.startswith(rest):
            raise UserError(f"the chat template of {self.name} does not write one turn behind the other: send messages")
        ids = plain.encode(end + more[len(rest) :], self.encode)
        return ids[1:] if ended and ids and ids[0] in self.eos_ids else ids

    def _templated(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], prompts: Sequence[bool]
    ) -> tuple[str, ...]:
        """The chat as the template writes it, with and without a generation prompt. Raises UserError."""
        if not self.tokenizer.chat_template:
            raise UserError(
                f"model {self.name} has no chat template: send token_ids, or name an instruction-tuned model"
            )
        try:
            chat, told = for_template(messages, tools, str(self.tokenizer.chat_template))
            more: dict[str, Any] = {} if told is None else {"tools": told}
            return tuple(
                self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt, **more)
                for prompt in prompts
            )
        except Exception as error:  # a template is a program of the model's maker and may raise anything
            reason = " ".join(str(error).split())
            raise UserError(f"the chat template of {self.name} refuses these messages: {reason}") from None

    @cached_property
    def _special_words(self) -> re.Pattern[str] | None:
        return special_words(self.tokenizer)

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of `text` as it stands: nothing is put before or after it."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, special tokens included and spaces untouched."""
        if self._decoder is not None:
            return str(self._decoder.decode(ids, skip_special_tokens=False))
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    @cached_property
    def _decoder(self) -> Any:
        """What the tokenizer decodes with, where it adds nothing of its own: it would look at the type of every id."""
        from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

        kind = type(self.tokenizer)
        usual = isinstance(self.tokenizer, PreTrainedTokenizerFast) and (
            (kind.decode, kind._decode) == (PreTrainedTokenizerBase.decode, PreTrainedTokenizerFast._decode)
        )
        return self.tokenizer.backend_tokenizer if usual else None

    def logprobs(
        self,
        ids_BT: torch.Tensor,
        where_BT: torch.Tensor,
        *,
        entropy: bool = False,
        temperature: float = 1.0,
        likeliest: bool = False,
        chunk_tokens: int | None = None,
    ) -> LogProbs:
        """Log-probabilities of given sequences; see `thinksmith.policy.logprobs.sequence_logprobs`."""
        return sequence_logprobs(
            self.model,
            ids_BT,
            where_BT,
            entropy=entropy,
            temperature=temperature,
            likeliest=likeliest,
            chunk_tokens=chunk_tokens,
        )

    def scored(
        self, ids: Sequence[int], top: int = 0
    ) -> tuple[tuple[float | None, ...], tuple[tuple[tuple[int, float], ...] | None, ...]]:
        """Log-probability of each of `ids` (nats, at temperature 1) after those before it, and the `top` likeliest
        (id, log-probability) pairs there; None for the first. The model is in evaluation mode meanwhile."""
        if len(ids) < 2:
            return (None,) * len(ids), (None,) * len(ids)
        training = self.model.training
        self.model.eval()
        try:
            logprobs, best = likeliest(self.model, ids, top)
        finally:
            self.model.train(training)
        return (None, *logprobs), (None, *best)

    def touch(self) -> None:
        """The weights have changed."""
        self._hash = ""
        self._touched += 1

    @property
    def version(self) -> tuple[int, ...]:
        """Differs after every change of the weights in place, and after every `touch`."""
        # Tensors made in inference mode count no changes.
        counted = (p._version for p in self.model.parameters() if not p.is_inference())
        return (self._touched, *counted)

    def weights_hash(self) -> str:
        """sha256 (hex) over names, shapes, dtypes and bytes of the weights in use, by name. Cached until `touch`.

        Where an adapter is off, its weights are not in use: the hash is that of the model without it.
        """
        if not self._hash:
            digest = hashlib.sha256(self.adapter.encode())
            for name, tensor in sorted(self._in_use()):
                digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype};".encode())
                data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(data.numpy().data)
            self._hash = digest.hexdigest()
        return self._hash

    def _in_use(self) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in self.model.state_dict().items():
            if self.adapter:
                yield from _parts(name, tensor)
            elif ".lora_" not in name:
                yield from _parts(name.replace(".base_layer.", "."), tensor)


def _unsaid(messages: Sequence[Message]) -> str:
    """A word that stands in none of the messages."""
    said, count = repr(messages), 0
    while (word := f"saidhere{count}") in said:
        count += 1
    return word


def _calls_before(messages: Sequence[Message], said: str) -> list[ToolCall]:
    """Calls whose results the first messages are."""
    results = list(takewhile(lambda message: message["role"] == "tool", messages))
    return [
        ToolCall(
            name=result.get("name") or "tool", arguments={"said": said}, id=result.get("tool_call_id") or f"call_{at}"
        )
        for at, result in enumerate(results, 1)
    ]


def _parts(name: str, tensor: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The plain tensors that a weight is made of: of a quantised one its integers and its scales."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield name, tensor
        return
    for inner in tensor.__tensor_flatten__()[0]:
        yield from _parts(f"{name}.{inner}", getattr(tensor, inner))
