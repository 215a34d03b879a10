"""`gym/NAME`: every data set is audited, the audit is true of the package's scorers, and ours have none of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from thinksmith.errors import UserError
from thinksmith.problems import gym
from thinksmith.problems.gym import gym_problems, problem_of
from thinksmith.problems.gym_audit import AUDIT, SERVED, Fault
from thinksmith.problems.gym_gold import follows, solve_rush_hour
from thinksmith.problems.load import load, load_checked
from thinksmith.problems.spec import parse_spec
from thinksmith.records import Problem, Trace
from thinksmith.verify import VERIFIERS, check_gold, verify
from thinksmith.verify.gym import FORMS, PUZZLES
from thinksmith.verify.gym.scorer import SCORERS

sys.path.insert(0, str(Path(__file__).parent))
from gym_solvers import SOLVERS

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not here: pip install 'thinksmith[gym]'"
)
ROOT = Path(__file__).parents[2]
ITEMS = 8
SLOW = ("futoshiki", "knight_swap", "zebra_puzzles", "puzzle24")
"""A tenth of a second or more for each of these."""

Item = dict[str, Any]


def program(source: str, request: Any) -> Any:
    """What a program prints as JSON, in a process of its own: the package is never imported into this one."""
    done = subprocess.run(
        [sys.executable, "-c", source],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


GENERATE = """
import io, json, sys
from thinksmith.problems.gym_generate import generate
from thinksmith.errors import UserError

class Enough(Exception): pass

class Lines(io.StringIO):
    def flush(self):
        if self.getvalue().count("\\n") > self.wanted: raise Enough

made, printed = {}, sys.stdout
sys.stdout = io.StringIO()  # one generator prints
for name, wanted in json.load(sys.stdin).items():
    out = Lines(); out.wanted = wanted
    try: generate(name.partition(":")[0], dict(o.split("=") for o in name.partition(":")[2].split(",") if o), 5, out)
    except Enough: pass
    made[name] = [json.loads(line) for line in out.getvalue().splitlines()[1:]]
print(json.dumps(made), file=printed)
"""
PAY = """
import json, sys
import reasoning_gym
print(json.dumps([
    reasoning_gym.create_dataset(name, seed=1, size=1).score_answer(answer, item)
    for name, answer, item in json.load(sys.stdin)
]))
"""
COIN = "coin_flip:min_trials=15,max_trials=15"


@pytest.fixture(scope="session")
def items() -> dict[str, list[Item]]:
    """Eight items of every data set that is served, and of those whose faults are shown; fewer of the slow ones."""
    wanted = {
        name: 3 if name in SLOW else ITEMS for name in (*SERVED, "propositional_logic", "intermediate_integration")
    }
    wanted |= dict.fromkeys((*SOLVERS, COIN), 30)
    return program(GENERATE, wanted)


@pytest.fixture(scope="session")
def problems(items: dict[str, list[Item]]) -> dict[str, list[Problem]]:
    made = {name: [problem_of(name, item) for item in items[name]] for name in SERVED}
    return {name: [problem for problem in found if problem is not None] for name, found in made.items()}


def boxed(problem: Problem, answer: str) -> str:
    return verify(problem, Trace(thinking="", answer=f"\\boxed{{{answer}}}")).status


# The audit


def test_every_data_set_of_the_installed_version_is_classified():
    asked = "import json; from importlib.metadata import version; import reasoning_gym.factory as f, reasoning_gym; "
    names, version = program(asked + "print(json.dumps([sorted(f.DATASETS), version('reasoning-gym')]))", None)
    assert sorted(AUDIT) == names
    assert version == gym.AUDITED
    assert len(SERVED) >= 95


def test_every_rule_exists_and_every_refusal_has_its_reason():
    for name, audit in AUDIT.items():
        kind, _, rule = audit.rule.partition("/")
        if not kind:
            assert len(audit.note) > 20, name
        elif kind == "gym":
            assert rule in {**FORMS, **PUZZLES, "scorer": None}, name
            assert (rule == "scorer") == (name in SCORERS), name
        else:
            assert kind in VERIFIERS, name


def test_no_scorer_that_executes_answers_is_ever_used():
    assert not {name for name in SCORERS if AUDIT[name].fault is Fault.EXECUTES}


def test_substring_scorers_are_those_of_the_base_class_and_two_more():
    source = """
import json, reasoning_gym
from reasoning_gym.dataset import ProceduralDataset as Base
from reasoning_gym.factory import DATASETS
print(json.dumps([name for name, (made, _) in DATASETS.items() if made.score_answer is Base.score_answer]))
"""
    substring = {name for name, audit in AUDIT.items() if audit.fault is Fault.SUBSTRING}
    assert substring == {*program(source, None), "manipulate_matrix", "tsumego"}


def test_substring_scorers_pay_for_a_denial_and_ours_do_not(items, problems):
    names = [name for name, audit in AUDIT.items() if audit.fault is Fault.SUBSTRING]
    denied = [(name, f"certainly not {items[name][0]['answer']}", items[name][0]) for name in names]
    paid = dict(zip(names, program(PAY, denied), strict=True))
    assert [name for name, pay in paid.items() if pay <= 0] == []
    for name in names:
        problem = problems[name][0]
        assert boxed(problem, f"certainly not {problem.answer}") == "wrong", name


CANARY = {
    "eval": "[open({path!r}, 'w').close()]",
    "sympy": "factorial.eval.__func__.__globals__['__builtins__']['open']({path!r}, 'w').close()",
}
EXECUTES = sorted(name for name, audit in AUDIT.items() if audit.fault is Fault.EXECUTES)


def test_nine_scorers_execute_the_answer_and_ours_do_not(items, problems, tmp_path):
    """Each is given a text that makes a file: one for eval, one for sympy's parse_expr."""
    cases, files = [], {}
    for name in EXECUTES:
        for kind, text in CANARY.items():
            files[name, kind] = tmp_path / f"{name}-{kind}"
            cases.append((name, text.format(path=str(files[name, kind])), items[name][0]))
    program(PAY, cases)
    ran = {name for (name, _), file in files.items() if file.exists()}
    assert ran == set(EXECUTES)
    assert len(ran) == 9
    for file in files.values():
        file.unlink(missing_ok=True)
    for name, text, _ in cases:
        for problem in problems.get(name, [])[:1]:
            assert boxed(problem, text) == "wrong", name
    assert list(tmp_path.iterdir()) == []


def other_numbers(item: Item) -> str:
    return "6*4*1*1" if sorted(item["metadata"]["numbers"]) != [1, 1, 4, 6] else "8*3*1*1"


def half_more(item: Item) -> str:
    return json.dumps([str(float(number) + 0.5) for number in json.loads(item["answer"].replace("'", '"'))])


def with_blocked_moves(item: Item) -> str:
    return "A+9 " + " ".join(solve_rush_hour(item["metadata"]["board_config"]) or [])


LOOSE: dict[str, Callable[[Item], str | None]] = {
    COIN: lambda item: "0" if float(item["answer"]) < 0.0001 else None,
    "decimal_arithmetic": lambda item: str(float(item["answer"]) + 0.0009),
    "game_of_life": lambda item: json.dumps([*json.loads(item["answer"]), [1, 1, 1]]),
    "game_of_life_halting": lambda item: "it goes on for ever" if item["answer"] == "True" else "True",
    "gsm_symbolic": lambda item: f"{item['answer']} is not it, I take {item['answer']}1",
    "number_format": lambda item: str(float(item["answer"]) + 0.005),
    "number_sorting": half_more,
    "pool_matrix": lambda item: "\n".join(
        " ".join(str(float(cell) * 1.005 + 0.006) for cell in row.split()) for row in item["answer"].splitlines()
    ),
    "propositional_logic": lambda item: max(item["metadata"]["premises"], key=len),
    "puzzle24": other_numbers,
    "rush_hour": with_blocked_moves,
    "sokoban": lambda item: f"I would say {item['answer']}, or so",
}


def test_loose_scorers_pay_in_full_for_wrong_answers_and_ours_do_not(items):
    assert {name.partition(":")[0] for name in LOOSE} == {
        "puzzle24", *(name for name, audit in AUDIT.items() if audit.fault is Fault.LOOSE)
    }  # fmt: skip
    cases = [
        (name, item, answer)
        for name, wrong in LOOSE.items()
        for item in items[name]
        if (answer := wrong(item)) is not None
    ]
    asked = [(name.partition(":")[0], answer, item) for name, item, answer in cases]
    paid_in_full = set()
    for (name, item, answer), paid in zip(cases, program(PAY, asked), strict=True):
        if paid < 0.999:
            continue
        paid_in_full.add(name)
        problem = problem_of(name.partition(":")[0], item) if AUDIT[name.partition(":")[0]].rule else None
        if problem is not None:
            assert boxed(problem, answer) == "wrong", (name, answer, problem.answer)
    assert paid_in_full == set(LOOSE)


# Gold answers, and labels


def test_gold_answers_verify_against_themselves_also_after_json(problems):
    for name, found in problems.items():
        assert found, name
        for problem in found[:3]:
            stored = replace(problem, meta=json.loads(json.dumps(problem.meta)))
            assert check_gold(stored) is None, (name, problem.answer)
            if problem.meta.get("rule") != "scorer":  # tests/verify/test_verify_gym.py has those
                assert boxed(stored, str(problem.answer)) == "correct", (name, problem.answer)


def test_the_gold_answer_of_another_problem_is_wrong_unless_it_is_the_same_or_solves_this_one_too(problems):
    """Puzzles with several solutions are left to test_verify_gym.py, where wrong ones are made on purpose."""
    seen = 0
    for name, found in problems.items():
        if name in SCORERS or AUDIT[name].rule.removeprefix("gym/") in PUZZLES:
            continue
        for one, other in pairwise(found):
            if str(one.answer).casefold() != str(other.answer).casefold():
                status, seen = boxed(one, str(other.answer)), seen + 1
                assert status == "wrong" or float(one.meta.get("tolerance", 0)), (name, one.answer, other.answer)
    assert seen > 300


@pytest.mark.parametrize("name", SOLVERS)
def test_labels_are_what_a_solver_of_our_own_finds(name, items, problems):
    checked = 0
    for item in items[name]:
        problem = problem_of(name, item)
        found = SOLVERS[name](item) if problem is not None else None
        if problem is not None and found is not None:
            assert problem.answer == found, (problem.text, problem.answer)
            checked += 1
    assert checked >= 5


@pytest.mark.parametrize("name", ["mahjong_puzzle", "syllogism", "tsumego"])
def test_the_labels_that_are_repaired_or_left_out_are_wrong_in_the_package(name, items):
    """The reason for each repair: among thirty items there are some whose label our solver denies."""
    denied = [item for item in items[name] if SOLVERS[name](item) not in (None, item["answer"])]
    assert denied
    served = [problem for item in denied if (problem := problem_of(name, item)) is not None]
    assert all(problem.answer == SOLVERS[name]({"question": problem.text}) for problem in served)


def test_unanswerable_family_puzzles_are_left_out(items):
    """A circle of colleagues, whose label counts Matilda among her own colleagues; and brothers of somebody else."""
    kept = {item["question"] for item in items["aiw"] if problem_of("aiw", item)}
    assert kept
    for item in items["aiw"]:
        first, asked = item["question"].split()[0], item["question"].rpartition("does ")[2].split("'")[0]
        out = "Matilda" in item["question"] or ("sisters does" in item["question"] and first != asked)
        assert out is (item["question"] not in kept), item["question"]


def test_a_syllogism_is_decided_by_the_worlds_in_which_it_fails():
    barbara = (["All cats are dogs", "All dogs are birds"], "All cats are birds")
    darapti = (["All dogs are cats", "All dogs are birds"], "Some cats are birds")
    wrong = (["All children are animals", "Some animals are not doctors"], "Some children are not doctors")
    assert [follows(*barbara, exist=exist) for exist in (True, False)] == [True, True]
    assert [follows(*darapti, exist=exist) for exist in (True, False)] == [True, False]
    assert [follows(*wrong, exist=exist) for exist in (True, False)] == [False, False]


# Naming, drawing, splitting


def drawn(spec: str, n: int, **options: Any) -> list[Problem]:
    return gym_problems(parse_spec(spec), n, **options)


@pytest.mark.parametrize("name", ["list_functions", "isomorphic_strings", "word_ladder"])
def test_a_seed_gives_the_same_problems_whatever_the_order_of_sets(name, monkeypatch):
    """These three draw from the global generator or walk through sets."""
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    first = drawn(f"gym/{name}", 6, split="train", seed=3)
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    assert drawn(f"gym/{name}", 6, split="train", seed=3) == first
    assert drawn(f"gym/{name}", 3, split="train", seed=3) == first[:3]
    assert drawn(f"gym/{name}", 6, split="train", seed=4) != first


def test_neighbouring_seeds_share_nothing():
    """The package gives item i of seed s the generator s + i, so its seeds 0 and 1 overlap; ours do not."""
    ids = [{problem.id for problem in drawn("gym/products:min_digits=5", 40, split="train", seed=s)} for s in (0, 1)]
    assert not ids[0] & ids[1]


def test_what_is_held_out_is_held_out_for_every_seed_and_option():
    test = [problem for seed in (0, 1) for problem in drawn("gym/gcd/test:max_value=30", 12, seed=seed)]
    train = [problem for seed in (0, 1) for problem in drawn("gym/gcd:split=train,max_value=30", 100, seed=seed)]
    assert {problem.meta["split"] for problem in test} == {"test"}
    assert not {problem.id for problem in test} & {problem.id for problem in train}
    assert not {problem.text for problem in test} & {problem.text for problem in train}
    for problem in (*test, *train):
        assert problem.id.startswith(f"gym/gcd/{problem.meta['split']}/")


def test_a_task_of_arc_is_held_out_in_all_its_rotations(items):
    splits: dict[str, set[str]] = {}
    for item in items["rearc"] + items["arc_agi"]:
        problem = problem_of("rearc", item)
        assert problem is not None
        splits.setdefault(item["metadata"]["task_id"], set()).add(problem.meta["split"])
        moved = problem_of("rearc", item | {"question": item["question"] + " "})
        assert moved is not None
        splits[item["metadata"]["task_id"]].add(moved.meta["split"])
    assert all(len(found) == 1 for found in splits.values())


def test_options_reach_the_generator():
    for problem in drawn("gym/chain_sum:min_terms=2,max_terms=2,min_digits=1,max_digits=1", 10, split="train"):
        assert len(problem.text.split(":")[1].split()) == 4  # a + b =
    assert all("(" not in p.text for p in drawn("gym/basic_arithmetic:allow_parentheses=false", 20, split="train"))


def test_the_door_opens_for_gym():
    loaded = load_checked("gym/chain_sum", 5, seed=2)
    assert [problem.kind for problem in loaded.problems] == ["number"] * 5
    assert loaded.findings == ()
    assert load("gym/tower_of_hanoi/train:max_disks=3", seed=2, all_if_fewer=True)


def test_a_family_with_few_problems_says_how_many_there_are():
    few = "gym/tower_of_hanoi/train:max_disks=3,min_pegs=3,max_pegs=3"
    found = len(drawn(few, 100, all_if_fewer=True))
    assert 1 <= found < 100
    with pytest.raises(UserError, match=f"has only {found} different train problems"):
        drawn(few, 100)


MISTAKES = {
    "gym/chain_sums": "there is no such data set; did you mean 'chain_sum'",
    "gym/zzz": "there is no such data set",
    "gym/boxnet": "is refused: no gold answer",
    "gym/composite": "is refused: no data set but a mixture",
    "gym/chain_sum/dev": "has no split 'dev'",
    "gym/chain_sum/test:split=train": "another time; leave one out",
    "gym/chain_sum:min_term=2": "has no option 'min_term'; did you mean 'min_terms'",
    "gym/chain_sum:min_terms=two": "min_terms='two' must be a whole number",
    "gym/chain_sum:allow_negation=maybe": "must be true or false",
    "gym/chain_sum:min_terms=9,max_terms=2": "max_terms must be >= min_terms",
    "gym/chain_sum:seed=3": "seed is not an option",
    "gym/basic_arithmetic:operators=+": "operators is no single value and cannot be set",
}


@pytest.mark.parametrize("spec", MISTAKES)
def test_a_mistake_is_one_line(spec):
    with pytest.raises(UserError) as caught:
        drawn(spec, 3)
    assert MISTAKES[spec] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_line_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "reasoning_gym.py").write_text("raise ModuleNotFoundError(\"No module named 'reasoning_gym'\")\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError, match=r"pip install 'thinksmith\[gym\]'"):
        drawn("gym/chain_sum", 1)


def test_another_version_is_not_served(monkeypatch):
    monkeypatch.setattr(gym, "AUDITED", "0.0.1")
    with pytest.raises(UserError, match="has not been audited for version"):
        drawn("gym/chain_sum", 1)


def test_the_page_tells_what_the_audit_says():
    page = (ROOT / "docs" / "problems.md").read_text(encoding="utf-8")
    section = page.partition("## reasoning-gym")[2].partition("\n## ")[0]
    for name, audit in AUDIT.items():
        if not audit.rule or audit.note:
            assert f"`{name}`" in section, name
    for fault in Fault:
        count = sum(audit.fault is fault for audit in AUDIT.values())
        assert f"| {count} | {fault.value} |" in section, (count, fault)
    assert f"{len(SERVED)} of {len(AUDIT)}" in section
