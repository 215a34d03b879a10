"""Curation: each reason catches what it is for, nothing is lost on the way, and the same input gives the same set."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples_kit import sample, samples

from thinksmith.audit.equations import find_equations
from thinksmith.distill.curate import writing
from thinksmith.distill.curate.curate import curate
from thinksmith.distill.curate.filters import false_share
from thinksmith.distill.curate.options import Curation, curation
from thinksmith.distill.curate.reasons import ORDER
from thinksmith.distill.curate.writing import Output
from thinksmith.distill.formats import parts, read_set, write_samples
from thinksmith.distill.formats.write import digest
from thinksmith.distill.sample import Sample
from thinksmith.errors import UserError
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.store import Store

patient = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
SENTENCE = "let me see what this number may be and then add the next one to it so that both are known now"
WORDS = SENTENCE.split()


def long_text(seed: int, count: int = 90) -> str:
    chance = Random(seed)
    return " ".join(f"{chance.choice(WORDS)} {chance.randrange(999)}" for _ in range(count))


def good(n: int, **changes) -> Sample:
    """A trace that no filter has anything against."""
    return sample(n, thinking=changes.pop("thinking", f"{long_text(n)}. So {n} + 1 = {n + 1}."), **changes)


def run(found: list[Sample], folder: Path, name: str = "set", **options):
    """Curate samples into `folder/name`; what came of it, the set, and the reason of each that was dropped."""
    write_samples(found, folder / "in.jsonl")
    done = curate([str(folder / "in.jsonl")], curation(options), Output(folder / name), processes=1)
    dropped = [json.loads(line) for line in (folder / name / "dropped.jsonl").read_text().splitlines()]
    return done, read_set(folder / name), dropped


LOOP = "I add one and see. " * 30
CAUGHT = {
    "truncated": [good(1, finish="length"), good(1, answer=" "), good(1, status="truncated"), good(1, finish="budget")],
    "not correct": [
        good(1, status="wrong"), good(1, status="no_answer"), good(1, status="error"),
        good(1, finish="error", status=""), good(1, status="", answer="The answer is 7."),
    ],
    "no thinking": [sample(1, thinking=" \n")],
    "too short": [good(1, tokens=3)],
    "too long": [good(1, tokens=5000)],
    "wrong language": [
        good(1, thinking="我们需要计算这个数字然后再检查一遍结果。 1 + 1 = 2"),
        good(1, thinking="Wir rechnen das nun aus und sehen, dass es nicht so ist, wie wir auch sind: 1 + 1 = 2"),
    ],
    "answer not in thinking": [good(1, thinking=long_text(1, 9).replace("2", "3") + " so it is 19.")],
    "repetition loop": [good(1, thinking=LOOP + "So 1 + 1 = 2."), good(1, answer=LOOP + "The answer is 2.")],
    "contaminated": [
        good(1, messages=({"role": "user", "content": "Tell me: what are the first NINE primes beyond one hundred?"},))
    ],
    "duplicate": [good(0)],
    "near duplicate": [good(1, thinking=good(0).thinking.replace(". So 0 + 1 = 1.", " hm. So 1 + 1 = 2."))],
    "false equations": [
        good(1, thinking=long_text(1) + ". Then 1 + 1 = 3. So 1 + 1 = 2."),
        good(1, answer="1 + 2 = 2. The answer is 2."),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "number"), [(name, at) for name, all_ in CAUGHT.items() for at in range(len(all_))])
def test_each_reason_catches_what_it_is_for_alone(reason: str, number: int, tmp_path: Path) -> None:
    problem = {"problem": "What are the first nine primes beyond one hundred?", "answer": "101, 103", "id": "p1"}
    (tmp_path / "eval.jsonl").write_text(json.dumps(problem) + "\n")
    asked = {
        "role": "user",
        "content": "What is the sum that you get when you take this number and add one to it, please?",
    }
    bad = CAUGHT[reason][number]
    if reason == "wrong language":
        bad = replace(bad, messages=(asked,))
    options = {"against": [str(tmp_path / "eval.jsonl")], "min_tokens": 5, "max_tokens": 4000, "choose": "all"}
    done, kept, dropped = run([good(0), bad, good(2)], tmp_path, **options)
    assert [(each["id"], each["reason"]) for each in dropped] == [(bad.id, reason)]
    assert kept == [good(0), good(2)]
    assert {stage.reason: stage.dropped for stage in done.funnel.shown} == {reason: 1}
    assert dropped[0]["where"].endswith("in.jsonl:2")


def test_what_is_switched_off_drops_nothing(tmp_path: Path) -> None:
    found = [each for reason in CAUGHT for each in CAUGHT[reason] if reason not in ("truncated", "not correct")]
    options = {
        "need_thinking": False, "language": "any", "answer_in_thinking": False, "loops": False, "duplicates": False,
        "similarity": 1, "false_equations": 1, "easiest": 1, "hardest": 0, "choose": "all",
    }  # fmt: skip
    done, kept, _ = run(found, tmp_path, **options)
    assert kept == found
    assert not done.funnel.shown


def test_verdicts_are_made_where_there_are_none(tmp_path: Path) -> None:
    found = [good(0, status=""), good(1, status="", gold=None, kind=""), good(2, status="", answer="The answer is 9.")]
    done, kept, _ = run(found, tmp_path)
    assert [(each.id, each.status) for each in kept] == [("sum/0", "correct"), ("sum/1", "")]
    assert (done.funnel.judged, done.funnel.unjudged) == (2, 1)
    _, kept, _ = run(found, tmp_path, unjudged="keep")
    assert [each.status for each in kept] == ["", "", ""]
    with pytest.raises(UserError, match="nothing is left of 3 traces: most were dropped as 'not judged'"):
        run(found, tmp_path, unjudged="drop")


@pytest.mark.parametrize("most", [0.0, 0.1, 0.5])
@given(seed=st.integers(0, 10**6))
@patient
def test_the_share_of_false_equations(most: float, seed: int) -> None:
    chance = Random(seed)
    said = [f"{a} + {b} = {a + b + (chance.random() < 0.2)}. " for a, b in [(chance.randrange(50), 3)] * 12]
    thinking, answer = "".join(said[:8]), "".join(said[8:])
    equations = [*find_equations(thinking), *find_equations(answer)]
    false = sum(not each.true for each in equations)
    assert false_share(sample(thinking=thinking, answer=answer)) == ((false, len(equations)) if false else (0, 0))


@given(
    found=st.lists(samples, max_size=8), choose=st.sampled_from(["shortest", "diverse", "all"]), seed=st.integers(0, 9)
)
@patient
def test_every_trace_is_kept_or_dropped_with_a_reason(found, choose, seed, tmp_path: Path) -> None:
    """Whatever is in it, and whatever verdicts it has; one good trace keeps the set from being empty."""
    found = [good(0), *found]
    done, kept, dropped = run(found, tmp_path, choose=choose, seed=seed)
    assert done.funnel.read == len(found) == len(kept) + len(dropped)
    places = [int(each["where"].rpartition(":")[2]) - 1 for each in dropped]
    rest = [each for at, each in enumerate(found) if at not in places]
    assert [replace(each, status="") for each in kept] == [replace(each, status="") for each in rest]
    assert all(each["reason"] in ORDER for each in dropped)
    lefts = [done.funnel.read, *(stage.left for stage in done.funnel.stages)]
    assert [a - b for a, b in pairwise(lefts)] == [stage.dropped for stage in done.funnel.stages]
    assert lefts[-1] == done.funnel.kept == len(kept)
    assert done.hash == digest(kept)


def pool_of(count: int, seed: int = 0) -> list[Sample]:
    """Traces of 5 problems, some wrong, some twice."""
    chance = Random(seed)
    found = []
    for at in range(count):
        n = chance.randrange(5)
        thinking = f"{long_text(at, chance.randrange(20, 90))}. So {n} + 1 = {n + 1}."
        wrong = chance.random() < 0.3
        made = sample(n, thinking=thinking, status="wrong" if wrong else "correct", tokens=chance.randrange(50, 90))
        found += [made] * (1 + (chance.random() < 0.2))
    return found


@pytest.mark.parametrize("choose", ["shortest", "diverse", "all"])
def test_the_same_set_with_any_number_of_processes(choose: str, tmp_path: Path, monkeypatch) -> None:
    found = pool_of(120)
    write_samples(found, tmp_path / "in.jsonl")
    monkeypatch.setattr(parts, "PART_BYTES", 4000)
    monkeypatch.setattr(parts, "_BLOCK", 1000)
    options = curation({"choose": choose, "per_problem": 3})
    hashes, files = set(), set()
    for processes in (1, 2):
        output = Output(tmp_path / f"set{processes}")
        hashes.add(curate([str(tmp_path / "in.jsonl")], options, output, processes=processes).hash)
        files.add(tuple((output.folder / name).read_bytes() for name in ("data.jsonl", "dropped.jsonl")))
    assert len(hashes) == len(files) == 1
    monkeypatch.setattr(parts, "PART_BYTES", 10**9)
    assert curate([str(tmp_path / "in.jsonl")], options, Output(tmp_path / "whole"), processes=1).hash in hashes


def test_the_order_of_the_input_decides_nothing_but_the_order(tmp_path: Path) -> None:
    found = list({each.thinking: each for each in pool_of(60)}.values())
    _, one, _ = run(found, tmp_path, per_problem=2)
    _, other, _ = run(found[::-1], tmp_path, per_problem=2)
    assert one == other[::-1]


def test_rates_are_of_all_attempts_and_say_how_many_problems_lie_outside(tmp_path: Path) -> None:
    solved = {0: (10, 10), 1: (9, 10), 2: (1, 10), 3: (1, 11), 4: (1, 1), 5: (0, 4)}  # problem: right, of
    found = [
        good(
            n, thinking=f"{long_text(100 * n + at)}. So {n} + 1 = {n + 1}.", status="correct" if at < right else "wrong"
        )
        for n, (right, of) in solved.items()
        for at in range(of)
    ]
    found.append(good(2, thinking=long_text(7) + " So 2 + 1 = 3.", status="error"))  # says nothing of the problem
    done, kept, dropped = run(found, tmp_path, choose="all")
    reasons = Counter((each["id"], each["reason"]) for each in dropped)
    assert reasons["sum/0", "too easy"] == 10
    assert reasons["sum/3", "too hard"] == 1
    assert Counter(each.id for each in kept) == {"sum/1": 9, "sum/2": 1, "sum/4": 1}
    band = done.funnel.difficulty
    assert (band.inside, band.easier, band.harder, band.unknown) == (2, 1, 2, 1)
    assert sum(band.bins) == 5
    assert {each["detail"] for each in dropped if each["reason"] == "too hard"} == {"solved 1 times of 11"}


def test_choices(tmp_path: Path) -> None:
    same = [good(1, tokens=40 + at, thinking=f"{long_text(9, 80)} {at}. So 1 + 1 = 2.") for at in range(4)]
    other = good(1, tokens=300, thinking=f"{long_text(77, 80)}. So 1 + 1 = 2.")
    options = {"similarity": 1, "min_attempts": 99}
    assert run([*same[::-1], other], tmp_path, **options)[1] == [same[0]]
    assert run([*same, other], tmp_path, choose="diverse", per_problem=2, **options)[1] == [same[0], other]
    assert run([*same, other], tmp_path, per_problem=2, **options)[1] == same[:2]
    assert len(run([*same, other], tmp_path, choose="all", most=3, **options)[1]) == 3
    drawn = {
        tuple(each.tokens for each in run(same, tmp_path, choose="all", most=2, seed=seed, **options)[1])
        for seed in range(9)
    }
    assert len(drawn) > 1


def test_an_empty_set_is_one_line_and_changes_nothing(tmp_path: Path) -> None:
    run([good(0)], tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    found = [
        good(n, answer="\n", thinking="I begin with") for n in range(3)
    ]  # a teacher that never closes its thinking
    with pytest.raises(
        UserError, match=r"\Anothing is left of 4 traces: most were dropped as 'truncated' \(.*\Z"
    ) as told:
        run([*found, good(1, status="wrong")], tmp_path)
    assert "\n" not in str(told.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "set").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "set"]


def test_bad_rows_are_counted_with_their_places(tmp_path: Path) -> None:
    write_samples([good(0), good(1)], tmp_path / "in.jsonl")
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write('{"messages": 3}\nnot json\n')
    done = curate([str(tmp_path / "in.jsonl")], Curation(), Output(tmp_path / "set"))
    assert {stage.reason: stage.dropped for stage in done.funnel.shown} == {"unreadable": 2}
    assert [fault.partition(": ")[0].rpartition(":")[2] for fault in done.funnel.faults] == ["3", "4"]
    record = json.loads((tmp_path / "set" / "funnel.json").read_text())
    assert record["funnel"]["read"] == 4
    assert record["hash"] == done.hash


@pytest.mark.parametrize("at", range(1, 8))
def test_a_full_disk_keeps_what_was_there(at: int, tmp_path: Path, monkeypatch) -> None:
    """Whichever file it is that fails."""
    _, first, _ = run([good(0)], tmp_path)
    write_samples([good(1)], tmp_path / "in.jsonl")
    calls, really = [], os.fsync

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == at:
            raise OSError(28, "No space left on device")
        really(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(UserError, match="No space left on device; free some space or name another place"):
            curate([str(tmp_path / "in.jsonl")], Curation(), Output(tmp_path / "set"))
    assert read_set(tmp_path / "set") == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "set"]


def test_a_kill_between_the_two_renames_loses_no_set(tmp_path: Path) -> None:
    _, first, _ = run([good(0)], tmp_path)
    (tmp_path / "set").rename(tmp_path / ".set.old")  # where the process was killed
    writing.check_place(tmp_path / "set")
    assert read_set(tmp_path / "set") == first


def test_only_a_set_is_replaced(tmp_path: Path) -> None:
    write_samples([good(0)], tmp_path / "in.jsonl")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match="holds something that is no set"):
        curate([str(tmp_path / "in.jsonl")], Curation(), Output(tmp_path / "mine"))
    with pytest.raises(UserError, match="is a file"):
        curate([str(tmp_path / "in.jsonl")], Curation(), Output(tmp_path / "in.jsonl"))
    (tmp_path / "empty").mkdir()
    assert curate([str(tmp_path / "in.jsonl")], Curation(), Output(tmp_path / "empty")).funnel.kept == 1


@pytest.mark.parametrize("form", ["messages", "reasoning_content", "openr1"])
@pytest.mark.parametrize("file", ["jsonl", "parquet"])
def test_the_hash_does_not_depend_on_the_file(form, file, tmp_path: Path) -> None:
    found = pool_of(40)
    write_samples(found, tmp_path / "in.jsonl")
    done = curate([str(tmp_path / "in.jsonl")], Curation(), Output(tmp_path / "set", form, file))
    assert digest(read_set(tmp_path / "set")) == done.hash
    again = curate([str(tmp_path / "set")], curation({"min_attempts": 99}), Output(tmp_path / "again"))
    assert again.hash == done.hash


def test_the_card_and_the_page_tell_it_and_escape_what_models_wrote(tmp_path: Path) -> None:
    nasty = good(1, model="<script>alert(1)</script>|`x`")
    done, _, _ = run([good(0), nasty, good(2, status="wrong")], tmp_path)
    card, page = ((tmp_path / "set" / name).read_text() for name in ("card.md", "report.html"))
    for text in (card, page):
        assert done.hash in text
        assert "2 traces of 2 problems" in text
    assert "| not correct | 1 | 2 |" in card
    assert "<script" not in page
    assert "<svg" in page


def test_runs_of_the_store(own_store: Path, tmp_path: Path) -> None:
    with Store.open() as store:
        run_id = store.start_run("collect", "sums", "tiny")
        made = [good(n, model="tiny", tokens=10) for n in range(6)]
        store.add(
            run_id,
            [
                Attempt(
                    Problem(each.id, each.question, each.gold, each.kind),
                    Trace(each.thinking, each.answer, token_ids=tuple(range(10)), model="tiny"),
                    Verdict("correct" if at % 3 else "wrong"),
                )
                for at, each in enumerate(made)
            ],
        )
    done = curate(["sums"], Curation(), Output(tmp_path / "set"))
    assert done.funnel.kept == 4
    assert read_set(tmp_path / "set") == [made[at] for at in (1, 2, 4, 5)]
    assert json.loads((tmp_path / "set" / "funnel.json").read_text())["sources"][0]["name"] == run_id


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_token": 3}, "curate has no option 'max_token'; did you mean 'max_tokens'"),
        ({"colour": 3}, "curate has no option 'colour'; known are unjudged,"),
        ({"similarity": 2}, "similarity: Input should be less than or equal to 1, got 2 "),
        ({"language": "english"}, "language: language 'english' cannot be told; known are"),
        ({"hardest": 0.9, "easiest": 0.1}, "no problem lies between them"),
        ({"min_tokens": 10, "max_tokens": 5}, "no trace lies between them"),
    ],
)
def test_mistakes_in_options_are_one_line(options, told: str) -> None:
    with pytest.raises(UserError) as error:
        curation(options)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
