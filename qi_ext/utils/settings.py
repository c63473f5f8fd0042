"""Groups of settings: pydantic models that also take numbers as text, and whose complaints are one line about one option."""

import contextlib
import re
from collections.abc import Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from qi_ext.utils.errors import UserError
from qi_ext.utils.limits import MOST_CHARACTERS
from qi_ext.utils.words import did_you_mean, listed

__all__ = ["LayerSizes", "Number", "Settings", "Speeds", "Text", "Whole", "option"]

# What a value must be, by the type of pydantic's error and with what pydantic says of it (`ctx`).
MUST_BE = {
    "bool_type": "True or False",
    "bool_parsing": "True or False",
    "value_error": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_type": "text",
    "too_short": "at least one value",
    "too_long": "at most {max_length} values",
    "string_too_short": "some text",
    "string_too_long": "at most {max_length} characters long",
    "string_unicode": "text in UTF-8",
    "null": "text without null characters",
}


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError  # pydantic would take it for 0 or 1
    if isinstance(value, str):
        for kind in (int, float):  # 1e5 may be a whole number, too
            with contextlib.suppress(ValueError):
                return kind(value)
    return value


def _whole(value: Any) -> Any:
    number = _number(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _values(value: Any) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]


def _numbers(value: Any) -> list:
    return value.split() if isinstance(value, str) else _values(value)


def _without_null(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("null", "holds a null character")
    return text


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
# Of 24 layers, `load_agent` can no longer tell that actions are finite, and refuses the file.
LayerSizes = Annotated[
    list[Annotated[Whole, Field(ge=1, le=4096)]], Field(min_length=1, max_length=16), BeforeValidator(_values)
]
Speeds = Annotated[  # or text, with spaces between
    list[Annotated[Number, Field(ge=0.0, le=3.0)]], Field(max_length=20), BeforeValidator(_numbers)
]
Text = Annotated[str, Field(max_length=MOST_CHARACTERS), AfterValidator(_without_null)]
SomeText = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), AfterValidator(_without_null)]

# Settings as a file holds them, {name: value}, of which none is checked yet.
_Value = bool | int | float | Annotated[str, Field(max_length=MOST_CHARACTERS)] | None
StoredSettings = Annotated[
    dict[Annotated[str, Field(max_length=100)], _Value | Annotated[list[_Value], Field(max_length=1000)]],
    Field(max_length=500),
]


class Settings(BaseModel):
    """A group of settings. Each field has a type, a range, a default, and a description, which is its help text.

    Making one raises UserError, in one line, where a value is of the wrong type or out of range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(one_line(error)) from None


def one_of(registry: Mapping[str, Any]) -> AfterValidator:
    """A validator of names: those that `registry`, {name: anything}, has when it is asked."""

    def check(name: str) -> str:
        if name not in registry:
            raise PydanticCustomError("literal_error", "unknown", {"expected": listed(registry)})
        return name

    return AfterValidator(check)


def option(default: Any, description: str, at_least: float | None = None, at_most: float | None = None) -> Any:
    """A field of `Settings`: its default, its help text, and its range, ends included."""
    return Field(default, description=description, ge=at_least, le=at_most)


def one_line(error: ValidationError) -> str:
    """The first option that a `pydantic.ValidationError` is about: its name, what it must be, and what it was."""
    first, *others = error.errors(include_url=False)
    name = first["loc"][0]
    # Where a value may be of several types, each has an error of its own.
    alternatives = [first, *(other for other in others if other["loc"][0] == name and isinstance(other["loc"][-1], str))]
    must_be = (_must_be(each).replace("'", "") for each in alternatives)
    expected = [each["ctx"]["expected"] for each in alternatives if each["type"] == "literal_error"]
    choices = re.split(", | or ", expected[0].replace("'", "")) if expected else []
    return f"--{name}: must be {' or '.join(must_be)}, not {brief(first['input'])}{did_you_mean(first['input'], choices)}"


def _must_be(error: Any) -> str:
    known = MUST_BE.get(error["type"])
    context = {name: f"{value:g}" if isinstance(value, float) else value for name, value in error.get("ctx", {}).items()}
    return known.format(**context) if known else f"something else ({error['msg']})"


def brief(value: Any) -> str:
    """Return `value` as Python shows it, of at most 100 characters, in one line."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # a number of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."


def shown(value: Any) -> str:
    """A value as on a command line; none for an empty list."""
    return " ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def plain_type(field: FieldInfo) -> Any:
    """The type of a field as command lines know it: str, int, float or list. A number that may also be a word is a str."""
    origin = get_origin(field.annotation)
    return str if origin in (Literal, Union, UnionType) else origin or field.annotation
