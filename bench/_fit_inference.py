"""One setting of the local engine in a process of its own: what its memory grew by, beside what `thinksmith.fit` says.

    python bench/_fit_inference.py '{"shape": "25m", "dtype": "float32", "rows": 8, "tokens": 256, "prompt": 128}'

prints a line of JSON. Another process writes the model before, with random weights, so nothing of that is measured.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    # hidden, inner, layers, heads, heads of keys and values, vocabulary, tied
    "tiny": {"hidden": 192, "inner": 512, "layers": 5, "heads": 4, "kv": 2, "vocab": 512, "tied": True},
    "25m": {"hidden": 384, "inner": 1024, "layers": 8, "heads": 6, "kv": 2, "vocab": 32000, "tied": True},
    "120m": {"hidden": 768, "inner": 2048, "layers": 12, "heads": 12, "kv": 4, "vocab": 32000, "tied": False},
    "0.5b": {"hidden": 896, "inner": 4864, "layers": 24, "heads": 14, "kv": 2, "vocab": 151936, "tied": True},
    "1.5b": {"hidden": 1536, "inner": 8960, "layers": 28, "heads": 12, "kv": 2, "vocab": 151936, "tied": True},
}
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def write_model(name: str, dtype: str, folder: Path) -> None:
    """A Qwen2 of that shape with random weights, and a tokenizer of as many entries."""
    import torch
    import transformers

    s = SHAPES[name]
    config = transformers.Qwen2Config(
        hidden_size=s["hidden"],
        intermediate_size=s["inner"],
        num_hidden_layers=s["layers"],
        num_attention_heads=s["heads"],
        num_key_value_heads=s["kv"],
        vocab_size=s["vocab"],
        tie_word_embeddings=s["tied"],
        max_position_embeddings=32768,
        use_sliding_window=False,
        eos_token_id=None,
        bos_token_id=None,
        dtype=dtype,
    )
    torch.manual_seed(1)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype))
    model = model.to_empty(device="cpu")
    model.tie_weights()
    for weight in model.parameters():
        weight.data.uniform_(-0.02, 0.02)
    model.save_pretrained(folder)
    write_tokenizer(s["vocab"], folder)


def write_tokenizer(vocab: int, folder: Path) -> None:
    """Byte pairs at random, seven characters long on average, as Qwen's are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    rng = random.Random(0)
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    known, merges = {token: at for at, token in enumerate(tokens)}, []
    while len(tokens) < vocab:
        pair = tokens[rng.randrange(min(len(tokens), 60000))], tokens[rng.randrange(min(len(tokens), 2000))]
        token = pair[0] + pair[1]
        if len(token) <= 8 and token not in known:
            known[token] = len(tokens)
            tokens.append(token)
            merges.append(pair)
    made = Tokenizer(models.BPE(vocab=known, merges=merges))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}', encoding="utf-8")


def status() -> dict[str, int]:
    """Bytes: resident now, at most since `forget`, and what of it are pages of files."""
    names = {"VmRSS": "now", "VmHWM": "peak", "RssFile": "file", "RssAnon": "own"}
    lines = (line.split() for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return {names[line[0][:-1]]: int(line[1]) * 1024 for line in lines if line[0][:-1] in names}


def forget() -> None:
    """Count the peak from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measure(setting: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Load, and generate; every row has a prompt of its own."""
    import torch

    from thinksmith import models
    from thinksmith.engines.local.engine import LocalEngine
    from thinksmith.policy.load import load_policy, load_tokenizer
    from thinksmith.records import Request, Sampling

    torch.set_num_threads(THREADS)
    load_tokenizer(models.path("tiny"))
    tiny = load_policy("tiny")  # what is loaded lazily, is
    engine = LocalEngine(tiny, slots=2)
    engine.sample_all([Request(token_ids=(5, 6, 7), sampling=Sampling(max_tokens=4, seed=1))])
    engine.close()
    del engine, tiny
    gc.collect()
    before = status()
    forget()
    policy = load_policy(str(folder), dtype=setting["dtype"], quantize=setting.get("quantize"))
    loaded = status()
    forget()
    rng = random.Random(2)
    rows, vocab = setting["rows"], policy.vocab_size
    sampling = Sampling(temperature=1.0, max_tokens=setting["tokens"], top_p=setting.get("top_p", 1.0))
    prompts = [tuple(rng.randrange(vocab) for _ in range(setting["prompt"])) for _ in range(rows)]
    engine = LocalEngine(policy, slots=rows, native=setting.get("native", True))
    import thinksmith.engines.local.batch as batches

    most, step = [0], batches.Batch.step

    def watched(self: Any, waiting: Any) -> Any:
        found = step(self, waiting)
        most[0] = max(most[0], self.memory)
        return found

    batches.Batch.step = watched  # type: ignore[method-assign]
    engine.sample_all([Request(token_ids=ids, sampling=sampling) for ids in prompts])
    generated = status()
    road = type(engine._batch._road).__name__
    engine.close()
    weights = sum(p.nbytes for p in policy.model.parameters())
    return {
        "before": before,
        "loaded": loaded,
        "generated": generated,
        "engine_memory": most[0],
        "weights": weights,
        "road": road,
    }


def predict(setting: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What `thinksmith.fit` says: bytes of the process at its peak, and of each part."""
    from thinksmith.fit.memory.free import memory_bytes
    from thinksmith.fit.memory.inference import Serving, serving_memory
    from thinksmith.fit.shapes.catalogue import find_shape
    from thinksmith.fit.speed.device import Device

    serving = Serving(
        "local",
        setting.get("quantize") or {"float32": "fp32", "bfloat16": "bf16"}[setting["dtype"]],
        context=setting["prompt"] + setting["tokens"],
        batch=setting["rows"],
        prompt=setting["prompt"],
        filtered=setting.get("top_p", 1.0) < 1,
    )
    shape = find_shape(str(folder))
    if not setting.get("native", True):  # as a family that the decoder in C does not compute
        shape = replace(shape, architecture="another")
    found = serving_memory(shape, serving, Device("here", "here", "cpu", memory_bytes(), 1.0, {}))
    return {"total": found.total, "peak": found.peak, "items": {f"{i.phase} {i.name}": i.bytes for i in found.items}}


def main() -> None:
    setting = json.loads(sys.argv[1])
    if len(sys.argv) > 3 and sys.argv[2] == "write":
        write_model(setting["shape"], setting.get("stored", setting["dtype"]), Path(sys.argv[3]))
        return
    if len(sys.argv) > 3:
        predicted = predict(setting, Path(sys.argv[3]))
        print(json.dumps({"setting": setting, "predicted": predicted, **measure(setting, Path(sys.argv[3]))}))
        return
    with tempfile.TemporaryDirectory() as folder:
        for what in ("write", "measure"):
            subprocess.run([sys.executable, __file__, sys.argv[1], what, folder], check=True)


if __name__ == "__main__":
    main()
