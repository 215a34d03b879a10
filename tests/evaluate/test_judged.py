"""Problems that a model judges: asked in an evaluation, kept in the store, and never mixed with rules in silence."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from thinksmith.engines.contract import EngineInfo
from thinksmith.errors import UserError
from thinksmith.evaluate.evaluate import evaluate
from thinksmith.evaluate.report import evaluation_report, render_report
from thinksmith.evaluate.statistics.stats import accuracy
from thinksmith.evaluate.summary import summarise
from thinksmith.records import Attempt, Problem, Request, Sampling, Trace, Verdict
from thinksmith.store.export import export, read_jsonl
from thinksmith.store.store import Store

ESSAYS = [Problem(f"essay/{i}", f"Write about {i}", None, "judge", {"rubric": "is about it"}) for i in range(6)]
SUMS = [Problem(f"sum/{i}", f"What is {i} + 1?", str(i + 1)) for i in range(4)]


@dataclass
class Talker:
    """Says the same to everything; as a judge it finds even essays right."""

    name: str
    says: str = ""
    asked: list[Request] = field(default_factory=list)
    room: int = 8

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(self.name, weights_hash=f"w-{self.name}")

    async def sample(self, request: Request) -> list[Trace]:
        self.asked.append(request)
        text = request.messages[-1]["content"]
        even = any(f"Write about {i}\n" in text for i in (0, 2, 4))
        return [Trace("", self.says or f"VERDICT: {'correct' if even else 'wrong'}", "none", model=self.name)]

    def stream(self, request): ...

    def sample_all(self, requests): ...

    async def aclose(self) -> None: ...


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield store


def run(store, problems, judge=None):
    talker = Talker("talker", "The answer is 3.")
    return evaluate(problems, talker, sampling=Sampling(), store=store, name="essays", judge=judge)


def test_the_judge_is_asked_about_its_kind_alone_and_its_name_is_kept(store, tmp_path):
    elder = Talker("elder")
    run_id, summary = run(store, ESSAYS + SUMS, elder)
    assert len(elder.asked) == len(ESSAYS)
    stored = [each.attempt for each in store.attempts(run_id)]
    assert {a.verdict.judge for a in stored if a.problem.kind == "judge"} == {"elder"}
    assert {a.verdict.judge for a in stored if a.problem.kind != "judge"} == {""}
    assert summary.judges == ("elder",)
    assert summary.judged == accuracy({p.id: [float(i % 2 == 0)] for i, p in enumerate(ESSAYS)})
    assert summary.rule == accuracy({p.id: [float(p.answer == "3")] for p in SUMS})
    assert store.run(run_id).config["judge"] == "elder"
    export(store, run_id, tmp_path / "run.jsonl")
    assert list(read_jsonl(tmp_path / "run.jsonl")) == stored


def test_parquet_names_the_judge(store, tmp_path):
    from pyarrow.parquet import read_table

    run_id, _ = run(store, ESSAYS, Talker("elder"))
    export(store, run_id, tmp_path / "run.parquet")
    assert read_table(tmp_path / "run.parquet")["judge"].to_pylist() == ["elder"] * len(ESSAYS)


def test_an_export_from_before_there_were_judges_is_read(store, tmp_path):
    run_id, _ = run(store, SUMS)
    export(store, run_id, tmp_path / "run.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["verdict"].pop("judge") == ""
    (tmp_path / "old.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert list(read_jsonl(tmp_path / "old.jsonl")) == list(read_jsonl(tmp_path / "run.jsonl"))


def test_another_judge_is_another_run(store):
    ids = {run(store, ESSAYS, Talker(name))[0] for name in ("elder", "younger")}
    hashes = {json.dumps(store.run(run_id).config, sort_keys=True) for run_id in ids}
    assert len(ids) == len(hashes) == 2


def test_without_a_judge_or_without_need_of_one_nothing_is_spent(store):
    with pytest.raises(UserError, match="--judge MODEL"):
        run(store, ESSAYS)
    with pytest.raises(UserError, match="leave --judge out"):
        run(store, SUMS, Talker("elder"))
    assert store.runs() == []


def attempts(kind: str, judge: str, right: int, status: str = "wrong") -> list[Attempt]:
    """Ten attempts, of which the first `right` are right."""
    return [
        Attempt(
            Problem(f"{kind}/{i}", "?", "1", kind),
            Trace("", "1"),
            Verdict("correct", 1.0, judge=judge) if i < right else Verdict(status, judge=judge * (status == "wrong")),
        )
        for i in range(10)
    ]


def test_the_line_says_whose_opinion_it_is():
    ruled, judged = attempts("number", "", 4), attempts("judge", "elder", 7)
    assert "judge" not in summarise(ruled).line
    assert summarise(judged).line.endswith("; judged by elder")
    both = summarise(ruled + judged).line
    assert "; by rules 40.0%" in both
    assert ", judged by elder 70.0%" in both
    assert summarise(attempts("judge", "", 0, "truncated")).line.endswith("; judged by a model")
    truncated = summarise(ruled + attempts("judge", "elder", 7, "truncated"))
    assert truncated.judged.mean == 0.7


def test_the_page_says_it_too(tmp_path):
    for name, some in (("both", attempts("number", "", 4) + attempts("judge", "elder", 7)),
                       ("one", attempts("judge", "elder", 7))):  # fmt: skip
        report = evaluation_report(summarise(some), title="t", model="m", config={}, examples=some[:1])
        render_report(tmp_path / f"{name}.html", report)
    both, one = ((tmp_path / f"{name}.html").read_text() for name in ("both", "one"))
    assert both.count("judged by elder") == 1
    assert "by rules" in both
    assert "all problems, judged by elder" in one
    assert "by rules" not in one
