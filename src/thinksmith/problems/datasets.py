"""The data sets that are known by name, and where their files are looked for. Nothing is downloaded here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from thinksmith.errors import UserError
from thinksmith.problems.mapping import Columns

COMPLETE = """Complete this Python function. Give the whole function in one code block.

```python
{prompt}
```"""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A set with a file `FOLDER/NAME/FILE` for each split. `id_prefix` is what a problem's id begins with."""

    name: str
    splits: tuple[str, ...]
    columns: Columns
    id_prefix: str
    hub: str
    about: str
    file: str = "{split}.jsonl"


DATASETS = {
    found.name: found
    for found in (
        DataSet(
            "gsm8k",
            ("test", "train"),
            Columns(prompt="question", answer="answer", kind="number", number_ids=True),
            "gsm8k/{split}",
            "hub/openai/gsm8k:config=main,kind=number",
            "word problems of primary school; 1,319 for test, 7,473 for training",
        ),
        DataSet(
            "math500",
            ("test",),
            Columns(prompt="problem", answer="answer", id="unique_id", kind="math"),
            "math500",  # the ids themselves begin with the split
            "hub/HuggingFaceH4/MATH-500",
            "competition mathematics, five levels, answers in LaTeX; 500",
        ),
        DataSet(
            "aime24",
            ("test",),
            Columns(prompt="problem", answer="answer", id="id", kind="number"),
            "aime24/{split}",
            "hub/HuggingFaceH4/aime_2024:kind=number,split=train",
            "the American Invitational Mathematics Examination of 2024, whole numbers up to 999; 30",
        ),
        DataSet(
            "humaneval",
            ("test",),
            Columns(prompt="prompt", answer="canonical_solution", id="task_id", kind="code", frame=COMPLETE),
            "humaneval",  # the ids themselves are HumanEval/0 and so on
            "hub/openai/openai_humaneval:answer=canonical_solution,kind=code",
            "Python functions to be completed from their docstrings, judged by tests in the sandbox; 164",
            "HumanEval.jsonl.gz",
        ),
    )
}


def data_folders() -> list[Path]:
    """Where named sets are looked for, in this order.

    Only in the folder that THINKSMITH_DATA names, if it is set; else in `data` in the user's data folder, and, for a
    checkout of the repository, in `shared/data` beside it.
    """
    if named := os.environ.get("THINKSMITH_DATA"):
        return [Path(named).expanduser()]
    from platformdirs import user_data_path

    folders = [user_data_path("thinksmith", appauthor=False) / "data"]
    repository = Path(__file__).resolve().parents[3]
    if (repository / "pyproject.toml").is_file():
        folders.append(repository.parent / "shared" / "data")
    return folders


def find_file(data_set: DataSet, split: str) -> Path:
    """The file of a named set's split. Raises UserError for an unknown split, and for a file that is not there."""
    if split not in data_set.splits:
        raise UserError(f"{data_set.name} has no split {split!r}; it has: {', '.join(data_set.splits)}")
    file = Path(data_set.name) / data_set.file.format(split=split)
    folders = data_folders()
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise UserError(
        f"{data_set.name}/{split} is not on this machine: put it at {folders[0] / file}, or set THINKSMITH_DATA to the "
        f"folder that has {file}, or download it by naming {data_set.hub}"
    )
