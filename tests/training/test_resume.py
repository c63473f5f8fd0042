"""Runs that are killed or stopped, and go on: bit for bit what they would have been."""

import dataclasses
import os
import runpy
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from qi_ext import load_agent
from qi_ext.demonstrations import formats
from qi_ext.learning import GAIL
from qi_ext.sampling.pool_source import Fragment
from qi_ext.training import checkpoints, loop
from qi_ext.training.checkpoints import FILE, Checkpoints
from qi_ext.training.config import all_options, make_config, may_change
from qi_ext.training.resume import find_start
from qi_ext.utils.command_line import run_command
from qi_ext.utils.errors import Terminated, UserError
from qi_ext.utils.tensor_file import read_tensors, write_tensors

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


def killed(training, cpu_seconds):
    """Whether a run, in a process of its own, was killed after so much of its time; else it came to its end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            # What ends it is the signal's own action: nothing of ours runs any more.
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            training().run()
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGPROF)
    return status != 0


def stop(training, when, number=signal.SIGINT):
    """Run it and send it a signal as soon as, after an update, when(its steps)."""
    training.core.callbacks_fit.append(lambda dataset: when(training.counter.steps) and os.kill(os.getpid(), number))
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else Terminated):
        training.run()
    return training


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_a_run_that_is_killed_at_any_moment_ends_as_if_it_were_not(tiny, alone, build, run, ends_as, tmp_path, algorithm):
    settings = {"n_steps": 768, "warm_start": 1}
    undisturbed = alone(algorithm, **settings)
    moments = np.random.default_rng(0).uniform(0.8, 1.2, 40) * 0.1 * 1.2 ** np.arange(40)  # later and later
    gone_on = 0  # after how many kills there was something to go on from
    for moment in moments:
        if gone_on == 3 or not killed(lambda: build(tiny(algorithm, **settings), "auto"), moment):
            break
        gone_on += Checkpoints(tmp_path / "runs" / "0").steps()[-1:] > [0]
    assert gone_on
    assert ends_as(run(tiny(algorithm, **settings), "auto"), undisturbed)


def test_a_run_goes_on_with_another_pool_and_number_of_workers(tiny, alone, build, run, ends_as, monkeypatch):
    undisturbed = alone(n_steps=320)
    stop(build(tiny(n_steps=320, checkpoint_every=1000.0)), lambda steps: steps == 64)
    elsewhere = {"pool": "loky", "n_workers": "2"}
    stop(build(tiny(**elsewhere, n_steps=320), "auto"), lambda steps: steps == 128)

    def interrupted(fragment):
        os.kill(os.getpid(), signal.SIGTERM)
        return wait(fragment)

    wait = Fragment.wait
    with monkeypatch.context() as patch:
        patch.setattr(Fragment, "wait", interrupted)
        with pytest.raises(Terminated):
            run(elsewhere | {"n_workers": "3"}, undisturbed.directory.path.parents[1] / "runs" / "0")
    assert ends_as(run(tiny(n_steps=320), "auto"), undisturbed)


@pytest.mark.parametrize("pool", [{"pool": "serial"}, {"pool": "loky", "n_workers": "2"}], ids=["serial", "workers"])
def test_a_run_goes_on_into_the_disturbances_that_begin_later(tiny, alone, build, run, ends_as, pool):
    settings = {"n_steps": 320, "push": 50.0, "torque_noise": 0.1, "disturb_after": 128}
    undisturbed = alone(**settings)
    for at in (64, 192):
        stop(build(tiny(**settings, **pool, checkpoint_every=1000.0), "auto"), lambda steps, at=at: steps == at)
    assert ends_as(run(tiny(**settings), "auto"), undisturbed)


def test_what_robots_are_trained_under_is_said_and_that_it_never_comes(tiny, run, capsys):
    run(tiny(push=50.0, disturb_after=100))
    said = capsys.readouterr().out
    assert "pushes of up to 50 N, noise at the joints of 0, from step 100 on" in said and "warning" not in said


@pytest.mark.parametrize(
    ("moment", "number", "error"),
    [
        ("in an update", signal.SIGINT, KeyboardInterrupt),
        ("in an update", signal.SIGTERM, Terminated),
        ("while the pool gathers", signal.SIGTERM, Terminated),
        ("in what follows an update", signal.SIGINT, KeyboardInterrupt),
    ],
)
def test_a_run_that_is_stopped_is_saved_and_goes_on(
    tiny, alone, build, run, ends_as, monkeypatch, capsys, moment, number, error
):
    undisturbed = alone(n_steps=192)
    training = build(tiny(n_steps=192, checkpoint_every=1000.0))
    owner, name = {
        "in an update": (training.agent, "_policy_step"),
        "while the pool gathers": (training.core.path, "gather"),
        "in what follows an update": (training.core.path, "fit"),
    }[moment]
    before = getattr(owner, name)

    def interrupted(*arguments):
        result = before(*arguments)
        if training.counter.steps == 64:
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(error):
        training.run()
    step = 64 if moment == "while the pool gathers" else 128
    assert training.directory.checkpoints.steps() == [0, step]
    directory = training.directory.path
    assert f"stopped at {step} steps; go on with --resume {directory}" in capsys.readouterr().out
    assert ends_as(run({}, directory), undisturbed)


def test_a_finished_run_that_is_made_longer_is_the_longer_run(tiny, alone, run, ends_as):
    undisturbed = alone(n_steps=320)
    short = run(tiny(n_steps=128))
    assert short.result["steps"] == 128
    longer = run({"n_steps": 320}, short.directory.path)
    assert longer.result["steps"] == longer.directory.read_result()["steps"] == 320
    assert ends_as(longer, undisturbed)


def test_a_finished_run_is_not_begun_again(tiny, run, capsys):
    first = run(tiny())
    before = {path: path.read_bytes() for path in first.directory.path.rglob("*") if path.is_file()}
    for settings, resume in ((tiny(), "auto"), ({}, first.directory.path), ({"n_steps": 64}, first.directory.path)):
        assert run(settings, resume).result == first.result
    assert capsys.readouterr().out.count("finished already, at 128 steps; more --n_steps or --minutes would go on") == 3
    assert {path: path.read_bytes() for path in first.directory.path.rglob("*") if path.is_file()} == before


def test_a_finished_run_without_its_result_gets_it_again(tiny, run, ends_as, alone):
    first = run(tiny())
    first.directory.result.unlink()
    assert run({}, first.directory.path).directory.read_result()["steps"] == 128
    assert ends_as(first, alone())


def test_minutes_end_a_run_after_an_update_and_more_let_it_go_on(tiny, alone, run, ends_as, monkeypatch):
    undisturbed = alone(n_steps=320)
    monkeypatch.setattr(loop.Training, "_seconds", lambda training: float(training.counter.steps))  # a second a step
    ended = run(tiny(n_steps=320, minutes=100.0 / 60.0))
    directory = ended.directory.path
    assert ended.result["steps"] == 128
    assert run({}, directory).result == ended.result
    assert run({"minutes": 120.0 / 60.0}, directory).result == ended.result
    assert run({"minutes": 190.0 / 60.0}, directory).result["steps"] == 192
    assert ends_as(run({"minutes": 0}, directory), undisturbed)


def test_time_counts_over_all_parts_of_a_run(tiny, build, run):
    first = stop(build(tiny(n_steps=192)), lambda steps: steps == 128)
    seconds = first.directory.checkpoints.load_newest().seconds
    again = run({}, first.directory.path)
    assert 0.0 < seconds < again.result["training_seconds"]
    # A limit that has passed by now leaves nothing to do.
    assert run({"n_steps": 640, "minutes": seconds / 60.0}, first.directory.path).result == again.result


def test_what_may_change_changes_and_nothing_that_was_learned_does(tiny, alone, build, run, ends_as):
    undisturbed = alone(n_steps=192)
    first = stop(build(tiny(n_steps=640)), lambda steps: steps == 64)
    changed = {"n_steps": 192, "minutes": 99.0, "n_workers": 1, "pool": "loky", "device": "cpu"}
    changed |= {"checkpoint_every": 1000.0, "keep_checkpoints": 1, "evaluation_episodes": 1}
    again = run(changed, first.directory.path)
    assert {name: again.config.settings()[name] for name in changed} == changed
    assert again.directory.config() == again.config.settings()
    assert "evaluation" in again.result
    assert ends_as(again, undisturbed)


def test_what_was_given_to_a_run_that_goes_on_holds_until_it_is_given_anew(tiny, build, run):
    """Even where it was killed before it came to write a checkpoint."""
    directory = run(tiny()).directory.path
    start = find_start({"n_steps": 640, "keep_checkpoints": 7}, str(directory))
    start.directory.create(start.config)
    again = find_start({}, str(directory)).config
    assert (again.n_steps, again.keep_checkpoints) == (640, 7)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run):
    """The directory of a finished run of VAIL, which has every setting there is."""
    config = {"n_envs": 4, "pool": "serial", "policy_hidden": [16], "critic_hidden": [16], "discriminator_hidden": [16]}
    config |= {"algorithm": "vail", "n_steps": 64, "batch_size": 64, "evaluation_episodes": 0}
    return run(config | {"results_dir": str(tmp_path_factory.mktemp("finished"))}).directory.path


def another(item, value):
    """Another valid value of a setting."""
    if item.metadata["choices"]:
        return next(choice for choice in item.metadata["choices"] if choice != value)
    if item.type is list:
        return [*value, 16]
    if item.type is str:
        return {"n_workers": "3", "device": "cpu"}.get(item.name, "other")
    if item.type is int:
        return value + 1
    return value / 2.0 if value else 0.25


@pytest.mark.parametrize("item", dataclasses.fields(SimpleVail), ids=lambda item: item.name)
def test_each_setting_may_change_or_is_refused_by_name(finished, item):
    stored = find_start({}, str(finished)).config
    value = another(item, getattr(stored, item.name))
    assert value != getattr(stored, item.name)
    if may_change(item.name) and item.name != "results_dir":
        assert getattr(find_start({item.name: value}, str(finished)).config, item.name) == value
        return
    with pytest.raises(UserError) as caught:
        find_start({item.name: value}, str(finished))
    assert str(caught.value).startswith(f"--{item.name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("item", dataclasses.fields(SimpleVail), ids=lambda item: item.name)
def test_each_setting_may_be_given_again_as_it_is(finished, item):
    stored = find_start({}, str(finished)).config
    assert find_start({item.name: getattr(stored, item.name)}, str(finished)).config == stored


def test_a_refusal_is_exit_code_2(finished, capsys):
    main = runpy.run_path(str(LAUNCHER))["main"]
    with pytest.raises(SystemExit) as caught:
        run_command("run_gail.py", lambda: main(["--resume", str(finished), "--gamma", "0.5"]))
    assert caught.value.code == 2
    captured = capsys.readouterr().err
    assert captured == (
        f"run_gail.py: --gamma: the run in {finished} has 0.97, and cannot go on with 0.5; leave it out, or start a new run\n"
    )


def test_a_run_of_a_dask_cluster_goes_on_here(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    settings = make_config(**find_start({}, str(finished)).directory.config() | {"pool": "dask", "scheduler": "tcp://there:1"})
    find_start({}, str(tmp_path / "run")).directory.create(settings)
    config = find_start({"pool": "serial"}, str(tmp_path / "run")).config
    assert (config.pool, config.scheduler) == ("serial", "")


def test_an_option_can_be_turned_off(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    start = find_start({"wandb": "mine"}, str(tmp_path / "run"))
    start.directory.create(start.config)
    assert find_start({}, str(tmp_path / "run")).config.wandb == "mine"
    assert find_start({"wandb": ""}, str(tmp_path / "run")).config.wandb == ""


@pytest.fixture
def recorded(gliding, tmp_path):
    """The path of demonstrations."""
    formats.write(tmp_path / "here.npz", gliding((0.0,)))
    return tmp_path / "here.npz"


def test_demonstrations_that_changed_are_refused_by_their_hash(tiny, run, build, gliding, recorded):
    first = run(tiny(demonstrations=str(recorded)))
    formats.write(recorded, gliding((0.0,), rows=51))
    with pytest.raises(UserError) as caught:
        build({"n_steps": 192}, first.directory.path)
    message = str(caught.value)
    assert message.startswith(f"--demonstrations: {recorded} has changed since the run began")
    assert first.result["demonstrations_hash"] in message
    assert "\n" not in message


def test_demonstrations_may_have_moved(tiny, run, alone, ends_as, recorded, tmp_path):
    undisturbed = alone(demonstrations=str(recorded), n_steps=192)
    first = run(tiny(demonstrations=str(recorded)))
    recorded.rename(tmp_path / "there.npz")
    again = run({"demonstrations": str(tmp_path / "there.npz"), "n_steps": 192}, first.directory.path)
    assert ends_as(again, undisturbed)
    assert load_agent(again.directory.agent).metadata["demonstrations"] == str(tmp_path / "there.npz")


def test_auto_starts_a_run_and_goes_on_with_it(tiny, alone, build, run, ends_as, capsys):
    undisturbed = alone()
    stop(build(tiny(), "auto"), lambda steps: steps == 64)
    assert "going on" not in capsys.readouterr().out
    assert ends_as(run(tiny(), "auto"), undisturbed)
    assert "going on from step 64" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["auto", "by its directory"])
@pytest.mark.parametrize("moment", ["before", "between agent and checkpoint"])
def test_a_run_that_was_killed_before_its_first_checkpoint_starts_over(
    tiny, alone, build, run, ends_as, monkeypatch, moment, how
):
    def kill(*arguments):
        raise SystemExit

    training = build(tiny())
    with monkeypatch.context() as patch:
        patch.setattr(*((loop.Training, "_save") if moment == "before" else (checkpoints, "write_tensors")), kill)
        with pytest.raises(SystemExit):
            training.run()
    with pytest.raises(UserError, match="--resume auto goes on"):
        build(tiny())
    with pytest.raises(UserError, match="^--gamma: the run in .* has 0.97, and cannot go on with 0.5"):
        build(tiny(gamma=0.5), "auto")
    again = run(tiny(), "auto") if how == "auto" else run({}, training.directory.path)
    assert ends_as(again, alone())


def test_auto_refuses_a_directory_that_is_not_a_runs(tiny, tmp_path):
    path = tmp_path / "runs" / "0"
    path.mkdir(parents=True)
    (path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="^--results_dir: .* is not empty"):
        find_start(tiny(), "auto")
    with pytest.raises(UserError, match="^--resume: no checkpoint"):
        find_start({}, str(path))
    assert [each.name for each in path.iterdir()] == ["thesis.tex"]


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="^--resume: no such directory: "):
        find_start({}, str(tmp_path / "nowhere"))


def test_auto_refuses_the_run_of_another_seed_or_task_by_name(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "0")
    with pytest.raises(UserError, match="^--task: the run in .* has simple, and cannot go on with hard"):
        find_start({"task": "hard", "results_dir": str(tmp_path)}, "auto")


def test_a_run_goes_on_from_where_it_was_moved_to(tiny, alone, run, ends_as, tmp_path):
    undisturbed = alone(n_steps=192)
    first = run(tiny())
    moved = tmp_path / "elsewhere" / "renamed"
    shutil.move(first.directory.path, moved)
    again = run({"n_steps": 192}, moved)
    assert again.directory.path == moved
    assert again.result["directory"] == str(moved)
    assert not first.directory.path.exists()
    assert ends_as(again, undisturbed)


def test_a_finished_run_is_where_it_was_moved_to(tiny, run, tmp_path):
    first = run(tiny())
    moved = tmp_path / "elsewhere" / "x y"
    shutil.move(first.directory.path, moved)
    assert run({}, moved).result == first.result | {"directory": str(moved)}


def test_demonstrations_that_only_the_learner_sees_are_refused_by_their_hash(tiny, run, build, gliding, tmp_path):
    """With compat=upstream it learns from all directions, and episodes start from the task's."""
    names = [str(tmp_path / name) for name in ("one.npz", "other.npz")]
    for name, directions in zip(names, ((0.0, 90.0), (0.0, 180.0)), strict=True):
        formats.write(name, gliding(directions))
    first = run(tiny(demonstrations=names[0], compat="upstream"))
    with pytest.raises(UserError, match="^--demonstrations: .* has changed since the run began"):
        build({"n_steps": 192, "demonstrations": names[1]}, first.directory.path)


def test_demonstrations_are_found_from_another_place(tiny, run, recorded, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    first = run(tiny(demonstrations="here.npz"))
    monkeypatch.chdir("/")
    assert run({"n_steps": 192}, first.directory.path).counter.steps == 192


def test_a_run_that_is_running_is_refused(tiny, build):
    """Both were told to go on; the second must neither write beside the first nor set its checkpoints aside."""
    first, refusals = build(tiny()), []
    second = build(tiny())
    note = first._note

    def also_start_the_other():
        note()
        with pytest.raises(UserError) as caught:
            second.run()
        refusals.append(str(caught.value))

    first._note = also_start_the_other
    first.run()
    assert refusals == [f"--results_dir: the run in {first.directory.path} is running in another process"] * 2
    with pytest.raises(UserError, match="has gone on in another process; try again$"):
        second.run()


def test_experiment_goes_on_as_a_function(tiny):
    experiment = runpy.run_path(str(LAUNCHER))["experiment"]
    first = experiment(**tiny())
    again = experiment(resume=first["directory"], n_steps=192)
    assert (first["steps"], again["steps"]) == (128, 192)
    assert experiment(**tiny(), resume="auto") == again
    # As experiment-launcher calls it, with every keyword.
    assert experiment(resume=first["directory"], results_dir="", task="simple", algorithm="gail", seed=0, gamma=None) == again


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_set_aside_and_made_up_for(tiny, alone, run, ends_as, capsys):
    undisturbed = alone(n_steps=320)
    first = run(tiny(n_steps=256))
    there = first.directory.checkpoints
    for step in (192, 256):
        damage(there.directory(step) / FILE)
    content = (there.directory(256) / FILE).read_bytes()
    again = run({"n_steps": 320}, first.directory.path)
    out = capsys.readouterr().out
    for step in (192, 256):
        assert f"passed over: {there.directory(step) / FILE}: " in out
    assert "going on from step 128" in out
    assert (there.path / "256.passed_over" / FILE).read_bytes() == content
    assert ends_as(again, undisturbed)


def test_a_checkpoint_of_another_run_that_was_copied_in_is_passed_over(tiny, run, tmp_path, capsys):
    first = run(tiny())
    other = run(tiny("vail", task="hard", n_steps=192, results_dir=str(tmp_path / "other")))
    shutil.copytree(other.directory.checkpoints.directory(192), first.directory.checkpoints.directory(192))
    run({"n_steps": 192}, first.directory.path)
    out = capsys.readouterr().out
    assert "192/checkpoint.safetensors: of another run: algorithm vail, not gail" in out
    assert "going on from step 128" in out


def test_where_every_checkpoint_is_damaged_nothing_is_lost(tiny, run, tmp_path, capsys):
    first = run(tiny())
    for step in first.directory.checkpoints.steps():
        damage(first.directory.checkpoints.directory(step) / FILE)
    capsys.readouterr()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    main = runpy.run_path(str(LAUNCHER))["main"]
    for arguments in (["--resume", str(first.directory.path)], ["--resume", "auto", "--results_dir", str(tmp_path / "runs")]):
        with pytest.raises(SystemExit) as caught:
            run_command("run_gail.py", lambda given=arguments: main(given))
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("run_gail.py: --resume: no checkpoint to go on from: ")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_networks_of_another_size_is_refused_in_one_line(tiny, run, build):
    """Written by a program that built them otherwise."""
    first = run(tiny())
    start = find_start({"n_steps": 192}, str(first.directory.path))
    start.checkpoint.states["agent"]["critic/layers.0.weight"] = np.zeros((3, 3), dtype=np.float32)
    with pytest.raises(UserError, match="^--resume: .*128 does not fit this program: ") as caught:
        loop.Training(start)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("task", "algorithm"), [("hard", "gail"), ("hard", "vail")])
def test_files_are_small_at_default_sizes(run, tmp_path, task, algorithm):
    settings = {"n_steps": 512, "batch_size": 512, "pool": "serial", "evaluation_episodes": 0, "results_dir": str(tmp_path)}
    directory = run({"task": task, "algorithm": algorithm, **settings}).directory
    assert directory.agent.stat().st_size < MB
    checkpoint = directory.checkpoints.directory(directory.checkpoints.steps()[-1])
    assert (checkpoint / "agent.safetensors").stat().st_size < MB
    assert (checkpoint / FILE).stat().st_size < 16 * MB


@pytest.mark.parametrize("where", ["in what was measured", "in the weights"])
def test_numbers_that_are_not_finite_stop_a_run_whose_last_checkpoint_is_good(
    tiny, alone, run, ends_as, monkeypatch, capsys, tmp_path, where
):
    class Diverging(GAIL):
        def _fit_rest(self, batch, targets):
            super()._fit_rest(batch, targets)
            if self.policy.normalizer.count > len(self._expert) + 128:
                if where == "in what was measured":
                    self._measure(critic_loss=self._measured["critic_loss"] * float("nan"))
                next(self.critic.parameters()).data[0] = float("nan")

    main = runpy.run_path(str(LAUNCHER))["main"]
    arguments = [f"--{name}={value}" for name, value in tiny(n_steps=320).items() if not isinstance(value, list)]
    arguments += [text for name in ("policy", "critic", "discriminator") for text in (f"--{name}_hidden", "16")]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr(loop, "learner_builder", lambda config: Diverging)
        run_command("run_gail.py", lambda: main(arguments))
    assert caught.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    directory = tmp_path / "runs" / "0"
    assert "not finite" in line
    assert str(directory / "checkpoints" / "128") in line
    agent = load_agent(directory / "checkpoints" / "128" / "agent.safetensors")
    assert np.isfinite(agent.act(np.zeros(37))).all()
    assert ends_as(run({}, directory), alone(n_steps=320))


@pytest.mark.parametrize("lost", ["seconds", "demonstrations_hash"])
def test_a_checkpoint_that_lacks_something_is_refused(tiny, run, build, lost):
    directory = run(tiny()).directory
    _rewrite(directory, lambda arrays, data: (arrays, {name: value for name, value in data.items() if name != lost}))
    assert lost in _refusal(build, tiny(n_steps=192), directory)


@pytest.mark.parametrize("name", ["agent/critic/0.weight", "lanes/state", "episodes/first", "elsewhere/x"])
def test_arrays_that_do_not_fit_are_refused(tiny, run, build, name):
    directory = run(tiny()).directory
    _rewrite(directory, lambda arrays, data: (arrays | {name: np.zeros(7, dtype=np.float32)}, data))
    assert "does not fit" in _refusal(build, tiny(n_steps=192), directory)


def _rewrite(directory, change):
    """Write all checkpoints anew, with arrays and data as change(arrays, data) returns them."""
    for step in directory.checkpoints.steps():
        path = directory.checkpoints.directory(step) / FILE
        write_tensors(path, "checkpoint", *change(*read_tensors(path, "checkpoint")))


def _refusal(build, settings, directory):
    """The one line that a run is refused with."""
    with pytest.raises(UserError, match="^--resume: ") as caught:
        build(settings, directory.path)
    assert "\n" not in str(caught.value)
    return str(caught.value)
