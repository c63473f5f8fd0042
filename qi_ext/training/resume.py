"""Start of a run: a new one, or one in a directory, gone on with from its newest sound checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qi_ext.training.checkpoints import Checkpoint
from qi_ext.training.config import CHOICES, Config, make_config, may_change, require_sound, with_later_settings
from qi_ext.training.run_directory import RunDirectory
from qi_ext.utils.display import say
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_name
from qi_ext.utils.settings import shown

__all__ = ["Start", "find_start"]


@dataclass
class Start:
    """Config, directory and checkpoint that a `TrainingRun` starts from. checkpoint: None for a new run."""

    config: Config
    directory: RunDirectory
    checkpoint: Checkpoint | None = None


def find_start(settings: Mapping[str, Any], resume: str = "") -> Start:
    """The `Start` of the run with these settings, {name: value}, of which None, and an empty results_dir, leave the default.

    resume: "" for a new run, whose directory must be empty; "auto" to start it, or go on with it, whichever fits; or the run
    directory to go on with. A run goes on with its own settings, but for those that may change and are given anew.
    "auto" without a results_dir: where the default directory has another run, it starts beside it, in runs/TASK-ALGORITHM-2 or
    the next, and says so. Raises UserError.
    """
    given = {name: value for name, value in settings.items() if value is not None and (name, value) != ("results_dir", "")}
    if resume not in ("", "auto"):
        return _go_on(RunDirectory(_existing(resume), "--resume"), given)
    config = make_config(**given)
    if resume == "auto" and "results_dir" not in given:
        return _default_start(config, given)
    directory = RunDirectory(Path(config.run.results_dir) / str(config.run.seed))
    if resume == "auto" and (directory.checkpoints.any_complete() or directory.config()):
        return _go_on(directory, given)
    if directory.occupied:
        goes_on = "--resume auto goes on with the run in it; or " if directory.config() else ""
        raise UserError(
            f"--results_dir: {directory.path} is not empty; {goes_on}choose another --results_dir or --seed, or move it away"
        )
    return Start(config, directory)


def stored_choices(resume: str) -> dict[str, str]:
    """Task, algorithm, backend and physics of the run in the directory `resume`; {} where it does not say, or is "auto"."""
    settings = RunDirectory(_existing(resume), "--resume").config() if resume not in ("", "auto") else {}
    require_sound(settings, Path(resume, "config.yaml"))
    return {name: settings[name] for name in CHOICES if isinstance(settings.get(name), str)}


def _default_start(config: Config, given: Mapping[str, Any]) -> Start:
    """The `Start` in the first of runs/TASK-ALGORITHM, runs/TASK-ALGORITHM-2, ... that is empty or has the run of `config`."""
    others: list[str] = []  # directories of other runs, and how they differ
    while True:
        place = config.run.results_dir + (f"-{len(others) + 1}" if others else "")
        directory = RunDirectory(Path(place) / str(config.run.seed))
        if not directory.occupied:
            if others:
                say(f"{'; '.join(others)}; starting beside it, in {directory.path}")
            return Start(config.replace(results_dir=place), directory)
        other = _difference_of_runs(directory, config)
        if other is None:
            say(f"going on with the run in {directory.path}")
            # A shorter run, as of a first try, goes on to the length of the experiment.
            longer = max(config.run.n_steps, make_config(**directory.config()).run.n_steps)
            return _go_on(directory, {"n_steps": longer, **given})
        others.append(f"{directory.path} has {other}")


def _difference_of_runs(directory: RunDirectory, config: Config) -> str | None:
    """How the run in a directory is another than that of `config`, in words, or None where it can go on as that."""
    stored = directory.config()
    if not stored:
        return "something else in it"
    try:
        own = make_config(**with_later_settings(stored))
    except UserError:
        return "a run of another program"
    from qi_ext.demonstrations import resolved_name  # scipy, which takes a third of a second

    names = (own.task.demonstrations, config.task.demonstrations)
    if resolved_name(names[0]) != resolved_name(names[1]):
        return f"a run with demonstrations {names[0]}, not {names[1]}"
    difference = _first_difference(own.settings(), config.settings())
    return f"a run with {difference}" if difference else None


def _existing(resume: str) -> Path:
    require_name(resume, "--resume")
    path = Path(resume)
    if not path.is_dir():
        raise UserError(f"--resume: no such directory: {path}; give a run directory, such as runs/hard-gail/0, or auto")
    return path


def _go_on(directory: RunDirectory, given: dict[str, Any]) -> Start:
    own = directory.config()
    require_sound(own, directory.path / "config.yaml")
    fault = "" if own else directory.config_fault()
    if fault and not directory.checkpoints.any_complete():
        raise UserError(f"--resume: {fault}, and there is no checkpoint to go on from; start a new run")
    if fault:
        say(f"passed over: {fault}; the settings are those of the checkpoint")
    if not own and not directory.occupied:
        raise UserError(f"--resume: in {directory.path} no run has begun; --resume auto, with its settings, begins it")
    if own and not directory.checkpoints.any_complete():
        checkpoint, stored = None, dict(own)  # it ended before its first one
    else:
        checkpoint = directory.checkpoints.load_newest(lambda config: _first_difference(config, own), say, _require_sound)
        # Settings that may change may have been given anew since that checkpoint was written.
        stored = checkpoint.config | {name: own[name] for name in checkpoint.config.keys() & own.keys() if may_change(name)}
    stored = make_config(**with_later_settings(stored)).settings()
    for name in CHOICES:
        _require_same(name, given.get(name, stored.get(name)), stored, directory)
    if given.get("pool", "dask") != "dask":
        stored["scheduler"] = ""  # which goes with dask only
    config = make_config(**(stored | given))
    settings = config.settings()
    for name in given:
        if not may_change(name):
            _require_same(name, settings[name], stored, directory)
    meant = Path(config.run.results_dir) / str(config.run.seed)
    if "results_dir" in given and meant.absolute() != directory.path.absolute():
        raise UserError(f"--results_dir: --resume {directory.path} says already which run to go on with; leave it out")
    # The directory may have been moved.
    return Start(config.replace(results_dir=str(directory.path.parent)), directory, checkpoint)


def _require_sound(checkpoint: Checkpoint) -> None:
    """Raise UserError where a checkpoint has a config that none can have."""
    require_sound(checkpoint.config, f"checkpoint of step {checkpoint.step}")


def _require_same(name: str, value: Any, stored: Mapping[str, Any], directory: RunDirectory) -> None:
    if value != stored.get(name):
        raise UserError(
            f"--{name}: the run in {directory.path} has {shown(stored.get(name))}, and cannot go on with {shown(value)}; "
            "leave it out, or start a new run"
        )


def _first_difference(config: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """The first setting of `config`, {name: value}, that is not the `own` one, in words, or None."""
    for name, value in config.items():
        if name in own and not may_change(name) and value != own[name]:
            return f"{name} {shown(value)}, not {shown(own[name])}"
    return None
