"""What a student learns is what it reads and writes at inference: id for id, by the engine's own records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from thinksmith.distill.examples import ELSE, EMPTY, ENDS_INSIDE, UNFINISHED, examples_of, set_thinking, turn_of
from thinksmith.distill.sample import Sample
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.problems.load import load
from thinksmith.records import Attempt, Message, Request, Sampling, Verdict
from thinksmith.thinking import CHANNEL, split

QUESTION = (Message(role="user", content="How much is 12 + 7?"),)
SAMPLE = Sample("p/1", QUESTION, "12 + 7 = 19.\nCheck: 19 - 7 = 12.", "The answer is 19.")

QWEN = (  # what Qwen's template does: thinking is left out of earlier turns, and the model opens it itself
    "{%- for message in messages -%}"
    "{%- set content = message.content -%}"
    "{%- if message.role == 'assistant' and '</think>' in content -%}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
R1 = (  # DeepSeek's: no line break after the tag, and another mark of the end
    "{{- '<|im_start|>' -}}{%- for message in messages -%}{%- if message['role'] == 'user' -%}"
    "{{- '<|User|>' + message['content'] -}}{%- endif -%}{%- if message['role'] == 'assistant' -%}"
    "{%- set content = message['content'] -%}{%- if '</think>' in content -%}"
    "{%- set content = content.split('</think>')[-1] -%}{%- endif -%}"
    "{{- '<|Assistant|>' + content + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|Assistant|><think>' -}}{%- endif -%}"
)
PLAIN = (
    "{%- for message in messages -%}{{ message.role + ': ' + message.content + '\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'assistant: ' }}{%- endif -%}"
)


@pytest.fixture
def policy() -> Policy:
    return load_policy("tiny")


def with_template(policy: Policy, template: str) -> Policy:
    """The same model under another template."""
    tokenizer = policy.tokenizer
    tokenizer.chat_template = template
    return Policy(policy.model, tokenizer, "other")


def learnt(policy: Policy, *samples: Sample, max_length: int = 0) -> Any:
    return examples_of(samples, policy, turn_of(policy), max_length)


def test_what_tiny_sampled_is_what_is_learnt(policy: Policy) -> None:
    """Traces of the engine, through their text alone, come back as the ids that were read and sampled."""
    engine = LocalEngine(policy)
    asked = load("mixed", 24, split="test", seed=5)
    requests = [
        Request(messages=each.messages, sampling=Sampling(temperature=0.7, seed=i)) for i, each in enumerate(asked)
    ]
    traces = [found[0] for found in engine.sample_all(requests)]
    engine.close()
    whole = [(problem, trace) for problem, trace in zip(asked, traces, strict=True) if trace.finish == "stop"]
    assert len(whole) >= 20
    made = learnt(policy, *(Sample.of(Attempt(problem, trace, Verdict("correct"))) for problem, trace in whole))
    assert [example.prompt_ids for example in made.examples] == [trace.prompt_ids for _, trace in whole]
    same = [example.completion_ids == trace.token_ids for example, (_, trace) in zip(made.examples, whole, strict=True)]
    # A model may write other line breaks than usual, and then it is the usual ones that are learnt.
    assert sum(same) >= 0.9 * len(same)
    assert all(policy.decode(example.completion_ids).endswith("<|im_end|>") for example in made.examples)


@pytest.mark.parametrize("template", [None, QWEN, R1, PLAIN, CHANNEL])
def test_the_engine_would_read_back_the_sample(policy: Policy, template: Any) -> None:
    """For templates that open the thinking, that leave it to the model, that strip it, and with other tags."""
    if template is CHANNEL:
        policy = with_template(policy, QWEN.replace("assistant\\n", "assistant<|channel|>analysis<|message|>"))
    elif template is not None:
        policy = with_template(policy, template)
    for thinking in ("template", "prefilled"):
        set_thinking(policy, thinking)  # type: ignore[arg-type]
        turn = turn_of(policy)
        for sample in (SAMPLE, replace(SAMPLE, thinking="")):
            (example,) = examples_of([sample], policy, turn).examples
            prompt = policy.render(sample.messages)
            assert example.prompt_ids == prompt.ids
            assert policy.eos_ids & {*example.completion_ids} == {example.completion_ids[-1]}
            text = policy.decode(example.completion_ids[:-1])
            found = split(text, turn.tags, opened=turn.opens)
            assert (found.thinking, found.answer) == (sample.thinking, sample.answer)
            assert example.completion_ids[:-1] == policy.encode(text)


def test_a_template_that_strips_the_thinking_is_noticed(policy: Policy) -> None:
    assert not turn_of(policy).strips
    for template in (QWEN, R1):
        turn = turn_of(with_template(policy, template))
        assert turn.strips
        assert any("strips the thinking" in note for note in turn.notes)
        (example,) = examples_of([SAMPLE], with_template(policy, template), turn).examples
        assert "Check: 19 - 7" in policy.decode(example.completion_ids)


def test_thinking_is_prefilled_where_the_template_does_not(policy: Policy, tmp_path: Path) -> None:
    """The changed template is the saved model's too, so it is sampled as it was trained."""
    other = with_template(policy, QWEN)
    before = other.render(QUESTION)
    assert not turn_of(other).opens
    set_thinking(other, "prefilled")
    after = other.render(QUESTION)
    assert after.text == before.text + "<think>\n"
    assert after.opened == "<think>\n"
    assert turn_of(other).opens
    other.tokenizer.save_pretrained(tmp_path)
    policy.model.save_pretrained(tmp_path)
    assert load_policy(str(tmp_path)).render(QUESTION).ids == after.ids


@pytest.mark.parametrize("template", [None, R1])
def test_thinking_is_left_to_the_model_where_that_is_asked(policy: Policy, template: str | None) -> None:
    other = policy if template is None else with_template(policy, template)
    before = other.render(QUESTION)
    set_thinking(other, "learnt")
    after = other.render(QUESTION)
    assert before.text == after.text + before.opened
    (example,) = learnt(other, SAMPLE).examples
    assert policy.decode(example.completion_ids).startswith("<think>\n12 + 7")
    set_thinking(other, "learnt")  # again: nothing
    assert other.render(QUESTION) == after


def test_a_template_that_cannot_be_changed_is_told_and_left(policy: Policy) -> None:
    hidden = "{% set tag = '<th' + 'ink>' %}" + PLAIN.replace("'assistant: '", "'assistant: ' + tag")
    other = with_template(policy, hidden)
    assert turn_of(other).opens
    with pytest.raises(UserError, match='thinking = "template"'):
        set_thinking(other, "learnt")
    assert other.tokenizer.chat_template == hidden


def test_a_template_that_closes_the_thinking_is_refused(policy: Policy) -> None:
    other = with_template(policy, QWEN.replace("assistant\\n", "assistant\\n<think>\\n\\n</think>\\n\\n"))
    with pytest.raises(UserError, match="closes the thinking before it begins"):
        turn_of(other)


def test_the_end_of_a_turn_is_where_the_engine_stops(policy: Policy) -> None:
    (end,) = policy.encode("<|im_end|>")
    assert turn_of(policy).end_id == end
    policy.__dict__["eos_ids"] = frozenset(policy.encode("<|endoftext|>"))
    turn = turn_of(policy)
    assert policy.decode([turn.end_id]) == "<|endoftext|>"
    assert any("at which generation does not stop" in note for note in turn.notes)
    policy.__dict__["eos_ids"] = frozenset()
    with pytest.raises(UserError, match="would never end"):
        turn_of(policy)


def test_tags_that_are_no_tokens_are_plain_text_and_that_is_said(policy: Policy) -> None:
    assert len(policy.encode("<think>")) > 1 or not any("plain text" in note for note in turn_of(policy).notes)
    other = with_template(policy, PLAIN.replace("'assistant: '", "'assistant: [THINK]'"))
    notes = turn_of(other).notes
    assert len(policy.encode("[THINK]")) > 1
    assert any("[THINK] and [/THINK] are no tokens" in note for note in notes)


def test_a_tokenizer_that_cannot_write_the_tags_is_refused(policy: Policy) -> None:
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(("?", "<|im_end|>", "<think>", "</think>"))}, "?"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?", eos_token="<|im_end|>")
    tokenizer.chat_template = "{{ messages[0].content }}{% if add_generation_prompt %} <think> {% endif %}"
    assert turn_of(Policy(policy.model, tokenizer, "words")).opens
    tokenizer.chat_template = tokenizer.chat_template.replace("<think>", "[THINK]")
    with pytest.raises(UserError, match=r"cannot write '\[THINK\]'"):
        turn_of(Policy(policy.model, tokenizer, "words"))


def test_what_cannot_be_learnt_is_counted_and_never_cut(policy: Policy) -> None:
    samples = [
        SAMPLE,
        replace(SAMPLE, finish="length"),
        replace(SAMPLE, answer="  "),
        replace(SAMPLE, thinking="So I say <|im_end|> and go on."),
        replace(SAMPLE, thinking="First.\n</think>\nThen more."),
        replace(SAMPLE, thinking="again and again " * 40),
        replace(SAMPLE, messages=(Message(role="user", content=None),)),  # type: ignore[typeddict-item]
    ]
    made = learnt(policy, *samples, max_length=120)
    assert made.samples == [SAMPLE]
    assert dict(made.dropped) == {
        UNFINISHED: 1,
        EMPTY: 1,
        ENDS_INSIDE: 1,
        ELSE: 1,
        "longer than 120 tokens": 1,
        "its messages are refused by the chat template": 1,
    }
    assert len(learnt(policy, samples[5]).examples) == 1  # it fits into the model's context


texts = st.text(st.sampled_from("ab 1+=.\n\t<>/think`\"'"), max_size=60)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts, texts)
def test_whatever_is_learnt_is_read_back(policy: Policy, thinking: str, answer: str) -> None:
    """A text is either dropped, or the engine's splitter finds the same thinking and answer in its ids."""
    sample = replace(SAMPLE, thinking=thinking, answer=answer)
    made = learnt(policy, sample)
    assert len(made.examples) + sum(made.dropped.values()) == 1
    for example in made.examples:
        found = split(policy.decode(example.completion_ids[:-1]), policy.tags, opened=True)
        assert (found.thinking.strip(), found.answer.strip()) == (thinking.strip(), answer.strip())
