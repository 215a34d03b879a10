"""The memory of training: what autograd keeps against what it says it keeps, peaks against torch's own allocator."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM

from thinksmith.engines.local.attention import register
from thinksmith.errors import UserError
from thinksmith.fit.memory import passes
from thinksmith.fit.memory.activations import Way, kept, kept_once
from thinksmith.fit.memory.optimizers import state_bytes, step_bytes, trained_bytes
from thinksmith.fit.memory.training import Training, largest_group, largest_length, of_length, training_memory, way_of
from thinksmith.fit.shapes.configs import shape_of
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device
from thinksmith.native.build import library
from thinksmith.policy import logprobs
from thinksmith.policy.adapter import LoRA, add_lora
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.policy.quantize import quantize_weights
from thinksmith.policy.softmax import SOFTMAX
from thinksmith.training.batches import Example, micro_batches
from thinksmith.training.fits import check_fits
from thinksmith.training.optimizer import Optimizers
from thinksmith.training.packed.forward import packed_scores
from thinksmith.training.packed.native.fused import FUSED
from thinksmith.training.packed.native.kernel import ATTENTION
from thinksmith.training.packed.pack import pack
from thinksmith.training.recompute import recompute_layers
from thinksmith.training.sft import summed_loss

SIZES = {
    "vocab_size": 500, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 8,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
    "tie_word_embeddings": True,
}  # fmt: skip
OWN = {"qwen3": {"head_dim": 24}, "qwen3_moe": {"head_dim": 8, "moe_intermediate_size": 48, "num_experts": 6,
       "num_experts_per_tok": 3}, "gemma3_text": {"head_dim": 8}}  # fmt: skip
CPU = Device("cpu", "CPU", "cpu", 1 << 40, 1e10, {})
GPU = Device("gpu", "GPU", "cuda", 1 << 40, 1e12, {})


def make(kind: str, training: Training, **fields: Any) -> tuple[Any, Shape]:
    """A small random model, ready to be trained so, and its shape."""
    config = AutoConfig.for_model(kind, **(SIZES | OWN.get(kind, {}) | fields))
    shape = shape_of(config.to_dict(), kind)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if training.precision == "bf16" else None)
    register(model, kind)
    if training.base in ("int8", "int4"):
        quantize_weights(model, kind, training.base)
    if training.tuning != "full":
        add_lora(Policy(model, None, kind), LoRA(training.lora_rank, targets=training.lora_targets))
    if training.checkpointing:
        model.gradient_checkpointing_enable()
    return model.train(), shape


def precision(training: Training) -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16) if training.precision == "mixed" else nullcontext()


def saved_bytes(model: Any, forward: Any) -> int:
    """Bytes of the storages that the graph of a forward pass holds, the model's own left out."""
    own: set[int] = set()

    def note(tensor: Any) -> None:
        if hasattr(tensor, "__tensor_flatten__"):
            for name in tensor.__tensor_flatten__()[0]:
                note(getattr(tensor, name))
        else:
            own.add(tensor.untyped_storage().data_ptr())

    for tensor in (*model.parameters(), *model.buffers()):
        note(tensor)
    held: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = forward()
        found = sum(storage.nbytes() for storage in held.values())
    del kept
    return found


def padded_forward(model: Any, rows: int, length: int, training: Training) -> Any:
    ids_BT = torch.randint(0, 500, (rows, length))

    def forward() -> Any:
        with precision(training):
            return model.get_decoder()(input_ids=ids_BT, use_cache=False)

    return forward


def predicted_bytes(shape: Shape, way: Way, rows: int, length: int) -> int:
    layers = sum(kept(shape, way, layer, rows, length).total for layer in range(shape.layers))
    return layers + kept_once(shape, way, rows, length)


def allocated(run: Any) -> int:
    """The most bytes that torch had allocated at one time during `run`, more than before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    events = record.profiler.kineto_results.events()
    changes = sorted(((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"), key=lambda pair: pair[0])
    now = most = 0
    for _, size in changes:
        now += size
        most = max(most, now)
    return most


WAYS = {
    "fp32": Training(),
    "bf16": Training(precision="bf16"),
    "mixed": Training(precision="mixed"),
    "lora": Training(tuning="lora", lora_rank=4),
    "lora bf16": Training(tuning="lora", lora_rank=4, precision="bf16"),
    "lora q, v": Training(tuning="lora", lora_rank=4, lora_targets=("q_proj", "v_proj"), precision="bf16"),
    "int8": Training(tuning="qlora", lora_rank=4, base="int8", precision="bf16"),
    "int4": Training(tuning="qlora", lora_rank=4, base="int4"),
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "mistral"])
def test_what_autograd_keeps_is_foreseen_to_the_byte(kind: str, name: str) -> None:
    training = WAYS[name]
    model, shape = make(kind, training)
    for rows, length in ((2, 48), (1, 33)):
        seen = saved_bytes(model, padded_forward(model, rows, length, training))
        assert seen == predicted_bytes(shape, way_of(training, CPU), rows, length)


@pytest.mark.parametrize("name", ["fp32", "bf16", "lora", "lora bf16"])
@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama", "mistral"])
def test_so_it_is_for_a_packed_row_that_is_computed_in_c(kind: str, name: str) -> None:
    """Of a learnt token the loss keeps its place, its id, probabilities and entropy, and what the head multiplied."""
    if library(FUSED) is None or library(ATTENTION) is None:
        pytest.skip("there is no C compiler")
    training = replace(WAYS[name], method="grpo", prompt_tokens=13, length=40, prompts=1, num_generations=4)
    training = replace(training, micro_tokens=13 + 4 * 27)
    model, shape = make(kind, training)
    row = pack([Example(tuple(range(1, 14)), tuple(range(1, 28)))] * 4, range(4), torch.device("cpu"))
    seen = saved_bytes(model, lambda: packed_scores(Policy(model, None, kind), row, entropy=True))
    way = way_of(training, CPU)
    loss = 2 * 8 + 500 * 4 + 4 + (64 * way.product if way.full else 0)
    assert seen == predicted_bytes(shape, way, 1, row.tokens) + 4 * 27 * loss


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": 96, "num_attention_heads": 6, "num_key_value_heads": 6, "num_hidden_layers": 1},
        {"intermediate_size": 512, "tie_word_embeddings": False, "num_key_value_heads": 1},
    ],
)
def test_and_so_it_is_for_other_sizes(name: str, fields: dict[str, Any]) -> None:
    model, shape = make("qwen2", WAYS[name], **fields)
    seen = saved_bytes(model, padded_forward(model, 3, 40, WAYS[name]))
    assert seen == predicted_bytes(shape, way_of(WAYS[name], CPU), 3, 40)


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("kind", "share"),
    [("qwen3_moe", 0.0), ("phi3", 0.0), ("granite", 0.0), ("smollm3", 0.0), ("olmo2", 0.02), ("mixtral", 0.02),
     ("gemma3_text", 0.02)],
)  # fmt: skip
def test_other_architectures_are_foreseen_within_two_percent(kind: str, share: float, name: str) -> None:
    model, shape = make(kind, WAYS[name])
    seen = saved_bytes(model, padded_forward(model, 2, 48, WAYS[name]))
    assert abs(predicted_bytes(shape, way_of(WAYS[name], CPU), 2, 48) - seen) <= share * seen


def test_adapters_far_from_the_first_norm_keep_no_more_than_foreseen() -> None:
    """Where no adapter is on the queries, the first layer keeps less; the formula does not follow that."""
    training = replace(WAYS["lora"], lora_targets=("o_proj", "up_proj"))
    model, shape = make("qwen2", training)
    seen = saved_bytes(model, padded_forward(model, 2, 48, training))
    assert seen <= predicted_bytes(shape, way_of(training, CPU), 2, 48) <= 1.05 * seen


def loss_pass(model: Any, training: Training) -> Any:
    learnt = training.length - training.prompt_tokens
    prompt, completion = tuple(range(1, training.prompt_tokens + 1)), tuple(range(1, learnt + 1))
    examples = [Example(prompt, completion)] * training.rows
    batch = next(micro_batches(examples, 0, training.rows * training.padded))
    row = pack(examples, range(training.rows), torch.device("cpu"))
    if training.packs:
        assert row.tokens == training.tokens

    def run() -> None:
        with precision(training):
            if training.method == "sft":
                loss = summed_loss(model, model.get_decoder(), batch)
            elif training.packs:
                loss = packed_scores(Policy(model, None, "model"), row, entropy=True).logprobs_N.sum()
            else:
                ids, where = batch.input_ids_BT, batch.completion_BT
                loss = logprobs.sequence_logprobs(model, ids, where, entropy=True).logprobs_BT.sum()
        loss.backward()  # type: ignore[no-untyped-call]

    return run


@pytest.mark.parametrize("several", [True, False], ids=["several", "one"])
@pytest.mark.parametrize("method", ["sft", "grpo", "padded grpo"])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("fp32", {}),
        ("bf16", {"vocab_size": 9000}),
        ("mixed", {"vocab_size": 3000, "tie_word_embeddings": False}),
        ("lora", {"vocab_size": 3000}),
        ("lora bf16", {"num_key_value_heads": 8}),
    ],
)
def test_the_peak_of_a_pass_is_what_torch_allocates(
    name: str, fields: dict[str, Any], method: Any, several: bool
) -> None:
    if method == "grpo" and name == "mixed":
        return  # the trainer does not do that
    sizes = {"prompt_tokens": 56, "length": 256, "micro_tokens": 56 + 4 * 200 if method == "grpo" else 1024}
    if method != "sft":
        sizes |= {"prompts": 1, "num_generations": 8 if several else 4, "packed": method == "grpo"}
        training = replace(WAYS[name], method="grpo", **sizes)
    else:
        training = replace(WAYS[name], batch=8 if several else 4, **sizes)
    model, shape = make("qwen2", training, hidden_size=128, intermediate_size=320, **fields)
    run = loss_pass(model, training)
    run()
    gradients = trained_bytes(shape, training)
    if not several:
        model.zero_grad(set_to_none=True)
    seen = allocated(run) + (gradients if several else 0)
    estimate = training_memory(shape, training, CPU)
    told = estimate.of("forward and backward")
    # Not counted: of a packed row the indices (eight bytes for each token and head) and, in 16 bits, one layer's
    # queries, keys and values in 32; of a padded batch the gradient of what is picked from it.
    share = 0.06 if method == "grpo" and training.precision == "bf16" else 0.02
    assert told == pytest.approx(seen, rel=0.01 if method == "sft" else share)


@pytest.mark.parametrize("name", ["fp32", "lora", "lora bf16"])
@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_the_peak_of_packed_rows_whose_layers_are_computed_again(kind: str, name: str) -> None:
    training = replace(WAYS[name], method="grpo", prompt_tokens=56, length=256, prompts=1, num_generations=8)
    training = replace(training, micro_tokens=56 + 4 * 200)
    model, shape = make(kind, training, hidden_size=128, intermediate_size=320)
    recompute_layers(model)
    training = replace(training, checkpointing=True)
    run = loss_pass(model, training)
    run()
    seen = allocated(run) + trained_bytes(shape, training)
    told = training_memory(shape, training, CPU).of("forward and backward")
    assert told == pytest.approx(seen, rel=0.06)


@pytest.mark.parametrize("name", ["fp32", "bf16", "lora"])
def test_checkpointing_keeps_the_inputs_of_layers(name: str) -> None:
    training = replace(WAYS[name], checkpointing=True, length=256, micro_tokens=1024, batch=8, prompt_tokens=192)
    model, shape = make("qwen2", training, num_hidden_layers=12)
    run = loss_pass(model, training)
    run()
    seen = allocated(run) + trained_bytes(shape, training)
    estimate = training_memory(shape, training, CPU)
    told = estimate.of("forward and backward")
    assert told == pytest.approx(seen, rel=0.05)
    assert told < training_memory(shape, replace(training, checkpointing=False), CPU).of("forward and backward") / 3


def test_logits_in_chunks_are_two_or_three_of_a_chunk() -> None:
    assert passes.CHUNK_ELEMENTS == logprobs.CHUNK_ELEMENTS
    model, shape = make("qwen2", Training(), vocab_size=40_000)
    ids = torch.randint(0, 40_000, (1, 1025))
    where = torch.ones_like(ids, dtype=torch.bool)
    where[:, 0] = False

    def run() -> None:
        found = logprobs.sequence_logprobs(model, ids, where, entropy=True).logprobs_BT
        found.sum().backward()  # type: ignore[no-untyped-call]

    run()
    model.zero_grad(set_to_none=True)
    step = passes.Pass(Way(4, 4), 1, 1025, 1024, True, False, False, 4, native=library(SOFTMAX) is not None)
    gradients = trained_bytes(shape, Training())
    assert passes.peak(shape, step, gradients).total == pytest.approx(allocated(run), rel=0.01)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_gradients_states_and_the_step_are_torch_s(optimizer: Any) -> None:
    training = Training(optimizer=optimizer)
    model, shape = make("qwen3", training, hidden_size=128, intermediate_size=512)
    optimizers = Optimizers(model, optimizer, 1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert trained_bytes(shape, training) == sum(p.grad.nbytes for p in model.parameters())
    seen = allocated(lambda: [part.step() for part in optimizers.parts])
    states = [part.state[p] for part in optimizers.parts for p in part.state]
    tensors = [value for state in states for name, value in state.items() if name != "step"]
    assert state_bytes(shape, training) == sum(tensor.nbytes for tensor in tensors)
    assert state_bytes(shape, training) + step_bytes(shape, training, CPU) == pytest.approx(seen, rel=0.02)


@pytest.mark.parametrize("targets", [(), ("q_proj", "down_proj")])
def test_an_adapter_has_the_numbers_that_peft_gives_it(targets: tuple[str, ...]) -> None:
    training = Training(tuning="lora", lora_rank=5, lora_targets=targets)
    model, shape = make("qwen2", training)
    assert trained_bytes(shape, training) == sum(p.nbytes for p in model.parameters() if p.requires_grad)


def test_what_torchao_unpacks_makes_a_quantised_base_no_smaller_in_training() -> None:
    _, shape = make("qwen2", Training())
    whole = training_memory(shape, Training(tuning="lora", precision="bf16", length=16), CPU)
    packed = training_memory(shape, Training(tuning="qlora", base="int8", precision="bf16", length=16), CPU)
    assert packed.named("weights") < whole.named("weights")
    linear = sum(t.params for t in shape.tensors if t.part in ("attention", "mlp"))
    assert packed.named("copies of weights") > 1.5 * linear


GROWING = ("length", "micro_tokens", "batch", "num_generations", "prompts", "lora_rank")


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(GROWING),
    more=st.integers(1, 5000),
    method=st.sampled_from(["sft", "dpo", "grpo"]),
    tuning=st.sampled_from(["full", "lora", "qlora"]),
    precision=st.sampled_from(["fp32", "bf16", "mixed"]),
    device=st.sampled_from([CPU, GPU]),
    checkpointing=st.booleans(),
)
def test_more_never_takes_less(
    name: str, more: int, method: Any, tuning: Any, precision: Any, device: Device, checkpointing: bool
) -> None:
    shape = shape_of(AutoConfig.for_model("qwen3", **SIZES).to_dict(), "qwen3")
    less = Training(
        method=method, tuning=tuning, precision=precision, checkpointing=checkpointing, length=512, micro_tokens=1024,
        batch=2, prompts=2, num_generations=4,
    )  # fmt: skip
    larger = replace(less, **{name: getattr(less, name) + more}, max_tokens=0)
    before, after = (training_memory(shape, each, device).total for each in (less, larger))
    # Longer sequences make fewer of them fit in a micro-batch, so there is one step down for each that no longer does.
    slack = less.rows * less.padded if name == "length" else 0
    assert after >= before or (slack and after >= before / 2)


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "ppo"}, {"tuning": "dora"}, {"precision": "fp8"}, {"optimizer": "lion"}, {"base": "bf16"},
        {"length": 1}, {"length": 10**30}, {"length": 2.5}, {"length": True}, {"batch": 0}, {"lora_rank": -1},
        {"prompt_tokens": 4096}, {"reference": "adapter"}, {"tuning": "qlora", "base": "fp32"},
        {"method": "grpo", "num_generations": 1}, {"tuning": "lora", "optimizer": "muon"},
    ],
)  # fmt: skip
def test_a_training_that_is_none_is_refused_in_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError) as told:
        Training(**fields)
    assert "\n" not in str(told.value)


def test_an_adapter_on_nothing_is_refused() -> None:
    _, shape = make("qwen2", Training())
    with pytest.raises(UserError, match="q_proj"):
        training_memory(shape, Training(tuning="lora", lora_targets=("nothing",)), CPU)


def test_a_prompt_and_a_completion_make_the_length_of_grpo() -> None:
    assert Training(method="grpo", prompt_tokens=100, max_tokens=400).length == 500
    assert Training(method="grpo", prompt_tokens=100, length=500).max_tokens == 400


def test_the_largest_that_fit_do_and_longer_ones_do_not() -> None:
    _, shape = make("qwen2", Training(), max_position_embeddings=4096)
    training = Training(method="grpo", prompts=2, num_generations=4, prompt_tokens=40, max_tokens=60)
    memory = training_memory(shape, replace(training, max_tokens=600), GPU).total
    longest = largest_length(shape, training, GPU, memory)
    assert longest == 640
    assert training_memory(shape, of_length(training, longest), GPU).total <= memory
    assert training_memory(shape, of_length(training, longest + 1), GPU).total > memory
    memory = training_memory(shape, replace(training, num_generations=77), GPU).total
    assert largest_group(shape, replace(training, micro_tokens=100), GPU, memory) >= 77
    assert largest_length(shape, training, GPU, 1000) == largest_group(shape, training, GPU, 1000) == 0


def test_the_guard_lets_through_what_fits_and_says_what_would() -> None:
    policy = load_policy("tiny")
    training = Training(
        method="grpo", prompts=4, num_generations=8, prompt_tokens=40, max_tokens=216, micro_tokens=8192
    )
    check_fits(policy, training, free=4_000_000_000)
    with pytest.raises(UserError, match="micro_tokens=") as told:
        check_fits(policy, training, free=250_000_000)
    assert "\n" not in str(told.value)
    changed = int(str(told.value).split("micro_tokens=")[1].split()[0])
    check_fits(policy, replace(training, micro_tokens=changed), free=250_000_000)
    with pytest.raises(UserError, match="smaller model"):
        check_fits(policy, training, free=1_000_000)
