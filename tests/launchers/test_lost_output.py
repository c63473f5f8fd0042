"""Standard output, or the terminal, is lost in the middle of a run: the display is silent, and nothing else changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE = 120.0  # seconds, for a machine that is busy with other things
TINY = ["--pool=serial", "--n_steps=64", "--batch_size=32", "--n_envs=8", "--evaluation_episodes=0", "--policy_hidden=16"]
TINY += ["--critic_hidden=16", "--discriminator_hidden=16", "--discriminator_batch_size=32"]
pytestmark = pytest.mark.extensive


def start(results_dir, *words, **options):
    """The training launcher, by way of a shell that does with its output what `words` say."""
    launcher = [sys.executable, ROOT / "launchers" / "run_gail.py", *TINY, f"--results_dir={results_dir}"]
    # Unbuffered, a lost stream would hold nothing that Python fails to write at its end.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    shell = ["sh", "-c", f'exec "$@" {" ".join(words)}', "sh"]
    return subprocess.Popen([*shell, *map(str, launcher)], env=environment, **options)


def require_done(process, results_dir):
    assert process.wait(DEADLINE) == 0
    assert (results_dir / "0" / "result.json").is_file()


@pytest.mark.parametrize("lost", [">&-", "<&- >&- 2>&-", ">/dev/full"])
def test_a_run_without_output_is_done(tmp_path, lost):
    process = start(tmp_path, lost, stderr=subprocess.PIPE)
    assert process.stderr.read() == b""
    require_done(process, tmp_path)
    for path in (tmp_path / "0").rglob("*"):  # what is written to a descriptor that was closed goes into no file
        assert path.is_dir() or b"run directory" not in path.read_bytes()


def test_a_reader_that_goes_after_the_first_line_or_at_the_end_stops_nothing(tmp_path):
    process = start(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    require_done(process, tmp_path)


def test_a_terminal_that_is_closed_under_a_disowned_run_stops_nothing(tmp_path):
    terminal, its_end = os.openpty()
    process = start(tmp_path, stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True)
    os.close(its_end)
    os.read(terminal, 1)  # it has begun to say something
    os.close(terminal)
    require_done(process, tmp_path)


@pytest.mark.parametrize(("before", "n_steps", "code"), [("", 100_000, 129), ("trap '' HUP;", 640, 0)], ids=["", "nohup"])
def test_a_session_that_is_lost_stops_a_run_that_does_not_ignore_it(tmp_path, before, n_steps, code):
    """The terminal of a session leader is closed, for which the system itself sends SIGHUP."""
    words = [sys.executable, ROOT / "launchers" / "run_gail.py", *TINY, f"--n_steps={n_steps}", f"--results_dir={tmp_path}"]
    pid, terminal = os.forkpty()
    if not pid:
        try:
            os.execvp("sh", ["sh", "-c", f'{before} exec "$@"', "sh", *map(str, words)])
        finally:
            os._exit(1)
    said = b""
    while b"steps/s" not in said:
        said += os.read(terminal, 10_000)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == code
    assert any((tmp_path / "0" / "checkpoints").iterdir())
    assert (tmp_path / "0" / "result.json").exists() == (code == 0)
