"""Courses from files: YAML, a list of legs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # of typing, pydantic takes none before Python 3.12

from qi_ext.robot.courses import COURSES, Course, Leg
from qi_ext.utils.errors import UserError
from qi_ext.utils.reading import read_yaml
from qi_ext.utils.words import did_you_mean

MAX_LEGS = 1000
MAX_SPEED = 3.0  # m/s


class _Leg(TypedDict, total=False):
    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic reads it)

    seconds: Annotated[float, Field(ge=0.01, le=1000.0)]
    speed: Annotated[float, Field(ge=0.0, le=MAX_SPEED)]
    direction_deg: Annotated[float, Field(ge=-360.0, le=360.0)]
    turn_rate: Annotated[float, Field(ge=-360.0, le=360.0)]


_LEGS: Any = TypeAdapter(Annotated[list[_Leg], Field(min_length=1, max_length=MAX_LEGS)])


def find_courses(names: Iterable[str | Course]) -> tuple[Course, ...]:
    """Return the courses of these names or YAML files, a `Course` as it is.

    Raises UserError where there is none, or a file holds something else.
    """
    found = tuple(name if isinstance(name, Course) else COURSES.get(name) or read_course(name) for name in names)
    for course in found:
        if [other.name for other in found].count(course.name) > 1:
            raise UserError(f"course: {course.name} is there twice; leave one out, or rename its file")
    return found


def read_course(path: str) -> Course:
    """Return the `Course` in a YAML file, a list of legs with the fields of `Leg`, named as the file is.

    Raises UserError, in one line, for anything else.
    """
    if Path(path).suffix not in (".yaml", ".yml"):
        hint = did_you_mean(path, COURSES)
        raise UserError(f"course: no course {path!r:.100}; choose one of {', '.join(COURSES)}, or give a .yaml file{hint}")
    legs = read_yaml(path, _LEGS)
    missing = next((i for i, leg in enumerate(legs) if "seconds" not in leg), None)
    if missing is not None:
        raise UserError(f"{path}: {missing}: seconds is missing; how long is that leg?")
    return Course(Path(path).stem[:100], tuple(Leg(**leg) for leg in legs))
