"""SFT over trajectories: the assistant's turns are learnt, what tools and users said is read."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from thinksmith.agent.contract import Observation, Step
from thinksmith.agent.idstalk import IdsTalk
from thinksmith.agent.trajectory import joined
from thinksmith.distill.examples import ENDS_INSIDE, REFUSED, examples_of, turn_of
from thinksmith.distill.formats import read_set, write_samples
from thinksmith.distill.learn import sft
from thinksmith.distill.sample import Sample
from thinksmith.distill.trajectories import OTHER_IDS
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.records import Attempt, Message, Problem, Sampling, ToolCall, Verdict
from thinksmith.training.batches import Example
from thinksmith.training.supervised.recipe import SFTRecipe

CALL = ToolCall(name="calculator", arguments={"expression": "4821 * 917"}, id="call_0_0")
ROW: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "What is 4821 * 917?"},
        {"role": "assistant", "content": "", "reasoning_content": "Too big.", "tool_calls": [
            {"id": "call_0_0", "type": "function",
             "function": {"name": "calculator", "arguments": '{"expression": "4821 * 917"}'}},
        ]},
        {"role": "tool", "content": "4420857 <|im_end|>", "tool_call_id": "call_0_0"},
        {"role": "user", "content": "Are you sure?"},
        {"role": "assistant", "content": "The answer is 4420857.", "reasoning_content": "It gave that."},
    ]
}  # fmt: skip


@cache
def tiny() -> Policy:
    return load_policy("tiny", dtype="float32")


@cache
def attempt() -> Attempt:
    """A trajectory of two turns as the store keeps it."""
    engine = LocalEngine(tiny())
    problem = Problem("p/1", "What is 12 * 7?", "84")
    talk = IdsTalk(engine)
    talk.hear(problem.messages)
    steps = []
    for number in range(2):
        request = talk.request(Sampling(temperature=0.0, max_tokens=256), (), "auto")
        (trace,) = asyncio.run(engine.sample(request))
        steps.append(Step(number, "act", trace, (Observation(CALL, "84"),)))
        talk.say(trace, Message(role="assistant", content=trace.answer))
        talk.hear([Message(role="tool", content="84")])
    engine.close()
    return Attempt(problem, joined(steps, tiny().decode), Verdict("correct", 1.0), notes={"steps": 2, "calls": 1})


def made(sample: Sample, policy: Policy | None = None) -> Example | dict[str, int]:
    policy = policy or tiny()
    found = examples_of([sample], policy, turn_of(policy))
    return found.examples[0] if found.examples else dict(found.dropped)


def learnt(example: Example, policy: Policy) -> str:
    return policy.decode([each for at, each in enumerate(example.completion_ids) if at not in set(example.given)])


def read(example: Example, policy: Policy) -> str:
    return policy.decode([example.completion_ids[at] for at in example.given])


def sample_of(row: dict[str, Any], folder: Path) -> Sample:
    path = folder / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (found,) = read_set(path)
    return found


def test_a_stored_trajectory_is_learnt_by_its_ids() -> None:
    trace = attempt().trace
    example = made(Sample.of(attempt()))
    assert example == Example(trace.prompt_ids, trace.token_ids, trace.forced)
    assert trace.forced


def test_a_set_that_was_written_and_read_again_keeps_the_ids(tmp_path: Path) -> None:
    write_samples([Sample.of(attempt())], tmp_path / "set.jsonl")
    (sample,) = read_set(tmp_path / "set.jsonl")
    assert made(sample) == made(Sample.of(attempt()))


def test_the_ids_of_another_tokenizer_are_not_learnt(checkpoints: dict[str, Path]) -> None:
    other = load_policy(str(checkpoints["Qwen2"]), device="cpu")
    assert made(Sample.of(attempt()), other) == {OTHER_IDS: 1}


def test_single_answers_are_learnt_as_ever() -> None:
    plain = replace(attempt(), notes={})
    assert "trajectory" not in Sample.of(plain).meta


def test_of_a_conversation_with_tools_all_of_the_assistants_turns_are_learnt(tmp_path: Path) -> None:
    policy = tiny()
    example = made(sample_of(ROW, tmp_path))
    assert isinstance(example, Example)
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "4821 * 917"}}\n</tool_call>'
    assert learnt(example, policy) == (
        f"Too big.\n</think>\n\n{call}<|im_end|>It gave that.\n</think>\n\nThe answer is 4420857.<|im_end|>"
    )
    assert read(example, policy) == (
        "\n<|im_start|>user\n<tool_response>\n4420857 <|im_end|>\n</tool_response><|im_end|>\n"
        "<|im_start|>user\nAre you sure?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    )
    assert example.prompt_ids == policy.render([Message(role="user", content="What is 4821 * 917?")]).ids
    end = policy.encode("<|im_end|>")[0]
    ends = [at for at, number in enumerate(example.completion_ids) if number == end]
    assert len(ends) == 4  # two that are learnt, two of turns that are read: what the tool wrote is no end
    assert [at in example.given for at in ends] == [False, True, True, False]


def test_a_turn_that_cannot_be_is_dropped_with_its_reason(tmp_path: Path) -> None:
    spoilt = json.loads(json.dumps(ROW))
    spoilt["messages"][1]["content"] = "<|im_end|>"
    assert made(sample_of(spoilt, tmp_path)) == {ENDS_INSIDE: 1}
    spoilt["messages"][1]["tool_calls"][0]["function"]["arguments"] = "{"
    with pytest.raises(UserError, match="call without a name"):
        sample_of(spoilt, tmp_path)
    policy = load_policy("tiny")
    refuses = "{%- if 'response' in message['content'] -%}{{ raise_exception('no tools') }}{%- endif -%}"
    loop = "{%- for message in messages -%}"
    policy.tokenizer.chat_template = policy.tokenizer.chat_template.replace(loop, loop + refuses)
    assert made(sample_of(ROW, tmp_path), policy) == {REFUSED: 1}


class Silent:
    def note(self, text: str) -> None: ...

    def training(self, steps: int) -> None: ...

    def step(self, metrics: Any) -> None: ...

    def alarm(self, alarm: Any) -> None: ...


@pytest.mark.parametrize("form", ["rows", "attempts"])
def test_sft_learns_them(form: str, tmp_path: Path) -> None:
    """A few steps on one trajectory: its loss falls."""
    path = tmp_path / "data.jsonl"
    if form == "rows":
        lines = [json.dumps(ROW | {"id": f"row/{number}"}) for number in range(4)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        write_samples([replace(Sample.of(attempt()), id=f"p/{number}") for number in range(4)], path)
    recipe = SFTRecipe.model_validate(
        {
            "model": "tiny",
            "data": str(path),
            "steps": 8,
            "batch": {"samples": 3},
            "training": {"lr": 1e-3},
            "evaluation": {"held_out": 0.25},
        }
    )
    found = sft(recipe, tmp_path / "run", Silent())
    assert found.samples == 3
    assert found.trained.after["held_out_loss"] < found.trained.before["held_out_loss"] / 2
