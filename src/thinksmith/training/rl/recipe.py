"""What a GRPO recipe may say. Names follow TRL's GRPOConfig where the idea is the same."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from thinksmith.training.rl.advantages import Scale
from thinksmith.training.rl.losses import LossType

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Table(BaseModel):
    """Unknown keys are errors, and so are values of another type and numbers that are none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class RolloutTable(Table):
    """How completions are drawn. One step asks `prompts` problems, each `num_generations` times."""

    prompts: Positive = 16
    num_generations: Annotated[int, Field(ge=2)] = 16
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    max_tokens: Positive = 256
    pool: Positive = 4096


class TrainingTable(Table):
    """How the policy is moved. `epsilon`/`epsilon_high` bound the ratio; lengths are in tokens."""

    lr: Annotated[float, Field(gt=0.0)] = 5e-5
    loss_type: LossType = "dapo"
    scale_rewards: Scale = "group"
    epsilon: Share = 0.2
    epsilon_high: Share = 0.28
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    warmup: Annotated[int, Field(ge=0)] = 0
    decay: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    micro_tokens: Positive = 4096
    save_every: Annotated[int, Field(ge=0)] = 10


class EvaluationTable(Table):
    """What is measured before and after training, on `n` held-out problems."""

    problems: str = "mixed"
    n: Positive = 300
    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    max_tokens: Positive = 256


class GRPORecipe(Table):
    """A whole recipe. `expected` is what a run of it should reach, in points of accuracy gained; it changes nothing."""

    model: str = "tiny-base"
    problems: str = "mixed"
    seed: int = 0
    steps: Positive = 40
    rollout: RolloutTable = RolloutTable()
    training: TrainingTable = TrainingTable()
    evaluation: EvaluationTable = EvaluationTable()
    rewards: dict[str, float] = Field(default={"correctness": 1.0}, min_length=1)
    expected: str = ""
