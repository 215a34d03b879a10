"""Nothing is sampled twice, nothing is lost, and what was sampled for one strategy serves another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from thinksmith.engines.contract import Engine, EngineInfo
from thinksmith.errors import UserError
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.evaluate.kept import Draws, fingerprint
from thinksmith.records import Attempt, Problem, Request, Sampling, Trace
from thinksmith.store.attempts import canonical, digest
from thinksmith.store.store import Store
from thinksmith.strategies.draws import draw

PROBLEMS = [Problem(f"sum/{a}", f"{a} + 1", str(a + 1)) for a in range(12)]
SAMPLING = Sampling(temperature=1.0, seed=5, max_tokens=64)


class Dice:
    """Answers by the request's seed alone, right two times in three; counts what it is asked. Dies after `lives`."""

    def __init__(self, name: str = "dice", weights: str = "w1", lives: int = 10**9) -> None:
        self.info = EngineInfo(name, weights_hash=weights, logprobs=True, token_ids=True, budget=True, prefill=True)
        self.asked, self.lives, self.room = 0, lives, 64

    async def sample(self, request: Request) -> list[Trace]:
        await asyncio.sleep(0)
        if self.asked + request.n > self.lives:
            raise ConnectionError("gone")
        self.asked += request.n
        return [self._trace(request, request.first + at) for at in range(request.n)]

    def _trace(self, request: Request, index: int) -> Trace:
        dice = hash((request.sampling.seed, index)) % 3
        gold = int(request.messages[-1]["content"].split()[0]) + 1
        said = gold if dice else gold + 1
        ids = (dice, index, 7)
        return Trace("…", f"The answer is {said}.", "closed", ids, (-0.5,) * 3, 1, 2, sampling=request.sampling)

    async def aclose(self) -> None:
        self.lives = 0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store.db") as opened:
        yield opened


def run(store: Store, engine: Engine, **options: object) -> str:
    return evaluate(PROBLEMS, engine, sampling=SAMPLING, store=store, name="sums", **options)[0]  # type: ignore[arg-type]


def traces(store: Store, run_id: str) -> dict[tuple[str, int], Attempt]:
    return {(each.attempt.problem.id, each.attempt.sample): each.attempt for each in store.attempts(run_id)}


def test_a_strategy_looks_at_what_another_has_drawn(store: Store) -> None:
    singles = run(store, Dice(), samples=8)
    engine = Dice()
    voted = traces(store, run(store, engine, strategy="vote@8"))
    assert engine.asked == 0
    for (problem, _), attempt in voted.items():
        mine = [traces(store, singles)[problem, sample].trace.answer for sample in range(8)]
        assert attempt.trace.answer == max(mine, key=mine.count)
        assert attempt.notes["spent"] == 8 * 3
        assert attempt.notes["traces"] == 8


def test_the_other_way_round_too(store: Store) -> None:
    run(store, Dice(), strategy="vote@4")
    engine = Dice()
    singles = run(store, engine, samples=5)
    assert engine.asked == len(PROBLEMS)  # the fifth of each
    alone = Store.open(Path(store.where).with_name("other.db"))
    assert traces(store, singles) == traces(alone, run(alone, Dice(), samples=5))


@pytest.mark.parametrize(
    "other",
    [
        {"engine": Dice(weights="w2")},
        {"engine": Dice(name="other")},
        {"engine": Dice(weights="")},
        {"engine": Dice(), "fresh": True},
    ],
)
def test_other_weights_or_fresh_ones_are_asked_themselves(store: Store, other: dict[str, object]) -> None:
    run(store, Dice(), samples=2)
    run(store, Dice(weights=""), samples=2)
    run(store, strategy="vote@2", **other)  # type: ignore[arg-type]
    assert other["engine"].asked == 2 * len(PROBLEMS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("weights", ["w1", ""])
def test_an_evaluation_that_broke_asks_for_the_rest_alone(store: Store, weights: str) -> None:
    broken = Dice(weights=weights, lives=30)
    with pytest.raises(UserError, match="gone"):
        run(store, broken, strategy="vote@5")
    assert broken.asked == 30
    engine = Dice(weights=weights)
    ended = run(store, engine, strategy="vote@5")
    assert engine.asked == 5 * len(PROBLEMS) - 30
    alone = Store.open(Path(store.where).with_name("other.db"))
    assert traces(store, ended) == traces(alone, run(alone, Dice(weights=weights), strategy="vote@5"))
    (draws,) = (each for each in store.runs() if each.kind == "draws")
    assert (draws.attempts, draws.status) == (5 * len(PROBLEMS), "done")


def test_another_problem_of_that_name_is_another_problem(store: Store) -> None:
    run(store, Dice())
    engine = Dice()
    changed = [replace(problem, answer="0") for problem in PROBLEMS]
    evaluate(changed, engine, sampling=SAMPLING, store=store, name="sums")
    assert engine.asked == len(PROBLEMS)


def test_failures_are_not_kept(store: Store) -> None:
    class Moody(Dice):
        def _trace(self, request: Request, index: int) -> Trace:
            made = super()._trace(request, index)
            return made if self.asked > 6 else replace(made, finish="error", error="moody")

    engine = Moody()

    async def ask() -> list[Trace]:
        draws = Draws(store, engine, "x", {})
        with draws.at(PROBLEMS[0]) as at_work:
            await draw(PROBLEMS[0], at_work, SAMPLING, range(6))
            found = await draw(PROBLEMS[0], at_work, SAMPLING, range(6))
        draws.close(finished=True)
        return found

    assert {trace.finish for trace in asyncio.run(ask())} == {"stop"}
    assert engine.asked == 12


def test_the_fingerprint_is_of_all_that_decides_the_tokens() -> None:
    request = Request(messages=PROBLEMS[0].messages, sampling=SAMPLING)
    tool = {"type": "function", "function": {"name": "f"}}
    others = [
        replace(request, prefill="So"),
        replace(request, messages=(), token_ids=(1, 2)),
        replace(request, messages=PROBLEMS[1].messages),
        replace(request, schema={}),
        replace(request, schema={"type": "object"}),
        replace(request, tools=(tool,)),
        replace(request, tools=(tool,), tool_choice="f"),
        *(
            replace(request, sampling=replace(SAMPLING, **{field: value}))
            for field, value in {"seed": 6, "temperature": 0.5, "max_tokens": 9, "stop": ("x",), "wait": "Hm"}.items()
        ),
    ]
    assert len({fingerprint(each) for each in [request, *others]}) == 1 + len(others)
    assert fingerprint(replace(request, n=3, first=2)) == fingerprint(request)
    plain = {"messages": request.messages, "ids": (), "prefill": "", "sampling": asdict(SAMPLING)}
    assert fingerprint(request) == digest(canonical(plain))[:32]  # as it was before there were tools


def test_a_sample_by_its_number_is_found_among_those_that_came_together(store: Store) -> None:
    engine = Dice()

    async def ask() -> list[tuple[int, ...]]:
        draws = Draws(store, engine, "x", {})
        request = Request(messages=PROBLEMS[0].messages, sampling=SAMPLING)
        with draws.at(PROBLEMS[0]) as at_work:
            together = await at_work.sample(replace(request, n=3))
            alone = [(await at_work.sample(replace(request, first=at)))[0] for at in range(5)]
        draws.close(finished=True)
        assert [trace.token_ids for trace in alone[:3]] == [trace.token_ids for trace in together]
        return [trace.token_ids for trace in alone]

    assert len({ids[1] for ids in asyncio.run(ask())}) == 5
    assert engine.asked == 5


def test_a_store_that_fails_ends_the_evaluation(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(run_id: str, attempts: object) -> list[int]:
        raise UserError("the disk is full")

    monkeypatch.setattr(store, "add", full)
    many = [Problem(f"sum/{a}", f"{a} + 1", str(a + 1)) for a in range(5000)]
    engine = Dice()
    with pytest.raises(UserError, match="the disk is full"):
        evaluate(many, engine, sampling=SAMPLING, store=store, name="x")
    assert engine.asked < 5000
