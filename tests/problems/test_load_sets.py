"""Sets by name: own families through `load`, the named data sets on real data, and the hub without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from thinksmith.errors import UserError
from thinksmith.problems.datasets import DATASETS, data_folders
from thinksmith.problems.families import mixture, sample
from thinksmith.problems.load import check, load, load_checked
from thinksmith.records import Problem

COUNTS = {"gsm8k/train": 7473, "gsm8k/test": 1319, "math500/test": 500, "aime24/test": 30}


def need(name: str) -> None:
    file = f"{name}.jsonl"
    if not any((folder / file).is_file() for folder in data_folders()):
        pytest.skip(
            f"{file} is in none of {', '.join(map(str, data_folders()))}; set THINKSMITH_DATA to a folder with it"
        )


# Named data sets


@pytest.mark.parametrize("name", COUNTS)
def test_every_gold_of_a_named_set_can_be_verified(name):
    need(name)
    loaded = load_checked(name)
    assert len(loaded.problems) == COUNTS[name]
    assert loaded.findings == ()
    assert all(problem.id.startswith(f"{name}/") for problem in loaded.problems)


def test_gsm8k_answers_are_what_stands_after_the_mark():
    need("gsm8k/test")
    problems = load("gsm8k")
    assert problems == load("gsm8k/test") == load("gsm8k:split=test")
    assert [p.id for p in problems[:2]] == ["gsm8k/test/0", "gsm8k/test/1"]
    for problem in problems:
        # The reference: the mark is the last one of the solution, and the answers of gsm8k are whole numbers.
        assert problem.answer == problem.meta["solution"].split("#### ")[-1].replace(",", "")
        assert re.fullmatch(r"-?\d+", problem.answer)
    drawn = load("gsm8k", 50, seed=9)
    assert len({p.id for p in drawn}) == 50
    assert set(map(id_of, drawn)) <= set(map(id_of, problems))


def id_of(problem: Problem) -> str:
    return problem.id


def test_math500_keeps_its_subjects_and_levels():
    need("math500/test")
    problems = load("math500")
    assert {p.meta["level"] for p in problems} == {1, 2, 3, 4, 5}
    assert len({p.meta["subject"] for p in problems}) == 7
    assert {p.kind for p in problems} == {"math"}


@pytest.mark.parametrize("name", COUNTS)
def test_a_set_that_is_not_here_says_where_to_put_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("THINKSMITH_DATA", str(tmp_path))
    with pytest.raises(UserError) as caught:
        load(name)
    message = str(caught.value)
    assert str(tmp_path / f"{name}.jsonl") in message
    assert "THINKSMITH_DATA" in message
    assert "hub/" in message
    assert "\n" not in message


def test_the_folder_in_the_environment_is_the_only_one(tmp_path, monkeypatch):
    monkeypatch.setenv("THINKSMITH_DATA", str(tmp_path))
    (tmp_path / "aime24").mkdir()
    row = {"id": 1, "problem": "1 + 1?", "answer": "002", "url": "-"}
    (tmp_path / "aime24" / "test.jsonl").write_text(json.dumps(row))
    assert load("aime24") == [Problem("aime24/test/1", "1 + 1?", "002", "number", {"url": "-"})]


def test_the_users_data_folder_comes_before_a_checkouts(tmp_path, monkeypatch):
    monkeypatch.delenv("THINKSMITH_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folders = data_folders()
    if sys.platform == "linux":
        assert folders[0] == tmp_path / "thinksmith" / "data"
    assert [folder.parts[-2:] for folder in folders[1:]] in ([], [("shared", "data")])


# Own families


def test_families_by_name():
    assert load("arithmetic:digits=2,op=mul", 20, seed=1) == sample(
        "arithmetic", {"digits": "2", "op": "mul"}, 20, split="test", seed=1
    )
    assert load("chains/train", 5) == load("chains", 5, split="train") == load("chains:split=train", 5)
    assert {p.meta["split"] for p in load("chains/train", 5)} == {"train"}
    assert load("mixed", 30, seed=2) == mixture(30, split="test", seed=2)
    assert len(load("chains")) == 300


def test_a_gold_that_is_wrong_is_found():
    good = load("countdown", 3)
    spoiled = [Problem(p.id, p.prompt, "1 + 1", p.kind, p.meta) for p in good]
    assert check(good) == ()
    assert [finding.id for finding in check(spoiled)] == [p.id for p in spoiled]


def test_a_file_in_a_folder_that_is_called_like_a_set_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gsm8k").mkdir()
    Path("gsm8k/test.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}')
    (problem,) = load("gsm8k/test.jsonl")
    assert problem.answer == "2"
    assert problem.id.startswith("test/")


# The hub


def test_without_a_network_the_hub_is_one_line(tmp_path):
    """In a process of its own: where nothing listens stands for the hub, and an empty folder for the cache."""
    code = (
        "import sys; from thinksmith.problems.load import load; from thinksmith.errors import UserError\n"
        "try: load('hub/openai/gsm8k:config=main')\n"
        "except UserError as error: print(error)"
    )
    for extra, says in (({}, "cannot be reached"), ({"HF_HUB_OFFLINE": "1"}, "cannot be loaded from the hub")):
        env = {
            **os.environ,
            "TRANSFORMERS_OFFLINE": "0",
            "HF_ENDPOINT": "http://127.0.0.1:9",
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "0",
            **extra,
        }
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
        assert done.stderr == ""
        assert done.stdout.startswith("hub/openai/gsm8k")
        assert says in done.stdout
        assert done.stdout.count("\n") == 1


def test_a_hub_set_is_mapped_as_a_file_is(tmp_path):
    """`load_dataset` reads a folder of the same shape as a hub set's, which needs no network."""
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(f'{{"problem": "{n} + 1?", "gold": {n + 1}}}\n' for n in range(5)))
    code = (
        "from thinksmith.problems.load import load\n"
        "for p in load('hub/owner/name:split=train,kind=number'): print(p.id.rpartition('/')[0], p.prompt, p.answer)"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.splitlines() == [f"name/train {n} + 1? {n + 1}" for n in range(5)]


def test_every_named_set_names_a_hub_set_that_can_be_asked_for():
    from thinksmith.problems.spec import parse_spec

    for data_set in DATASETS.values():
        spec = parse_spec(data_set.hub)
        assert spec.source.count("/") == 2
        assert set(spec.options) <= {"answer", "config", "kind", "split"}
