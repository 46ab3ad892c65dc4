"""The parameters of a notebook, checked by its first call."""

import ast
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

from replication.data.settings import names, setting
from replication.running.initial import check_here
from replication.study.networks import network

INJECTED = "# Parameters"
"""first line of the cell in which papermill passes what `-p` gives"""
OF_PAPERMILL = ("PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH")
"""what papermill passes where it is asked to (`--inject-paths`): no parameters of a page"""


class Parameters(BaseModel):
    """The parameters of every notebook, as papermill's `-p NAME VALUE` sets them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    settings: str = Field("", description="settings, comma-separated or a JSON list, or empty for all that are planned")
    networks: str = Field("", description="networks, comma-separated or a JSON list, or empty for all that are planned")
    seeds: int = Field(0, ge=0, le=1000, description="0 shows published results; n trains n seeds here")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")

    @field_validator("settings", "networks")
    @classmethod
    def _known(cls, text: str, field: ValidationInfo) -> str:
        for name in names(text):
            {"settings": setting, "networks": network}[field.field_name](name)
        check_here(**{"settings": (), "networks": (), field.field_name: names(text)})
        return text


def _injected(cells: list[str]) -> set[str]:
    """Names that papermill's cells define, of the cells that a kernel has run."""
    found = set()
    for source in cells:
        if source.lstrip().startswith(INJECTED):
            found |= {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    return found


def parameters(namespace: Mapping[str, object]) -> Parameters:
    """The parameters a notebook was given: the known ones, and whatever else papermill has passed.

    In a live kernel (which has `In`, the cells run so far) other names are the page's own and no parameters, so that a
    notebook may be run twice. ValueError in one sentence that names the parameter and what is allowed, for an unknown
    name as for a bad value: papermill itself only warns of a name it does not know.
    """
    plain = str | int | float | bool | list | dict | None
    asked = {name for name, value in namespace.items() if isinstance(value, plain)}
    if isinstance(cells := namespace.get("In"), list):
        asked = {*Parameters.model_fields, *_injected(cells)}
    asked -= set(OF_PAPERMILL)
    given = {name: namespace[name] for name in namespace if name in asked and not name.startswith("_")}
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
