"""The embedded models are what the design says they are, and can do what their cards say."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from thinksmith import models
from thinksmith.audit.audit import audit
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.load import load_policy, load_tokenizer
from thinksmith.problems.families import FAMILIES, mixture
from thinksmith.recipes.load import load as load_recipe
from thinksmith.recipes.tiny.tools import measure
from thinksmith.records import Message, Request, Sampling, Trace
from thinksmith.strategies.single import problem_seed
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.verify import verify

PROBLEMS = 120
REASONERS = ("tiny", "tiny-base")  # of the six families; tiny-tools is measured with its tool


@pytest.fixture(scope="module", params=models.EMBEDDED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def attempts(name: str, temperature: float) -> list[tuple[bool, Trace]]:
    """One attempt at each of the same held-out problems."""
    engine = LocalEngine(load_policy(name))
    problems = mixture(PROBLEMS, split="test", seed=77)
    # Each problem has its own seed: with one for all, every first token would be drawn by the same random number.
    found = engine.sample_all(
        [
            Request(
                messages=problem.messages,
                sampling=Sampling(temperature=temperature, max_tokens=384, seed=problem_seed(5, problem.id, 0)),
            )
            for problem in problems
        ]
    )
    engine.close()
    return [(verify(problem, trace).correct, trace) for problem, (trace,) in zip(problems, found, strict=True)]


def test_the_folder_is_an_ordinary_small_qwen2(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(models.path(name))
    assert model.config.model_type == "qwen2"
    assert sum(parameter.numel() for parameter in model.parameters()) <= 3_000_000
    assert model.config.vocab_size <= 1024


def test_the_weights_are_small_enough_to_ship() -> None:
    sizes = [file.stat().st_size for name in models.EMBEDDED for file in models.path(name).glob("*.safetensors")]
    assert len(sizes) == 3
    assert sum(sizes) <= 14e6


def test_the_tokenizer_takes_any_text_and_keeps_digits_apart(name: str) -> None:
    tokenizer = load_tokenizer(models.path(name))
    for text in (
        "27 * 34 = 918",
        "Grüße, 東京 \U0001f600\n\t(−5)",
        "<think>\nWait, 1/2 < 3.\n</think>\n\nThe answer is 5.",
    ):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        tokens = [tokenizer.decode([token]) for token in ids]
        assert all(token.isdigit() is False or len(token) == 1 for token in tokens)
        assert sum(token in "0123456789" for token in tokens if token) == sum(c in "0123456789" for c in text)


def test_the_template_opens_the_thinking(name: str) -> None:
    rendered = load_policy(name).render((Message(role="user", content="What is 2 + 2?"),))
    assert rendered.opened == "<think>\n"
    assert rendered.text.endswith("<|im_start|>assistant\n<think>\n")


@pytest.mark.parametrize("name", REASONERS)
def test_scores_are_those_of_the_card(name: str) -> None:
    """A sample of problems other than the card's lands within three standard errors of what the card says."""
    card = json.loads((models.path(name) / "scores.json").read_text(encoding="utf-8"))["1.0"]["all"]
    share = sum(correct for correct, _ in attempts(name, 1.0)) / PROBLEMS
    assert abs(share - card) <= 3 * math.sqrt(max(card * (1 - card), 0.01) / PROBLEMS)


def test_the_readme_tells_what_the_cards_say() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    for name, temperature in (("tiny", "0.6"), ("tiny-base", "1.0")):
        card = json.loads((models.path(name) / "scores.json").read_text(encoding="utf-8"))[temperature]["all"]
        assert f"{100 * card:.1f} %" in readme


def test_the_card_tells_every_family() -> None:
    for name in REASONERS:
        text = (Path(models.path(name)) / "README.md").read_text(encoding="utf-8")
        assert all(f"| {family} |" in text for family in FAMILIES)


def test_tiny_reasons_truly_and_tiny_base_leaves_something_to_gain() -> None:
    card = json.loads((models.path("tiny-base") / "scores.json").read_text(encoding="utf-8"))["1.0"]["all"]
    assert 0.15 <= card <= 0.45
    finished, raw = attempts("tiny", 0.6), attempts("tiny-base", 1.0)
    equations = [equation.true for _, trace in finished for equation in audit(trace).equations]
    assert sum(equations) / len(equations) > 0.95
    assert 0.15 <= sum(correct for correct, _ in raw) / PROBLEMS <= 0.45
    assert sum(correct for correct, _ in finished) > 2 * sum(correct for correct, _ in raw)


def test_tiny_tools_calls_where_it_must_as_its_card_says() -> None:
    """Problems other than the card's, within three standard errors of what it says."""
    card = json.loads((models.path("tiny-tools") / "scores.json").read_text(encoding="utf-8"))["1.0"]
    recipe = load_recipe("tool-tiny", GRPORecipe)
    found = measure(models.path("tiny-tools"), recipe, 1.0, problems=PROBLEMS, seed=77)
    assert card["fitting"] >= 0.9
    share = found.fitting.mean
    assert abs(share - card["fitting"]) <= 3 * math.sqrt(card["fitting"] * (1 - card["fitting"]) / PROBLEMS)
    assert found.where_needed.mean > 0.9
    assert found.where_not.mean < 0.1
