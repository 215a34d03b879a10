"""The user's configuration file: the default model, and endpoints by names of their own.

`config.toml` in the user's configuration folder, or the file that THINKSMITH_CONFIG names:

    model = "box/Qwen/Qwen3-8B"              # what commands use that were told no model

    [endpoints.box]                          # makes `box/MODEL` a model's name
    kind = "vllm"                            # what the server is; "endpoint" for any that speaks OpenAI's chat
    url = "http://192.168.1.7:8000"
    key_variable = "BOX_KEY"                 # the environment variable of its key; keys do not stand in files
    tokenizer = "Qwen/Qwen3-8B"              # puts conversations into the model's template, where the server cannot
    history = "none"                         # none, tool_loop or all: which earlier thinking is sent back
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, field_validator

from thinksmith.engines.remote.presets import PRESETS, History
from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean
from thinksmith.recipes.load import load as load_toml

DEFAULT_MODEL = "tiny"
_KINDS = ", ".join(PRESETS)


class Own(BaseModel):
    """An endpoint of the user's."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(default="endpoint", description=f"one of {_KINDS}")
    url: str = Field(default="", description="such as http://192.168.1.7:8000")
    key_variable: str = Field(default="", description="the name of an environment variable, not the key itself")
    tokenizer: str = Field(default="", description="a folder or hub id whose template puts conversations into text")
    history: History | None = Field(default=None, description="none, tool_loop or all")

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in PRESETS:
            raise ValueError(f"no kind of server{did_you_mean(kind, PRESETS)}")
        return kind

    @property
    def names_a_variable(self) -> bool:
        """Or is it a key itself? Not pydantic's to judge: it shows what it complains about."""
        name = self.key_variable
        return not name or (name.isidentifier() and name.upper() == name)


class Settings(BaseModel):
    """What the file says."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(default="", description="the model of commands that were told none")
    prices: str = Field(default="", description="a TOML file of prices, over those that ship with thinksmith")
    endpoints: dict[str, Own] = Field(default_factory=dict, description="endpoints by names of your own")

    @field_validator("endpoints")
    @classmethod
    def _own_names(cls, endpoints: dict[str, Own]) -> dict[str, Own]:
        for name in endpoints:
            if name in PRESETS or name == "replay" or "/" in name:
                raise ValueError(f"{name!r} is taken, or has a slash: choose another name")
        return endpoints


def config_path(environment: Mapping[str, str]) -> Path:
    """Where the file is, or would be."""
    told = environment.get("THINKSMITH_CONFIG")
    return Path(told).expanduser() if told else user_config_path("thinksmith") / "config.toml"


def load(environment: Mapping[str, str]) -> Settings:
    """The user's settings;

    the defaults where there is no file. Raises UserError for a file that says what cannot be.
    """
    path = config_path(environment)
    if not path.is_file():
        if environment.get("THINKSMITH_CONFIG"):
            raise UserError(f"THINKSMITH_CONFIG names {path}, which is no file: write it, or unset the variable")
        return Settings()
    found = load_toml(str(path), Settings)
    for name, own in found.endpoints.items():
        if not own.names_a_variable:
            raise UserError(
                f"{path}: endpoints.{name}.key_variable is not the name of a variable, such as BOX_KEY:"
                " a key itself does not belong into a file"
            )
    return found


def default_model(environment: Mapping[str, str]) -> str:
    """What a command uses that was told no model: THINKSMITH_MODEL, then the file's `model`, then the embedded one."""
    return environment.get("THINKSMITH_MODEL") or load(environment).model or DEFAULT_MODEL
