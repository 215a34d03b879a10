"""Rewards to TRL and back: real functions of TRL, and one real step of its trainer with a reward of ours."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_kit import WORDS, small_model, word_tokenizer

from thinksmith.errors import UserError
from thinksmith.records import Attempt, Message, Problem, Trace, Verdict
from thinksmith.thinking import TAGS, split
from thinksmith.training.rl.rewards import SoftOverlong, correctness, scorer
from thinksmith.training.rl.rewards.binding import bind
from thinksmith.training.rl.rewards.scorer import Part
from thinksmith.training.rl.rewards.trl import as_trl, from_trl

USER = [{"role": "user", "content": "2 + 2?"}]


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def made(completion: str, *, opened: str = "", ids: Sequence[int] = (), answer: str = "4", **meta: Any) -> Attempt:
    found = split(opened + completion)
    problem = Problem("p/1", "2 + 2?", answer, "number", meta)
    trace = Trace(found.thinking, found.answer, found.status, tuple(ids), opened=opened, completion=completion)
    return Attempt(problem, trace, Verdict("correct", 1.0))


# -- TRL's as ours -----------------------------------------------------------------------------------------------------


def test_trl_functions_by_their_import_path() -> None:
    pytest.importorskip("trl", reason="TRL is not installed")
    made_of = scorer(
        {
            "trl.rewards:think_format_reward": 1.0,
            "trl.rewards:accuracy_reward": 2.0,
            "trl.rewards:get_repetition_penalty_reward": {"weight": 1.0, "ngram_size": 2, "max_penalty": -2.0},
            "trl.rewards:get_soft_overlong_punishment": {
                "weight": 1.0, "max_completion_len": 10, "soft_punish_cache": 4,
            },
        }
    )  # fmt: skip
    attempts = [
        made("a</think>The answer is $4$.", opened="<think>\n", ids=range(8)),  # the template's tag counts
        made("The answer is $5$.", ids=[3] * 5),
    ]
    totals, parts = made_of(attempts)
    assert [list(row.values()) for row in parts] == [[1.0, 1.0, 0.0, -0.5], [0.0, 0.0, -1.5, 0.0]]
    assert totals == (2.5, -1.5)


@pytest.mark.parametrize("ids", [[], [1], [1, 1, 1, 1], [1, 2, 3, 1, 2, 3, 4], list(range(99)), [7] * 150])
def test_ours_are_worth_what_trls_are(ids: list[int]) -> None:
    """The three that are in both: the same numbers, on the same tokens."""
    rewards = pytest.importorskip("trl.rewards", reason="TRL is not installed")
    attempts = [made("The answer is $4$.", ids=ids), made("The answer is $5$.", ids=ids)]
    attempts[1] = replace(attempts[1], verdict=Verdict("wrong"))
    ours = scorer(
        {"length": 1.0, "soft_overlong": {"weight": 1.0, "soft_punish_cache": 30}, "repetition": 1.0}, max_tokens=100
    )
    theirs = [
        from_trl(rewards.get_cosine_scaled_reward(100)),
        from_trl(rewards.get_soft_overlong_punishment(100, 30)),
        from_trl(rewards.get_repetition_penalty_reward()),
    ]
    _, parts = ours(attempts)
    expected = zip(*(function(attempts) for function in theirs), strict=True)
    assert [tuple(row.values()) for row in parts] == [pytest.approx(row) for row in expected]


SEEN: dict[str, Any] = {}


def everything(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
    SEEN.clear()
    SEEN.update(columns, prompts=prompts, completions=completions, completion_ids=completion_ids)
    return [1.0] * len(prompts)


def named(completions: list[Any], level: list[int], answer: list[str], scale: float = 1.0) -> list[float]:
    return [scale * each * len(text) for each, text in zip(level, answer, strict=True)]


async def later(completions: list[Any], **columns: Any) -> list[float]:
    await asyncio.sleep(0)
    return [0.5] * len(completions)


class Later:
    async def __call__(self, completion_ids: list[Any], **columns: Any) -> list[float]:
        return await later(completion_ids)


def test_what_a_trl_function_is_given() -> None:
    messages = (Message(role="system", content="S"), Message(role="user", content="U"))
    trace = Trace("a", "b", token_ids=(1, 2), opened="<think>", completion="a</think>b")
    attempts = [
        Attempt(Problem("p/1", messages, "4", "number", {"level": 3, "answer": "own"}), trace, Verdict("wrong")),
        Attempt(
            Problem("p/2", "plain", None, "number", {"more": [1]}), Trace("", "c", completion="c"), Verdict("wrong")
        ),
    ]
    assert from_trl(everything, extra=1)(attempts) == [1.0, 1.0]
    log_extra, log_metric = SEEN.pop("log_extra"), SEEN.pop("log_metric")
    assert log_extra("column", [1]) is log_metric("name", 1.0) is None
    assert {
        "prompts": [[{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
                    [{"role": "user", "content": "plain"}]],
        "completions": [said("<think>a</think>b"), said("c")],
        "completion_ids": [[1, 2], []],
        "level": [3, None],
        "more": [None, [1]],
        "answer": ["own", None],
        "solution": ["4", None],
        "extra": 1,
    } == SEEN  # fmt: skip
    from_trl(everything, conversational=False)(attempts)
    assert SEEN["prompts"] == ["S\n\nU", "plain"]
    assert SEEN["completions"] == ["<think>a</think>b", "c"]


def test_a_function_without_kwargs_gets_what_it_names() -> None:
    attempts = [made("4", level=2), made("5", level=3)]
    assert from_trl(named)(attempts) == [2.0, 3.0]
    assert from_trl(named, scale=2.0)(attempts) == [4.0, 6.0]
    bound = bind("named", named, {"scale": 3.0})
    assert bound.how == "trl"
    assert from_trl(bound.function)(attempts) == [6.0, 9.0]
    fixed = bind("named", named, {"answer": "ab"}).function  # an option goes before a column of its name
    assert from_trl(fixed)(attempts) == from_trl(named, answer="ab")(attempts)
    with pytest.raises(UserError, match="asks for the column 'level', which no problem"):
        from_trl(named)([made("4")])
    with pytest.raises(UserError, match="reward 'named': it asks for the column 'level'"):
        Part("named", from_trl(named), False).scores([made("4")])


@pytest.mark.parametrize("function", [later, Later()])
def test_async_functions_are_awaited_with_a_loop_and_without(function: Any) -> None:
    attempts = [made("4"), made("5")]
    assert bind("later", function, {}).how == "trl"
    assert from_trl(function)(attempts) == [0.5, 0.5]

    async def notebook() -> Any:
        return from_trl(function)(attempts)

    assert asyncio.run(notebook()) == [0.5, 0.5]


def test_what_tells_a_trl_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(function: Any) -> str:
        return bind("f", function, {}).how

    assert [of(f) for f in (everything, named, lambda completion_ids: [], lambda **columns: [])] == ["trl"] * 4
    assert of(lambda x, completions=None: []) == "trl"
    assert [of(f) for f in (lambda attempt: 1.0, lambda a: 1.0, lambda a, **more: 1.0, correctness)] == ["each"] * 4
    assert of(lambda attempts: []) == "all"
    (tmp_path / "trl_style_rewards.py").write_text(
        "def plain(prompts, completions, **columns): return [len(p + c) for p, c in zip(prompts, completions)]",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = {"trl_style_rewards:plain": {"weight": 1.0, "conversational": False}}
    assert scorer(spec)([made("four")])[0] == (float(len("2 + 2?four")),)
    with pytest.raises(UserError, match="'conversational' must be bool, got 1"):
        scorer({"trl_style_rewards:plain": {"weight": 1.0, "conversational": 1}})
    with pytest.raises(UserError, match="unknown option 'prompts'"):
        scorer({"trl_style_rewards:plain": {"weight": 1.0, "prompts": 1}})


# -- ours for TRL ------------------------------------------------------------------------------------------------------


def test_messages_and_plain_text() -> None:
    reward = as_trl("correctness")
    assert reward.__name__ == "correctness"
    texts = ["<think>2 + 2</think>The answer is 4.", "<think>2 + 2</think>The answer is 5."]
    ids = [[1], [2]]
    assert reward(prompts=[USER] * 2, completions=[said(t) for t in texts], completion_ids=ids, answer=["4", 4]) == [
        1,
        0,
    ]
    assert reward(prompts=["2 + 2?"] * 2, completions=texts, completion_ids=ids, solution=["4", "4"]) == [1.0, 0.0]
    assert reward(["2 + 2?"], [texts[0]], answer=[None]) == [None]  # no gold: nothing to compare
    assert as_trl(lambda attempt: float(attempt.problem.answer is None))(["?"], ["x"], answer=[None]) == [1.0]
    assert reward([], [], []) == []
    assert pickle.loads(pickle.dumps(reward)) == reward  # TRL sends them to other processes


def test_columns_by_other_names() -> None:
    reward = as_trl("correctness", answer="gold", kind="sort", default_kind="exact", name="right")
    assert reward.__name__ == "right"
    columns = {"gold": ["yes", "4"], "answer": ["no", "no"], "sort": [None, "number"]}
    assert reward([USER] * 2, [said("yes"), said("The answer is 4.0")], None, **columns) == [1.0, 1.0]
    with pytest.raises(UserError, match="'right': no column 'gold'"):
        reward([USER], [said("yes")], None, answer=["yes"])

    def meta(attempt: Attempt) -> float:
        assert attempt.problem.meta == {"level": 2, "id": "x/7", "answer": "no"}
        assert attempt.problem.id == "x/7"
        assert attempt.trace.token_ids == (5,)
        return 0.25

    more = {"level": [2], "id": ["x/7"], "trainer_state": object(), "log_extra": print, "log_metric": print}
    assert as_trl(meta, answer="gold")([USER], [said("y")], [[5]], gold=["y"], answer=["no"], **more) == [0.25]
    assert as_trl(meta).__name__ == "meta"


def test_a_prompt_that_opened_the_thinking_counts() -> None:
    """Cut-off thinking is no answer, and closed thinking is well formed, if only the start tag stood in the prompt."""
    closed, cut = "2 + 2</think>4", "so the answer is 4"

    def found(prompt: Any, **how: Any) -> list[float | None]:
        completions = [closed, cut] if isinstance(prompt, str) else [said(closed), said(cut)]
        values = [
            as_trl(name, **how)([prompt] * 2, completions, None, answer=["4"] * 2)
            for name in ("think_format", "correctness")
        ]
        return [*values[0], *values[1]]

    opened, unopened = [1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]  # without the tag the cut-off one is an answer
    assert found("<|im_start|>assistant\n<think>\n") == opened
    assert found("2 + 2?\n<think>") == opened
    assert found("2 + 2?") == unopened
    assert found("2 + 2?", opened=True) == opened
    assert found(USER) == unopened
    assert found(USER, opened=True) == opened
    assert found(USER, tokenizer=word_tokenizer()) == opened  # its template opens <think>
    assert found(USER, tokenizer=word_tokenizer(), opened=False) == unopened
    assert found([*USER, {"role": "assistant", "content": "<think>\n"}]) == opened


def test_other_tags_and_reasoning_that_was_parsed() -> None:
    bracket = "[THINK]2 + 2[/THINK]4"
    assert as_trl("think_format")(["?"], [bracket]) == [0.0]
    assert as_trl("think_format", tags=TAGS["bracket"])(["?"], [bracket]) == [1.0]
    parsed = [{"role": "assistant", "reasoning_content": "2 + 2 = 5", "content": "4"}]
    assert as_trl("think_format", opened=True)([USER], [parsed]) == [1.0]
    assert as_trl("tag_count", opened=True)([USER], [parsed]) == [1.0]
    assert as_trl("true_equations")([USER], [parsed]) == [0.0]
    blocks = [
        {"role": "assistant", "content": [{"type": "text", "text": "2 + 2 = 4"}]},
        {"role": "tool", "content": "1 + 1 = 3"},
    ]
    assert as_trl("true_equations")([USER], [blocks]) == [1.0]
    assert as_trl("correctness")([USER], [[{"role": "assistant", "content": None}]], answer=["4"]) == [0.0]


def test_lengths_and_what_was_cut_off() -> None:
    reward = as_trl("soft_overlong", max_tokens=10, options={"soft_punish_cache": 4})
    assert reward(["?"] * 3, ["x"] * 3, [[1] * n for n in (6, 8, 10)]) == [0.0, -0.5, -1.0]
    assert as_trl(SoftOverlong, max_tokens=10)(["?"], ["x"], [[1] * 9]) == [-0.5]
    end = word_tokenizer().eos_token_id
    for tokenizer, ids, expected in (
        (None, [1] * 9, 1.0),
        (None, [1] * 10, 0.0),
        (None, [1] * 9 + [end], 0.0),
        (word_tokenizer(), [1] * 9 + [end], 1.0),
        (word_tokenizer(), [1] * 10, 0.0),
    ):
        reward = as_trl("correctness", max_tokens=10, tokenizer=tokenizer)
        assert reward(["?"], ["<think></think>The answer is 4"], [ids], answer=["4"]) == [expected]


def test_mistakes_are_told_when_it_is_made() -> None:
    with pytest.raises(UserError, match="unknown reward 'lenght'; did you mean 'length'"):
        as_trl("lenght")
    with pytest.raises(UserError, match="reward 'length': needs 0 <= shortest < max_tokens"):
        as_trl("length")


def test_there_and_back() -> None:
    """Ours for TRL, taken as one of TRL's, is what it was."""
    attempts = [made("a</think>The answer is 4.", opened="<think>"), made("The answer is 5."), made("<think>4")]
    there = as_trl("correctness")
    assert bind("there", there, {}).how == "trl"
    assert from_trl(there)(attempts) == [1.0, 0.0, 0.0]
    assert from_trl(there, conversational=False)(attempts) == [1.0, 0.0, 0.0]
    assert from_trl(as_trl("think_format"))(attempts) == [1.0, 0.0, 0.0]


def test_one_step_of_trls_trainer(tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="TRL is not installed")
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = word_tokenizer()
    rows = [{"prompt": [{"role": "user", "content": f"say {word}"}], "answer": word} for word in ("yes", "no")]
    arguments = GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=16, num_generations=8, max_completion_length=6,
        max_steps=1, logging_steps=1, report_to=[], use_cpu=True, save_strategy="no", disable_tqdm=True, bf16=False,
    )  # fmt: skip
    shared: dict[str, Any] = {"tokenizer": tokenizer, "max_tokens": 6, "default_kind": "exact"}
    kept: list[Attempt] = []

    def keep(attempt: Attempt) -> float:
        kept.append(attempt)
        return 0.0

    trainer = GRPOTrainer(
        model=small_model("Qwen2", len(WORDS)),
        reward_funcs=[as_trl("think_format", **shared), as_trl("correctness", **shared), as_trl(keep, **shared)],
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    (row,) = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(kept) == 16
    assert {attempt.problem.answer for attempt in kept} <= {"yes", "no"}
    assert all(attempt.trace.opened.strip() == "<think>" for attempt in kept)
    assert all(attempt.trace.thinking_status != "none" for attempt in kept)
    formed = [a.trace.thinking_status == "closed" and bool(a.trace.answer.strip()) for a in kept]
    assert row["rewards/think_format/mean"] == pytest.approx(sum(formed) / 16)
    assert row["rewards/correctness/mean"] == pytest.approx(sum(a.verdict.score for a in kept) / 16)
    assert 0 < sum(formed) < 16
    assert "rewards/keep/mean" in row
