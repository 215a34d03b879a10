"""LoRA: the engine and the training forward see it, the reference does not, and the weights beside it never move."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.policy.adapter import LoRA, add_lora, load_adapter, reference, save_adapter
from thinksmith.policy.load import load_policy
from thinksmith.records import Message, Request, Sampling
from thinksmith.training.batches import Example
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.sft import SFTConfig, sft

ALL = ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj")
IDS = torch.tensor([[5, 6, 7, 8, 9, 20, 21, 40]])


def ask(number, **sampling):
    text = f"What is {number} * 34?"
    sampling = {"temperature": 1.0, "max_tokens": 20, "seed": number} | sampling
    return Request(messages=(Message(role="user", content=text),), sampling=Sampling(**sampling))


def adapted(folder, lora=None, *, seed=1, **options):
    """A policy with an adapter that changes something."""
    policy = load_policy(str(folder), device="cpu", **options)
    add_lora(policy, lora or LoRA(rank=4, alpha=8))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if ".lora_B." in name:
                weight.copy_(torch.randn(weight.shape, generator=draw) * 0.2)
    policy.touch()
    return policy


def logits(policy):
    with torch.no_grad():
        return policy.model(IDS).logits


def bits(policy):
    return {name: weight.detach().clone() for name, weight in policy.model.state_dict().items()}


def changed(policy, before):
    """The names of the weights that are not what they were, bit for bit."""
    return {name for name, weight in policy.model.state_dict().items() if not weight.equal(before[name])}


def fails(work, *words):
    with pytest.raises(UserError) as caught:
        work()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_fresh_adapter_changes_nothing_and_is_all_that_is_learnt(checkpoint):
    policy = load_policy(str(checkpoint), device="cpu")
    before, kind, numbers = logits(policy), type(policy.model), torch.random.get_rng_state()
    add_lora(policy, LoRA(rank=4))
    assert torch.random.get_rng_state().equal(numbers)
    assert type(policy.model) is kind
    assert not any(module.training for module in policy.model.modules())
    assert logits(policy).equal(before)
    learnt = [name for name, weight in policy.model.named_parameters() if weight.requires_grad]
    assert len(learnt) == 2 * 2 * len(ALL)  # A and B of every linear layer of both decoder layers
    assert all(".lora_A." in name or ".lora_B." in name for name in learnt)


def test_a_seed_draws_the_adapter_whatever_was_drawn_before(checkpoints):
    def drawn(seed):
        torch.rand(3)
        policy = load_policy(str(checkpoints["Qwen2"]), device="cpu")
        add_lora(policy, LoRA(seed=seed))
        return policy.weights_hash()

    assert drawn(1) == drawn(1) != drawn(2)


def test_the_engine_samples_the_adapted_model(checkpoint):
    policy = adapted(checkpoint)
    engine = LocalEngine(policy, slots=8)
    for (trace,) in engine.sample_all([ask(number) for number in range(5)]):
        ids = torch.tensor([trace.prompt_ids + trace.token_ids])
        with torch.no_grad():
            table = policy.model(ids).logits[0].double().log_softmax(-1)
        expected = table[trace.prompt_tokens - 1 : -1].gather(-1, ids[0, trace.prompt_tokens :, None])[:, 0]
        assert (torch.tensor(trace.logprobs, dtype=torch.float64) - expected).abs().max() <= 1e-4
        with torch.no_grad():
            scored = policy.logprobs(ids, torch.arange(ids.shape[1])[None] >= trace.prompt_tokens).logprobs_BT
        assert (scored[0, trace.prompt_tokens :].double() - expected).abs().max() <= 1e-4


def test_greedy_tokens_are_generates_with_the_adapter_on_and_off(checkpoint):
    policy = adapted(checkpoint)
    engine = LocalEngine(policy, slots=8)

    def both():
        found = []
        for (trace,) in engine.sample_all([ask(number, temperature=0.0) for number in range(4)]):
            prompt = torch.tensor([trace.prompt_ids])
            with torch.no_grad():
                made = policy.model.generate(
                    prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=20, pad_token_id=0
                )
            assert list(trace.token_ids) == made[0, prompt.shape[1] :].tolist()
            found.append(trace.token_ids)
        return found

    on = both()
    with reference(policy):
        off = both()
    assert on == both()
    base = LocalEngine(load_policy(str(checkpoint), device="cpu"), slots=8)
    assert off == [t.token_ids for (t,) in base.sample_all([ask(number, temperature=0.0) for number in range(4)])]
    assert on != off


def test_the_reference_is_the_model_without_the_adapter(checkpoints):
    bare = load_policy(str(checkpoints["Qwen3"]), device="cpu")
    policy = adapted(checkpoints["Qwen3"])
    name, version = policy.weights_hash(), policy.version
    with reference(policy):
        assert logits(policy).equal(logits(bare))
        assert policy.weights_hash() == bare.weights_hash() != name
        assert policy.version != version
        with reference(policy):
            assert logits(policy).equal(logits(bare))
        assert logits(policy).equal(logits(bare))
    assert not logits(policy).equal(logits(bare))
    assert policy.weights_hash() == name
    assert policy.version != version
    with pytest.raises(ZeroDivisionError), reference(policy):
        raise ZeroDivisionError
    assert policy.weights_hash() == name
    assert not logits(policy).equal(logits(bare))
    fails(lambda: reference(bare).__enter__(), "no adapter")


def test_a_long_prompt_is_written_anew_on_the_other_side(tokenizer, tmp_path):
    """The engine keeps the beginnings of prompts; those of the adapted model are wrong for the reference."""
    from thinksmith.recipes.tiny.make import new_model

    shape = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 2048, "initializer_range": 0.3,
    }  # fmt: skip
    new_model(shape, tokenizer, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    request = Request(token_ids=(7, 8, 9) * 400, sampling=Sampling(temperature=1.0, max_tokens=4, seed=1))
    policy = adapted(tmp_path)
    engine = LocalEngine(policy, slots=2)
    on = engine.sample_all([request])[0][0].logprobs
    with reference(policy):
        off = engine.sample_all([request])[0][0].logprobs
        assert off == LocalEngine(policy, slots=2).sample_all([request])[0][0].logprobs
    assert engine.sample_all([request])[0][0].logprobs == on != off


def test_a_thousand_switches_leave_the_weights_bit_for_bit(checkpoints):
    policy = adapted(checkpoints["Qwen2"])
    before, expected = bits(policy), logits(policy)
    frozen = next(weight for name, weight in policy.model.named_parameters() if ".lora_A." in name)
    frozen.requires_grad_(False)
    learnt = [weight.requires_grad for weight in policy.model.parameters()]
    for _ in range(1000):
        with reference(policy):
            pass
    assert not changed(policy, before)
    assert logits(policy).equal(expected)
    assert [weight.requires_grad for weight in policy.model.parameters()] == learnt


def test_a_step_of_training_changes_the_adapter_alone(checkpoint):
    policy = adapted(checkpoint)
    before = bits(policy)
    adapter = {name for name in before if ".lora_" in name}
    example = Example(tuple(range(5, 12)), tuple(range(20, 40)))
    sft(policy.model, lambda step: [example], SFTConfig(steps=1, lr=1e-2), pad_id=0)
    assert changed(policy, before) == adapter
    before = bits(policy)
    with reference(policy), torch.no_grad():
        anchor = policy.logprobs(IDS, torch.arange(8)[None] >= 3).logprobs_BT
    optimizers = Optimizers(policy.model, "adamw", 1e-2)
    scored = policy.logprobs(IDS, torch.arange(8)[None] >= 3).logprobs_BT
    away = anchor - scored
    (away.exp() - away - 1 - scored * 0.5).sum().backward()
    optimizers.step()
    assert changed(policy, before) == adapter


def test_the_scale_is_part_of_the_hash(checkpoints):
    hashes = set()
    for alpha in (8, 16):
        policy = load_policy(str(checkpoints["Qwen2"]), device="cpu")
        add_lora(policy, LoRA(rank=4, alpha=alpha))
        hashes.add(policy.weights_hash())
    assert len(hashes) == 2


def test_saved_and_loaded_bit_for_bit(checkpoint, tmp_path):
    policy = adapted(checkpoint, LoRA(rank=3, alpha=7, targets=("q_proj", "layers.1.mlp.down_proj")))
    save_adapter(policy, tmp_path / "new" / "adapter")
    assert {path.name for path in (tmp_path / "new" / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    again = load_policy(str(checkpoint), device="cpu")
    load_adapter(again, tmp_path / "new" / "adapter")
    assert again.weights_hash() == policy.weights_hash()
    assert logits(again).equal(logits(policy))
    learnt = [name for name, weight in again.model.named_parameters() if weight.requires_grad]
    assert learnt == [name for name, weight in policy.model.named_parameters() if weight.requires_grad]
    save_adapter(again, tmp_path / "again")
    first, second = (path / "adapter_model.safetensors" for path in (tmp_path / "new" / "adapter", tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()


def test_an_adapters_folder_is_a_model_to_load(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(checkpoint.parent)
    policy = load_policy(checkpoint.name + ":float32", device="cpu")
    add_lora(policy, LoRA(rank=3))
    with torch.no_grad():
        for weight in policy.model.parameters():
            if weight.requires_grad:
                weight.add_(0.01)
    policy.touch()
    save_adapter(policy, tmp_path / "one")
    monkeypatch.chdir(tmp_path)  # the model's folder is found from anywhere
    again = load_policy("one", device="cpu")
    assert (again.name, again.base) == ("one", str(checkpoint))
    assert again.weights_hash() == policy.weights_hash()
    save_adapter(again, "two")  # trained further, it is still of the same model
    assert load_policy(str(tmp_path / "two"), device="cpu").weights_hash() == policy.weights_hash()
    config = tmp_path / "one" / "adapter_config.json"
    for base in (None, "", 3, str(tmp_path / "two")):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": base}))
        fails(lambda: load_policy("one"), "does not say which model it is of")


def test_peft_reads_ours_and_we_read_pefts(checkpoints, tmp_path):
    from peft import PeftModel

    policy = adapted(checkpoints["Llama"])
    save_adapter(policy, tmp_path / "ours")
    theirs = PeftModel.from_pretrained(load_policy(str(checkpoints["Llama"])).model, str(tmp_path / "ours"))
    with torch.no_grad():
        assert theirs(IDS).logits.equal(logits(policy))
    theirs.save_pretrained(str(tmp_path / "theirs"))
    again = load_policy(str(checkpoints["Llama"]), device="cpu")
    load_adapter(again, tmp_path / "theirs")
    assert again.weights_hash() == policy.weights_hash()


def test_an_adapter_beside_weights_of_16_bits_is_float32(checkpoints, tmp_path):
    policy = adapted(checkpoints["Qwen2"], dtype="bfloat16")
    kinds = {name: weight.dtype for name, weight in policy.model.named_parameters()}
    assert {kind for name, kind in kinds.items() if ".lora_" in name} == {torch.float32}
    assert {kind for name, kind in kinds.items() if ".lora_" not in name} == {torch.bfloat16}
    (trace,) = LocalEngine(policy, slots=2).sample_all([ask(1)])[0]
    assert trace.finish != "error"
    save_adapter(policy, tmp_path)
    again = load_policy(str(checkpoints["Qwen2"]), device="cpu", dtype="bfloat16")
    load_adapter(again, tmp_path)
    assert again.weights_hash() == policy.weights_hash()


def test_dropout_is_for_training_alone(checkpoints):
    policy = adapted(checkpoints["Qwen2"], LoRA(rank=4, dropout=0.5))
    assert logits(policy).equal(logits(policy))
    policy.model.train()
    assert not logits(policy).equal(logits(policy))


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        (LoRA(rank=0), ("rank", "at least 1")),
        (LoRA(alpha=0), ("alpha",)),
        (LoRA(alpha=float("nan")), ("alpha",)),
        (LoRA(dropout=1.0), ("dropout",)),
        (LoRA(targets=("q_prjo",)), ("q_prjo", "did you mean q_proj?")),
        (LoRA(targets=("xyz",)), ("xyz", ", ".join(ALL))),
        (LoRA(targets=("lm_head",)), ("lm_head", "q_proj")),
    ],
)
def test_numbers_and_names_that_mean_nothing(checkpoints, lora, words):
    policy = load_policy(str(checkpoints["Qwen2"]), device="cpu")
    fails(lambda: add_lora(policy, lora), *words)
    add_lora(policy)  # nothing was left behind


def test_one_adapter_and_no_more(checkpoints, tmp_path):
    policy = load_policy(str(checkpoints["Qwen2"]), device="cpu")
    fails(lambda: save_adapter(policy, tmp_path), "no adapter")
    add_lora(policy)
    save_adapter(policy, tmp_path)
    fails(lambda: add_lora(policy), "already")
    fails(lambda: load_adapter(policy, tmp_path), "already")
    (tmp_path / "file").write_text("")
    fails(lambda: save_adapter(policy, tmp_path / "file"), "cannot write", "file")


def test_folders_that_do_not_fit(checkpoints, tmp_path):
    policy = adapted(checkpoints["Qwen2"])
    good = tmp_path / "good"
    save_adapter(policy, good)
    other = load_policy(str(checkpoints["Qwen2"]), device="cpu")
    untouched = other.weights_hash()

    def broken(name, file, text):
        folder = shutil.copytree(good, tmp_path / name)
        (folder / file).write_bytes(text)
        return lambda: load_adapter(other, folder)

    def said(**changes):
        return json.dumps(json.loads((good / "adapter_config.json").read_text()) | changes).encode()

    whole = (good / "adapter_model.safetensors").read_bytes()
    fails(lambda: load_adapter(other, tmp_path / "nowhere"), "nowhere", "adapter_config.json")
    fails(broken("a", "adapter_config.json", b"{"), "adapter_config.json")
    fails(broken("b", "adapter_config.json", b"[]"), "adapter_config.json")
    fails(broken("c", "adapter_config.json", b"\xff\xfe"), "adapter_config.json")
    fails(broken("d", "adapter_model.safetensors", whole[:300]), "adapter_model.safetensors", "corrupt")
    fails(broken("e", "adapter_config.json", said(use_dora=True)), "no plain LoRA", "use_dora")
    fails(broken("f", "adapter_config.json", said(peft_type="IA3")), "no plain LoRA", "IA3")
    fails(broken("g", "adapter_config.json", said(r=5)), "does not fit", "4 × 128", "5 × 128")
    fails(broken("h", "adapter_config.json", said(init_lora_weights="pissa")), "init_lora_weights")
    assert other.weights_hash() == untouched
    load_adapter(other, good)


def test_an_adapter_of_another_model(checkpoints, tokenizer, tmp_path):
    from thinksmith.recipes.tiny.make import new_model

    save_adapter(adapted(checkpoints["Qwen2"]), tmp_path / "adapter")
    shape = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 64,
    }  # fmt: skip
    new_model(shape, tokenizer, seed=0).save_pretrained(tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "small")
    small = load_policy(str(tmp_path / "small"), device="cpu")
    fails(lambda: load_adapter(small, tmp_path / "adapter"), "adapter")
    assert not any(".lora_" in name for name in small.model.state_dict())
