"""What the recipes of SFT and DPO may say. Names follow TRL's SFTConfig and DPOConfig where the idea is the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from thinksmith.errors import UserError
from thinksmith.training.adapt import check_quantised
from thinksmith.training.optimizer import OptimizerName, Schedule
from thinksmith.training.recipe import Above, Count, LoRATable, Names, Positive, Share, Table, Weight
from thinksmith.training.supervised.trl_names import elsewhere

Thinking = Literal["prefilled", "learnt", "template"]


class BatchTable(Table):
    """What an optimiser step learns from: `samples` whole samples (of DPO pairs), of all processes together; or as many
    as fit into `tokens` (at least one). `max_length`: longer samples are dropped, never cut (0: the model's context).
    """

    samples: Positive = 16
    tokens: Count = 0
    max_length: Count = 0


class TrainingTable(Table):
    """How the weights are moved; docs/sft.md tells what each key means. `warmup`, `decay`: shares of the steps."""

    tuning: Literal["full", "lora"] = "full"
    optimizer: OptimizerName = "adamw"
    lr: Above = 4e-5
    lr_scheduler_type: Schedule = "cosine"
    warmup: Share = 0.03
    decay: Share = 0.0
    weight_decay: Weight = 0.0
    max_grad_norm: Above = 1.0
    micro_tokens: Count = 0
    gradient_checkpointing: bool = False
    sharding: Literal["none", "full"] = "none"
    save_every: Count = 0
    save_total_limit: Positive = 2


class EvaluationTable(Table):
    """What is measured while it learns: `held_out`, this share of the problems, of which no sample is learnt (or the
    samples of another set, `data`); and with `problems` the accuracy of sampled answers to `n` of them.

    `every`: steps between measurements (0: about ten in a run, and after the last step). `patience`: the run stops when
    so many measurements on end were no better than the best before (0: never); better is by `by`. `keep`: which weights
    are the result.
    """

    held_out: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    data: str = ""
    every: Count = 0
    patience: Count = 0
    by: Literal["loss", "accuracy"] = "loss"
    keep: Literal["last", "best"] = "last"
    problems: str = ""
    n: Positive = 100
    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    max_tokens: Positive = 256


class TaughtRecipe(Table):
    """What both have in common. `data`: a set, a file, or a run of the store. `thinking`: is `<think>` prefilled by the
    student's chat template, learnt, or as its template has it? `steps` 0: `epochs` over the data."""

    names_elsewhere: ClassVar[Callable[[str], str | None]] = elsewhere

    model: str = "tiny-base"
    data: str = ""
    thinking: Thinking = "prefilled"
    seed: int = 0
    epochs: Positive = 1
    steps: Count = 0
    track: Names = ()
    expected: str = ""
    batch: BatchTable = BatchTable()
    training: TrainingTable = TrainingTable()
    lora: LoRATable = LoRATable()
    evaluation: EvaluationTable = EvaluationTable()


class SFTRecipe(TaughtRecipe):
    """A whole recipe of supervised fine-tuning. `expected` is what a run of it should reach; it changes nothing."""


class DPOTable(Table):
    """`beta` weighs the distance to the model before training: small ones let it go far. `pairs`: the most pairs that
    are made of one problem's traces. `wrong`: the verdicts that make a trace one to be avoided."""

    beta: Above = 0.1
    pairs: Positive = 4
    wrong: Annotated[tuple[Literal["wrong", "no_answer"], ...], Field(strict=False, min_length=1)] = ("wrong",)


class DPOTrainingTable(TrainingTable):
    """As of SFT, at a learning rate for preferences."""

    lr: Above = 1e-6


class DPORecipe(TaughtRecipe):
    """A whole recipe of direct preference optimisation."""

    training: DPOTrainingTable = DPOTrainingTable()
    dpo: DPOTable = DPOTable()


def check(recipe: TaughtRecipe) -> None:
    """Raises UserError for the first thing that cannot be, or would not do what it seems to say."""
    for fault in _faults(recipe):
        raise UserError(fault)
    check_quantised(recipe)


def _faults(recipe: TaughtRecipe) -> Iterator[str]:
    batch, training, evaluation = recipe.batch, recipe.training, recipe.evaluation
    measures = bool(evaluation.held_out or evaluation.data or evaluation.problems)
    if not recipe.data:
        yield "no data to learn from: name a set, a file or a run with --data, or data in the recipe"
    idle = (
        ("batch.samples", batch, "samples", "batch.tokens = 0", not batch.tokens),
        ("training.decay", training, "decay", 'lr_scheduler_type = "trapezoid"', _is(training, "trapezoid")),
        ("epochs", recipe, "epochs", "steps = 0", not recipe.steps),
        *(
            (f"lora.{name}", recipe.lora, name, 'training.tuning = "lora"', training.tuning == "lora")
            for name in LoRATable.model_fields
        ),
        *(
            (f"evaluation.{name}", evaluation, name, "evaluation.problems", bool(evaluation.problems))
            for name in ("n", "temperature", "max_tokens")
        ),
        *(
            (f"evaluation.{name}", evaluation, name, "something that is measured (evaluation.held_out)", measures)
            for name in ("every", "patience", "keep")
        ),
    )
    for key, table, name, condition, given in idle:
        value = getattr(table, name)
        if not given and value != type(table).model_fields[name].default:
            yield f"{key} = {value} does nothing without {condition}: set that, or leave {name} out"
    if evaluation.by == "accuracy" and not evaluation.problems:
        yield 'evaluation.by = "accuracy" needs evaluation.problems: name problems, or set by = "loss"'
    wants = evaluation.patience or evaluation.keep == "best"
    if evaluation.by == "loss" and wants and not (evaluation.held_out or evaluation.data):
        yield 'patience and keep = "best" go by the held-out loss: set evaluation.held_out, or by = "accuracy"'
    if batch.tokens and batch.max_length > batch.tokens:
        yield (
            f"batch.max_length = {batch.max_length} is more than batch.tokens = {batch.tokens}, which a step should "
            "have: make it smaller, or raise tokens"
        )


def _is(training: TrainingTable, schedule: str) -> bool:
    return training.lr_scheduler_type == schedule
