import stat

import pytest

from qi_ext.utils.errors import UserError
from qi_ext.utils.files import locked, write_atomically


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


def test_what_is_locked_is_refused_with_the_given_words_and_free_afterwards(tmp_path):
    with locked(tmp_path, "first"), pytest.raises(UserError, match="^taken$"), locked(tmp_path, "taken"):
        pass
    with locked(tmp_path, "again"):
        pass
