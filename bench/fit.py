"""What `thinksmith fit` predicts beside what is measured: peak memory, the speed of decoding, published speeds.

Each setting of memory runs in a process of its own and is measured by the system (VmHWM), after one small request or
step has loaded what is loaded once. `growth` is what the work adds to that. The peer is accelerate's estimate, for the
settings that it knows of: weights to load a model, four times the weights to train it.

    python bench/fit.py [--quick]

Goals: memory within 10 % each and 5 % in the median, decoding within 25 %, published speeds within 10 % in the median.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import _fit_speed
import _fit_training
from _result import finish

HERE = Path(__file__).parent
GOALS = {
    "memory_error_each": 0.10,
    "memory_error_median": 0.05,
    "decode_error_each": 0.25,
    "published_error_median": 0.10,
}
LOADS: dict[str, dict[str, Any]] = {
    "load and generate 25m": {"shape": "25m", "dtype": "float32", "rows": 64, "prompt": 64, "tokens": 128},
    "load and generate 120m": {"shape": "120m", "dtype": "float32", "rows": 16, "prompt": 64, "tokens": 64},
    "load and generate 120m, top-p": {
        "shape": "120m", "dtype": "float32", "rows": 32, "prompt": 64, "tokens": 8, "top_p": 0.95,
    },
    "load and generate 120m, bf16": {"shape": "120m", "dtype": "bfloat16", "rows": 8, "prompt": 64, "tokens": 4},
    "load and generate 120m, int8": {
        "shape": "120m", "dtype": "bfloat16", "quantize": "int8", "rows": 8, "prompt": 64, "tokens": 4,
    },
    "load and generate 0.5b": {"shape": "0.5b", "dtype": "float32", "rows": 8, "prompt": 64, "tokens": 16},
    "load and generate 1.5b": {"shape": "1.5b", "dtype": "float32", "rows": 4, "prompt": 16, "tokens": 4},
    "load and generate 1.5b, bf16": {"shape": "1.5b", "dtype": "bfloat16", "rows": 2, "prompt": 8, "tokens": 3},
}  # fmt: skip
QUICK = ("load and generate 25m", "tiny sft")


def memory(quick: bool) -> list[dict[str, Any]]:
    rows = [loading(name) for name in LOADS if name in QUICK or not quick]
    names = [name for name in _fit_training.SETTINGS if name in QUICK or not quick]
    return rows + [training(name) for name in names]


def loading(name: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "_fit_inference.py"), json.dumps(LOADS[name])]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    before, peak = found["before"]["now"], max(found["loaded"]["peak"], found["generated"]["peak"])
    runtime = sum(size for part, size in found["predicted"]["items"].items() if part.strip() == "process")
    weights = found["weights"] if "quantize" not in LOADS[name] else None  # it knows no torchao
    return shown(name, before, peak, found["predicted"]["total"], runtime, weights)


def training(name: str) -> dict[str, Any]:
    found = _fit_training.in_child(name)
    full = "tuning" not in found["training"]
    weights = found["items"].get("/weights", 0)
    runtime = found["predicted"] - found["predicted_growth"]
    return shown(name, found["before"], found["peak"], found["predicted"], runtime, 4 * weights if full else None)


def shown(name: str, before: int, peak: int, predicted: int, runtime: int, peer: int | None) -> dict[str, Any]:
    """A row: megabytes, and errors as shares of what was measured."""
    grown = peak - before
    row = {
        "setting": name,
        "measured_mb": round(peak / 1e6),
        "predicted_mb": round(predicted / 1e6),
        "error": round(predicted / peak - 1, 3),
        "growth_mb": round(grown / 1e6),
        "growth_error": round((predicted - runtime) / grown - 1, 3),
        "accelerate_growth_error": None if peer is None else round(peer / grown - 1, 3),
    }
    print(json.dumps(row), flush=True)
    return row


def errors(rows: list[dict[str, Any]], key: str) -> list[float]:
    return [abs(row[key]) for row in rows if row[key] is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small settings, and decoding of the smallest model")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    rows = memory(options.quick)
    decoding = _fit_speed.local(options.quick)
    beside = _fit_speed.beside()
    published = _fit_speed.summary(beside)
    each, median = max(errors(rows, "error")), statistics.median(errors(rows, "error"))
    figures = {
        "memory_error_each": round(each, 3),
        "memory_error_median": round(median, 3),
        "growth_error_each": round(max(errors(rows, "growth_error")), 3),
        "growth_error_median": round(statistics.median(errors(rows, "growth_error")), 3),
        "accelerate_growth_error_median": round(statistics.median(errors(rows, "accelerate_growth_error")), 3),
        "decode_error_each": max(errors(decoding, "error")),
        "decode_error_median": round(statistics.median(errors(decoding, "error")), 3),
        "published_error_median": published["median_error"],
        "published_figures": published["figures"],
        "published_within_quarter": published["within_quarter"],
        "load_average_before": round(load, 1),
        "memory": rows,
        "decoding": decoding,
        "published": [{key: row[key] for key in PUBLISHED} for row in beside],
    }
    finish("fit", figures, GOALS, all(figures[name] <= goal for name, goal in GOALS.items()))


PUBLISHED = ("device", "engine", "model", "format", "kind", "tokens", "context", "published", "predicted", "left_out",
             "ceiling", "error", "check", "why", "url", "date")  # fmt: skip

if __name__ == "__main__":
    main()
