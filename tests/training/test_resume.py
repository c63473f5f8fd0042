"""Runs that are killed or stopped, and go on: bit for bit what they would have been."""

import os
import runpy
import shutil
import signal
import time
from pathlib import Path
from typing import Literal, get_args, get_origin

import gymnasium
import numpy as np
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qi_ext import load_agent
from qi_ext.demonstrations import formats, minari
from qi_ext.training import checkpoints
from qi_ext.training.checkpoints import FILE, Checkpoints
from qi_ext.training.config import make_config, may_change, options
from qi_ext.training.resume import find_start
from qi_ext.training.run_directory import RunDirectory
from qi_ext.training.training_run import TrainingRun
from qi_ext.utils.command_line import run_command
from qi_ext.utils.errors import Terminated, UserError
from qi_ext.utils.programs import command
from qi_ext.utils.settings import plain_type, shown

LAUNCHER = Path(__file__).parents[2] / "launchers" / "run_gail.py"
MB = 1_000_000


@pytest.fixture
def ends_as(rows, saved):
    """ends_as(training, other): whether two runs left the same, to the last bit, and their curves each step once."""

    def compare(training, other):
        first, second = training.directory.path, other.directory.path
        assert saved(first) == saved(second)
        assert rows(first) == rows(second)
        events = EventAccumulator(str(first))
        events.Reload()
        assert [event.step for event in events.Scalars("train/approx_kl")] == [int(row["step"]) for row in rows(first)]
        return True

    return compare


@pytest.fixture
def alone(tiny, run, tmp_path):
    """alone(algorithm="gail", **settings): a run of the same settings that nobody disturbs."""
    return lambda algorithm="gail", **settings: run(tiny(algorithm, results_dir=str(tmp_path / "alone"), **settings))


def killed(run, cpu_seconds):
    """Whether a run, in a process of its own, was killed after so much of its time; else it came to its end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            # What ends it is the signal's own action: nothing of ours runs any more.
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            run()
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGPROF)
    return status != 0


@pytest.mark.parametrize(("algorithm", "kills"), [("gail", 1), pytest.param("vail", 3, marks=pytest.mark.extensive)])
def test_a_run_that_is_killed_at_any_moment_ends_as_if_it_were_not(
    tiny, alone, build, run, ends_as, tmp_path, algorithm, kills
):
    settings = {"n_steps": 512, "warm_start": 1}
    began = time.process_time()
    undisturbed = alone(algorithm, **settings)
    moments = np.random.default_rng(0).uniform(0.1, time.process_time() - began, 100)
    gone_on = 0  # after how many kills there was something to go on from
    for moment in moments:
        if gone_on == kills:
            break
        if killed(lambda: run(tiny(algorithm, **settings), "auto"), moment):
            gone_on += Checkpoints(tmp_path / "runs" / "0").steps()[-1:] > [0]
        else:  # it came to its end before the kill, and is begun anew
            shutil.rmtree(tmp_path / "runs")
            gone_on = 0
    assert gone_on == kills
    assert ends_as(run(tiny(algorithm, **settings), "auto"), undisturbed)


def test_a_run_goes_on_with_another_pool_and_number_of_workers(tiny, alone, build, stop, run, ends_as):
    undisturbed = alone(n_steps=256)
    stop(build(tiny(n_steps=256, checkpoint_every=1000.0)), 64)
    stop(build(tiny(n_steps=256, pool="loky", n_workers="2"), "auto"), 192, signal.SIGTERM)
    assert ends_as(run(tiny(n_steps=256), "auto"), undisturbed)


@pytest.mark.extensive
@pytest.mark.parametrize("pool", [{"pool": "serial"}, {"pool": "loky", "n_workers": "2"}], ids=["serial", "workers"])
def test_a_run_goes_on_into_the_disturbances_that_begin_later(tiny, alone, build, stop, run, ends_as, pool):
    settings = {"n_steps": 320, "push": 50.0, "torque_noise": 0.1, "disturb_after": 128}
    undisturbed = alone(**settings)
    for at in (64, 192):
        stop(build(tiny(**settings, **pool, checkpoint_every=1000.0), "auto"), at)
    assert ends_as(run(tiny(**settings), "auto"), undisturbed)


@pytest.mark.extensive
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
@pytest.mark.parametrize("moment", ["in an update", "while the pool gathers", "in what follows an update"])
def test_a_run_that_is_stopped_is_saved_and_goes_on(
    tiny, alone, build, complete, run, ends_as, monkeypatch, capsys, moment, number, error
):
    undisturbed = alone(n_steps=192)
    training = build(tiny(n_steps=192, checkpoint_every=1000.0))
    owner, name = {
        "in an update": (training.learner, "policy_step"),
        "while the pool gathers": (training.source, "wait"),
        "in what follows an update": (training.learner, "diagnostics"),
    }[moment]
    step = 64 if moment == "while the pool gathers" else 128  # an update that has begun is done to its end
    before = getattr(owner, name)

    def interrupted(*arguments):
        result = before(*arguments)
        if training.counter.steps == step:
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(error):
        complete(training)
    assert training.directory.checkpoints.steps() == [0, step]
    directory = training.directory.path
    assert f"stopped at {step} steps; go on with {command('train')} --resume {directory}" in capsys.readouterr().out
    assert ends_as(run({}, directory), undisturbed)


def test_a_finished_run_that_is_made_longer_is_the_longer_run(tiny, alone, run, ends_as, tmp_path):
    """From where it was moved to."""
    undisturbed = alone(n_steps=256)
    short = run(tiny(n_steps=128))
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.move(short.directory.path, moved)
    longer = run({"n_steps": 256}, moved)
    assert (short.result["steps"], longer.result["steps"], longer.directory.read_result()["steps"]) == (128, 256, 256)
    assert longer.result["directory"] == str(moved)
    assert not short.directory.path.exists()
    assert ends_as(longer, undisturbed)


def test_a_finished_run_is_not_begun_again(tiny, run, capsys, tmp_path):
    first = run(tiny())
    before = {path.name: path.read_bytes() for path in first.directory.path.rglob("*") if path.is_file()}
    for settings, resume in ((tiny(), "auto"), ({"n_steps": 64}, first.directory.path)):
        assert run(settings, resume).result == first.result
    shutil.move(first.directory.path, tmp_path / "x y")
    assert run({}, tmp_path / "x y").result == first.result | {"directory": str(tmp_path / "x y")}
    assert capsys.readouterr().out.count("finished already, at 128 steps; more --n_steps or --minutes goes on with it") == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "x y").rglob("*") if path.is_file()} == before


@pytest.mark.extensive
def test_a_finished_run_without_its_result_gets_it_again(tiny, run):
    first = run(tiny())
    first.directory.result.unlink()
    assert run({}, first.directory.path).directory.read_result()["steps"] == 128


def test_minutes_end_a_run_after_an_update_and_more_let_it_go_on(tiny, alone, run, ends_as, monkeypatch):
    undisturbed = alone(n_steps=192)
    monkeypatch.setattr(TrainingRun, "_seconds", lambda training: float(training.counter.steps))  # a second a step
    ended = run(tiny(n_steps=256, minutes=100.0 / 60.0))
    assert ended.result["steps"] == 128
    for minutes, steps in ((120.0 / 60.0, 128), (190.0 / 60.0, 192)):
        again = run({"minutes": minutes}, ended.directory.path)
        assert again.result["steps"] == steps
    assert ends_as(again, undisturbed)


@pytest.mark.extensive
def test_time_counts_over_all_parts_of_a_run(tiny, build, stop, run):
    first = stop(build(tiny()), 64)
    seconds = first.directory.checkpoints.load_newest().seconds
    assert 0.0 < seconds < run({}, first.directory.path).result["training_seconds"]


@pytest.mark.extensive
def test_what_may_change_changes_and_nothing_that_was_learned_does(tiny, alone, build, stop, run, ends_as):
    undisturbed = alone(n_steps=192)
    first = stop(build(tiny(n_steps=640)), 64)
    changed = {"n_steps": 192, "minutes": 99.0, "n_workers": 1, "pool": "loky", "device": "cpu"}
    changed |= {"checkpoint_every": 1000.0, "keep_checkpoints": 1, "evaluation_episodes": 1}
    again = run(changed, first.directory.path)
    assert again.config.settings().items() >= changed.items()
    assert again.directory.config() == again.config.settings()
    assert ends_as(again, undisturbed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run):
    """The directory of a finished run of VAIL, which has every setting there is."""
    config = {"n_envs": 4, "pool": "serial", "policy_hidden": [16], "critic_hidden": [16], "discriminator_hidden": [16]}
    config |= {"algorithm": "vail", "n_steps": 64, "batch_size": 64, "evaluation_episodes": 0}
    return run(config | {"results_dir": str(tmp_path_factory.mktemp("finished"))}).directory.path


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def another(name, field, value):
    """Another valid value of a setting."""
    if name in ("task", "discriminator_input"):
        return {"task": "hard", "discriminator_input": "state"}[name]
    if get_origin(field.annotation) is Literal:
        return next(choice for choice in get_args(field.annotation) if choice != value)
    if plain_type(field) is str:
        return {"n_workers": 3, "device": "cpu", "algorithm": "gail"}.get(name, "other")
    return {
        bool: lambda: not value,
        int: lambda: value + 1,
        float: lambda: value / 2.0 if value else 0.25,
        list: lambda: [*value, 16],
    }[plain_type(field)]()


def test_each_setting_may_change_or_is_refused_by_name(finished):
    stored = find_start({}, str(finished)).config.settings()
    for name, field in ((name, field) for fields in options("simple", "vail").values() for name, field in fields.items()):
        assert find_start({name: stored[name]}, str(finished)).config.settings() == stored
        value = another(name, field, stored[name])
        if may_change(name) and name != "results_dir":
            assert find_start({name: value}, str(finished)).config.settings()[name] == value
            continue
        with pytest.raises(UserError, match=f"^--{name}: .*$"):
            find_start({name: value}, str(finished))


def test_a_refusal_is_exit_code_2(finished, capsys):
    main = runpy.run_path(str(LAUNCHER))["main"]
    with pytest.raises(SystemExit) as caught:
        run_command("run_gail.py", lambda: main(["--resume", str(finished), "--gamma", "0.5"]))
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        f"run_gail.py: --gamma: the run in {finished} has 0.97, and cannot go on with 0.5; leave it out, or start a new run\n"
    )


def test_what_was_given_to_a_run_that_goes_on_holds_until_it_is_given_anew(copied):
    """Even where it was killed before it came to write a checkpoint."""
    start = find_start({"n_steps": 640, "wandb": "mine"}, str(copied))
    start.directory.create(start.config)
    again = find_start({}, str(copied)).config
    assert (again.run.n_steps, again.run.wandb) == (640, "mine")
    assert find_start({"wandb": ""}, str(copied)).config.run.wandb == ""


def test_a_run_of_a_dask_cluster_goes_on_here(copied):
    start = find_start({}, str(copied))
    start.directory.create(make_config(**start.directory.config() | {"pool": "dask", "scheduler": "tcp://there:1"}))
    sampling = find_start({"pool": "serial"}, str(copied)).config.sampling
    assert (sampling.pool, sampling.scheduler) == ("serial", "")


def test_a_run_whose_settings_were_written_as_text_goes_on(copied):
    """As older programs wrote the number of workers."""
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("n_workers: auto", "n_workers: '2'"))
    assert find_start({}, str(copied)).config.sampling.n_workers == 2


def test_a_run_of_an_older_program_has_settings_that_came_later_as_it_had_them_whatever_the_default_is_now(tmp_path):
    path = tmp_path / "run" / "0"
    now = make_config(task="follow").settings()
    had = {"physics": "mujoco", "max_pitch": 0.192, "reward_offset": 0.0}
    assert now["reward_offset"] != had["reward_offset"]
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({name: value for name, value in now.items() if name not in had}))
    assert had.items() <= find_start({}, str(path)).config.settings().items()
    for name, value in (("physics", "warp"), ("max_pitch", 0.3), ("reward_offset", now["reward_offset"])):
        with pytest.raises(UserError, match=f"--{name}: the run in .* has {shown(had[name])}, and cannot go on with"):
            find_start({name: value}, str(path))


@pytest.fixture
def recorded(walking, tmp_path):
    """The path of demonstrations."""
    formats.write(tmp_path / "here.npz", walking((0.0,)))
    return tmp_path / "here.npz"


def test_demonstrations_that_changed_are_refused_by_their_hash(tiny, run, build, walking, recorded):
    first = run(tiny(demonstrations=str(recorded)))
    formats.write(recorded, walking((0.0,), rows=51))
    with pytest.raises(UserError, match=f"^--demonstrations: {recorded} has changed since the run began") as caught:
        build({"n_steps": 192}, first.directory.path)
    assert first.result["demonstrations_hash"] in str(caught.value)


@pytest.mark.extensive
def test_demonstrations_that_only_the_learner_sees_are_refused_by_their_hash(tiny, run, build, walking, tmp_path):
    """With compat=upstream it learns from all directions, and episodes start from the task's."""
    names = [str(tmp_path / name) for name in ("one.npz", "other.npz")]
    for name, directions in zip(names, ((0.0, 90.0), (0.0, 180.0)), strict=True):
        formats.write(name, walking(directions))
    first = run(tiny(demonstrations=names[0], compat="upstream"))
    with pytest.raises(UserError, match="^--demonstrations: .* has changed since the run began"):
        build({"n_steps": 192, "demonstrations": names[1]}, first.directory.path)


def test_demonstrations_are_found_from_another_place_and_may_have_moved(tiny, run, build, recorded, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    first = run(tiny(demonstrations="here.npz"))
    monkeypatch.chdir("/")
    assert run({"n_steps": 192}, first.directory.path).result["steps"] == 192
    recorded.rename(tmp_path / "there.npz")
    with pytest.raises(UserError, match=f"^--demonstrations: no such file: {recorded}.*--demonstrations NEW_PATH"):
        build({"n_steps": 256}, first.directory.path)
    again = run({"demonstrations": str(tmp_path / "there.npz"), "n_steps": 256}, first.directory.path)
    assert load_agent(again.directory.agent).metadata["demonstrations"] == str(tmp_path / "there.npz")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Minari's, of an author that is not given
def test_a_run_that_learns_from_a_minari_dataset_goes_on(tiny, run, walking, monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    minari.write("quadruped/test-v0", walking(), gymnasium.make("qi_ext.tasks:QuadrupedDirection-v0", task="simple"))
    first = run(tiny(demonstrations="minari:quadruped/test-v0"))
    assert run({"n_steps": 192}, first.directory.path).result["steps"] == 192


def test_auto_starts_a_run_and_goes_on_with_it(tiny, alone, build, stop, run, ends_as, capsys):
    undisturbed = alone()
    stop(build(tiny(), "auto"), 64)
    assert "going on" not in capsys.readouterr().out
    assert ends_as(run(tiny(), "auto"), undisturbed)
    assert "going on from step 64" in capsys.readouterr().out


@pytest.fixture
def started(tmp_path, monkeypatch, capsys):
    """A function that leaves what a run of some settings leaves, begun with `--resume auto`: (its directory, what was said)."""
    monkeypatch.chdir(tmp_path)

    def start(**settings):
        start = find_start(settings, "auto")
        start.directory.create(start.config)
        return str(start.directory.path), capsys.readouterr().out, start.config

    return start


def test_auto_starts_beside_another_run_in_the_default_directory_and_says_so(started):
    assert started()[:2] == ("runs/simple-gail/0", "")
    path, said, _ = started(gamma=0.9, demonstrations="trot")
    assert path == "runs/simple-gail-2/0"
    assert said == "runs/simple-gail/0 has a run with gamma 0.97, not 0.9; starting beside it, in runs/simple-gail-2/0\n"
    for settings in ({}, {"gamma": 0.9}):  # each is found again
        path, said, _ = started(**settings)
        assert said == f"going on with the run in {path}\n"
    assert path == "runs/simple-gail-2/0"
    assert started(demonstrations="mine.npz")[0] == "runs/simple-gail-3/0"
    assert started(warm_start=5)[0] == "runs/simple-gail-warm/0"
    assert started(seed=1)[0] == "runs/simple-gail/1"


def test_auto_goes_on_from_a_first_try_to_the_length_of_the_experiment_and_shortens_none(started):
    default = started(n_steps=4096)[2].replace(n_steps=None).run.n_steps
    assert started(n_steps=8192)[2].run.n_steps == 8192
    assert started()[2].run.n_steps == default == 1_000_000
    started(n_steps=5_000_000)
    assert started()[2].run.n_steps == 5_000_000


@pytest.mark.extensive
@pytest.mark.parametrize("how", ["auto", "by its directory"])
def test_a_run_that_was_killed_before_its_first_checkpoint_starts_over(
    tiny, alone, build, complete, run, ends_as, monkeypatch, how
):
    def kill(*arguments):
        raise SystemExit

    training = build(tiny())
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_tensors", kill)  # its agent is written by then
        with pytest.raises(SystemExit):
            complete(training)
    with pytest.raises(UserError, match="--resume auto goes on"):
        build(tiny())
    with pytest.raises(UserError, match="^--gamma: the run in .* has 0.97, and cannot go on with 0.5"):
        build(tiny(gamma=0.5), "auto")
    again = run(tiny(), "auto") if how == "auto" else run({}, training.directory.path)
    assert ends_as(again, alone())


def test_what_is_no_run_to_go_on_with_is_refused(tiny, finished, tmp_path):
    path = tmp_path / "runs" / "0"
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("mine")
    for settings, resume, message in (
        (tiny(), "auto", "^--results_dir: .* is not empty"),
        ({}, path, "^--resume: no checkpoint"),
        ({}, tmp_path / "nowhere", "^--resume: no such directory: "),
        ({"task": "hard"}, finished, "^--task: the run in .* has simple, and cannot go on with hard"),
    ):
        with pytest.raises(UserError, match=message):
            find_start(settings, str(resume))
    assert [each.name for each in path.iterdir()] == ["thesis.tex"]


def test_a_run_that_is_running_is_refused(tiny, build, complete):
    training = build(tiny())
    with RunDirectory(training.directory.path).lock(), pytest.raises(UserError, match="is running in another process$"):
        complete(training)


def test_experiment_goes_on_as_a_function(tiny):
    experiment = runpy.run_path(str(LAUNCHER))["experiment"]
    first = experiment(**tiny())
    again = experiment(resume=first["directory"], n_steps=192)
    assert (first["steps"], again["steps"]) == (128, 192)
    # As experiment-launcher calls it, with every keyword.
    assert experiment(resume=first["directory"], results_dir="", task="simple", algorithm="gail", seed=0, gamma=None) == again


def test_a_damaged_checkpoint_is_named_set_aside_and_made_up_for(tiny, alone, run, ends_as, capsys):
    undisturbed = alone(n_steps=256)
    first = run(tiny(n_steps=192))
    there = first.directory.checkpoints
    for step in (128, 192):
        path = there.directory(step) / FILE
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    again = run({"n_steps": 256}, first.directory.path)
    out = capsys.readouterr().out
    for step in (128, 192):
        assert f"passed over: {there.directory(step) / FILE}: " in out
    assert "going on from step 64" in out
    assert (there.path / "192.passed_over" / FILE).read_bytes() == content
    assert ends_as(again, undisturbed)


@pytest.mark.extensive
def test_a_checkpoint_of_another_run_that_was_copied_in_is_passed_over(tiny, run, tmp_path, capsys):
    first = run(tiny())
    other = run(tiny("vail", task="hard", n_steps=192, results_dir=str(tmp_path / "other")))
    shutil.copytree(other.directory.checkpoints.directory(192), first.directory.checkpoints.directory(192))
    run({"n_steps": 192}, first.directory.path)
    out = capsys.readouterr().out
    assert "192/checkpoint.safetensors: of another run: " in out
    assert "going on from step 128" in out


@pytest.mark.parametrize(("part", "name"), [("agent", "critic/0.weight"), ("lanes", "state")])
def test_a_state_that_does_not_fit_is_refused_in_one_line(finished, part, name):
    start = find_start({"n_steps": 128}, str(finished))
    start.checkpoint.states.setdefault(part, {})[name] = np.zeros(7, dtype=np.float32)
    with pytest.raises(UserError, match="^--resume: the checkpoint of step 64 does not fit this program: .*$"):
        TrainingRun(start)


@pytest.mark.parametrize("algorithm", [pytest.param("gail", marks=pytest.mark.extensive), "vail"])
def test_files_are_small_at_default_sizes(run, tmp_path, algorithm):
    settings = {"n_steps": 256, "batch_size": 256, "pool": "serial", "evaluation_episodes": 0, "results_dir": str(tmp_path)}
    directory = run({"task": "hard", "algorithm": algorithm, **settings}).directory
    assert directory.agent.stat().st_size < MB
    checkpoint = directory.checkpoints.directory(directory.checkpoints.steps()[-1])
    assert (checkpoint / "agent.safetensors").stat().st_size < MB
    assert (checkpoint / FILE).stat().st_size < 16 * MB


def test_numbers_that_are_not_finite_stop_a_run_whose_last_checkpoint_is_good(
    tiny, alone, build, complete, run, ends_as, after_update, monkeypatch
):
    training = build(tiny(n_steps=256))

    def diverge():
        next(training.learner.critic.network.parameters()).data[0] = float("nan")

    after_update(192, diverge)
    with pytest.raises(FloatingPointError, match="not finite") as caught:
        complete(training)
    assert str(training.directory.checkpoints.directory(128)) in str(caught.value)
    monkeypatch.undo()
    agent = load_agent(training.directory.checkpoints.directory(128) / "agent.safetensors")
    assert np.isfinite(agent.act(np.zeros(37))).all()
    assert ends_as(run({}, training.directory.path), alone(n_steps=256))
