"""Loading: every way in which weights lie in a folder, architectures that do not fit, types and quantised weights."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import Counter

import pytest
import torch
import transformers

from thinksmith.engines import open_engine
from thinksmith.errors import UserError
from thinksmith.policy import load
from thinksmith.policy.adapter import LoRA, add_lora, load_adapter, reference, save_adapter
from thinksmith.policy.load import load_policy
from thinksmith.records import Message, Request, Sampling
from thinksmith.training.optimizer import Optimizers

IDS = torch.tensor([[5, 6, 7, 8, 9, 20, 21, 40]])
needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")


def fails(work, *words):
    with pytest.raises(UserError) as caught:
        work()
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 600
    for word in words:
        assert word in message


def logits(policy):
    with torch.no_grad():
        return policy.model(IDS).logits


def small(kind, tokenizer, folder, model_class=None, **changes):
    """A folder with a random model of one architecture."""
    sizes = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
        "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "initializer_range": 0.3,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{kind}Config")(**(sizes | changes))
        getattr(transformers, model_class or f"{kind}ForCausalLM")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def sharded(checkpoints, tmp_path_factory):
    """The Llama checkpoint in many files."""
    folder = tmp_path_factory.mktemp("sharded")
    policy = load_policy(str(checkpoints["Llama"]), device="cpu")
    policy.model.save_pretrained(folder, max_shard_size="50KB")
    policy.tokenizer.save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 4
    return folder


def test_shards_are_one_model(sharded, checkpoints):
    whole = load_policy(str(checkpoints["Llama"]), device="cpu")
    assert load_policy(str(sharded), device="cpu").weights_hash() == whole.weights_hash()


def test_a_shard_that_is_broken_or_missing_is_named(sharded, tmp_path):
    for number, data in enumerate((b"", b"\xff" * 99, None)):
        folder = shutil.copytree(sharded, tmp_path / str(number))
        shard = sorted(folder.glob("*.safetensors"))[2]
        shard.write_bytes(shard.read_bytes()[:-10] if data is None else data)
        fails(lambda folder=folder: load_policy(str(folder)), shard.name, "corrupt")
    folder = shutil.copytree(sharded, tmp_path / "missing")
    shard = sorted(folder.glob("*.safetensors"))[2]
    shard.unlink()
    fails(lambda: load_policy(str(folder)), shard.name)


def test_tied_and_untied_embeddings(tokenizer, tmp_path):
    for tied in (True, False):
        policy = load_policy(small("Qwen2", tokenizer, tmp_path / str(tied), tie_word_embeddings=tied), device="cpu")
        table, head = (each.weight for each in (policy.model.get_input_embeddings(), policy.model.lm_head))
        assert (table.data_ptr() == head.data_ptr()) == tied
        kept = transformers.Qwen2ForCausalLM.from_pretrained(tmp_path / str(tied)).eval()
        with torch.no_grad():
            assert logits(policy).equal(kept(IDS).logits)


def test_an_untied_head_that_is_missing_is_no_random_one(tokenizer, tmp_path):
    name = small("Qwen2", tokenizer, tmp_path, tie_word_embeddings=True)
    config = json.loads((tmp_path / "config.json").read_text()) | {"tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(config))
    fails(lambda: load_policy(name), "missing", "lm_head.weight")


def test_the_generation_config_tells_how_to_sample_and_where_to_stop(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["Qwen2"], tmp_path / "model")
    said = {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20, "eos_token_id": [5, 9]}
    (folder / "generation_config.json").write_text(json.dumps(said))
    engine = open_engine(str(folder), device="cpu")
    advised = engine.info.sampling
    assert (advised.temperature, advised.top_p, advised.top_k) == (0.6, 0.95, 20)
    assert load_policy(str(folder), device="cpu").eos_ids >= {5, 9}
    (folder / "generation_config.json").unlink()
    assert open_engine(str(folder), device="cpu").info.sampling == Sampling()


def test_a_folder_without_a_tokenizer(sharded, tmp_path):
    folder = shutil.copytree(sharded, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    fails(lambda: load_policy(str(folder)), "tokenizer.json")


def test_what_is_no_causal_language_model(tokenizer, tmp_path):
    kinds = {"Bert": "BertForMaskedLM", "Qwen2": "Qwen2ForSequenceClassification"}
    for kind, model_class in kinds.items():
        name = small(kind, tokenizer, tmp_path / kind, model_class)
        fails(lambda name=name: load_policy(name), model_class, "causal")
    (tmp_path / "T5").mkdir()
    shutil.copytree(tmp_path / "Bert", tmp_path / "T5", dirs_exist_ok=True)
    (tmp_path / "T5" / "config.json").write_text('{"model_type": "t5", "architectures": ["T5Model"]}')
    fails(lambda: load_policy(str(tmp_path / "T5")), "T5Model", "causal")


def test_an_architecture_that_the_engine_does_not_run(tokenizer, tmp_path):
    name = small("Mamba", tokenizer, tmp_path, state_size=4)
    load_policy(name, device="cpu")  # it can be scored
    fails(lambda: open_engine(name, device="cpu"), "mamba")


def test_auto_is_the_faster_type_by_all_layers_of_a_shape(checkpoints, monkeypatch):
    name = str(checkpoints["Qwen2"])
    seen = Counter()

    def trial(seconds):
        def measure(shape, numbers):
            seen[shape] += 1
            return {number: seconds[number] for number in numbers}

        return measure

    for faster, slower in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)):
        monkeypatch.setattr(load, "_trial", trial({faster: 1.0, slower: 1.1}))
        assert load_policy(name, device="cpu", dtype="auto").model.dtype == faster
    assert set(seen) == {(128, 64), (64, 128), (len(load_policy(name).tokenizer), 64)}
    assert load_policy(name, device="cpu").model.dtype == torch.float32


def test_auto_measures_in_no_time(checkpoints):
    assert load_policy(str(checkpoints["Qwen2"]), device="cpu", dtype="auto").model.dtype in load.DTYPES.values()
    seconds = load._trial((50_000, 8192), (torch.float32, torch.bfloat16))  # the head of a large model: cut to size
    assert all(0 < each < 5 for each in seconds.values())
    fails(lambda: load_policy(str(checkpoints["Qwen2"]), dtype="fast"), "dtype", "auto")


def test_a_name_may_say_how_the_weights_are_held(checkpoints, tmp_path):
    policy = load_policy(f"{checkpoints['Qwen3']}:bfloat16")
    assert policy.model.dtype == torch.bfloat16
    assert policy.name.endswith(":bfloat16")
    assert load_policy("tiny:float32", dtype="float32").model.dtype == torch.float32
    fails(lambda: load_policy("tiny:float32", dtype="bfloat16"), "says float32 and dtype='bfloat16' another")
    fails(lambda: load_policy("tiny:float32:bfloat16"), "both float32 and bfloat16")
    fails(lambda: load_policy("tiny:int9"), "tiny:int9", "did you mean tiny?")
    shutil.copytree(checkpoints["Qwen3"], tmp_path / "mine:int8")  # a folder may be called so
    assert load_policy(str(tmp_path / "mine:int8")).model.dtype == torch.float32


@needs_torchao
def test_a_name_may_ask_for_quantised_weights(checkpoints):
    name = str(checkpoints["Qwen3"])
    one, other = load_policy(f"{name}:bfloat16:int8"), load_policy(name, dtype="bfloat16", quantize="int8")
    assert one.weights_hash() == other.weights_hash() != load_policy(f"{name}:bfloat16").weights_hash()


def test_without_torchao_it_is_told_how_to_get_it(checkpoints, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    fails(lambda: load_policy(str(checkpoints["Qwen2"]), device="cpu", quantize="int8"), "torchao", "thinksmith[quant]")


def test_quantize_has_two_kinds(checkpoints):
    fails(lambda: load_policy(str(checkpoints["Qwen2"]), device="cpu", quantize="int3"), "int8", "int4")


@needs_torchao
@pytest.mark.parametrize(("kind", "bound"), [("int8", 0.002), ("int4", 0.03)])
def test_quantised_weights_of_tiny_give_nearly_the_same(kind, bound):
    """Measured on 16 greedy answers of 1,636 tokens: mean |difference| 0.00005 and 0.0011, the likeliest token the same
    for all and for all but one."""
    plain = load_policy("tiny", device="cpu")
    engine = open_engine("tiny", device="cpu", quantize=kind)
    asked = [
        Request(
            messages=(Message(role="user", content=f"What is {number} * 34?"),),
            sampling=Sampling(temperature=0.0, max_tokens=60),
        )
        for number in (12, 27, 35)
    ]
    differences, same = [], []
    for (trace,) in engine.sample_all(asked):
        ids = torch.tensor([trace.prompt_ids + trace.token_ids])
        with torch.no_grad():
            table = plain.model(ids).logits[0, trace.prompt_tokens - 1 : -1].log_softmax(-1)
        token = torch.tensor(trace.token_ids)
        differences.append((table.gather(-1, token[:, None])[:, 0] - torch.tensor(trace.logprobs)).abs())
        same.append(table.argmax(-1) == token)
    difference = torch.cat(differences).mean()
    assert 0 < difference < bound
    assert torch.cat(same).float().mean() > 0.97
    assert engine.info.weights_hash != plain.weights_hash()


@needs_torchao
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_the_engine_samples_what_quantised_weights_score(checkpoint, kind):
    policy = load_policy(str(checkpoint), device="cpu", quantize=kind)
    engine = open_engine(str(checkpoint), device="cpu", quantize=kind)
    assert engine.info.weights_hash == policy.weights_hash()
    request = Request(token_ids=(5, 6, 7), n=3, sampling=Sampling(temperature=1.0, max_tokens=12, seed=1))
    for trace in engine.sample_all([request])[0]:
        ids = torch.tensor([trace.prompt_ids + trace.token_ids])
        with torch.no_grad():
            scored = policy.logprobs(ids, torch.arange(ids.shape[1])[None] >= 3).logprobs_BT[0, 3:]
        assert (torch.tensor(trace.logprobs) - scored).abs().max() <= 1e-4


@needs_torchao
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_the_head_and_the_embedding_stay_as_they_are(checkpoint, kind):
    plain, policy = (load_policy(str(checkpoint), device="cpu", quantize=each) for each in (None, kind))
    before = dict(plain.model.named_parameters())
    kept = {name for name, weight in policy.model.named_parameters() if type(weight.data) is torch.Tensor}
    assert {name for name in before if "proj.weight" not in name} == kept
    assert all(dict(policy.model.named_parameters())[name].equal(before[name]) for name in kept)
    hashes = {load_policy(str(checkpoint), device="cpu", quantize=each).weights_hash() for each in (None, kind, kind)}
    assert len(hashes) == 2


@needs_torchao
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_an_adapter_is_trained_beside_quantised_weights(checkpoints, kind, tmp_path):
    name = str(checkpoints["Qwen3"])
    policy = load_policy(name, device="cpu", quantize=kind)
    before, bare = logits(policy), policy.weights_hash()
    add_lora(policy, LoRA(rank=4))
    assert logits(policy).equal(before)
    optimizers = Optimizers(policy.model, "adamw", 1e-2)
    (-policy.logprobs(IDS, torch.arange(8)[None] >= 3).logprobs_BT.sum()).backward()
    optimizers.step()
    policy.touch()
    assert not logits(policy).equal(before)
    with reference(policy):
        assert logits(policy).equal(before)
        assert policy.weights_hash() == bare
    save_adapter(policy, tmp_path)
    again = load_policy(name, device="cpu", quantize=kind)
    load_adapter(again, tmp_path)
    assert again.weights_hash() == policy.weights_hash()
    assert logits(again).equal(logits(policy))


@needs_torchao
def test_what_cannot_be_quantised(checkpoints, tokenizer, tmp_path):
    def loading(name, kind, **options):
        return lambda: load_policy(str(name), device="cpu", quantize=kind, **options)

    fails(loading(checkpoints["Qwen2"], "int8", dtype="float16"), "float16", "bfloat16")
    narrow = small("Llama", tokenizer, tmp_path / "narrow", intermediate_size=72)
    fails(loading(narrow, "int4"), "72", "32", "int8")
    load_policy(narrow, device="cpu", quantize="int8")
    experts = small(
        "Qwen3Moe", tokenizer, tmp_path / "experts", num_experts=8, num_experts_per_tok=2, moe_intermediate_size=64,
        head_dim=16,
    )  # fmt: skip
    fails(loading(experts, "int8"), "qwen3_moe", "linear layers")
    gpt = small("GPT2", tokenizer, tmp_path / "gpt", "GPT2LMHeadModel", n_embd=32, n_layer=1, n_head=2)
    fails(loading(gpt, "int8"), "gpt2", "linear layers")
    policy = load_policy(gpt, device="cpu")
    fails(lambda: add_lora(policy), "no linear layers")
