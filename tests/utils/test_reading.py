"""The gate for files from anyone: one line for whatever is wrong, within bounded time and memory."""

import os
import sys
import time
import zipfile
from datetime import date

import pytest
import yaml
from pydantic import TypeAdapter

from qi_ext.utils import reading
from qi_ext.utils.errors import UserError
from qi_ext.utils.reading import NoSuchFile, open_zip, read_bytes, read_csv, read_json, read_yaml

EXPANDING = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file"


def refusal(read, path):
    """The line that `read(path)` is refused with, in at most 5 seconds."""
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        read(path)
    assert time.monotonic() - began < 5.0
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))
    return str(caught.value)


def read(path):
    return read_bytes(path, 100)


def test_a_file_comes_back_as_it_is(path):
    path.write_bytes(b"x" * 100)
    assert read(path) == b"x" * 100


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "FIFO"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (os.mkdir, "is a directory"),
        (lambda path: path.write_bytes(b"x" * 101), "has 101 bytes, and may have 100"),
        (lambda path: path.symlink_to("/proc/self/status"), "and may have 100"),  # which says that it has none
    ],
)
def test_what_is_no_regular_file_or_too_long_is_refused_unread(path, make, said):
    make(path)
    assert said in refusal(read, path)


def test_a_huge_file_takes_no_memory(path):
    with open(path, "wb") as file:
        file.truncate(2**40)
    assert "may have 100" in refusal(read, path)


def test_a_missing_file_is_told_from_others(tmp_path):
    with pytest.raises(NoSuchFile):
        read(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(NoSuchFile):
        read(tmp_path / "file" / "inside")
    refusal(read, tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="null"):
        read(f"{tmp_path}/a\0b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ("[" * 100_000, "nested deeper than 32 levels"),
        ('{"a":' * 33 + "1" + "}" * 33, "nested deeper than 32 levels"),
        ("9" * 5000, "a number of 5000 digits"),
        ('{"a": 1e999}', "not a finite number"),
        ("[NaN]", "NaN is not a finite number"),
        ('{"a": 1, "a": 2}', "a key is there twice"),
        (r'["\ud800"]', "surrogates not allowed"),
    ],
    ids=range(9),
)
def test_json_that_is_none_or_unbounded_is_refused(path, text, said):
    path.write_text(text)
    assert said in refusal(read_json, path)


def test_brackets_in_text_are_no_depth_and_pairs_are_whole(path):
    path.write_text(r'{"a": "[[[[\"[[[[", "b": "\ud83d\ude00", "c": [1, 2.5, true, null]}'.replace("[[[[", "[" * 100))
    assert read_json(path)["b"] == "😀"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (EXPANDING, "more than 50,000 values, those that aliases repeat included"),
        ("a: &a [*a]", "*a stands for what holds it"),
        ("[" * 1000, "nested deeper than 32 levels"),
        ("- " * 1000 + "x", "nested deeper than 32 levels"),
        ("seed: " + "9" * 5000, "a number has more than 300 digits"),
        ("a: 1:" + "1:" * 1000 + "1", "a number has more than 300 digits"),
        ("a: 2020-13-45", "is not YAML"),
        ("a: !!timestamp x", "is not YAML"),
        ("a: !!python/object:os.system {}", "is not YAML"),
        ("a: [", "is not YAML"),
        ("- x\n" * 60_000, "more than 50,000 values"),
        ("? [a]\n: b", "is not YAML"),
        ("a: 1\nb: {c: 1, c: 2}", "line 2: c is there twice"),
    ],
    ids=range(13),
)
def test_yaml_that_is_none_or_unbounded_is_refused(path, text, said):
    path.write_text(text)
    assert said in refusal(read_yaml, path)


def test_yaml_may_repeat_a_little_and_have_types_of_its_own(path):
    path.write_text("base: &base {a: 1}\nother: {<<: *base, b: 2020-01-02}\nlist: [*base, *base]")
    assert read_yaml(path)["other"] == {"a": 1, "b": date(2020, 1, 2)}
    assert read_yaml(path, loader=yaml.BaseLoader)["list"] == [{"a": "1"}] * 2


@pytest.mark.parametrize("content", [b"\xff\xfe1,2\n", b'a,"' + b"x" * 200_000 + b'"\n', b"a,a\n1,2\n"])
def test_csv_that_is_none_is_refused(path, content):
    path.write_bytes(content)
    refusal(lambda path: read_csv(path, 10**6), path)


def test_csv_without_a_whole_line_is_empty_and_one_that_is_cut_off_is_left_out(path):
    for text, rows in (("", []), ("a,b", []), ("a,b\n1,2\n3", [["1", "2"]])):
        path.write_text(text)
        assert read_csv(path, 100)[1] == rows


def test_a_value_of_another_type_is_told_with_its_place(path):
    path.write_text('{"rows": [1, "x"]}')
    schema = TypeAdapter(dict[str, list[int]])
    assert refusal(lambda path: read_json(path, schema), path) == f"{path}: rows.1: input should be a valid integer"
    path.write_text('{"rows": [1, 2]}')
    assert read_json(path, schema) == {"rows": [1, 2]}
    several = refusal(lambda path: read_json(path, TypeAdapter(dict[str, int | str | None])), path)
    assert several == f"{path}: rows: input should be a valid integer or a valid string"


def write_zip(path, members, **how):
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_what_a_zip_file_says_to_unpack_to_is_bounded(path):
    def opened(path):
        with open_zip(path, 1000, 600):
            pass

    write_zip(path, {"a": b"x" * 500, "b": b"x" * 500}, compression=zipfile.ZIP_DEFLATED)
    opened(path)
    write_zip(path, {"a": b"x" * 601})
    assert "unpacks to 601 bytes" in refusal(opened, path)
    write_zip(path, {"a": b"x" * 600, "b": b"x" * 401})
    assert "unpacks to 1,001 bytes" in refusal(opened, path)
    write_zip(path, {"a": b"x"}, compression=zipfile.ZIP_LZMA)
    assert "compressed in a way that is not read" in refusal(opened, path)
    write_zip(path, {str(i): b"" for i in range(reading.MAX_MEMBERS + 1)})
    assert "4,097 members" in refusal(opened, path)
    write_zip(path, {f"{i:01000}": b"" for i in range(4000)})
    assert "its list of members is too long" in refusal(opened, path)


def test_nothing_of_it_needs_what_only_linux_has(run_python):
    program = "import sys; sys.modules['fcntl'] = None; import qi_ext, numpy; "
    program += "print(qi_ext.load_agent('pretrained/simple').act(numpy.zeros(37)).shape); import qi_ext.commands.evaluate"
    assert run_python(program).stdout == "(12,)\n", sys.platform
