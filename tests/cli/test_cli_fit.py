"""`thinksmith fit` as a user runs it: good input and bad."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BROKEN = {
    "a field is missing": {"model_type": "llama", "hidden_size": 64},
    "a text for a number": {"model_type": "llama", "hidden_size": "many", "num_hidden_layers": 2},
    "a number beyond all sizes": {"hidden_size": 10**30},
    "more layers than fit": {"num_hidden_layers": 10**12},
    "a negative number": {"num_attention_heads": -4},
    "not finite": {"hidden_size": float("nan")},
    "a list for a number": {"vocab_size": [1, 2]},
    "an unknown architecture": {"model_type": "unheard_of"},
    "no architecture": {"model_type": None},
}
GOOD = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}
MISTAKES = {
    "unknown model": (["deepsek-r1:7b"], "DeepSeek-R1-Distill-Qwen-7B"),
    "unknown device": (["qwq", "--device", "rtx-4091"], "rtx-4090"),
    "several sizes": (["qwq", "--device", "m2-max"], "m2-max-32gb"),
    "unknown format": (["qwq", "--device", "dgx-spark", "--format", "q4_k_n"], "q4_k_m"),
    "unknown engine": (["qwq", "--device", "dgx-spark", "--engine", "vlm"], "vllm"),
    "an engine that does not run there": (["qwq", "--device", "m4-max-64gb", "--engine", "vllm"], "vllm"),
    "a format that it does not run": (["qwq", "--device", "h200", "--engine", "vllm", "--format", "q4_k_m"], "q4_k_m"),
    "unknown cache": (["qwq", "--device", "dgx-spark", "--kv-format", "fp9"], "fp8"),
    "no context": (["qwq", "--device", "dgx-spark", "--context", "0"], "--context"),
    "too long a context": (["qwq", "--device", "dgx-spark", "--context", "99999999999"], "context"),
    "a longer context than the model has": (["qwq", "--device", "dgx-spark", "--context", "50000"], "40,960 tokens"),
    "longer thinking than the model can": (["qwq", "--device", "dgx-spark", "--thinking", "40960"], "too long"),
    "memory that is no number": (["qwq", "--device", "dgx-spark", "--memory", "nan"], "--memory nan"),
    "a price that is none": (["qwq", "--device", "dgx-spark", "--dollars-per-hour", "inf"], "inf"),
    "a prompt as long as all": (["qwq", "--device", "h200", "--train", "grpo", "--prompt", "4096"], "prompt_tokens"),
    "no memory": (["qwq", "--device", "dgx-spark", "--memory", "0"], "memory"),
    "unknown method": (["qwq", "--device", "dgx-spark", "--train", "rlhf"], "sft, dpo, grpo"),
    "unknown tuning": (["qwq", "--device", "dgx-spark", "--train", "sft", "--tuning", "half"], "full, lora, qlora"),
    "no such file of devices": (["qwq", "--device", "nowhere.toml"], "nowhere.toml"),
    "no such folder": (["./nowhere", "--device", "dgx-spark"], "./nowhere"),
    "a page that is a folder": (["qwq", "--device", "dgx-spark", "--html", "/"], "--html"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_one_line(mistake: str, cli) -> None:
    arguments, told = MISTAKES[mistake]
    done = cli("fit", *arguments)
    assert done.code == 2, done
    assert done.err.startswith("thinksmith: ")
    assert done.err.count("\n") == 1, done.err
    assert told in done.err


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_config_is_told_in_one_line(broken: str, cli, tmp_path: Path) -> None:
    config = BROKEN[broken] if "missing" in broken else GOOD | BROKEN[broken]
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = cli("fit", tmp_path, "--device", "dgx-spark")
    assert (done.code, done.out) == (2, ""), done
    assert done.err.count("\n") == 1
    assert len(done.err) < 400


def test_a_good_config_of_ones_own(cli, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GOOD))
    told = json.loads(cli("fit", tmp_path, "--device", "dgx-spark", "--json").out)
    attention, mlp, norms = 64 * 64 * 2 + 2 * 64 * 32, 3 * 64 * 128, 2 * 64
    assert told["model"]["params"] == 2 * 100 * 64 + 2 * (attention + mlp + norms) + 64
    assert told["plan"]["verdict"] == "yes"


def test_the_table_on_a_spark(cli) -> None:
    done = cli("fit", "--table", "--device", "dgx-spark")
    assert done.code == 0
    lines = {tuple(line.split()[:2]): line.split() for line in done.out.splitlines() if line.startswith("DeepSeek-R1")}
    assert lines["DeepSeek-R1-Distill-Llama-70B", "bf16"][2:8] == ["~140", "GB", "141", "GB", "191", "GB"]
    assert lines["DeepSeek-R1-Distill-Llama-70B", "bf16"][8] == "no"
    assert lines["DeepSeek-R1-Distill-Llama-70B", "q8_0"][8] == "tight"
    assert "not 130 GB" in done.out
    rows = json.loads(cli("fit", "--table", "--device", "dgx-spark", "--json").out)["rows"]
    assert [row["model"] for row in rows] == [line.split()[0] for line in done.out.splitlines() if "~" in line]


def test_every_way_to_show_it(cli, tmp_path: Path) -> None:
    page = tmp_path / "fit.html"
    done = cli("fit", "qwq", "--device", "rtx-4090", "--html", page)
    assert done.code == 0
    assert "q4_k_m" in done.out
    assert "<svg" in page.read_text(encoding="utf-8")
    assert str(page) in done.err
    marked = cli("fit", "qwq", "--device", "rtx-4090", "--markdown").out
    assert marked.startswith("# Qwen/QwQ-32B on NVIDIA GeForce RTX 4090\n")
    two = cli("fit", "qwq", "deepseek-r1:7b", "--device", "rtx-4090", "--json", "--html", page)
    assert [each["model"]["name"].split("/")[1] for each in json.loads(two.out)] == [
        "QwQ-32B",
        "DeepSeek-R1-Distill-Qwen-7B",
    ]
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["fit-1.html", "fit-2.html", "fit.html"]


def test_devices_of_ones_own(cli, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(
        '[lab]\ntitle = "Our lab"\nkind = "cuda"\nmemory_gib = 40\nbandwidth_gb_s = 1000\n'
        'tflops = { bf16 = 100 }\nsource = "the invoice"\n'
    )
    told = json.loads(cli("fit", "deepseek-r1:7b", "--device", mine, "--json").out)
    assert told["device"]["usable"] == 40 * 2**30
    mine.write_text(mine.read_text().replace("bandwidth_gb_s", "bandwith_gb_s"))
    done = cli("fit", "deepseek-r1:7b", "--device", mine)
    assert done.code == 2
    assert "bandwidth_gb_s" in done.err


def test_this_machine_is_measured(cli) -> None:
    told = json.loads(cli("fit", "tiny", "--json").out)
    assert told["device"]["bandwidth"] > 1e8
    assert told["plan"]["verdict"] == "yes"
    assert told["plan"]["engine"] == "local"


def test_nothing_heavy_is_loaded_for_a_known_model_and_device(program: Path) -> None:
    code = (
        "import sys; from thinksmith.cli.main import run; run(['fit', 'qwq', '--device', 'dgx-spark']);"
        "heavy = {'torch', 'transformers', 'altair', 'numpy'} & set(sys.modules);"
        "sys.exit(','.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
