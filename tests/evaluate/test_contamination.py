"""Problems that a model learnt from are found, by id or by text, in the runs that it comes of."""

from dataclasses import replace

import pytest
from test_summary import attempt

from thinksmith.evaluate.contamination import contamination
from thinksmith.store.figures import figures_of
from thinksmith.store.store import Store


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        yield store


def trained(store, base, made, folder, problems):
    """A training from weights `base` that made weights `made`, as GRPO leaves it in the store."""
    run = store.start_run("grpo", "sums", "tiny", base, {"folder": folder})
    store.add(run, [attempt(n) for n in problems])
    store.start_run("eval", f"sums after {folder}", "tiny", made)
    return run


MEASURED = figures_of([attempt(n, 0, "correct" if n < 4 else "wrong") for n in range(10)])


def test_a_model_that_learnt_from_the_problems(store):
    run = trained(store, "base", "new", "zero", [0, 1, 2, 50])
    found = contamination(store, MEASURED, "new")
    assert (found.problems, found.of, found.runs, found.known) == (("p/000", "p/001", "p/002"), 10, (run,), True)
    assert found.without.mean == pytest.approx(1 / 7)
    assert "3 of 10 problems occur in the training that this model comes of" in str(found)
    assert "without them the accuracy is 14.3%" in str(found)


def test_ancestors_count(store):
    first = trained(store, "base", "middle", "one", [0])
    second = trained(store, "middle", "end", "two", [7])
    trained(store, "base", "other", "three", [8, 9])
    assert set(contamination(store, MEASURED, "end").runs) == {first, second}
    assert contamination(store, MEASURED, "middle").runs == (first,)


def test_a_model_before_its_training_is_innocent(store):
    trained(store, "base", "new", "zero", [0, 1])
    assert contamination(store, MEASURED, "base") is None


@pytest.mark.parametrize("weights", ["", "unrelated"])
def test_of_a_model_of_unknown_descent_it_is_said_that_nobody_knows(store, weights):
    trained(store, "base", "new", "zero", [0, 1])
    found = contamination(store, MEASURED, weights)
    assert (len(found.problems), found.known) == (2, False)
    assert "whether this model learnt from those is not known" in str(found)


def test_the_same_text_under_another_id_is_the_same_problem(store):
    run = store.start_run("sft", "sums", "tiny", "base", {"folder": "x"})
    copied = attempt(3)
    store.add(run, [replace(copied, problem=replace(copied.problem, id="elsewhere/1", prompt="What is 3?\n"))])
    assert contamination(store, MEASURED, "").problems == ("p/003",)


def test_none_and_all(store):
    assert contamination(store, MEASURED, "new") is None
    trained(store, "base", "new", "zero", range(10))
    found = contamination(store, MEASURED, "new")
    assert found.without is None
    assert "there are no others" in str(found)
