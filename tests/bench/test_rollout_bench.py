"""The bench of the local engine: its ways do the same work, a part is as unequal as the whole, its goals are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config


@pytest.fixture(scope="module")
def shape() -> Any:
    from _shapes import COMMON, Shape

    config = Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.2, **COMMON,
    )  # fmt: skip
    return Shape(config, requests=(6, 8, 2), prompt=40, mean=6, most=12, slots=8)


@pytest.fixture(scope="module")
def engine(shape: Any) -> Iterator[Any]:
    from _shapes import make_policy
    from thinksmith.engines.local.engine import LocalEngine

    engine = LocalEngine(make_policy(shape, torch.device("cpu")))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def ways(engine: Any) -> list[Any]:
    from _peers import twin
    from rollout import make_ways

    return make_ways(
        engine,
        twin(engine._policy.model),
        ("generate", "generate_static", "generate_sorted", "generate_batch"),
    )


def test_the_twin_shares_parameters_and_not_the_attention() -> None:
    from _peers import twin
    from _shapes import COMMON

    config = Qwen2Config(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, attn_implementation="eager", **COMMON,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model.set_attn_implementation("eager")
    other = twin(model)
    assert all(a is b for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert other.lm_head.weight is model.get_input_embeddings().weight
    assert (model.config._attn_implementation, other.config._attn_implementation) == ("eager", "sdpa")


def test_all_ways_draw_the_same_greedy_tokens(ways: list[Any], shape: Any) -> None:
    from _shapes import workloads

    load = workloads(shape)["lognormal"]
    found = {way.name: way.run(load, True) for way in ways}
    assert len({tuple(row) for row in found["engine"]}) > 1, "the model says always the same: the test tests nothing"
    assert all(rows == found["engine"] for rows in found.values()), list(found)


@pytest.mark.parametrize("name", ["equal", "lognormal", "group"])
def test_every_way_gives_every_row_its_length(name: str, ways: list[Any], shape: Any) -> None:
    from _shapes import workloads

    load = workloads(shape)[name]
    for way in ways:
        rows = way.run(load, False)
        assert [len(row) for row in rows] == [length for _, length in load.rows], way.name
        assert len(set(map(tuple, rows))) > len(rows) // 2, f"{way.name} does not sample"


def test_the_engines_model_keeps_its_attention(engine: Any, ways: list[Any], shape: Any) -> None:
    from _shapes import workloads

    ways[-1].run(workloads(shape)["equal"], False)
    assert engine._policy.model.config._attn_implementation == "thinksmith"


def test_a_part_is_as_unequal_as_the_whole() -> None:
    from _shapes import SHAPES, workloads

    whole = workloads(SHAPES["tiny"])["lognormal"]
    assert len(whole.prompts) == 256
    assert max(whole.lengths) <= 1024
    assert whole.tokens / 256 == pytest.approx(128, rel=0.02)
    for divisor in (2, 4, 8):
        part = whole.part(divisor)
        assert len(part.prompts) == 256 // divisor
        assert max(part.lengths) == max(whole.lengths)
        assert part.tokens / len(part.lengths) == pytest.approx(128, rel=0.25)


def test_the_shapes_have_the_sizes_that_they_are_named_for() -> None:
    from _shapes import MODELS, SHAPES

    sizes = {}
    for name, shape in SHAPES.items():
        with torch.device("meta"):
            sizes[name] = AutoModelForCausalLM.from_config(shape.config).num_parameters() / 1e6
    assert sizes["tiny"] < 3
    assert sizes["25m"] == pytest.approx(25, rel=0.03)
    assert sizes["0.6b"] == pytest.approx(596, rel=0.01)
    assert sizes["1.5b"] == pytest.approx(1544, rel=0.01)
    assert [name for names in MODELS.values() for name in names if SHAPES[name].full] == ["tiny", "25m", "1.5b"]


def test_a_slow_way_is_run_once_and_one_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    from _peers import Way
    from _shapes import Workload
    from _timing import Contestant, contest

    runs: list[str] = []

    def noting(name: str) -> Way:
        def run(load: Workload, greedy: bool) -> list[list[int]]:
            runs.append(name)
            if name == "broken":
                raise ValueError("no")
            return [[0] * length for _, length in load.rows]

        return Way(name, run)

    load = Workload([[1], [2]], [3, 5])
    contestants = [Contestant(noting("fast"), load, 1e9), Contestant(noting("slow"), load, 0.0)]
    found = contest([contestants[0], Contestant(noting("broken"), load, 1e9), contestants[1]], 3)
    assert found == contestants
    assert [len(each.times) for each in found] == [3, 1]
    assert runs == ["fast", "fast", "broken", "slow", "slow", "fast", "fast", "fast"]
    assert "broken fails: ValueError: no" in capsys.readouterr().out


def test_memory_sees_what_is_taken_and_what_was_said() -> None:
    from _timing import Memory

    if torch.cuda.is_available() or not Path("/proc/self/statm").exists():
        pytest.skip("resident memory is read from /proc")
    with Memory(lambda: 7) as memory:
        torch.ones(64 << 20, dtype=torch.uint8)
        kept = torch.ones(64 << 20, dtype=torch.uint8)
    assert len(kept) * 0.9 < memory.growth < len(kept) * 3
    assert memory.planned == 7


def test_goals_are_about_the_faster_cache_and_the_worst_memory() -> None:
    from rollout import Row, goal_figures

    def row(peer: str, times: float, memory: int = 100, planned: int | None = None) -> Row:
        return Row("tiny", "equal", peer, 1, times, "1 of 1", 1, memory, planned, True)

    rows = [row("engine", 1.0, 110, 100), row("generate", 3.0), row("generate_static", 2.5), row("generate_batch", 9.0)]
    found = goal_figures(rows, {"tiny": {"matmul_share": 0.7, "slots": 256}}, ["tiny", "25m"])
    assert found == {
        "tiny.equal_over_generate": 2.5,
        "tiny.equal_over_generate_batch": 9.0,
        "tiny.matmul_share": 0.7,
        "memory_over_planned": 1.1,
    }


def test_a_part_is_put_only_into_figures_of_the_same_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import _result
    import rollout

    monkeypatch.setattr(rollout, "RESULTS", tmp_path)
    assert rollout.earlier() == {}
    record = {
        "figures": {"rates": []},
        "quick": False,
        "machine": _result.machine(),
        "versions": _result.versions(),
    }
    path = tmp_path / "rollout.json"
    path.write_text(json.dumps(record))
    assert rollout.earlier() == {"rates": []}
    path.write_text(json.dumps(record | {"versions": {"torch": "0"}}))
    assert rollout.earlier() == {}
    path.write_text(json.dumps(record | {"quick": True}))
    assert rollout.earlier() == {}
