"""The manner that a model was trained in: a file in its folder, so that it is asked as it learnt to be asked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from thinksmith import models
from thinksmith.agent.loop import Manner
from thinksmith.errors import UserError

NAME = "agent.json"
History = Literal["messages", "ids"]


@dataclass(frozen=True, slots=True)
class Trained:
    """How trajectories went in training: the manner, the kind of history, and at most so many steps."""

    manner: Manner
    history: History = "messages"
    steps: int = 30


def write_manner(folder: Path, trained: Trained) -> None:
    """Leave it in a model's folder."""
    (folder / NAME).write_text(json.dumps(asdict(trained), indent=2) + "\n", encoding="utf-8")


def manner_of(model: str) -> Trained | None:
    """What stands in the folder that `model` names, or in an embedded model's; None for a model without one, or another
    kind of name. Raises UserError for a file that somebody has spoilt."""
    name = model.split(":")[0]
    path = (models.path(name) if name in models.EMBEDDED else Path(model)) / NAME
    try:
        if not path.is_file():
            return None
        said = json.loads(path.read_text(encoding="utf-8"))
        trained = Trained(Manner(**said["manner"]), said["history"], int(said["steps"]))
        kinds = [type(value) for value in asdict(Manner()).values()]
        sound = kinds == [type(value) for value in asdict(trained.manner).values()]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it, or take it from the run again") from None
    if not sound or trained.history not in get_args(History) or trained.steps < 1:
        raise UserError(f"{path} is not as it was written: remove it, or take it from the run again")
    return trained
