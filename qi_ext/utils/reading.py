"""The one gate for files that may come from anyone: regular, bounded in size, depth and numbers, then checked by a schema.

Nothing here waits on a FIFO or a device, and time and memory are bounded by `limit`, whatever the file holds. Every fault is a
UserError of one line that begins with the path. A schema is a pydantic `TypeAdapter`, or anything else with its
`validate_python`.
"""

import codecs
import csv
import errno
import io
import json
import math
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from qi_ext.utils.errors import UserError
from qi_ext.utils.words import in_one_line

MAX_TEXT = 2**20  # bytes of a small file: config.yaml, trial.json
MAX_DEPTH = 32  # of lists and mappings in each other
MAX_NODES = 50_000  # of a YAML file, those that aliases repeat included
MAX_DIGITS = 300  # of a number; the largest of float64 has 309 before the point
MAX_MEMBERS = 4096  # of an archive
MAX_DIRECTORY = 2**20  # bytes of an archive's list of members

# Possessive, because Python's re otherwise keeps 100 bytes for each character of a text, in case it has to go back.
_JSON_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
_LONG_NUMBER = re.compile(rf"[-+0-9_.:xXeE a-fA-F]{{{MAX_DIGITS + 1},}}")
_DOES_NOT_WAIT = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


class NoSuchFile(UserError):
    """There is no file at the path."""


@contextmanager
def open_regular(path: Any) -> Iterator[BinaryIO]:
    """Open a regular file for reading. Raises NoSuchFile, or UserError where it is anything else or cannot be opened."""
    try:
        # Before, because opening a device may do something, and after, because it may be another file by then.
        _require_regular(os.stat(path), path)
        file = os.fdopen(os.open(path, os.O_RDONLY | _DOES_NOT_WAIT), "rb")
    except (OSError, ValueError) as error:
        raise _cannot_read(path, error) from None
    with file:
        _require_regular(os.fstat(file.fileno()), path)
        yield file


def read_bytes(path: Any, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes. Raises NoSuchFile, UserError."""
    with open_regular(path) as file:
        # The size first, so that nothing is read of a file that is too long; one in /proc says 0.
        size = os.fstat(file.fileno()).st_size
        try:
            # Python sets aside as many bytes as it is asked for, which a limit on its memory may not allow.
            content = b"" if size > limit else file.read(size or limit + 1)
        except (OSError, MemoryError) as error:
            raise _cannot_read(path, error) from None
    if max(size, len(content)) > limit:
        raise UserError(f"{path}: has {max(size, len(content)):,} bytes, and may have {limit:,}; is it the right file?")
    return content


def read_text(path: Any, limit: int = MAX_TEXT) -> str:
    """Return the text of a regular file, UTF-8 with any line ends. Raises NoSuchFile, UserError."""
    try:
        return codecs.decode(read_bytes(path, limit), "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 (byte {error.start})") from None


def read_json(path: Any, schema: Any = None, limit: int = MAX_TEXT) -> Any:
    """Return what a JSON file holds, as `parse_json` does, and as `schema` has it. Raises NoSuchFile, UserError."""
    return checked(parse_json(read_text(path, limit), path), schema, path)


def parse_json(text: str, where: Any) -> Any:
    """Return the value of a JSON text. where: the file, for messages.

    Raises UserError where it is not JSON, is nested deeper than MAX_DEPTH, has a key twice, or holds a number that is not
    finite or has more than MAX_DIGITS digits, or half of a surrogate pair.
    """
    depth = 0
    for token in _JSON_TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise UserError(f"{where}: is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            text, parse_int=_whole, parse_float=_finite, parse_constant=_finite, object_pairs_hook=_without_duplicates
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is not JSON that can be read ({in_one_line(error)})") from None
    return value


def read_yaml(path: Any, schema: Any = None, loader: Any = None, limit: int = MAX_TEXT) -> Any:
    """Return what a YAML file holds, and as `schema` has it. loader: of PyYAML, SafeLoader where it is None.

    Raises NoSuchFile, and UserError where it is not YAML, is nested deeper than MAX_DEPTH, has more than MAX_NODES values,
    counting those that aliases repeat, a name twice, or numbers of more than MAX_DIGITS digits.
    """
    import yaml

    text = read_text(path, limit)
    try:
        _require_bounded(yaml.parse(text, yaml.SafeLoader), path)
        value = yaml.load(text, _without_twice(loader or yaml.SafeLoader))
    # Constructors of dates, numbers and binary data raise whatever Python does.
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: is not YAML: {in_one_line(error)}") from None
    return checked(value, schema, path)


def read_csv(path: Any, limit: int) -> tuple[list[str], list[list[str]]]:
    """Return the names in the first line of a CSV file, and the cells of each other line; one without a line end is left out.

    Both are empty where there is no whole line. Raises NoSuchFile, and UserError where it is not CSV, or a name is there twice.
    """
    lines = io.StringIO(read_text(path, limit), newline="")
    try:
        rows = [row for row in csv.reader(line for line in lines if line.endswith("\n")) if row]
    except csv.Error as error:
        raise UserError(f"{path}: is not CSV ({in_one_line(error)})") from None
    names, *rows = rows or [[]]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: has a column twice")
    return names, rows


@contextmanager
def open_zip(path: Any, limit: int, member_limit: int | None = None) -> Iterator[zipfile.ZipFile]:
    """Open a zip file for reading; its members unpack to at most `limit` bytes together.

    member_limit: of each by itself. What the members hold is still to be checked. Raises NoSuchFile and UserError, and within
    the block whatever `zipfile` does.
    """
    with open_regular(path) as file:
        guarded = _SmallReads(file.fileno(), "rb", closefd=False)
        try:
            archive = zipfile.ZipFile(io.BufferedReader(guarded))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, OverflowError) as error:
            raise UserError(f"{path}: the file is damaged or cut short, or no zip file ({in_one_line(error)})") from None
        guarded.limit = None
        with archive:
            _require_small_members(archive, path, limit, limit if member_limit is None else member_limit)
            yield archive


def checked(value: Any, schema: Any, where: Any) -> Any:
    """Return `value` as `schema` has it; as it is where that is None. Raises UserError, beginning with `where`."""
    if schema is None:
        return value
    try:
        return schema.validate_python(value, strict=True)
    except ValueError as error:  # which pydantic's is
        raise UserError(f"{where}: {first_fault(error)}") from None


def first_fault(error: Any) -> str:
    """The first thing that a `pydantic.ValidationError` is about: its place, and what is wrong with it."""
    first, *others = error.errors(include_url=False, include_input=False)
    # Where a value may be of several types, each has an error of its own, named after the type.
    alike = [other for other in others if other["loc"][:-1] == first["loc"][:-1] and first["type"].endswith("_type")]
    place = ".".join(map(str, first["loc"][:-1] if alike else first["loc"]))[:100]
    message = " or ".join(dict.fromkeys(each["msg"][:1].lower() + each["msg"][1:] for each in (first, *alike)))
    message = message.replace(" or input should be", " or")
    return in_one_line(f"{place}: {message}" if place else message)


class _SmallReads(io.FileIO):
    """A file of which at most `limit` bytes are read, until that is None: a list of members takes memory by its length."""

    limit: int | None = 2 * MAX_DIRECTORY

    def readinto(self, buffer: Any) -> int:
        n = super().readinto(buffer) or 0
        self._count(n)
        return n

    def readall(self) -> bytes:
        content = super().readall() if self.limit is None else super().read(self.limit + 1)
        self._count(len(content))
        return content

    def _count(self, n: int) -> None:
        if self.limit is not None:
            self.limit -= n
            if self.limit < 0:
                raise zipfile.BadZipFile("its list of members is too long")


def _require_small_members(archive: zipfile.ZipFile, path: Any, limit: int, member_limit: int) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise UserError(f"{path}: has {len(members):,} members, and may have {MAX_MEMBERS:,}")
    for member in members:
        # Others allocate as much as the file asks for.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"{path}: {member.filename!r:.100} is compressed in a way that is not read; deflate it, or store it"
            )
        if member.file_size > member_limit:
            raise UserError(
                f"{path}: {member.filename!r:.100} unpacks to {member.file_size:,} bytes, more than {member_limit:,}"
            )
    size = sum(member.file_size for member in members)
    if size > limit:
        raise UserError(f"{path}: unpacks to {size:,} bytes, more than the {limit:,} allowed")


def _require_regular(status: os.stat_result, path: Any) -> None:
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "a device, FIFO or socket"
        raise UserError(f"{path}: is {what}, not a file")


def _cannot_read(path: Any, error: Exception) -> UserError:
    missing = isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR)
    reason = getattr(error, "strerror", None) or (
        "more than memory holds" if isinstance(error, MemoryError) else in_one_line(error)
    )
    return (NoSuchFile if missing else UserError)(f"{path}: cannot be read ({reason})")


def _require_bounded(events: Any, path: Any) -> None:
    """Raise UserError where the YAML of these events is too deep or, its aliases expanded, too large."""
    import yaml

    sizes: dict[str, int] = {}  # of what has an anchor
    open_nodes: list[list[Any]] = [["", 0]]  # [anchor, nodes so far] of each list or mapping that has begun
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append([event.anchor, 1])
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            open_nodes[-1][1] += size
            if anchor:
                sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise UserError(
                    f"{path}: line {event.start_mark.line + 1}: *{event.anchor:.50} stands for what holds it, or nothing"
                )
            open_nodes[-1][1] += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            open_nodes[-1][1] += 1
            if event.anchor:
                sizes[event.anchor] = 1
            if _LONG_NUMBER.fullmatch(event.value):
                raise UserError(f"{path}: line {event.start_mark.line + 1}: a number has more than {MAX_DIGITS} digits")
        if len(open_nodes) - 1 > MAX_DEPTH:
            raise UserError(f"{path}: is nested deeper than {MAX_DEPTH} levels")
        if sum(size for _, size in open_nodes) > MAX_NODES:
            raise UserError(f"{path}: has more than {MAX_NODES:,} values, those that aliases repeat included")


def _without_twice(loader: Any) -> Any:
    """A loader as `loader`, of PyYAML, but for mappings that have a name twice, of which YAML takes the last."""
    import yaml

    class WithoutTwice(loader):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            for name, n in names.items():
                if n > 1:
                    raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {name:.100} is there twice")
            return super().construct_mapping(node, deep)

    return WithoutTwice


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text) if len(text) <= MAX_DIGITS else math.inf
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number, or has too many digits")
    return number


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found
