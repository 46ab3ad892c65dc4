"""The parameters of a notebook, checked by its first call."""

from collections.abc import Mapping
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from replication.study import designs
from replication.data.settings import setting


class Parameters(BaseModel):
    """The parameters of every notebook, as papermill's `-p NAME VALUE` sets them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    settings: str = Field("", description="comma-separated settings, or empty for all that are published")
    networks: str = Field("", description="comma-separated networks, or empty for all that are published")
    seeds: int = Field(0, ge=0, le=1000, description="0 shows published results; n trains n seeds here")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")

    @field_validator("settings", "networks")
    @classmethod
    def _known(cls, names: str, field: ValidationInfo) -> str:
        for name in filter(None, names.split(",")):
            {"settings": setting, "networks": designs.body}[field.field_name](name)
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
