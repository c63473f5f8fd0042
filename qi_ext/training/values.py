"""Checks of single settings, by the metadata of their fields."""

import math

from qi_ext.utils.errors import UserError


def shown(value):
    """A value as on a command line."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def checked(item, value):
    """The value of a dataclass field of the config, in its type. Raises UserError where it is of another, or out of range."""
    metadata = item.metadata
    if item.type is list:
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            raise UserError(f"--{item.name}: needs at least one value")
        return [_checked_number(item.name, int, each, metadata) for each in values]
    if item.type is str:
        if not isinstance(value, str):
            raise UserError(f"--{item.name}: must be text, not {value!r}")
        if metadata["choices"] and value not in metadata["choices"]:
            raise UserError(f"--{item.name}: unknown value {value!r}; choose one of {', '.join(metadata['choices'])}")
        return value
    return _checked_number(item.name, item.type, value, metadata)


def checked_workers(value):
    """--n_workers, as text."""
    if value == "auto":
        return value
    try:
        return str(_checked_number("n_workers", int, value, {"low": 1, "high": math.inf}))
    except UserError:
        raise UserError(f"--n_workers: must be auto or a whole number of at least 1, not {value!r}") from None


def _checked_number(name, kind, value, metadata):
    try:
        number = kind(float(value) if isinstance(value, str) else value)
        exact = math.isfinite(number) and (kind is float or number == float(value))
    except (TypeError, ValueError, OverflowError):
        exact = False
    if not exact or isinstance(value, bool):
        raise UserError(f"--{name}: must be a {'whole ' if kind is int else ''}number, not {value!r}")
    if not metadata["low"] <= number <= metadata["high"]:
        limits = f"at least {metadata['low']:g}" + (f" and at most {metadata['high']:g}" if metadata["high"] < math.inf else "")
        raise UserError(f"--{name}: must be {limits}, not {value}")
    return number
