"""Whether a model can be trained on a device, the largest that fits, and what to change where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from thinksmith.fit.memory.estimate import Estimate
from thinksmith.fit.memory.training import Training, largest_group, largest_length, of_length, training_memory
from thinksmith.fit.plans.verdict import SURE, Change, Step, Verdict, changes, verdict
from thinksmith.fit.shapes.shape import Shape
from thinksmith.fit.speed.device import Device

LEAST_LENGTH = 1024  # tokens of a sequence that is worth training on


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """One way of training. `largest_length`: the longest sequences that fit with a tenth of the memory left free,
    `largest_group` the most completions of a group (GRPO; else 0); 0 where nothing does."""

    shape: Shape
    device: Device
    training: Training
    estimate: Estimate
    verdict: Verdict
    largest_length: int
    largest_group: int


def train_plan(shape: Shape, device: Device, training: Training) -> TrainPlan:
    estimate = training_memory(shape, training, device)
    sure = int(SURE * device.usable)
    return TrainPlan(
        shape,
        device,
        training,
        estimate,
        verdict(estimate.total, device.usable),
        largest_length(shape, training, device, sure),
        largest_group(shape, training, device, sure) if training.method == "grpo" else 0,
    )


def what_to_change(shape: Shape, device: Device, training: Training) -> tuple[Change[Training], ...]:
    """Changes so that the training fits, ordered by what they cost: first what costs nothing, then time, then memory
    of how the weights are held, then what is learnt."""

    def need(setting: Training) -> int:
        return training_memory(shape, setting, device).total

    return changes(training, lambda limit: list(_steps(shape, device, limit)), need, device.usable)


def _steps(shape: Shape, device: Device, limit: int) -> Iterator[Step[Training]]:
    def one_sequence(now: Training) -> Training | None:
        return replace(now, micro_tokens=0) if now.rows > replace(now, micro_tokens=0).rows else None

    def checkpointed(now: Training) -> Training | None:
        return None if now.checkpointing else replace(now, checkpointing=True)

    def smaller_states(now: Training) -> Training | None:
        return replace(now, optimizer="adamw8bit") if now.optimizer == "adamw" and device.kind == "cuda" else None

    def without_reference(now: Training) -> Training | None:
        return replace(now, reference="none") if now.reference == "copy" and now.method == "grpo" else None

    def adapter(now: Training) -> Training | None:
        if now.tuning != "full":
            return None
        reference = "adapter" if now.reference == "copy" else now.reference
        optimizer = "adamw" if now.optimizer == "muon" else now.optimizer
        return replace(now, tuning="lora", reference=reference, optimizer=optimizer)

    def quantised(now: Training) -> Training | None:
        if now.tuning == "qlora":
            return None
        lora = adapter(now) or now
        return replace(lora, tuning="qlora", base="")

    def half(now: Training) -> Training | None:
        return replace(now, precision="bf16") if now.tuning == "full" and now.precision != "bf16" else None

    def smaller_group(now: Training) -> Training | None:
        if now.method != "grpo":
            return None
        most = max(2, largest_group(shape, now, device, limit))
        return replace(now, num_generations=most) if most < now.num_generations else None

    def shorter(now: Training) -> Training | None:
        most = max(largest_length(shape, now, device, limit) // 256 * 256, LEAST_LENGTH, now.prompt_tokens + 2)
        return of_length(now, most) if most < now.length else None

    yield Step("one sequence in a micro-batch", "nothing but speed: the gradient is the same", one_sequence)
    yield Step("recompute activations (checkpointing)", "about a third more time", checkpointed)
    yield Step("optimiser states in 8 bits", "next to nothing", smaller_states)
    yield Step("no copy of the reference (beta = 0)", "nothing holds the policy near its beginning", without_reference)
    yield Step("train in bfloat16", "small updates are rounded away", half)
    yield Step("train an adapter (LoRA)", "little for reinforcement learning, some for new knowledge", adapter)
    yield Step("an adapter on 4-bit weights (QLoRA)", "slower, and a little accuracy", quantised)
    yield Step("groups of {0.num_generations}", "a noisier advantage", smaller_group)
    yield Step("sequences of {0.length:,} tokens", "longer chains of thought are cut off", shorter)
