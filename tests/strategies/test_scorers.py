"""Scorers and `best_of`: each score against an independent reference, and what is chosen by it."""

import asyncio
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_engine import PROBLEM, Scripted, outcome_of, said, sampling

from thinksmith.engines import open_engine
from thinksmith.engines.contract import EngineInfo
from thinksmith.engines.replay import ReplayEngine
from thinksmith.errors import UserError
from thinksmith.problems.load import load
from thinksmith.records import Problem, Request, Sampling, Trace
from thinksmith.strategies.best_of import best_of
from thinksmith.strategies.confidence import (
    group_confidence,
    mean_probability,
    self_certainty,
    token_confidence,
    trace_confidence,
)
from thinksmith.strategies.reward_model import load_reward_model, steps_of
from thinksmith.strategies.scorers import Choice, audit_score
from thinksmith.strategies.vote import vote


def scores(choice, engine, traces, problem=PROBLEM, open_engine=None):
    return asyncio.run(choice.checked("best_of", "by").at_work(engine, open_engine).of(problem, traces))


# --- confidence, from log-probabilities

DISTRIBUTIONS = st.lists(st.lists(st.floats(-4, 4), min_size=8, max_size=8), min_size=1, max_size=6)


def told(rows, k: int, forced=()):
    """A trace whose tokens had these logits over 8 tokens, with the k likeliest told."""
    logs = [np.asarray(row) - np.log(np.exp(row).sum()) for row in rows]
    top = tuple(tuple((int(at), float(each[at])) for at in np.argsort(-each)[:k]) for each in logs)
    drawn = tuple(float(each[0]) for each in logs)
    return Trace("", "a", token_ids=(0,) * len(rows), logprobs=drawn, top_logprobs=top, forced=forced), logs


@given(DISTRIBUTIONS)
def test_self_certainty_is_the_divergence_from_uniform(rows):
    trace, logs = told(rows, 8)
    divergence = [sum(1 / 8 * (math.log(1 / 8) - float(log)) for log in each) for each in logs]
    assert self_certainty(trace, 8) == pytest.approx(np.mean(divergence), abs=1e-6)


@given(DISTRIBUTIONS, st.integers(1, 7))
def test_with_fewer_tokens_told_it_is_too_small_and_never_negative(rows, k):
    trace, _ = told(rows, k)
    whole, _ = told(rows, 8)
    assert -1e-9 <= self_certainty(trace, 8) <= self_certainty(whole, 8) + 1e-9


def test_without_a_vocabulary_it_is_the_limit_of_many_tokens():
    trace, _ = told([[3.0, 1, 0, 0, 0, -1, 0, 2], [0.0] * 8], 3)
    assert self_certainty(trace) == pytest.approx(self_certainty(trace, 10**9), abs=1e-5)


@given(DISTRIBUTIONS, st.integers(1, 8))
def test_mean_probability_and_token_confidence(rows, k):
    trace, logs = told(rows, k)
    assert mean_probability(trace) == pytest.approx(math.prod(math.exp(each[0]) for each in logs) ** (1 / len(logs)))
    assert token_confidence(trace) == pytest.approx([-np.sort(each)[::-1][:k].mean() for each in logs])


@given(st.lists(st.floats(0, 9), max_size=30), st.integers(1, 40))
def test_groups_are_all_windows(values, window):
    size = min(window, len(values))
    slow = [sum(values[at : at + size]) / size for at in range(len(values) - size + 1)] if values else []
    assert group_confidence(np.asarray(values), window) == pytest.approx(slow)


def test_a_traces_confidence_is_its_lowest_group_its_tail_or_its_bottom_tenth():
    sure, unsure = [9.0, 0, 0, 0, 0, 0, 0, 0], [0.0] * 8
    trace, _ = told([sure] * 10 + [unsure] * 4 + [sure] * 10, 4)
    high, low = token_confidence(trace)[0], token_confidence(trace)[10]
    assert low < high
    assert trace_confidence(trace, "lowest", 4) == pytest.approx(low)
    assert trace_confidence(trace, "tail", 5) == pytest.approx(high)
    assert trace_confidence(trace, "bottom", 4) == pytest.approx((low + (3 * low + high) / 4) / 2)
    assert trace_confidence(trace, "lowest", 999) == pytest.approx((20 * high + 4 * low) / 24)


def test_forced_tokens_do_not_count():
    rows = [[5.0, 0, 0, 0, 0, 0, 0, 0]] * 3 + [[-5.0, 0, 0, 0, 0, 0, 0, 0]]
    trace, _ = told(rows, 8)
    forced, _ = told(rows, 8, forced=(3,))
    shorter, _ = told(rows[:3], 8)
    for rate in (mean_probability, lambda each: self_certainty(each, 8), trace_confidence):
        assert rate(forced) == pytest.approx(rate(shorter)) != pytest.approx(rate(trace))


@pytest.fixture(scope="module")
def tiny():
    engine = open_engine("tiny")
    yield engine
    asyncio.run(engine.aclose())


@pytest.mark.parametrize("by", ["confidence", "self_certainty", "lowest_group", "tail_group", "bottom_group", "audit"])
def test_every_scorer_over_a_real_engine(tiny, by):
    """The tokens are those that `single` draws, whatever is told of them beside; and the best of one is that one."""
    problem = load("chains", 1, seed=4)[0]
    asked = Sampling(temperature=1.0, seed=1, max_tokens=200)

    async def run():
        return await best_of(asked, n=4, by=by)(problem, tiny), await vote(asked, n=4)(problem, tiny)

    best, voted = asyncio.run(run())
    assert [trace.token_ids for trace in best.traces] == [trace.token_ids for trace in voted.traces]
    assert best.tokens == sum(trace.tokens for trace in best.traces)
    given_scores = [score for score in best.notes["scores"] if score is not None]
    assert best.notes["scores"][best.traces.index(best.chosen)] == max(given_scores)


# --- what is chosen


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["1", "2", None]), st.floats(-3, -0.01)), min_size=4, max_size=4))
def test_the_best_is_the_one_with_the_highest_score_that_answers(drawn):
    traces = [said(answer, logprob=logprob) for answer, logprob in drawn]
    outcome = outcome_of(best_of(sampling(), n=4), Scripted(traces))
    able = [at for at in range(4) if drawn[at][0] is not None]
    best = max(able, key=lambda at: drawn[at][1], default=0)
    assert outcome.chosen is outcome.traces[best]
    assert [score is None for score in outcome.notes["scores"]] == [answer is None for answer, _ in drawn]


def test_weighted_takes_the_class_with_the_largest_sum():
    traces = [said("1", logprob=-0.1), said("2", logprob=-0.5), said("1/1", logprob=-9.0), said("4/2", logprob=-0.6)]
    plain, weighted = (outcome_of(best_of(sampling(), n=4, weighted=each), Scripted(traces)) for each in (False, True))
    assert plain.chosen is plain.traces[0]
    assert weighted.chosen is weighted.traces[1]
    assert list(weighted.notes["votes"]) == ["2", "1"]


def test_the_verifier_is_an_oracle_and_says_so():
    outcome = outcome_of(best_of(sampling(), n=3, by="verifier"), Scripted([said("3"), said("12"), said("12.0")]))
    assert outcome.chosen is outcome.traces[1]
    assert "oracle" in outcome.why
    other = outcome_of(best_of(sampling(), n=3, by="confidence"), Scripted([said("3"), said("12"), said("12.0")]))
    assert other.chosen is other.traces[0]


def test_an_audit_prefers_true_equations_and_no_loops():
    good = Trace("3 + 4 = 7\n7 * 2 = 14", r"\boxed{14}", token_ids=(1,))
    bad = Trace("3 + 4 = 8\n8 * 2 = 16", r"\boxed{16}", token_ids=(1,))
    loop = Trace("3 + 4 = 7\n" + "So we go on and on.\n" * 60, r"\boxed{7}", token_ids=(1,))
    assert audit_score(good) == 1.0 > audit_score(bad) == 0.5
    assert audit_score(loop) < 1.0
    outcome = outcome_of(best_of(sampling(), n=3, by="audit"), Scripted([bad, loop, good]))
    assert outcome.chosen == replace(good, sampling=outcome.chosen.sampling)


# --- a judge


class Judge:
    """Says `correct` of an answer that holds 12, badly formed every now and then."""

    info = EngineInfo("judge")
    room = 9

    def __init__(self):
        self.seen = []

    async def sample(self, request: Request) -> list[Trace]:
        text = request.messages[0]["content"]
        self.seen.append(text)
        verdict = "correct" if "boxed{12}" in text else "wrong"
        return [Trace("", f"Let me see.\nVERDICT: {verdict}", "none", token_ids=(1, 2)) for _ in range(request.n)]


def test_a_judge_scores_by_its_verdicts_sees_no_gold_and_its_tokens_are_spent():
    judge, opened = Judge(), []

    def open_judge(name):
        opened.append(name)
        return judge

    problem = replace(PROBLEM, answer="GOLD-777")
    engine = Scripted([said("3"), said(None), said("12")], problem=problem)
    outcome = outcome_of(best_of(sampling(), n=3, by="judge", model="big", open=open_judge), engine)
    assert opened == ["big"]
    assert outcome.chosen is outcome.traces[2]
    assert outcome.notes["scores"] == [0.0, None, 1.0]
    assert outcome.notes["judge_tokens"] == 2 * 3 * 2  # two answers, three judgements, two tokens
    assert outcome.tokens == sum(trace.tokens for trace in outcome.traces) + 12
    assert len(judge.seen) == 2
    assert not any("GOLD-777" in text for text in judge.seen)


# --- reward models


@pytest.fixture(scope="module")
def reward_folders(tmp_path_factory, tokenizer):
    """Small random checkpoints: an outcome model with one label, one with two, and a process model."""
    found = {}
    for name, kind, labels in (
        ("one", "Qwen2ForSequenceClassification", 1),
        ("two", "Qwen2ForSequenceClassification", 2),
        ("process", "Qwen2ForTokenClassification", 2),
    ):
        config = transformers.Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=256,
            initializer_range=0.3,
            num_labels=labels,
            pad_token_id=tokenizer.pad_token_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(labels)
            model = getattr(transformers, kind)(config)
        found[name] = tmp_path_factory.mktemp(name)
        model.save_pretrained(found[name])
        tokenizer.save_pretrained(found[name])
    return found


TRACE = Trace("3 + 4 = 7.\n7 * 2 = 14.", "The answer is 14.", token_ids=(1,))
ASKED = Problem("p", "What is (3 + 4) * 2?", "14", "number")


@pytest.mark.parametrize("name", ["one", "two"])
def test_an_outcome_model_scores_the_whole_text(reward_folders, tokenizer, name):
    chat = [
        {"role": "user", "content": ASKED.prompt},
        {"role": "assistant", "content": "3 + 4 = 7.\n7 * 2 = 14.\n\nThe answer is 14."},
    ]
    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)["input_ids"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(reward_folders[name]).eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    wanted = logits[0] if name == "one" else logits.softmax(-1)[1]
    assert load_reward_model(str(reward_folders[name])).score(ASKED, TRACE) == pytest.approx(float(wanted), abs=1e-5)
    engine = Scripted([TRACE], problem=ASKED)
    assert scores(Choice("reward", str(reward_folders[name])), engine, [TRACE], ASKED) == pytest.approx(
        [float(wanted)], abs=1e-5
    )


def _by_hand(folder, tokenizer, steps):
    """The second label's probability at the line end behind each step, each from a forward pass of its own."""
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": ASKED.prompt}], tokenize=False, add_generation_prompt=True
    )
    found, ids = [], tokenizer(asked, add_special_tokens=False)["input_ids"]
    for step in steps:
        ids = ids + tokenizer(step + "\n", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            found.append(float(model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)[1]))
    return found


def test_a_process_model_scores_each_step_given_those_before(reward_folders, tokenizer):
    """A step's score does not depend on what comes after it, and depends on what came before."""
    model = load_reward_model(str(reward_folders["process"]))
    steps = ["3 + 4 = 7.", "7 * 2 = 14.", "The answer is 14."]
    all_scores = model.step_scores(ASKED, steps)
    assert all(0 < score < 1 for score in all_scores)
    for count in range(1, 4):
        assert model.step_scores(ASKED, steps[:count]) == pytest.approx(all_scores[:count], abs=1e-5)
    assert model.step_scores(ASKED, ["3 + 4 = 8.", *steps[1:]])[2] != pytest.approx(all_scores[2], abs=1e-5)
    assert all_scores == pytest.approx(_by_hand(reward_folders["process"], tokenizer, steps), abs=1e-5)
    as_steps = replace(TRACE, thinking="\n\n".join(steps[:2]), answer=steps[2])
    assert model.score(ASKED, as_steps, "min") == pytest.approx(min(all_scores))
    assert model.score(ASKED, as_steps, "product") == pytest.approx(math.prod(all_scores))
    assert model.score(ASKED, as_steps, "last") == pytest.approx(all_scores[-1])


def test_the_beginning_of_a_text_that_is_too_long_is_left_out(reward_folders):
    long = replace(TRACE, thinking="\n\n".join(f"{at} + 1 = {at + 1}." for at in range(100)))
    assert math.isfinite(load_reward_model(str(reward_folders["one"])).score(ASKED, long))
    assert math.isfinite(load_reward_model(str(reward_folders["process"])).score(ASKED, long))


def test_steps_are_paragraphs_else_lines():
    assert steps_of("a\nb\n\n\nc\n") == ["a\nb", "c"]
    assert steps_of("\na\nb\n") == ["a", "b"]
    assert steps_of(" ") == []


def test_what_is_no_reward_model_is_refused_in_one_line(tmp_path, checkpoints):
    with pytest.raises(UserError, match="is no model's folder"):
        load_reward_model(str(tmp_path / "none"))
    with pytest.raises(UserError, match="holds Qwen3ForCausalLM, and a reward model is"):
        load_reward_model(str(checkpoints["Qwen3"]))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Qwen2ForSequenceClassification"]}))
    with pytest.raises(UserError, match="no reward model can be loaded from") as error:
        load_reward_model(str(tmp_path))
    assert "\n" not in str(error.value)


# --- recorded scores


def test_recorded_scores_are_found_by_problem_and_text(tmp_path):
    file = tmp_path / "scored.jsonl"
    rows = [
        {"problem": "1 + 1", "answer": "2", "responses": [r"\boxed{2}", r"\boxed{3}"], "reward_model_scores": [0.5, 2]},
        {"problem": "2 + 2", "answer": "4", "responses": [r"\boxed{3}", r"\boxed{4}"], "reward_model_scores": [-1, 1]},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problem = Problem("x", "2 + 2", "4", "math")
    engine = SimpleNamespace(info=EngineInfo("e"))
    traces = [Trace("", r"\boxed{4}", "none"), Trace("", r"\boxed{3}", "none")]
    assert scores(Choice("recorded", file=str(file)), engine, traces, problem) == [1.0, -1.0]
    with pytest.raises(UserError, match="has no score of this trace of '2 \\+ 2'"):
        scores(Choice("recorded", file=str(file)), engine, [Trace("", r"\boxed{5}", "none")], problem)
    bare = tmp_path / "bare.jsonl"
    bare.write_text(json.dumps({"problem": "1 + 1", "answer": "2", "response": "2"}) + "\n")
    with pytest.raises(UserError, match="has no column of scores"):
        scores(Choice("recorded", file=str(bare)), engine, traces, problem)


# --- engines that do not tell


def test_without_log_probabilities_it_is_said_what_to_do():
    engine = Scripted([said("1")] * 8, logprobs=False)
    with pytest.raises(UserError, match="confidence needs log-probabilities, and scripted tells none: use a model"):
        outcome_of(best_of(sampling(), by="confidence"), engine)
    assert not engine.asked  # before anything was spent
    with pytest.raises(UserError, match="scripted does not tell the likeliest tokens"):
        outcome_of(best_of(sampling(), by="self_certainty"), Scripted([said("1")] * 8))


def test_replayed_traces_without_log_probabilities_can_still_be_audited():
    problem = Problem("p", "q", "1")
    replay = ReplayEngine([(problem, said("1")), (problem, said("2"))], "replay/x")
    outcome = asyncio.run(best_of(sampling(), n=2, by="audit")(problem, replay))
    assert outcome.notes["scores"] == [0.5, 0.5]
