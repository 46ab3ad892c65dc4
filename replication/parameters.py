"""The parameters of a notebook, checked by its first call."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from replication import designs
from replication.data.settings import SETTINGS


class Parameters(BaseModel):
    """The parameters of every notebook, as papermill's `-p NAME VALUE` sets them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    settings: str = Field("", description="comma-separated settings, or empty for all that are published")
    networks: str = Field("", description="comma-separated networks, or empty for all that are published")
    seeds: int = Field(0, ge=0, le=1000, description="0 shows published results; n trains n seeds here")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")

    @field_validator("settings")
    @classmethod
    def _known_settings(cls, names: str) -> str:
        if unknown := [n for n in names.split(",") if n and n not in SETTINGS]:
            raise ValueError(f"unknown setting {unknown[0]!r}, allowed are {', '.join(designs.CELL_SETTINGS)}")
        return names

    @field_validator("networks")
    @classmethod
    def _known_networks(cls, names: str) -> str:
        known = {n for by_setting in designs.NETWORKS.values() for ns in by_setting.values() for n in ns} | {"simple_cnn"}
        if unknown := [n for n in names.split(",") if n and n not in known]:
            raise ValueError(f"unknown network {unknown[0]!r}, allowed are {', '.join(sorted(known))}")
        return names


def parameters(namespace: Mapping[str, object]) -> Parameters:
    """The parameters a notebook was given: every plain value it has defined so far.

    ValueError in one sentence that names the parameter and what is allowed, for an unknown name as for a bad value:
    papermill itself only warns of a name it does not know.
    """
    given = {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and isinstance(value, str | int | float | bool | list | dict | None)
        and name not in ("In", "Out")
    }  # fmt: skip
    try:
        return Parameters(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            raise ValueError(f"unknown parameter {name!r}: allowed are {', '.join(Parameters.model_fields)}") from None
        about = Parameters.model_fields[name].description
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"parameter {name} = {given[name]!r} is not allowed: {reason} ({about})") from None
