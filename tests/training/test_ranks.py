"""Training by two processes: the law is that they do what one does with twice the prompts, and that none waits long.

A pair of child processes works through all cases, because starting one costs more than a case.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from training_kit import same_bits, weights, word_policy

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.records import Attempt, Problem
from thinksmith.store.store import Store
from thinksmith.training.ranks import ALONE, EndedElsewhere, Ranks, opened
from thinksmith.training.rl.grpo import train
from thinksmith.training.rl.recipe import CurriculumTable, GRPORecipe, LoRATable, RolloutTable, TrainingTable
from thinksmith.training.rl.run import adapt
from thinksmith.training.sharding import shard, whole

STEPS = 3
# In strides of two: with one group each, the second rank's share of most steps teaches nothing.
PROBLEMS = [
    Problem(f"say/{word}/{i}", f"say {word} " + "hm " * i, word, "exact") for i in range(4) for word in ("yes", "no")
] + [Problem(f"say/nothing/{i}", "hm " * (i + 1), "maybe", "exact") for i in range(4)]
TIMED = ("seconds", "rollout_seconds", "verify_seconds", "train_seconds", "rollout_tokens_per_s", "train_tokens_per_s")


def said(attempt: Attempt) -> float:
    """A reward that a random model gets now and then, but never where there is nothing to say."""
    text = attempt.trace.completion.split()
    return text.count(attempt.problem.answer or "") / 2 + text.count("</think>") * (attempt.problem.answer != "maybe")


def recipe(prompts: int = 2, *, steps: int = STEPS, dynamic: bool = False, **training: Any) -> GRPORecipe:
    """`prompts` of each of the two."""
    training = {"lr": 4e-3, "micro_tokens": 256, "save_every": 1, **training}
    rollout = RolloutTable(prompts=prompts, num_generations=16, max_tokens=6, dynamic_sampling=dynamic)
    curriculum = CurriculumTable(measure=1, again=2) if dynamic else CurriculumTable()
    return GRPORecipe(
        steps=steps,
        rollout=rollout,
        curriculum=curriculum,
        training=TrainingTable(**training),
        lora=LoRATable(rank=4),
        rewards={"test_ranks:said": 1.0},
    )


CASES = {
    "grpo": recipe(loss_type="grpo"),
    "dapo in parts": recipe(loss_type="dapo", minibatches=2, num_iterations=2, scale_rewards="batch"),
    "gspo": recipe(loss_type="gspo", beta=0.05, minibatches=2),
    "top entropy": recipe(loss_type="bnpo", top_entropy_quantile=0.5),
    "dynamic": recipe(loss_type="dapo", dynamic=True, minibatches=2),
    "one group each": recipe(1, loss_type="dr_grpo", old_logprobs="computed", num_iterations=2),
    "adapter": recipe(tuning="lora"),
    "sharded": recipe(sharding="full", loss_type="gspo", num_iterations=2, max_grad_norm=0.1),
    "sharded, one group each": recipe(1, sharding="full", dynamic=True),
    "sharded adapter": recipe(sharding="full", tuning="lora", beta=0.05),
}


def trained(
    case: GRPORecipe, folder: Path, ranks: Ranks = ALONE, in_second_step: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """What came of it on this rank."""
    policy = word_policy(seed=1)
    adapt(policy, case)
    if case.training.sharding == "full" and ranks.size > 1:
        shard(policy, ranks)
    steps: list[list[Attempt]] = []
    rows: list[dict[str, float]] = []

    def on_attempts(attempts: Sequence[Attempt]) -> None:
        steps.append(list(attempts))
        if len(steps) == 2:
            in_second_step()

    train(
        policy,
        LocalEngine(policy),
        PROBLEMS,
        case,
        folder,
        on_step=rows.append,
        on_attempts=on_attempts,
        ranks=ranks,
    )
    drawn = [[(a.problem.id, a.sample, a.trace.token_ids) for a in attempts] for attempts in steps]
    with whole(policy.model):
        learnt = weights(policy.model)
    return {"weights": learnt, "drawn": drawn, "rows": rows}


def untrained(case: GRPORecipe) -> dict[str, torch.Tensor]:
    policy = word_policy(seed=1)
    adapt(policy, case)
    return weights(policy.model)


def twice(case: GRPORecipe) -> GRPORecipe:
    """The same for one process alone."""
    return case.model_copy(update={"rollout": case.rollout.model_copy(update={"prompts": 2 * case.rollout.prompts})})


def all_cases(folder: Path) -> None:
    with opened() as ranks:
        found = {name: trained(case, folder / name, ranks) for name, case in CASES.items()}
        torch.save(found, folder / f"rank-{ranks.rank}.pt")


STOPPED = ("dynamic", "sharded, one group each")


class Stopped(Exception):
    """Raised on both at once."""


def killed(folder: Path) -> None:
    """The first case is stopped in its second step, after the first was saved; in that of the other both are killed."""

    def stop() -> None:
        raise Stopped

    with opened() as ranks:
        with suppress(Stopped):
            trained(CASES[STOPPED[0]], folder / STOPPED[0], ranks, stop)
        trained(CASES[STOPPED[1]], folder / STOPPED[1], ranks, lambda: os.kill(os.getpid(), signal.SIGKILL))


def resumed(folder: Path) -> None:
    with opened() as ranks:
        found = {name: trained(CASES[name], folder / name, ranks) for name in STOPPED}
        torch.save(found, folder / f"rank-{ranks.rank}.pt")


def failing(ranks: Ranks, folder: Path) -> None:
    """The second cannot go on in its second step."""
    policy = word_policy(seed=1)
    rounds: list[int] = []

    def fail(attempts: Sequence[Attempt]) -> None:
        rounds.append(len(attempts))
        if ranks.rank == 1 and len(rounds) == 2:
            raise UserError("the second cannot go on")

    train(policy, LocalEngine(policy), PROBLEMS, CASES["grpo"], folder, on_attempts=fail, ranks=ranks)


def refused(ranks: Ranks, folder: Path) -> None:
    """Both find the same."""
    raise UserError("nobody can begin")


def differing(ranks: Ranks, folder: Path) -> None:
    policy = word_policy(seed=ranks.rank)
    train(policy, LocalEngine(policy), PROBLEMS, CASES["grpo"], folder, ranks=ranks)


def vanishing(ranks: Ranks, folder: Path) -> None:
    """The second is killed, and can tell nobody."""
    ranks.gather(None)
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.gather(None)


ENDS = {
    failing: "the second cannot go on",
    refused: "nobody can begin",
    differing: "what training starts from differs between the processes: start all of them with the same recipe, "
    "model and run folder",
    vanishing: "another process of this run was killed or cannot be reached; the last checkpoint is kept",
}


def all_ends(folder: Path) -> None:
    for place, end in enumerate(ENDS):
        os.environ["MASTER_PORT"] = os.environ["PORTS"].split()[place]
        try:
            with opened() as ranks:
                end(ranks, folder / end.__name__)
        except UserError as error:
            print(f"{end.__name__}: {error}", flush=True)
        except EndedElsewhere:
            print(f"{end.__name__}: ended elsewhere", flush=True)


Both = tuple[dict[str, Any], dict[str, Any]]
Alone = Callable[[str], dict[str, Any]]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(
    command: list[str], environment: Mapping[str, str] = MappingProxyType({}), size: int = 2
) -> list[subprocess.Popen[str]]:
    common = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": 1, **environment}
    ports = free_ports(len(ENDS))
    common |= {"MASTER_PORT": ports[0], "PORTS": " ".join(map(str, ports))}
    return [
        subprocess.Popen(
            command,
            cwd=Path(__file__).parent,
            env=os.environ
            | {name: str(value) for name, value in (common | {"RANK": rank, "LOCAL_RANK": rank}).items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each. None may need long: that would be a process that waits for ever."""
    try:
        found = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, out, err) for process, (out, err) in zip(processes, found, strict=True)]


def pair(what: str, folder: Path) -> list[tuple[int, str, str]]:
    code = "import sys, torch; torch.set_num_threads(1); import test_ranks, pathlib\n"
    code += f"test_ranks.{what}(pathlib.Path(sys.argv[1]))"
    return ended(start([sys.executable, "-c", code, str(folder)]))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    """What each of two ranks has of every case."""
    folder = tmp_path_factory.mktemp("ranks")
    for code, _, err in pair("all_cases", folder):
        assert code == 0, err
    one, other = (torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in (0, 1))
    return one, other


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """What one process has of a case, with twice the prompts."""
    return cache(lambda name: trained(twice(CASES[name]), tmp_path_factory.mktemp("alone")))


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_do_what_one_does_with_twice_the_prompts(name: str, both: Both, alone: Alone) -> None:
    one, other, expected = both[0][name], both[1][name], alone(name)
    assert same_bits(one["weights"], other["weights"])
    for tensor_name, tensor in expected["weights"].items():
        # The softmax does not see what all keys have in common, so the gradient of their bias is nothing but rounding,
        # which AdamW makes as large as any other.
        near = 1e-2 if tensor_name.endswith("k_proj.bias") else 4e-5  # a hundredth of one step
        assert torch.allclose(one["weights"][tensor_name], tensor, rtol=0, atol=near), tensor_name
    began = untrained(CASES[name])
    assert max(float((tensor - began[key]).abs().max()) for key, tensor in expected["weights"].items()) > 1e-3
    for step in range(STEPS):
        assert sorted(one["drawn"][step] + other["drawn"][step]) == sorted(expected["drawn"][step])
        assert one["drawn"][step]


@pytest.mark.parametrize("name", CASES)
def test_metrics_are_over_both(name: str, both: Both, alone: Alone) -> None:
    rows, expected = both[0][name]["rows"], alone(name)["rows"]
    assert both[1][name]["rows"] == []  # the first tells
    assert len(rows) == len(expected) == STEPS
    for row, wanted in zip(rows, expected, strict=True):
        assert row.keys() == wanted.keys()
        for key in row.keys() - {*TIMED, "memory_gb", "padding_share", "computed_tokens"}:
            assert row[key] == pytest.approx(wanted[key], abs=2e-5, rel=1e-4), key


def test_there_is_a_step_in_which_one_rank_has_nothing_to_learn(both: Both) -> None:
    """Else the cases above would not show that it goes on with the other one's gradient."""

    def dead(drawn: Sequence[tuple[str, int, tuple[int, ...]]]) -> bool:
        return all(problem.startswith("say/nothing") for problem, _, _ in drawn)

    steps = [(dead(both[0][n]["drawn"][s]), dead(both[1][n]["drawn"][s])) for n in CASES for s in range(STEPS)]
    assert any(one != other for one, other in steps)


def test_both_are_killed_and_go_on(both: Both, tmp_path: Path) -> None:
    """Bit for bit, as the uninterrupted ones do."""
    assert -signal.SIGKILL in {code for code, _, _ in pair("killed", tmp_path)}
    for name in STOPPED:
        assert [path.name for path in (tmp_path / name / "checkpoints").glob("step-*")] == ["step-000001.pt"]
    for rank, (code, _, err) in enumerate(pair("resumed", tmp_path)):
        assert code == 0, err
        found = torch.load(tmp_path / f"rank-{rank}.pt", weights_only=False)
        for name in STOPPED:
            assert same_bits(found[name]["weights"], both[rank][name]["weights"])
            assert found[name]["drawn"] == both[rank][name]["drawn"][1:]


def test_what_ends_one_ends_all_and_is_told_once(tmp_path: Path) -> None:
    (code, one, err), (killed_code, other, _) = pair("all_ends", tmp_path)
    assert (code, killed_code) == (0, -signal.SIGKILL), err
    for end, message in ENDS.items():
        told = [line for line in (one + other).splitlines() if line.startswith(f"{end.__name__}: ")]
        elsewhere = [f"{end.__name__}: ended elsewhere"] if end is not vanishing else []
        assert sorted(told) == sorted([f"{end.__name__}: {message}", *elsewhere])


def test_the_command_line_on_two_ranks(words: Path, tmp_path: Path) -> None:
    """One writes and tells; both add their attempts to the store."""
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
model = "{words}"
problems = "arithmetic"
steps = 1
rewards = {{"tag_count" = 1.0}}
rollout = {{prompts = 2, num_generations = 4, max_tokens = 8, pool = 16}}
evaluation = {{problems = "arithmetic", n = 4, max_tokens = 8}}
""",
        encoding="utf-8",
    )
    environment = {"THINKSMITH_STORE": f"sqlite:///{tmp_path / 'store.db'}"}
    command = [sys.executable, "-m", "thinksmith", "grpo", str(path), "--out", str(tmp_path / "run")]
    (code, out, err), (other_code, other_out, other_err) = ended(start(command, environment))
    assert (code, other_code) == (0, 0), err + other_err
    assert "report.html" in out
    assert other_out == ""
    with Store.open(environment["THINKSMITH_STORE"]) as store:
        (run,) = [run for run in store.runs() if run.kind == "grpo"]
        assert len(list(store.attempts(run.id))) == 2 * 2 * 4


def test_a_world_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UserError, match="WORLD_SIZE='two'"), opened():
        pass
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(UserError, match="RANK must be 0 to 1"), opened():
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    with opened() as ranks:
        assert ranks == ALONE
