"""Recipes that are refused, each in a line that says what to change; and those that are not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from training_kit import word_policy

from thinksmith import models
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy, plain_name
from thinksmith.recipes import load as recipes
from thinksmith.recipes.load import load
from thinksmith.records import Problem
from thinksmith.training.adapt import adapt, check_precision
from thinksmith.training.rl.check import check
from thinksmith.training.rl.recipe import GRPORecipe, RolloutTable
from thinksmith.training.rl.room import check_lengths
from thinksmith.training.rl.trl_names import ABSENT, RENAMED, elsewhere

PROBLEMS = [Problem("p/1", "1 + 1", "2"), Problem("p/2", "1 + 2", "3")]


class Recipe(GRPORecipe):
    names_elsewhere: ClassVar[Any] = elsewhere


def recipe_of(**tables: Any) -> GRPORecipe:
    return GRPORecipe.model_validate(tables)


def told(recipe: GRPORecipe, problems: list[Problem] = PROBLEMS, held_out: list[Problem] = PROBLEMS) -> str:
    """The one line that a recipe earns; empty for one that is let through."""
    told = ""
    try:
        check(recipe, problems, held_out)
    except UserError as error:
        told = str(error)
    assert "\n" not in told
    return told


def shipped() -> list[str]:
    """Those for models that are here; for the others see test_shipped_recipes.py."""
    names = sorted(path.stem for path in recipes.HERE.glob("*.toml"))
    return [name for name in names if load(name, GRPORecipe).model in models.EMBEDDED]


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_let_through(name: str) -> None:
    assert told(load(name, GRPORecipe)) == ""


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"rollout": {"prompts": 12}, "training": {"minibatches": 5}},
            "rollout.prompts = 12 cannot be cut into training.minibatches = 5 of equal size: set minibatches to 4 or 6",
        ),
        ({"rollout": {"prompts": 3}, "training": {"minibatches": 4}}, "set minibatches to 3"),
        (
            {"rollout": {"max_tokens": 64, "max_thinking_tokens": 64}},
            "rollout.max_thinking_tokens = 64 leaves no room for an answer in max_tokens = 64",
        ),
        ({"model": "tiny:int8"}, 'set training.tuning = "lora", or name tiny'),
        ({"model": "tiny:bfloat16:int4"}, 'set training.tuning = "lora", or name tiny'),
        (
            {"rollout": {"top_p": 0.9}, "training": {"num_iterations": 2}},
            "rollout.top_p = 0.9 with 2 updates a rollout",
        ),
        ({"rollout": {"top_k": 20}, "training": {"minibatches": 4}}, "rollout.top_k = 20 with 4 updates a rollout"),
        (
            {"rollout": {"min_p": 0.1}, "training": {"minibatches": 4, "num_iterations": 2}},
            "rollout.min_p = 0.1 with 8 updates a rollout",
        ),
        ({"training": {"loss_type": "cispo"}}, "training.epsilon_high = 0.28 would hold every ratio below 1"),
        ({"training": {"delta": 1.2}}, "training.delta = 1.2 must be above 1 + epsilon_high = 1.28"),
        ({"training": {"delta": 1.5, "epsilon_high": 0.5}}, "training.delta = 1.5 must be above"),
        (
            {"curriculum": {"lowest": 0.6, "highest": 0.6, "measure": 1}},
            "curriculum.lowest = 0.6 must be below curriculum.highest = 0.6",
        ),
        (
            {"training": {"loss_type": "gspo", "minibatches": 2}},
            "training.epsilon = 0.2 never clips in gspo",
        ),
        (
            {"rewards": {"correctness": 0.0, "length": {"weight": 0}}},
            "all weights under [rewards] are 0, so nothing would be learnt",
        ),
        ({"rollout": {"max_draws": 2.0}}, "does nothing without rollout.dynamic_sampling = true"),
        ({"curriculum": {"lowest": 0.1}}, "curriculum.lowest = 0.1 does nothing without curriculum.measure above 0"),
        ({"curriculum": {"highest": 0.9}}, "does nothing without curriculum.measure above 0"),
        ({"curriculum": {"again": 5}}, "does nothing without curriculum.measure above 0"),
        ({"training": {"kl_estimator": "k1"}}, "does nothing without training.beta above 0"),
        ({"training": {"loss_type": "cispo", "epsilon_high": 5.0, "delta": 9.0}}, "does nothing without a loss_type"),
        ({"training": {"loss_type": "cispo", "epsilon_high": 5.0, "epsilon": 0.3}}, "does nothing without a loss_type"),
        ({"training": {"decay": 3, "lr_scheduler_type": "cosine"}}, 'does nothing without lr_scheduler_type = "trap'),
        ({"lora": {"rank": 8}}, 'lora.rank = 8 does nothing without training.tuning = "lora"'),
        ({"evaluation": {"every_n": 7}}, "does nothing without evaluation.every above 0"),
        ({"rollout": {"max_tokens": 1024}}, "rollout.max_tokens = 1024 and a prompt of "),
        ({"evaluation": {"max_tokens": 1024}}, "evaluation.max_tokens = 1024 and a prompt of "),
    ],
)
def test_what_is_refused(tables: dict[str, Any], message: str) -> None:
    assert message in told(recipe_of(**tables))


@pytest.mark.parametrize(
    "tables",
    [
        {},
        {"rollout": {"top_p": 0.9, "top_k": 5, "min_p": 0.1}},
        {"rollout": {"temperature": 0.7}, "training": {"num_iterations": 2, "minibatches": 4}},
        {"training": {"loss_type": "cispo", "epsilon_high": 1.0}},
        {"training": {"delta": 1.3}},
        {"training": {"epsilon_high": 0.28, "delta": 0.0, "beta": 0.04, "kl_estimator": "k1"}},
        {"steps": 3, "training": {"warmup": 4, "decay": 6}},
        {"training": {"loss_type": "gspo"}},
        {"training": {"loss_type": "gspo", "minibatches": 2, "epsilon": 3e-4, "epsilon_high": 4e-4}},
        {"model": "tiny:int8", "training": {"tuning": "lora"}},
        {"model": "tiny:bfloat16"},
        {"curriculum": {"lowest": 0.1, "highest": 0.9, "measure": 2, "again": 9}},
        {"rollout": {"dynamic_sampling": True, "max_draws": 1.0}},
        {"rewards": {"correctness": 0.0, "length": {"weight": -1}}},
    ],
)
def test_what_is_let_through(tables: dict[str, Any]) -> None:
    assert told(recipe_of(**tables)) == ""


def test_the_room_that_is_named_is_just_enough() -> None:
    line = told(recipe_of(rollout={"max_tokens": 1024}))
    most = int(line.rpartition("set it to ")[2].split()[0])
    assert told(recipe_of(rollout={"max_tokens": most})) == ""
    assert told(recipe_of(rollout={"max_tokens": most + 1}))


def test_the_longest_prompt_decides_and_may_be_too_long_alone() -> None:
    policy = word_policy()  # 256 tokens; a prompt has its words and two of the template's
    short = [Problem(f"p/{i}", f"hm {i}", "1") for i in range(40)]
    longer = [*short, Problem("p/long", "hm " * 49 + "hm", "1"), *short]
    check_lengths(recipe_of(model="words", rollout={"max_tokens": 204}), policy, longer)
    with pytest.raises(UserError, match=r"of 52 tokens are more than the 256 of words's context: set it to 204 or"):
        check_lengths(recipe_of(model="words", rollout={"max_tokens": 205}), policy, longer)
    with pytest.raises(UserError, match=r"evaluation\.max_tokens = 205 .* 52 tokens"):
        check_lengths(recipe_of(rollout={"max_tokens": 9}, evaluation={"max_tokens": 205}), policy, PROBLEMS, longer)
    with pytest.raises(UserError, match="a prompt of 302 tokens does not fit into the 256"):
        check_lengths(recipe_of(), policy, [Problem("p/1", "hm " * 300, "1")])


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"max_position_embeddings": "many"}', '{"text_config": "?"}'])
def test_a_folder_that_does_not_say_its_context_is_left_to_loading(config: str, words: Path, tmp_path: Path) -> None:
    shutil.copytree(words, tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(config)
    assert told(recipe_of(model=str(tmp_path / "model"), rollout={"max_tokens": 5000})) == ""


def test_the_context_of_what_reads_and_writes_text(words: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(words, tmp_path / "model")
    inner = {"text_config": {"max_position_embeddings": 100}, "max_position_embeddings": 5000}
    (folder / "config.json").write_text(json.dumps(inner))
    assert "more than the 100 of" in told(recipe_of(model=str(folder), rollout={"max_tokens": 100}))
    (folder / "tokenizer.json").write_text("{")
    assert told(recipe_of(model=str(folder), rollout={"max_tokens": 100})) == ""


@pytest.mark.parametrize("model", ["no/such-model", "nowhere", "x" * 5000, "~nobody-here/model", "a/b/c", "a\0b"])
def test_a_model_that_is_not_here_is_left_to_loading(model: str) -> None:
    assert told(recipe_of(model=model, rollout={"max_tokens": 10**9})) == ""


def test_a_name_without_how_its_weights_are_held(tmp_path: Path) -> None:
    assert plain_name("tiny:int8") == plain_name("tiny:auto:int4") == plain_name("tiny") == "tiny"
    (tmp_path / "odd:int8").mkdir()
    assert plain_name(str(tmp_path / "odd:int8")) == str(tmp_path / "odd:int8")
    assert models.path(plain_name("tiny:float32")).is_dir()


def test_no_verifiable_gold() -> None:
    blind = [Problem("p/1", "?"), Problem("p/2", "?", None, "math")]
    line = told(recipe_of(), blind)
    assert line.startswith("reward 'correctness' needs gold answers, and of the 2 problems of mixed none can")
    assert "p/1: has no answer" in line
    assert told(recipe_of(), [Problem("p/1", "?", "not a number")])
    assert told(recipe_of(rewards={"think_format": 1.0}), blind) == ""
    assert "reward 'length'" in told(recipe_of(rewards={"think_format": 1.0, "length": {"weight": 0.1}}), blind)
    assert told(recipe_of(), [*blind, *PROBLEMS]) == ""
    assert told(recipe_of(), [Problem("p/2", "?", "x + 1", "math")]) == ""
    # Whether a formula can be read takes a worker, and was found when the set was loaded.
    assert told(recipe_of(), [Problem("p/2", "?", "\\frac{", "math")]) == ""


def test_kinds_that_cannot_be_verified_here() -> None:
    assert "did you mean 'number'" in told(recipe_of(), [Problem("p/1", "?", "1", "numbr")])
    assert "did you mean 'number'" in told(recipe_of(), PROBLEMS, [Problem("p/1", "?", "1", "numbr")])
    assert "kind judge need a judging model, which training has not" in told(
        recipe_of(), [Problem("p/1", "?", "1", "judge")]
    )


def unknown(tmp_path: Path, text: str, model: type[GRPORecipe] = Recipe) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load(str(path), model)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[training]\nlearning_rate = 1",
            "unknown key 'training.learning_rate'; TRL's learning_rate is training.lr here",
        ),
        (
            "max_completion_length = 1",
            "unknown key 'max_completion_length'; TRL's max_completion_length is rollout.max_",
        ),
        ("[training]\nuse_vllm = true", "; there is no use_vllm here: the local engine samples"),
        ("vllm_mode = 1", "; there is no vllm_mode here: the local engine samples"),
        ("[training]\nnum_generations = 8", "; did you mean 'rollout.num_generations'?"),
        ("temperature = 1.0", "; did you mean 'rollout.temperature'?"),
        ("[training]\nsteps = 8", "; did you mean 'steps'?"),
        ("[rollout]\ntemprature = 1.0", "; did you mean 'temperature'?"),
        ("[rollout]\nqqqq = 1.0", "; known keys are prompts, num_generations"),
    ],
)
def test_what_other_programs_call_it(text: str, message: str, tmp_path: Path) -> None:
    assert message in unknown(tmp_path, text)


def test_a_model_without_other_names_has_none(tmp_path: Path) -> None:
    class Plain(GRPORecipe):
        names_elsewhere: ClassVar[Any] = staticmethod(lambda name: None)

    assert "TRL" not in unknown(tmp_path, "[training]\nlearning_rate = 1", Plain)


def test_what_a_key_says_of_itself_follows_the_complaint(tmp_path: Path) -> None:
    class Table(RolloutTable):
        num_generations: int = Field(default=4, ge=2, description="a group of one has nothing to be compared with")

    class WithReason(GRPORecipe):
        rollout: Table = Table()

    line = unknown(tmp_path, "[rollout]\nnum_generations = 1", WithReason)
    assert line.endswith("equal to 2, got 1: a group of one has nothing to be compared with")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[rewards]\ncorrectness = "much"', ": rewards.correctness: Input should be a valid number, got 'much'"),
        ("[rewards]\nlength = {weight = [1]}\n[rollout]\nprompts = 0", "(and 1 more)"),
        ('track = ["wandb", 3]', ": track"),
    ],
)
def test_a_value_of_no_allowed_type_is_told_by_its_key(text: str, message: str, tmp_path: Path) -> None:
    line = unknown(tmp_path, text)
    assert message in line
    assert "float:" not in line


def keys() -> set[str]:
    """Every key of a recipe, dotted."""
    fields = GRPORecipe.model_fields
    tables = {name: field.annotation for name, field in fields.items() if hasattr(field.annotation, "model_fields")}
    return set(fields) | {f"{table}.{key}" for table, model in tables.items() for key in model.model_fields}


def test_names_lead_to_keys_that_there_are() -> None:
    first = {here.split()[0].rstrip(":,;") for here in RENAMED.values()}
    assert {word for word in first if "." in word} <= keys()
    assert not (set(RENAMED) | set(ABSENT)) & {key.rpartition(".")[2] for key in keys()}
    assert all("\n" not in (elsewhere(name) or "\n") for name in (*RENAMED, *ABSENT))


def test_every_option_of_trls_grpo_is_answered() -> None:
    trl = pytest.importorskip("trl")
    from transformers import TrainingArguments

    own = {field.name for field in dataclasses.fields(trl.GRPOConfig)} - {
        field.name for field in dataclasses.fields(TrainingArguments)
    }
    same = {key.rpartition(".")[2] for key in keys()}
    unanswered = {name for name in own if name not in same and elsewhere(name) is None}
    rare = {"router_aux_loss_coef", "ds3_gather_for_generation", "pad_to_multiple_of", "cache_implementation"}
    assert unanswered <= rare | {
        "max_tool_calling_iterations", "off_policy_mask_threshold", "use_bias_correction_kl", "log_multimodal",
    }  # fmt: skip


@given(st.text(max_size=20))
def test_no_other_name_is_taken_for_trls(name: str) -> None:
    answer = elsewhere(name)
    assert answer is None or name in answer


@pytest.mark.parametrize(("name", "tuning", "lr", "told"), [
    ("tiny-base:bfloat16", "full", 1e-6, "name tiny-base:float32, or set training.tuning"),
    ("tiny-base:bfloat16", "full", 1e-3, ""),
    ("tiny-base:bfloat16", "lora", 1e-6, ""),
    ("tiny-base", "full", 1e-6, ""),
])  # fmt: skip
def test_steps_that_would_be_lost_in_rounding(name: str, tuning: str, lr: float, told: str) -> None:
    recipe = recipe_of(model=name, training={"tuning": tuning, "lr": lr})
    policy = load_policy(name)
    adapt(policy, recipe)
    try:
        check_precision(recipe, policy)
        said = ""
    except UserError as error:
        said = str(error)
    assert (told in said) if told else said == ""
