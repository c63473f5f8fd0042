"""The recording launcher, from its command line to a file that can be learned from."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qi_ext.demonstrations import fitting, load_demonstrations, motion_clip_writer, recording
from qi_ext.robot import a1
from qi_ext.robot.commands import Command
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError

LAUNCHER = Path(__file__).parents[2] / "launchers" / "make_demonstrations.py"


@pytest.fixture
def main(monkeypatch):
    monkeypatch.setattr(recording, "SETTLING_SECONDS", 0.1)
    monkeypatch.setattr(fitting, "SECONDS", 4.0)
    return runpy.run_path(str(LAUNCHER))["main"]


def test_writes_a_file_that_can_be_read_and_prints_a_row_for_each_direction(main, tmp_path, capsys):
    output = tmp_path / "two.npz"
    main(["--task", "hard", "--n_directions", "2", "--seconds", "2", "--output", str(output)])
    demonstrations = load_demonstrations(output, task_commands("hard", 2))
    assert set(demonstrations.kind) == {"nominal", "start", "push", "noise"}
    assert demonstrations.synthetic
    printed = capsys.readouterr().out
    for word in ("speed", "reward a step", "max roll", "max pitch", "max yaw", "saturation", "falls", " 0 ", " 180 "):
        assert word in printed
    options = "--task hard --seconds 2 --seed 0 --n_directions 2 --speed 0.5"
    with np.load(output) as file:
        assert str(file["made_by"]) == f"python launchers/make_demonstrations.py {options}"


def test_each_direction_is_recorded_at_each_of_several_speeds(main, tmp_path, capsys):
    output, speeds = tmp_path / "speeds.npz", [0.3, 0.5]
    main(["--task", "hard", "--n_directions", "2", "--speeds", "0.3", "0.5", "--seconds", "1", "--output", str(output)])
    assert "180 at 0.3 m/s" in capsys.readouterr().out
    commands = task_commands("hard", 2, speeds=speeds)
    demonstrations = load_demonstrations(output, commands)
    assert set(demonstrations.commands) == set(commands)
    one, other = (demonstrations.of(Command(0.0, speed), "start").states[0] for speed in speeds)
    assert not np.allclose(one[a1.LEG_POSITION], other[a1.LEG_POSITION], atol=1e-3), "each has odd starts of its own"
    with np.load(output) as file:
        assert str(file["made_by"]).endswith("--seed 0 --n_directions 2 --speeds 0.3 0.5")


def test_the_same_options_make_the_same_file(main, tmp_path):
    for name in ("one", "two"):
        main(["--task", "simple", "--seconds", "1", "--seed", "3", "--output", str(tmp_path / f"{name}.npz")])
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_gait_is_fitted_to_a_motion_clip_and_recorded(main, tmp_path, capsys):
    clip = tmp_path / "clips" / "0000-nominal.txt"
    main(["--task", "simple", "--seconds", "6", "--seed", "1", "--format", "clips", "--output", str(clip.parent)])
    capsys.readouterr()
    main(["--from", str(clip), "--fit", "--seconds", "1", "--output", str(tmp_path / "fitted.npz")])
    printed = capsys.readouterr().out
    assert "trot fitted to 0000-nominal" in printed
    row = next(line for line in printed.splitlines() if "strides, Hz" in line)
    recorded, fitted = row.split("│")[2:4]
    assert float(recorded) == pytest.approx(float(fitted), rel=0.02)
    demonstrations = load_demonstrations(tmp_path / "fitted.npz", task_commands("simple"))
    assert demonstrations.actions is not None
    with np.load(tmp_path / "fitted.npz") as file:
        assert str(file["made_by"]) == f"python launchers/make_demonstrations.py --from {clip} --fit --seconds 1 --seed 0"


@pytest.mark.parametrize("form", ["real", "perfect", "clips"])
def test_writes_the_formats_of_others(main, tmp_path, form):
    output = tmp_path / ("folder" if form == "clips" else f"{form}.npz")
    main(["--task", "simple", "--seconds", "6" if form == "clips" else "2", "--format", form, "--output", str(output)])
    demonstrations = load_demonstrations(output, task_commands("simple"))
    assert {"clips": "motion clips: 0000-nominal, 0001-noise"}.get(form, form) in demonstrations.source
    assert set(demonstrations.commands) == set(task_commands("simple"))


def test_a_minari_dataset_has_what_the_file_of_the_same_options_has(main, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    options, name = ["--task", "simple", "--seconds", "1"], "quadruped/test-v0"
    main([*options, "--output", str(tmp_path / "file.npz")])
    main([*options, "--format", "minari", "--output", name])
    assert f"written to minari:{name}" in capsys.readouterr().out
    file, dataset = (load_demonstrations(of, task_commands("simple")) for of in (tmp_path / "file.npz", f"minari:{name}"))
    assert file.content_hash() == dataset.content_hash()
    with pytest.raises(UserError, match="--output: .* is there already"):
        main([*options, "--format", "minari", "--output", name])


@pytest.mark.parametrize(
    "options",
    [
        "--task medium",
        "--seconds 0",
        "--seconds nan",
        "--seed -1",
        "--speed 3",
        "--n_directions 0",
        "--speeds 0.3 0.9",
        "--speeds 0.3 0.3",
        "--n_directions 1000000",
        "--format csv",
        "--gait gallop",
        "--gait pace",  # of hard
        "--speed 0.9 --task simple --gait pace",
        "--from missing.txt",
        "--speed 0.5 --from missing.txt",
        "--second 3",
    ],
)
def test_a_mistake_is_refused_in_one_line_before_recording(main, tmp_path, options):
    with pytest.raises(UserError, match=options.split()[0]) as caught:
        main([*options.split(), "--output", str(tmp_path / "never.npz")])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("trot", ""),
        ("minari:a", "--format packed"),
        ("loco-mujoco", "--format clips --seconds 6"),
        ("walk.txt", ""),
        ("walk.JSON", "--format perfect"),
    ],
)
def test_a_name_that_demonstrations_would_take_for_something_else_is_refused(main, tmp_path, monkeypatch, output, options):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"--output: {output} (is taken by|would be read as)"):
        main(["--task", "simple", *options.split(), "--output", output])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "said"), [("--seconds 3", "27 rows"), ("--task hard --seconds 360", "1,144 clips")])
def test_clips_that_could_not_be_read_are_refused_before_recording(main, tmp_path, options, said):
    with pytest.raises(UserError, match=f"{options.split()[-2]}.*{said}"):
        main([*options.split(), "--format", "clips", "--output", str(tmp_path / "clips")])


def test_a_check_refuses_a_folder_for_one_of_its_clips(main, tmp_path, capsys):
    right, short = (load_demonstrations("trot", task_commands("simple")).select([0]) for _ in range(2))
    motion_clip_writer.write_clip(tmp_path / "a.txt", right)
    rows = {name: getattr(short, name)[:40] for name in ("states", "actions", "executed_actions", "external_force")}
    motion_clip_writer.write_clip(tmp_path / "b.txt", replace(short, bounds=np.array([0, 40]), **rows))
    with pytest.raises(UserError, match="b.txt: has 40 rows"):
        main(["--check", str(tmp_path)])


def test_the_command_in_a_file_has_its_numbers_in_full(main, tmp_path):
    output = tmp_path / "file.npz"
    main(["--task", "simple", "--seconds", "1", "--speed", "0.12345678", "--output", str(output)])
    with np.load(output) as file:
        assert str(file["made_by"]).endswith("--seconds 1 --seed 0 --n_directions 8 --speed 0.12345678")


def test_an_output_in_a_missing_directory_is_refused_before_recording(main, tmp_path):
    with pytest.raises(UserError, match="--output"):
        main(["--task", "simple", "--output", str(tmp_path / "missing" / "file.npz")])
