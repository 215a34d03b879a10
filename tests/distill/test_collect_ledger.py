"""Money, tokens, pass rates and warnings: what is counted, and what is told of it."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from collect_kit import SAMPLING, Paid, Sums, answered, problems, staff

from thinksmith.distill.collect.budget import Budget, prompt_bound
from thinksmith.distill.collect.early import Early, from_attempts, from_tokens
from thinksmith.distill.collect.goal import Goal
from thinksmith.distill.collect.ledger import Entry, Ledger, entry_of, short, stored_entries
from thinksmith.distill.collect.unclosed import Unclosed, warning
from thinksmith.errors import UserError
from thinksmith.records import Attempt, Request, Usage, Verdict
from thinksmith.store.store import Store

ENTRY = Entry("p/0", 0, "m", "correct", "stop", "closed", 10, 5, 0.5)


def attempts(count: int = 30) -> list[Attempt]:
    made = []
    for at, problem in enumerate(problems(count)):
        trace = answered(Request(messages=problem.messages, sampling=SAMPLING), f"m{at % 3}", 0.01 if at % 3 else None)
        notes = {}
        if at % 5 == 4 and trace.usage:
            trace = replace(trace, usage=Usage(cost=None if at % 2 else 0.25, lost_tokens=7))
            notes = {"spent": trace.tokens + 7}
        made.append(Attempt(problem, trace, Verdict("correct" if at % 2 else "wrong"), at, "single@1", notes))
    return made


def test_what_is_read_from_the_store_is_what_was_counted_when_it_came(tmp_path: Path) -> None:
    made = attempts()
    with Store.open(tmp_path / "s.db") as store:
        run = store.start_run("collect", "x", "m")
        store.add(store.start_run("collect", "other", "m"), made[:3])
        store.add(run, made)
        read = list(stored_entries(store, run, []))
        assert list(map(repr, stored_entries(store, run, ["m0"]))) == list(map(repr, read))
    counted = [entry_of(attempt) for attempt in made]
    assert len(read) == len(counted)
    for one, other in zip(read, counted, strict=True):
        assert one[:-1] == other[:-1]
        assert one.cost == other.cost or (math.isnan(one.cost) and math.isnan(other.cost))
    assert any(math.isnan(entry.cost) for entry in counted)
    assert any(entry.cost == 0 for entry in counted)


def test_the_ledger_adds_up_by_teacher() -> None:
    ledger, made = Ledger(Goal("single", 40)), attempts()
    for attempt in made:
        ledger.add(entry_of(attempt))
    assert ledger.attempts == 30
    assert ledger.correct == len(ledger.solved) == 15
    assert ledger.tokens == sum(attempt.trace.tokens + (7 if attempt.notes else 0) for attempt in made)
    assert ledger.cost is None  # of some it is not known
    assert ledger.accounts["m0"].cost == 0
    assert list(ledger.accounts) == ["m0", "m1", "m2"]
    assert sum(sum(account.statuses.values()) for account in ledger.accounts.values()) == 30


def test_pass_rates_are_those_of_the_draws_that_every_problem_gets() -> None:
    """With draws until one is correct, a problem's share of correct draws would be far too high, and the share of all
    draws too low: the first draws alone are neither."""
    chance, goal = random.Random(0), Goal("first", 8)
    ledger, rates = Ledger(goal), [0.1, 0.5, 0.9]
    for at in range(6000):
        for number in range(goal.tries):
            right = chance.random() < rates[at % 3]
            ledger.add(ENTRY._replace(problem=str(at), number=number, status="correct" if right else "wrong"))
            if right:
                break
    found = [right / draws for draws, right in ledger.accounts["m"].rates.values()]
    assert len(found) == 6000
    assert sum(found) / 6000 == pytest.approx(0.5, abs=0.02)
    assert abs(ledger.correct / ledger.attempts - 0.5) > 0.1


def test_what_a_verifier_could_not_judge_is_no_failure_of_the_model() -> None:
    ledger = Ledger(Goal("single", 9))
    for number, (status, finish) in enumerate(
        [("correct", "stop"), ("bad_gold", "stop"), ("error", "stop"), ("error", "error"), ("truncated", "length")]
    ):
        ledger.add(ENTRY._replace(number=number, status=status, finish=finish))  # type: ignore[arg-type]
    assert ledger.accounts["m"].rates == {"p/0": [3, 1]}


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("5usd", 5, "usd"),
        ("2.50$", 2.5, "usd"),
        ("$1,200", 1200, "usd"),
        (".5 USD", 0.5, "usd"),
        ("300k tokens", 300_000, "tokens"),
        ("2Mtokens", 2_000_000, "tokens"),
        ("1_000 tokens", 1000, "tokens"),
        ("1token", 1, "tokens"),
    ],
)
def test_budgets_as_they_are_written(text: str, amount: float, unit: str) -> None:
    assert Budget.parse(text) == Budget(amount, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["5", "usd", "five usd", "0usd", "-3usd", "5 euros", "2M", "1e6 tokens", ""])
def test_budgets_that_say_nothing(text: str) -> None:
    with pytest.raises(UserError, match="budget"):
        Budget.parse(text)


def test_a_budget_that_cannot_be_kept_or_does_not_do_is_refused() -> None:
    prompt = prompt_bound(problems())
    with pytest.raises(UserError, match="no price"):
        Budget(5, "usd").check(staff(Paid(), Paid("other", price=None)), prompt)
    with pytest.raises(UserError, match="cost nothing"):
        Budget(5, "usd").check(staff(Sums()), prompt)
    with pytest.raises(UserError, match=r"\$0\.40"):
        Budget(0.39, "usd").check(staff(Paid()), prompt)
    with pytest.raises(UserError, match="40 tokens"):
        Budget(39, "tokens").check(staff(Sums()), prompt)
    Budget(40, "tokens").check(staff(Sums()), prompt)
    Budget(0.4, "usd").check(staff(Paid()), prompt)
    Budget(0.1, "usd").check(staff(Paid(), Sums()), prompt)


def test_the_estimate_is_what_comes_when_all_draws_are_like_the_first() -> None:
    goal = Goal("correct", 2, 8)
    entries = [ENTRY._replace(number=at, status="correct" if at % 4 else "wrong", tokens=10 + at) for at in range(16)]
    found = from_attempts(goal, 100, entries)
    rate = 12.5 / 17
    assert found.attempts == pytest.approx(100 * goal.draws_expected(rate))
    assert found.most == 800
    assert found.tokens == pytest.approx(found.attempts * 17.5)
    assert found.cost == pytest.approx(found.attempts * 0.5)
    assert "the first 16 attempts" in str(found)
    assert found.takes_more(Budget(found.tokens - 1, "tokens"))
    assert not found.takes_more(Budget(found.tokens + 1, "tokens"))
    assert from_attempts(goal, 100, [ENTRY._replace(cost=math.nan)]).cost is None


def test_an_estimate_beforehand_takes_the_dearest_teacher() -> None:
    found = from_tokens(Goal("single", 2), problems(10), staff(Paid(price=0.01), Paid("b", price=0.5), Sums("c")), 100)
    assert (found.attempts, found.tokens, found.cost) == (20, 2000, 20 * 50)
    assert from_tokens(Goal(), problems(), staff(Paid(price=None)), 9).cost is None


def test_the_estimate_waits_for_the_first_draws_and_not_for_the_first_that_come() -> None:
    early = Early(Goal("single", 2), 50, [("a", 0), ("b", 0), ("c", 0)])
    assert not early.came(ENTRY._replace(problem="d", tokens=1))
    assert not early.came(ENTRY._replace(problem="a", tokens=100))
    assert not early.came(ENTRY._replace(problem="a", number=1, tokens=1))
    assert not early.gave_up(("b", 0))
    assert early.estimate is None
    assert early.came(ENTRY._replace(problem="c", tokens=300))
    assert early.estimate is not None
    assert early.estimate.tokens == 100 * 200
    assert not early.came(ENTRY._replace(problem="c"))
    cut_short = Early(Goal("single", 1), 10, [("a", 0), ("b", 0)])
    cut_short.came(ENTRY._replace(problem="a", tokens=7))
    cut_short.finish()
    assert cut_short.estimate is not None
    assert cut_short.estimate.tokens == 70


@pytest.mark.parametrize(
    ("finish", "thinking", "said"),
    [
        ("length", "truncated", "--max-tokens"),
        ("length", "closed", "--max-tokens"),
        ("stop", "truncated", "template"),
        ("stop", "none", "reasoning model"),
    ],
)
def test_a_teacher_that_never_closes_its_thinking_is_told_with_what_to_change(
    finish: str, thinking: str, said: str
) -> None:
    bad = ENTRY._replace(finish=finish, thinking=thinking)  # type: ignore[arg-type]
    told = warning("m", [bad] * 20, 4096)
    assert said in told
    assert "20 attempts" in told
    assert "what came is kept" in told
    assert warning("m", [bad] * 19 + [ENTRY], 4096) == ""
    assert warning("m", [bad] * 4, 4096) == ""
    assert ("4,096" in told) is (finish == "length")


def test_each_teacher_is_looked_at_once() -> None:
    ledger, unclosed = Ledger(Goal("single", 99)), Unclosed({"m": 100, "other": 200})
    bad = ENTRY._replace(finish="length", thinking="truncated", status="truncated")
    for number in range(19):
        ledger.add(bad._replace(number=number))
    assert unclosed.look(ledger) == []
    ledger.add(bad._replace(number=19))
    (told,) = unclosed.look(ledger)
    assert "100 tokens" in told
    assert unclosed.look(ledger) == []
    for number in range(6):
        ledger.add(bad._replace(model="other", number=number))
    assert unclosed.look(ledger) == []
    assert "all 6 attempts" in unclosed.look(ledger, last=True)[0]
    assert len(unclosed.warnings) == 2


def test_numbers_for_people() -> None:
    written = {0: "0", 950: "950", 9999: "9,999", 12_345: "12.3k", 1_234_567: "1.23M", 45.6e6: "45.6M", 1.2e9: "1.20G"}
    assert {count: short(count) for count in written} == written
