"""Recorded attempts as an engine: each once, the same for the same request, and nothing invented."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.engines import open_engine
from thinksmith.engines.contract import Engine
from thinksmith.engines.replay import ReplayEngine
from thinksmith.errors import UserError
from thinksmith.records import Attempt, Problem, Request, Sampling, Trace, Verdict
from thinksmith.store.store import Store
from thinksmith.thinking import split


def recorded(problems: int = 3, each: int = 6) -> list[tuple[Problem, Trace]]:
    return [
        (
            Problem(f"p/{p}", f"What is {p} + 1?", str(p + 1)),
            Trace(f"thought {i}", f"{p}:{i}", thinking_tokens=20, answer_tokens=4, model="m",
                  completion=f"<think>\nthought {i}\n</think>\n\n{p}:{i}", token_ids=tuple(range(24)), seconds=2.5),
        )
        for i in range(each)
        for p in range(problems)
    ]  # fmt: skip


def ask(problem: int, n: int = 1, seed: int = 0, text: str = "What is {} + 1?", **sampling: Any) -> Request:
    content = text.format(problem)
    return Request(messages=({"role": "user", "content": content},), n=n, sampling=Sampling(seed=seed, **sampling))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 5)), max_size=12), st.integers(0, 9))
def test_each_is_given_once_and_the_same_request_gets_the_same(asked: list[tuple[int, int, int]], seed: int) -> None:
    engine = ReplayEngine(recorded(), "replay/x", seed)
    given_out: dict[tuple[int, int, int], str] = {}
    for p, n, s in asked:
        (traces,) = engine.sample_all([ask(p, n, s)])
        for number, trace in enumerate(traces):  # sample i is the same, whether it comes among n or alone
            assert given_out.setdefault((p, s, number), trace.answer) == trace.answer
            ((alone,),) = engine.sample_all([replace(ask(p, 1, s), first=number)])
            assert alone == trace
    for problem in range(3):
        answers = [answer for (p, _, _), answer in given_out.items() if p == problem and answer]
        assert len(answers) == len(set(answers)) <= 6
        assert all(answer.startswith(f"{problem}:") for answer in answers)


def test_when_all_are_given_out_it_says_so() -> None:
    engine = ReplayEngine(recorded(), "replay/x")
    assert isinstance(engine, Engine)
    (traces,) = engine.sample_all([ask(1, 8)])
    assert sorted(t.answer for t in traces[:6]) == [f"1:{i}" for i in range(6)]
    assert [t.finish for t in traces[6:]] == ["error", "error"]
    assert traces[7].error == "only 6 attempts at this problem are recorded"
    assert traces[0].seconds == 2.5


def test_the_order_is_the_seeds() -> None:
    orders = [[t.answer for t in ReplayEngine(recorded(), "r", seed).sample_all([ask(0, 6)])[0]] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_a_problem_is_found_beside_an_instruction() -> None:
    engine = ReplayEngine(recorded(), "replay/x")
    for text in ("What is {} + 1?\n\nPut it in a box.", "Answer at once. What is {} + 1?"):
        assert engine.sample_all([ask(2, text=text, seed=len(text))])[0][0].answer.startswith("2:")
    with pytest.raises(UserError, match="replay/x has no attempt at this problem: 'What is 9"):
        engine.sample_all([ask(9)])
    with pytest.raises(UserError, match="nothing can be continued"):
        engine.sample_all([Request(messages=ask(1).messages, prefill="<think>")])


def test_what_was_recorded_is_cut_and_not_changed() -> None:
    engine = ReplayEngine(recorded(), "replay/x")
    (cut,) = engine.sample_all([ask(0, max_tokens=10)])[0]
    assert (cut.finish, cut.thinking_status, cut.answer, cut.tokens) == ("length", "truncated", "", 10)
    (known,) = engine.sample_all([ask(0, max_thinking_tokens=20, seed=1)])[0]
    assert known.finish == "stop"
    (unknown,) = engine.sample_all([ask(0, max_thinking_tokens=19, seed=2)])[0]
    assert unknown.error == "it thought for 20 tokens: what it would have said after 19 is not recorded"


def test_a_stream_tells_the_same() -> None:
    async def run() -> tuple[str, Trace | None]:
        deltas = [delta async for delta in ReplayEngine(recorded(), "r").stream(ask(0))]
        return "|".join(f"{d.part}={d.text}" for d in deltas), deltas[-1].trace

    told, trace = asyncio.run(run())
    assert trace is not None
    assert told == f"thinking={trace.thinking}|answer={trace.answer}|done="


def test_a_run_of_the_store_and_a_file(own_store: Path, tmp_path: Path) -> None:
    with Store.open() as store:
        run_id = store.start_run("eval", "sums", "m")
        store.add(run_id, [Attempt(p, t, Verdict("correct"), i) for i, (p, t) in enumerate(recorded(1, 4))])
    engine = open_engine(f"replay/{run_id}")
    assert sorted(t.answer for t in engine.sample_all([ask(0, 4)])[0]) == [f"0:{i}" for i in range(4)]
    assert open_engine("replay/last?seed=3").info.name == "replay/last?seed=3"
    rows = tmp_path / "mine.jsonl"
    rows.write_text(json.dumps({"problem": "2 + 2?", "answer": "4", "responses": ["<think>easy</think>4", "5"]}) + "\n")
    engine = open_engine(f"replay/{rows}")
    traces = engine.sample_all([ask(0, 2, text="2 + 2?")])[0]
    assert {(t.thinking, t.answer) for t in traces} == {("easy", "4"), ("", "5")}
    for name, why in (
        ("replay/", "names no record"),
        ("replay/last?x=1", r"write \?seed=N"),
        ("replay/nope", "no run"),
    ):
        with pytest.raises(UserError, match=why):
            open_engine(name)


def test_the_real_recording(rows: Callable[[str], list[dict[str, Any]]], own_store: Path) -> None:
    found = rows("replay/math_cot_100.jsonl")
    data = Path(os.environ.get("THINKSMITH_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    engine = open_engine(f"replay/{data / 'replay/math_cot_100.jsonl'}")
    many = len(found[0]["responses"])
    requests = [ask(0, many, text=row["problem"].replace("{", "{{").replace("}", "}}")) for row in found[:20]]
    folder = open_engine(f"replay/{data / 'replay'}")
    assert folder.sample_all(requests[:3]) == engine.sample_all(requests[:3])
    for row, traces in zip(found, engine.sample_all(requests), strict=False):
        assert sorted(t.answer for t in traces) == sorted(split(text).answer for text in row["responses"])
