"""Schema of result.json, which ends a run, and of the evaluation in it."""

from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # of typing, pydantic takes none before Python 3.12

from qi_ext.utils.limits import LARGEST_FIGURE, MOST_CHARACTERS_OF_A_LINE, MOST_COUNTED, MOST_SECONDS

# Numbers are bounded, because tables write them out.
Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
Figure = Count | Annotated[float, Field(ge=-LARGEST_FIGURE, le=LARGEST_FIGURE)]
Seconds = Annotated[float, Field(ge=0.0, le=MOST_SECONDS)]
Name = Annotated[str, Field(max_length=200)]
Line = Annotated[str, Field(max_length=MOST_CHARACTERS_OF_A_LINE)]


def _of_something(row: dict) -> dict:
    if "course" not in row and "direction_deg" not in row:
        raise PydanticCustomError("row", "a row needs direction_deg, or course")
    return row


OF_SOMETHING = AfterValidator(_of_something)


class Totals(TypedDict):
    """What is published of one direction, or course."""

    __pydantic_config__ = ConfigDict(extra="allow")

    direction_deg: NotRequired[Figure]
    speed: NotRequired[Figure]  # where several are commanded
    course: NotRequired[Annotated[Name, Field(min_length=1)]]
    return_mean: Figure
    falls: Count
    episodes: Count
    velocity_error_mean: NotRequired[Figure]


class Row(Totals):
    """One direction in a result of `qi_ext.evaluation.evaluate`; measures of the gait are beside these.

    Older ones lack return_std.
    """

    return_std: NotRequired[Figure]
    length_mean: Figure
    velocity_error_mean: Figure


class PolicyResult(TypedDict):
    """Result of `qi_ext.evaluation.evaluate`: a row a direction, and means; older ones lack `mean`, of the gait."""

    __pydantic_config__ = ConfigDict(extra="allow")

    return_mean: Figure
    directions: Annotated[list[Annotated[Row, OF_SOMETHING]], Field(min_length=1, max_length=360)]
    mean: NotRequired[dict[Name, Any]]


Evaluation = Annotated[dict[Name, PolicyResult], Field(min_length=1, max_length=20)]


class Result(TypedDict):
    """Content of result.json."""

    __pydantic_config__ = ConfigDict(extra="allow")

    steps: Count
    training_seconds: NotRequired[Seconds]
    demonstrations: NotRequired[Line]
    evaluation: NotRequired[Evaluation]
