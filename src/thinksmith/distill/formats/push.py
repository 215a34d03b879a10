"""A set onto the hub. Only when asked: nothing else in `distill` reaches the network."""

from __future__ import annotations

from pathlib import Path

from thinksmith.errors import UserError, one_line


def push_set(folder: Path, name: str) -> str:
    """Upload a set folder as the data set `OWNER/NAME`, private if it is made by this; returns its address.

    The card becomes its README. What was dropped stays here. Raises UserError where the hub refuses or is out of reach.
    """
    if name.count("/") != 1 or not all(name.split("/")):
        raise UserError(f"{name!r}: a data set of the hub is named OWNER/NAME")
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        hub.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        hub.upload_file(path_or_fileobj=folder / "card.md", path_in_repo="README.md", repo_id=name, repo_type="dataset")
        hub.upload_folder(
            folder_path=folder,
            repo_id=name,
            repo_type="dataset",
            allow_patterns=["data.*", "funnel.json", "report.html"],
        )
    except Exception as error:  # the network, the hub and its client fail in their own ways
        raise UserError(
            f"{name} cannot be pushed ({one_line(error)}); the set is in {folder}: log in, or try again"
        ) from error
    return f"{hub.endpoint}/datasets/{name}"
