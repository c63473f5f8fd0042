"""Schemas of the files that are published, and of those that they are made of."""

from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict  # of typing, pydantic takes none before Python 3.12

from qi_ext.training.result import OF_SOMETHING, Count, Figure, Line, Name, PolicyResult, Result, Seconds, Totals
from qi_ext.utils.settings import StoredSettings


class Policy(PolicyResult):
    """Result of a policy in an evaluation.json, of which only totals are published."""

    directions: Annotated[list[Annotated[Totals, OF_SOMETHING]], Field(min_length=1, max_length=360)]


Condition = Annotated[dict[Name, Policy | Line], Field(min_length=2, max_length=20)]


class Finished(Result):
    """result.json of a run that is to be published."""

    training_seconds: Seconds
    demonstrations: Line
    demonstrations_hash: Line
    device: Line


def _require_policies(evaluation: dict[str, Any]) -> dict[str, Any]:
    policies = {name: each for name, each in evaluation.items() if name != "robustness"}
    rows = evaluation.get("robustness", [])
    if "deterministic" not in policies or not all(isinstance(each, dict) for each in policies.values()):
        raise ValueError("it must hold a result of each policy, the deterministic one among them")
    if not isinstance(rows, list) or not all(
        isinstance(value, str) == (name == "condition") for row in rows for name, value in row.items()
    ):
        raise ValueError("robustness must be rows of a condition, and the result of each policy")
    return evaluation


Evaluated = Annotated[dict[Name, Policy | Annotated[list[Condition], Field(max_length=100)]], AfterValidator(_require_policies)]


class MadeWith(TypedDict):
    """Code, libraries and machine, as `made_with` gives them."""

    __pydantic_config__ = ConfigDict(extra="allow")

    commit: Line | None
    clean: bool
    processor: Line
    cores: Count
    gpu: Line | None
    versions: Annotated[dict[Name, Line], Field(max_length=100)]


class Summary(TypedDict):
    """Published result of a policy."""

    __pydantic_config__ = ConfigDict(extra="allow")

    return_mean: Figure
    lowest: Figure
    falls: Count
    episodes: Count
    gait: NotRequired[dict[Name, Figure | None]]


class Reached(TypedDict):
    """Step and minutes of training at which a return was reached."""

    steps: Count
    minutes: Figure


class Published(TypedDict):
    """result.json in results/NAME/SEED."""

    __pydantic_config__ = ConfigDict(extra="allow")

    seed: Count
    commands: Annotated[list[Line], Field(max_length=10)]
    settings: StoredSettings
    steps: Count
    training_minutes: Figure
    return_reached: Annotated[dict[Name, Reached | None], Field(max_length=20)]
    evaluation: Annotated[dict[Name, Summary], Field(max_length=20)]
    robustness: Annotated[list[Annotated[dict[Name, Summary | Line], Field(max_length=20)]], Field(max_length=100)]
    made_with: Annotated[list[MadeWith], Field(max_length=100)]
    device: Line


FINISHED, EVALUATED, PUBLISHED = TypeAdapter(Finished), TypeAdapter(Evaluated), TypeAdapter(Published)
MADE_WITH = TypeAdapter(Annotated[list[MadeWith], Field(max_length=1000)])
