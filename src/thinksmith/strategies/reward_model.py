"""A reward model from a folder: one score for a text, or one for each step of it.

Two kinds, by the architecture that the folder's config.json names. *Outcome* reward models are sequence classifiers
(`…ForSequenceClassification`): with one label the score is its logit, with two the probability of the second. *Process*
reward models are token classifiers (`…ForTokenClassification`, as TRL's PRMTrainer writes them): of each step, the
probability of the second label at its last token, the line ends behind the step. Nothing is downloaded, and no code
that comes with a model is run.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Literal

from thinksmith.errors import UserError, one_line
from thinksmith.records import Message, Problem, Trace

Steps = Literal["min", "product", "last"]
"""How the scores of steps become one."""
SEPARATOR = "\n"


class RewardModel:
    """One model in memory. Texts are scored one at a time, so no padding can change a score; any thread may ask.

    Of a text that is longer than the model's context the beginning is left out.
    """

    def __init__(self, folder: Path, process: bool) -> None:
        import transformers

        from thinksmith.policy.load import load_tokenizer

        kind = "AutoModelForTokenClassification" if process else "AutoModelForSequenceClassification"
        self.process = process
        try:
            self._tokenizer: Any = load_tokenizer(folder)
            self._model: Any = getattr(transformers, kind).from_pretrained(folder, local_files_only=True).eval()
        except (OSError, ValueError) as error:
            raise UserError(f"no reward model can be loaded from {folder}: {one_line(error)}") from None
        self._lock = threading.Lock()
        self._longest = int(getattr(self._model.config.get_text_config(), "max_position_embeddings", 0) or 1 << 20)

    def score(self, problem: Problem, trace: Trace, steps: Steps = "min") -> float:
        """One score of the trace: of its whole text, or of its steps by their least, their product or the last."""
        if not self.process:
            return self._outcome(problem, _text(trace))
        scores = self.step_scores(problem, steps_of(_text(trace)))
        if not scores:
            return 0.0
        if steps == "product":
            return prod(scores)
        return min(scores) if steps == "min" else scores[-1]

    def step_scores(self, problem: Problem, steps: Sequence[str]) -> list[float]:
        """The probability, 0..1, that each step is right, given those before. UserError for an outcome model."""
        import torch

        if not self.process:
            raise UserError("steps are scored by a process reward model (…ForTokenClassification): name one")
        ids = self._encode(_asked(self._tokenizer, problem))
        ends = []
        for step in steps:
            ids += self._encode(step + SEPARATOR)
            ends.append(len(ids) - 1)
        left_out = max(0, len(ids) - self._longest)
        with self._lock, torch.inference_mode():
            logits_TC = self._model(input_ids=torch.tensor([ids[left_out:]])).logits[0].double()
        chances = logits_TC.softmax(-1)[:, 1].tolist()
        return [chances[end - left_out] if end >= left_out else 1.0 for end in ends]

    def _outcome(self, problem: Problem, text: str) -> float:
        import torch

        ids = self._encode(_asked(self._tokenizer, problem, text))[-self._longest :]
        with self._lock, torch.inference_mode():
            logits_C = self._model(input_ids=torch.tensor([ids])).logits[0].double()
        return float(logits_C[0] if len(logits_C) == 1 else logits_C.softmax(-1)[1])

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def load_reward_model(folder: str) -> RewardModel:
    """The model of a folder; loaded once. UserError if there is none, or if it is of another kind."""
    path = Path(folder).expanduser()
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        names = " ".join(config.get("architectures") or ())
    except (OSError, ValueError, AttributeError, TypeError):
        raise UserError(f"{folder} is no model's folder: name one with a config.json, as model=FOLDER") from None
    process = "TokenClassification" in names
    if not process and "SequenceClassification" not in names:
        raise UserError(
            f"{folder} holds {names or 'no known architecture'}, and a reward model is a …ForSequenceClassification or "
            "…ForTokenClassification"
        )
    return _loaded(path.resolve(), process)


@lru_cache(maxsize=4)
def _loaded(folder: Path, process: bool) -> RewardModel:
    return RewardModel(folder, process)


def steps_of(text: str) -> list[str]:
    """The steps of a text: its paragraphs where it has several, else its lines."""
    stripped = text.strip()
    pieces = stripped.split("\n\n") if "\n\n" in stripped else stripped.split("\n")
    return [piece.strip() for piece in pieces if piece.strip()]


def _text(trace: Trace) -> str:
    """Thinking and answer, without tags: reward models do not know them."""
    return "\n\n".join(part for part in (trace.thinking.strip(), trace.answer.strip()) if part)


def _asked(tokenizer: Any, problem: Problem, text: str | None = None) -> str:
    """The conversation in the model's template, up to the assistant's text or with it; plainly where it has none."""
    messages = [dict(message) for message in problem.messages]
    if not tokenizer.chat_template:
        return problem.text + SEPARATOR + (text or "")
    said = [] if text is None else [dict(Message(role="assistant", content=text))]
    return str(tokenizer.apply_chat_template(messages + said, tokenize=False, add_generation_prompt=text is None))
