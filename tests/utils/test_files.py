import errno
import stat

import pytest

from qi_ext.utils.errors import UserError
from qi_ext.utils.files import locked, require_output, write_atomically


def write_and_fail(path):
    with pytest.raises(KeyboardInterrupt), write_atomically(path) as file:
        file.write(b"half")
        file.flush()
        raise KeyboardInterrupt


def test_file_holds_what_was_written(tmp_path):
    with write_atomically(tmp_path / "a.bin") as file:
        file.write(b"whole")
    assert (tmp_path / "a.bin").read_bytes() == b"whole"


def test_nothing_but_the_file_is_left_after_writing(tmp_path):
    with write_atomically(tmp_path / "a.bin") as file:
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_nothing_is_left_behind_by_a_write_that_fails(tmp_path):
    write_and_fail(tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_older_file_survives_a_write_that_fails(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"older")
    write_and_fail(tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"older"


def test_older_file_is_readable_until_the_new_one_is_whole(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"older")
    with write_atomically(tmp_path / "a.bin") as file:
        file.write(b"newer")
        file.flush()
        assert (tmp_path / "a.bin").read_bytes() == b"older"


def test_path_may_be_a_string(tmp_path):
    with write_atomically(str(tmp_path / "a.bin")) as file:
        file.write(b"whole")
    assert (tmp_path / "a.bin").is_file()


def test_others_may_read_the_file_as_any_other_new_file(tmp_path):
    (tmp_path / "plain").touch()
    with write_atomically(tmp_path / "a.bin"):
        pass
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_missing_directory_is_the_users_mistake(tmp_path):
    path = tmp_path / "missing" / "a.bin"
    with pytest.raises(UserError) as raised, write_atomically(path):
        pass
    assert str(path) in str(raised.value)


def test_directory_in_the_place_of_the_file_is_the_users_mistake(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    with pytest.raises(UserError) as raised, write_atomically(path):
        pass
    assert str(path) in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("x" * 300, "has a name of 300 bytes"),
        ("\u65e5" * 100, "has a name of 300 bytes"),
        ("d/" * 2000 + "x", "is 4[0-9]+ bytes long"),
        ("\udcff", "characters that names of files cannot have"),
        ("a\0b", "has a zero byte"),
        ("dangling", "is a link to /nowhere, which is not there"),
        ("dangling/below", "is a link to /nowhere, which is not there"),
        ("line\nbreak/x.json", r"line\\nbreak cannot be written to"),
        ("/dev/full", "is not a regular file"),
    ],
    ids=lambda value: value[:20].encode("unicode_escape").decode(),
)
def test_an_output_that_cannot_be_is_refused_in_one_line_and_leaves_nothing(tmp_path, name, said):
    (tmp_path / "dangling").symlink_to("/nowhere")
    with pytest.raises(UserError, match=f"^--output: .*{said}") as caught:
        require_output(tmp_path / name, "--output")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["dangling"]


def test_a_name_as_long_as_can_be_is_written(tmp_path):
    require_output(tmp_path / ("x" * 255), "--output")
    with write_atomically(tmp_path / ("x" * 255)) as file:
        file.write(b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("EACCES", UserError), *((name, OSError) for name in ("EFBIG", "EROFS", "ESTALE", "EIO", "EDQUOT"))],
)
def test_only_what_another_name_mends_is_the_users_mistake(tmp_path, fault, kind):
    with pytest.raises(kind, match="cannot write .*/a.bin: ") as caught, write_atomically(tmp_path / "a.bin"):
        raise OSError(getattr(errno, fault), "it said")
    assert type(caught.value) is kind


def test_what_is_locked_is_refused_with_the_given_words_and_free_afterwards(tmp_path):
    with locked(tmp_path, "first"), pytest.raises(UserError, match="^taken$"), locked(tmp_path, "taken"):
        pass
    with locked(tmp_path, "again"):
        pass
