"""Pairs for DPO: one prompt, one right and one wrong; and what is held out."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from thinksmith.distill.examples import Made
from thinksmith.distill.learn import held_out_of
from thinksmith.distill.pairs import ALONE, OTHER, UNJUDGED, Paired, pairs_of
from thinksmith.distill.sample import Sample
from thinksmith.records import Message
from thinksmith.training.batches import Example

Rows = list[tuple[int, str]]  # problem, status
rows = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["correct", "wrong", "no_answer", "truncated", ""])))


def made_of(rows: Rows) -> Made:
    samples, examples = [], []
    for number, (problem, status) in enumerate(rows):
        messages = (Message(role="user", content=str(problem)),)
        samples.append(Sample(f"p/{problem}", messages, "", "", status=status))
        examples.append(Example((problem,), (100 + number,)))
    return Made(tuple(samples), tuple(examples), {"cut off": 2})


def paired(rows: Rows, most: int = 3, seed: int = 0) -> Paired:
    return pairs_of(made_of(rows), ("wrong",), most, seed)


@given(rows, st.integers(1, 5), st.integers(0, 3))
def test_pairs_are_of_one_prompt_a_right_and_a_wrong_one(rows: Rows, most: int, seed: int) -> None:
    found = paired(rows, most, seed)
    status = {100 + number: status for number, (_, status) in enumerate(rows)}
    problem = {100 + number: of for number, (of, _) in enumerate(rows)}
    for pair, name in zip(found.pairs, found.problems, strict=True):
        (right,), (wrong,) = pair.right.completion_ids, pair.wrong.completion_ids
        assert (status[right], status[wrong]) == ("correct", "wrong")
        assert problem[right] == problem[wrong]
        assert name == f"p/{problem[right]}"
        assert pair.right.prompt_ids == pair.wrong.prompt_ids
    assert len({(pair.right, pair.wrong) for pair in found.pairs}) == len(found.pairs)
    for each in range(5):
        rights, wrongs = (sum(row == (each, side) for row in rows) for side in ("correct", "wrong"))
        count = found.problems.count(f"p/{each}")
        assert count == min(most, rights * wrongs)
        if count >= max(rights, wrongs):  # every trace comes before one comes again
            used = {pair.right for pair, name in zip(found.pairs, found.problems, strict=True) if name == f"p/{each}"}
            assert len(used) == rights
    assert found == paired(rows, most, seed)


@given(rows)
def test_every_sample_is_in_a_pair_or_accounted_for(rows: Rows) -> None:
    found = paired(rows, most=1000)
    used = {each for pair in found.pairs for each in (pair.right, pair.wrong)}
    dropped = dict(found.dropped)
    assert dropped.pop("cut off") == 2
    assert set(dropped) <= {ALONE, OTHER, UNJUDGED}
    assert len(used) + sum(dropped.values()) == len(rows)


def test_the_same_question_under_another_prompt_is_no_pair() -> None:
    made = made_of([(0, "correct"), (0, "wrong")])
    other = replace(made, examples=[made.examples[0], Example((0, 1), (101,))])
    assert not pairs_of(other, ("wrong",), 3, 0).pairs


@given(st.lists(st.integers(0, 50).map(str)), st.floats(0, 0.5), st.integers(0, 3))
def test_held_out_problems_depend_on_ids_alone(ids: list[str], share: float, seed: int) -> None:
    held = held_out_of(ids, share, seed)
    assert held == held_out_of(ids[::-1] * 2, share, seed)
    assert held <= set(ids)
    problems = len(set(ids))
    assert len(held) == (max(1, round(share * problems)) if share and problems > 1 else 0)
