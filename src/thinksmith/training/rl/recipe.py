"""What a GRPO recipe may say. Names follow TRL's GRPOConfig where the idea is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from thinksmith.training.optimizer import OptimizerName, Schedule
from thinksmith.training.recipe import Above, Count, LoRATable, Names, Positive, Share, Table, Weight
from thinksmith.training.rl.advantages import Scale
from thinksmith.training.rl.losses import KLEstimator, LossType
from thinksmith.training.rl.trl_names import elsewhere

Option = bool | int | float | str


class RolloutTable(Table):
    """How completions are drawn. A step trains on `prompts` groups: problems that are each asked `num_generations`
    times. Lengths are in tokens; 0 is off where a key has no other least value."""

    prompts: Positive = 16
    num_generations: int = Field(default=16, ge=2, description="a group of one has nothing to be compared with")
    temperature: Above = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    top_k: Count = 0
    min_p: Share = 0.0
    max_tokens: Positive = 256
    max_thinking_tokens: Count = 0
    pool: Positive = 4096
    dynamic_sampling: bool = False
    max_draws: Annotated[float, Field(ge=1.0)] = 4.0
    mask_truncated_completions: bool = False


class CurriculumTable(Table):
    """Which problems are asked, by their measured pass rate: those within `lowest`..`highest`, and those not measured
    yet. `measure`: groups that are asked before a problem is judged (0: nothing is put aside). `again`: steps after
    which a problem that was put aside is asked once more (0: never)."""

    lowest: Share = 0.0
    highest: Share = 1.0
    measure: Count = 0
    again: Count = 0


class TrainingTable(Table):
    """How the policy is moved; docs/grpo.md tells what each key means."""

    tuning: Literal["full", "lora"] = "full"
    optimizer: OptimizerName = "adamw"
    lr: Above = 5e-5
    lr_scheduler_type: Schedule = "trapezoid"
    warmup: Count = 0
    decay: Count = 0
    weight_decay: Weight = 0.0
    max_grad_norm: Above = 1.0
    loss_type: LossType = "dapo"
    scale_rewards: Scale = "group"
    epsilon: Share = 0.2
    epsilon_high: Weight = 0.28
    delta: Weight = 0.0
    beta: Weight = 0.0
    kl_estimator: KLEstimator = "k3"
    top_entropy_quantile: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    num_iterations: Positive = 1
    minibatches: Positive = 1
    old_logprobs: Literal["sampled", "computed"] = "sampled"
    micro_tokens: Count = 0
    gradient_checkpointing: bool = False
    sharding: Literal["none", "full"] = "none"
    save_every: Count = 0
    save_total_limit: Positive = 2


class EvaluationTable(Table):
    """What is measured before and after training, on `n` held-out problems; and on the first `every_n` of them after
    every `every` steps (0: not)."""

    problems: str = "mixed"
    n: Positive = 300
    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    max_tokens: Positive = 256
    every: Count = 0
    every_n: Positive = 100


class AgentTable(Table):
    """With this table completions are trajectories: the model works with `tools` (as `--tools` names them) until it
    answers, for at most `steps` turns of `rollout.max_tokens` each. `describe`: its prompt tells how to work and which
    tools there are; a model that was trained for its tools needs no telling. `planning` and `reflect_every` as the
    agent's. `strategy` is the strategy that plays an episode: `agent`, or one of your own with the same options."""

    tools: Names = ()
    steps: Positive = 8
    describe: bool = True
    planning: bool = False
    reflect_every: Count = 0
    strategy: str = "agent"


class WarmupTable(Table):
    """Before GRPO the model learns by SFT what a trajectory looks like: `trajectories` that a solver writes, in `steps`
    steps of `batch` of them each. The share `calls` of them calls the tool, drawn without a look at the problem; the
    others work in the head, `direct` of the small ones by a wrong guess, with `slip` of their equations wrong, and all
    of the big ones by a guess. So it knows how to call, and not when."""

    trajectories: Positive = 3000
    steps: Positive = 200
    batch: Positive = 48
    lr: Above = 1e-3
    calls: Share = 0.5
    direct: Share = 0.1
    slip: Share = 0.0
    micro_tokens: Positive = 4096


class GRPORecipe(Table):
    """A whole recipe. A reward has a weight, or a table with its weight and its own options. `expected` is what a run
    of it should reach; it changes nothing."""

    names_elsewhere: ClassVar[Callable[[str], str | None]] = elsewhere

    model: str = "tiny-base"
    problems: str = "mixed"
    seed: int = 0
    steps: Positive = 40
    instruction: str = ""
    track: Names = ()
    expected: str = ""
    rollout: RolloutTable = RolloutTable()
    curriculum: CurriculumTable = CurriculumTable()
    training: TrainingTable = TrainingTable()
    lora: LoRATable = LoRATable()
    evaluation: EvaluationTable = EvaluationTable()
    agent: AgentTable | None = None
    warmup: WarmupTable | None = None
    rewards: dict[str, float | dict[str, Option]] = Field(default={"correctness": 1.0}, min_length=1)
