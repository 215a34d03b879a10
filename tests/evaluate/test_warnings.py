"""Each warning comes when it must, and none comes where all is well."""

import pytest
from test_summary import attempt

from thinksmith.engines.contract import EngineInfo
from thinksmith.evaluate.cards import advice, greedy_forbidden
from thinksmith.evaluate.summary import summarise
from thinksmith.evaluate.warnings_ import warnings_of
from thinksmith.records import Attempt, Sampling, Trace, Verdict
from thinksmith.store.figures import figures_of


def warned(attempts, **more):
    return warnings_of(figures_of(attempts), summarise(attempts), **more)


def run(statuses, samples=1):
    return [attempt(n // samples, n % samples, status) for n, status in enumerate(statuses)]


WELL = ["correct", "wrong"] * 300


def test_nothing_is_said_where_all_is_well():
    assert warned(run(WELL), model="tiny", sampling={"temperature": 1.0}) == ()


def test_what_was_cut_off_could_change_the_ranking():
    (told,) = warned(run(WELL + ["truncated"] * 100 + ["no_answer"] * 50))
    assert "13.3% were cut off" in told
    assert "6.7% gave no answer" in told
    assert "the accuracy would be 60.0% and not 40.0%" in told
    # Two of six hundred are fewer than chance alone moves.
    assert warned(run(WELL + ["truncated"] * 2)) == ()


def test_too_few_problems():
    (told,) = warned(run(WELL[:40]))
    assert "With 40 problems a difference of" in told
    assert "too few to tell any" in warned(run(["correct", "wrong"]))[0]


@pytest.mark.parametrize(
    "model", ["deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "Qwen/Qwen3-8B", "ollama/qwq:32b", "r1:7b"]
)
def test_no_temperature_for_a_model_that_must_have_one(model):
    (told,) = warned(run(WELL), model=model, sampling={"temperature": 0})
    assert "endless" in told
    assert warned(run(WELL), model=model, sampling={"temperature": 0.6}) == ()


def test_the_models_own_configuration_says_so_too():
    advised = Sampling(temperature=0.7, top_p=0.9)
    assert "generation_config" in warned(run(WELL), model="mine", sampling={"temperature": 0.0}, advised=advised)[0]
    assert warned(run(WELL), model="mine", sampling={"temperature": 0.0}, advised=Sampling()) == ()
    assert greedy_forbidden("llama-3-8b") == ""


def test_loops():
    again = Trace("Wait, let me think again. " * 60, "7", thinking_tokens=300)
    attempts = [
        Attempt(a.problem, again, Verdict("wrong"), a.sample) if n % 4 == 0 else a for n, a in enumerate(run(WELL))
    ]
    assert any("repeat themselves" in each for each in warned(attempts))


def test_failures_and_what_is_left_out():
    failed = [attempt(900 + n, 0, "error", finish="error") for n in range(3)]
    broken = [attempt(950 + n, 0, status) for n, status in enumerate(["error", "bad_gold", "bad_gold"])]
    told = warned(run(WELL) + failed + broken)
    assert told == (
        "3 attempts (0.5%) failed in the engine and count as not solved.",
        "3 attempts are left out: 2 because the gold answer cannot be used, "
        "1 because the verifier or the judge failed.",
    )


@pytest.mark.parametrize(
    ("info", "settings", "source"),
    [
        (EngineInfo("r1", sampling=Sampling(temperature=0.6, top_p=0.95)), {"temperature": 0.6, "top_p": 0.95}, "own"),
        (EngineInfo("vllm/Qwen/Qwen3-8B@http://x"), {"temperature": 0.6, "top_p": 0.95, "top_k": 20}, "Qwen3"),
        (EngineInfo("deepseek/deepseek-r1"), {"temperature": 0.6, "top_p": 0.95}, "DeepSeek-R1"),
        (EngineInfo("tiny"), {}, ""),
        (EngineInfo("my/linear1"), {}, ""),
    ],
)
def test_what_the_makers_advise(info, settings, source):
    found = advice(info)
    assert dict(found.settings) == settings
    assert source in found.source
