"""Collecting from endpoints that break in every way: what is kept is right, what is not is told, and it ends."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from collect_kit import Notes

from thinksmith.distill.collect import work
from thinksmith.distill.collect.collect import collect
from thinksmith.distill.collect.goal import Goal
from thinksmith.distill.collect.teachers import Teacher, opened
from thinksmith.engines.remote.engine import RemoteEngine
from thinksmith.engines.remote.names import endpoint
from thinksmith.engines.remote.wire.client import Patience
from thinksmith.engines.remote.wire.retries import Retries
from thinksmith.records import Problem, Sampling
from thinksmith.store.store import Store

SAMPLING = Sampling(temperature=1.0)


@pytest.fixture
def chaos(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    monkeypatch.setattr(work, "WAIT", 0.05)
    monkeypatch.setattr("thinksmith.distill.collect.teachers.FIRST_PAUSE", 0.1)
    import _chaos

    return _chaos


def test_servers_that_break_give_right_traces_or_none(chaos: Any, tmp_path: Path) -> None:
    random, questions = Random(1), chaos.questions(60)
    script = [random.choice(chaos.FAULTS) if random.random() < 2 / 3 else "" for _ in range(400)]
    problems = [Problem(question, question, "1") for question in questions]
    began = time.monotonic()
    with chaos.Chaos(script, hang=0.4) as bad, chaos.Chaos(script[::-1], hang=0.4) as worse:
        teachers = [
            Teacher(
                RemoteEngine(
                    endpoint(f"{kind}/m@{server.base}", {}),
                    patience=Patience(connect=2, first=0.3, between=0.3),
                    retries=Retries(attempts=2, base=0.01, cap=0.02),
                ),
                SAMPLING,
                6,
            )
            for kind, server in (("endpoint", bad), ("ollama", worse))
        ]
        with Store.open(tmp_path / "s.db") as store:
            notes = Notes()
            done = collect(problems, teachers, goal=Goal("single", 2), store=store, name="chaos", watcher=notes)
            kept = [each.attempt for each in store.attempts(done.run_id)]
    assert time.monotonic() - began < 120
    assert done.ledger.attempts == len(kept) == 120 - done.given_up
    assert len(kept) > 100
    for attempt in kept:
        if attempt.trace.finish != "error":
            assert (attempt.trace.thinking, attempt.trace.answer) == chaos.text_of(attempt.problem.id)
    assert len({attempt.trace.model for attempt in kept}) == 2
    assert sum(done.failed.values()) > 0


def test_an_endpoint_that_is_said_to_bear_many_gets_them_at_once() -> None:
    many, few = opened("endpoint/m@http://127.0.0.1:9", 500), opened("endpoint/m@http://127.0.0.1:9", 0)
    assert many.room == 500
    assert few.room < 20
    assert Teacher(many, replace(SAMPLING, seed=1), 300).room(0) == 300
