"""Models taken elsewhere: every number of a GGUF, the same greedy text in llama.cpp, Ollama's templates."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from thinksmith import models as embedded
from thinksmith.cli.main import run
from thinksmith.convert import ollama
from thinksmith.convert.gguf import write_gguf
from thinksmith.convert.tokenizer import RULES, vocabulary
from thinksmith.convert.weights import load_to_convert
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.fit.formats.gguf_header import read_gguf
from thinksmith.policy.adapter import LoRA, add_lora, save_adapter
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.problems.load import load as load_problems
from thinksmith.records import Request, Sampling

gguf = pytest.importorskip("gguf", reason="the gguf library is not installed (extra gguf)")

TEXT = [p.text for p in load_problems("mixed", 200, split="train")] + [
    "Wait, 3 isn't 4: don't!\n\n\tSo  what?",
    "naïve 日本",
] * 40
RULE = {name: pattern for pattern, name in RULES.items()}
CHATML = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n<think>\n' }}{%- endif -%}"
)


def bpe(rule: str, template: str = CHATML) -> Any:
    """A small byte-level BPE tokenizer that cuts texts by a rule that llama.cpp has."""
    made = Tokenizer(models.BPE())
    parts = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=rule == "gpt-2")]
    if rule == "smollm":
        parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    elif rule != "gpt-2":
        parts.insert(0, pre_tokenizers.Split(Regex(RULE[rule]), behavior="isolated"))
    made.pre_tokenizer = pre_tokenizers.Sequence(parts) if len(parts) > 1 else parts[0]
    made.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    )
    made.add_tokens(["<think>", "</think>"])
    found: Any = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template
    )
    return found


def policy_of(family: str, rule: str, **more: Any) -> Policy:
    """Random weights, drawn wide so that an error moves the text."""
    tokenizer = bpe(rule)
    torch.manual_seed(1)
    settings: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
    settings |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokenizer) + 5, **(settings | more), eos_token_id=2, bos_token_id=None
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1.0 if weight.ndim == 1 else 0.0, 0.1)
    return Policy(model, tokenizer, f"random {family}")


MODELS: dict[str, Callable[[], Policy]] = {
    "tiny": lambda: load_policy("tiny"),
    "Qwen2": lambda: policy_of("Qwen2", "qwen2"),
    "Qwen2 tied": lambda: policy_of("Qwen2", "gpt-2", tie_word_embeddings=True),
    "Qwen3": lambda: policy_of("Qwen3", "qwen2", head_dim=32),
    "Llama": lambda: policy_of("Llama", "llama-bpe"),
    "Llama one key head": lambda: policy_of("Llama", "smollm", num_key_value_heads=1, tie_word_embeddings=True),
    "Llama 3's rope": lambda: policy_of(
        "Llama",
        "llama-bpe",
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        },
    ),
    "Qwen2 linear rope": lambda: policy_of(
        "Qwen2", "qwen2", rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_every_number_is_there(name: str, tmp_path: Path) -> None:
    policy = MODELS[name]()
    path = tmp_path / "m.gguf"
    seen: list[tuple[int, int]] = []
    written = write_gguf(policy, path, "f32", on_tensor=lambda done, total: seen.append((done, total)))
    assert path.stat().st_size == written.bytes
    assert seen[-1][0] == seen[-1][1] == sum(written.tensors.values())
    assert list(tmp_path.iterdir()) == [path]
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    weights = dict(policy.model.named_parameters())
    assert len(found) == len(weights) + ("rope_freqs.weight" in found)
    assert np.array_equal(found["token_embd.weight"], weights["model.embed_tokens.weight"].detach().numpy())
    assert np.array_equal(
        found["blk.1.ffn_down.weight"], weights["model.layers.1.mlp.down_proj.weight"].detach().numpy()
    )
    key = weights["model.layers.0.self_attn.k_proj.weight"].detach().numpy()
    same = np.array_equal(found["blk.0.attn_k.weight"], key)
    assert same == (not name.startswith("Llama"))
    assert np.array_equal(np.sort(found["blk.0.attn_k.weight"], axis=0), np.sort(key, axis=0))
    header = read_gguf(path)
    assert {tensor.name for tensor in header.tensors} == set(found)


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_says_the_same(name: str, tmp_path: Path) -> None:
    """The same ids of the same texts, and the same greedy text: in float32, its cache too."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (extra bench)")
    policy = MODELS[name]()
    path = tmp_path / "m.gguf"
    write_gguf(policy, path, "f32")
    theirs = llama_cpp.Llama(str(path), n_ctx=512, n_threads=1, type_k=0, type_v=0, verbose=False, logits_all=False)
    try:
        same = [
            theirs.tokenize(text.encode(), add_bos=False, special=False) == list(policy.encode(text)) for text in TEXT
        ]
        assert all(same) if name != "tiny" else 0.2 < sum(same) / len(same) < 1  # no rule of theirs is like tiny's
        engine = LocalEngine(policy)
        asked = [Request(messages=({"role": "user", "content": text},), sampling=Sampling(temperature=0, max_tokens=64))
                 for text in TEXT[:6]]  # fmt: skip
        for (trace,) in engine.sample_all(asked):
            found: list[int] = []
            for token in theirs.generate(list(trace.prompt_ids), temp=0.0, reset=True):
                found.append(token)
                if token == 2 or len(found) == 64:
                    break
            assert found == list(trace.token_ids)
    finally:
        theirs.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("to", ["gguf", "hf"])
def test_a_folder_in_the_type_of_its_checkpoint(dtype: torch.dtype, to: str, tmp_path: Path) -> None:
    policy = policy_of("Qwen3", "qwen2", head_dim=32)
    policy.model.to(dtype).save_pretrained(tmp_path / "model")
    policy.tokenizer.save_pretrained(tmp_path / "model")
    assert run(["convert", str(tmp_path / "model"), "--to", to, "--out", str(tmp_path / "out")]) == 0
    weight = policy.model.model.layers[1].mlp.down_proj.weight.detach()
    if to == "hf":
        again: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
        assert torch.equal(again.model.layers[1].mlp.down_proj.weight, weight)
    else:
        found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "out").tensors}
        assert np.array_equal(found["blk.1.ffn_down.weight"], weight.to(torch.float16).numpy())


def test_what_adapters_add_is_in_it(tmp_path: Path) -> None:
    policy = load_policy("tiny")
    add_lora(policy, LoRA(rank=4))
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.05)
    save_adapter(policy, tmp_path / "adapter")
    adapted = load_to_convert(str(tmp_path / "adapter"))
    assert run(["convert", str(tmp_path / "adapter"), "--to", "hf", "--out", str(tmp_path / "merged")]) == 0
    merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    ids = torch.arange(40)[None] % 300
    with torch.no_grad():
        ours, theirs = adapted.model(ids).logits, merged(ids).logits
        plain = load_policy("tiny").model(ids).logits
    torch.testing.assert_close(theirs, ours, atol=2e-4, rtol=1e-4)
    assert (theirs - plain).abs().max() > 0.05
    write_gguf(adapted, tmp_path / "a.gguf", "f32")
    found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    want = merged.model.layers[0].mlp.up_proj.weight.detach().numpy()
    assert np.abs(found["blk.0.ffn_up.weight"] - want).max() < 1e-6


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0"])
def test_smaller_numbers_are_near(kind: Any, tmp_path: Path) -> None:
    policy = policy_of("Qwen2", "qwen2", intermediate_size=80)  # rows of 80 numbers are no multiple of 32
    written = write_gguf(policy, tmp_path / "m.gguf", kind)
    weights = dict(policy.model.named_parameters())
    for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors:
        if tensor.name == "blk.0.ffn_up.weight":
            exact = weights["model.layers.0.mlp.up_proj.weight"].detach().numpy()
            found = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(exact.shape)
            if kind == "q8_0":  # 32 numbers share a scale: the largest over 127, as float16
                blocks = exact.reshape(-1, 32)
                scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float32)
                want = np.round(blocks / scale) * scale.astype(np.float16).astype(np.float32)
                assert np.abs(found.reshape(-1, 32) - want).max() <= scale.max() * 0.01
            else:
                want = torch.tensor(exact).to({"f16": torch.float16, "bf16": torch.bfloat16}[kind]).float().numpy()
                assert np.array_equal(found, want)
        if tensor.name == "blk.0.attn_norm.weight":
            assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
    stays = any("ffn_down.weight stays f16" in note for note in written.notes)
    assert stays == (kind == "q8_0")


def test_what_cannot_be_converted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gemma = policy_of("Gemma", "qwen2", head_dim=16)
    with pytest.raises(UserError, match="GemmaForCausalLM, which cannot be converted to GGUF here: known are Llama"):
        write_gguf(gemma, tmp_path / "m.gguf")
    strange = bpe("gpt-2")
    strange.backend_tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UserError, match="cuts texts by a rule that is not among those"):
        vocabulary(strange, 500, "m")
    assert run(["convert", "tiny", "--to", "gguf", "--out", str(tmp_path / "no" / "m.gguf")]) == 2
    assert run(["convert", "tiny", "--to", "hf", "--quantize", "f16"]) == 2
    assert run(["convert", "nope", "--to", "gguf"]) == 2
    assert all(line.startswith("thinksmith: ") for line in capsys.readouterr().err.splitlines())
    assert list(tmp_path.iterdir()) == []


# ---- Ollama ----

QWEN25 = (
    "{%- if messages[0]['role'] == 'system' %}{{ '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- else %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}"
    "{%- for m in messages %}{%- if m.role in ('user', 'assistant') or not loop.first %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
LLAMA3 = (
    "{{- bos_token }}{%- for m in messages %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}{% endif %}"
    "{% if m['role'] == 'assistant' %}{{ '<｜Assistant｜>' + m['content'].split('</think>')[-1] }}{{ '<｜end｜>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)


def go(template: str, messages: list[dict[str, str]]) -> str:
    """Go's text/template, as far as ours go: range over messages, if with eq, ne, and, not, fields."""
    parts = re.split(r"{{(.*?)}}", template, flags=re.DOTALL)
    assert not any(part.startswith("-") or part.endswith("-") for part in parts[1::2])
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")

    def value(words: str, scope: dict[str, Any]) -> Any:
        words = words.strip()
        if words.startswith("and "):
            return all(value(word, scope) for word in re.findall(r"\([^)]*\)|\S+", words[4:]))
        if words.startswith("not "):
            return not value(words[4:], scope)
        if match := re.fullmatch(r'\(?(eq|ne) \.Role "(\w+)"\)?', words):
            return (scope["role"] == match[2]) == (match[1] == "eq")
        fields = {".Content": "content", ".Thinking": "thinking"}
        return system if words == ".System" else scope["$last"] if words == "$last" else scope.get(fields[words], "")

    def block(at: int, scope: dict[str, Any], shown: bool) -> tuple[str, int]:
        """Until its `end` or `else`."""
        out = ""
        while at < len(parts):
            if at % 2 == 0:
                out += parts[at] if shown else ""
                at += 1
                continue
            words = parts[at].strip()
            if words == "end" or words.startswith("else"):
                return out, at
            if words.startswith("if "):
                done, text, at = False, "", at
                while True:
                    words = parts[at].strip()
                    if words == "end":
                        at += 1
                        break
                    test = words.removeprefix("else").strip().removeprefix("if ")
                    holds = shown and not done and value(test, scope)
                    text, at = block(at + 1, scope, bool(holds))
                    out, done = out + text, done or bool(holds)
            elif words.startswith("range"):
                end = at
                for number, message in enumerate(messages):
                    inner = dict(message) | {"$last": number == len(messages) - 1}
                    text, end = block(at + 1, inner, shown)
                    out += text
                at = end + 1
            else:
                out += str(value(words, scope)) if shown and not words.startswith("$last :=") else ""
                at += 1
        return out, at

    return block(0, {}, True)[0]


@pytest.mark.parametrize("name", ["CHATML", "QWEN25", "LLAMA3", "R1"])
def test_a_template_in_gos_words_renders_as_the_models_own(name: str) -> None:
    tokenizer = bpe("gpt-2", globals()[name])
    tokenizer.bos_token = "<|begin|>"
    template = ollama.derive(tokenizer, "m").to_go()
    assert "range" in template
    assert "<think>\n{{ .Thinking }}\n</think>" in template
    for shape in ("u", "su", "uau", "suau", "uauauau"):
        roles = {"s": "system", "u": "user", "a": "assistant"}
        messages = [{"role": roles[c], "content": f"turn {i} of {{it}}"} for i, c in enumerate(shape)]
        own = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert go(template, messages) == own, shape
    last = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "so", "thinking": "hm"}]
    assert go(template, last).endswith("<think>\nhm\n</think>\n\nso")


def test_a_template_that_is_more_is_refused() -> None:
    for source, why in (
        ("{{ messages | length }}" + CHATML, "writes a turn otherwise"),
        (CHATML.replace("{%- endfor -%}", "{{ 'x' if loop.index == 4 }}{%- endfor -%}"), "more than text around turns"),
        (CHATML.replace("m['content']", "m['content'] | upper"), "changes what is said"),
        ("{{ raise_exception('no') }}", "fails"),
        ("", "has no chat template"),
    ):
        tokenizer = bpe("gpt-2", source)
        with pytest.raises(UserError, match=why):
            ollama.derive(tokenizer, "m")


def test_a_folder_for_ollama(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = load_policy("tiny")
    policy.model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.95, top_k=20)
    text = ollama.modelfile(policy, tmp_path / "m.gguf")
    assert text.startswith('FROM ./m.gguf\nTEMPLATE """')
    for line in (
        'PARAMETER stop "<|im_end|>"',
        "PARAMETER temperature 0.6",
        "PARAMETER top_p 0.95",
        "PARAMETER top_k 20",
    ):
        assert line in text.splitlines()
    assert run(["convert", "tiny", "--to", "ollama", "--quantize", "q8_0", "--out", str(tmp_path / "made")]) == 0
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["Modelfile", "tiny-q8_0.gguf"]
    assert "ollama create tiny -f" in capsys.readouterr().out
    assert (embedded.path("tiny") / "chat_template.jinja").is_file()
