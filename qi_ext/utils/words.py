"""Words of messages: lists of names, the name that a misspelt word may have meant, and other texts in one line."""

import difflib
from collections.abc import Collection, Iterable

from qi_ext.utils.errors import UserError


def listed(names: Iterable[str]) -> str:
    """Return names as `a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def typed(value: object) -> str:
    """Return a value of an option as one types it: a number in full, without a decimal point where it has no decimals."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def did_you_mean(word: object, names: Iterable[str], alike: float = 0.7) -> str:
    """Return `; did you mean NAME?` of the name that is most like `word`, at least `alike` (0 to 1), or "" where none is."""
    if not isinstance(word, str):
        return ""
    found = difflib.get_close_matches(word[:200], list(names), n=1, cutoff=alike)
    return f"; did you mean {found[0]}?" if found else ""


def in_one_line(text: object) -> str:
    """Return a text, such as an error of another library, in one line of at most 200 characters."""
    return " ".join(str(text).split())[:200]


def require_choice(option: str, value: str, choices: Collection[str]) -> None:
    """Raise UserError where `value` of an option, such as `--task`, is none of `choices`."""
    if value not in choices:
        raise UserError(f"{option}: must be {listed(choices)}, not {value!r}{did_you_mean(value, choices)}")


def require_between(option: str, value: float, low: float, high: float) -> None:
    """Raise UserError where the value of an option, such as `--episodes`, is below `low` or above `high`."""
    if value < low:
        raise UserError(f"{option}: must be at least {low}, not {value}")
    if value > high:
        raise UserError(f"{option}: must be at most {high}, not {value}")
