"""The description of a sweep, read from its YAML file: its trials, their seeds, and what each of them may use."""

import dataclasses
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from qi_ext.demonstrations import resolved_name
from qi_ext.robot.courses import COURSES
from qi_ext.sweeps.resources import NULLS, Resources, read_resources
from qi_ext.tasks.directions import task_commands
from qi_ext.training.config import chosen_in, make_config, require_options
from qi_ext.utils.errors import UserError
from qi_ext.utils.limits import MOST_EPISODES
from qi_ext.utils.reading import MAX_TEXT, NoSuchFile, read_bytes, read_yaml
from qi_ext.utils.settings import brief, shown

KEYS = ("fixed", "grid", "trials", "seeds", "resources")
RESOURCES = tuple(Resources.__dataclass_fields__)

# Keys of a trial in a list that are not settings.
PUBLICATION = ("what", "episodes", "courses", "robustness", "beside", "reproduce")
TRIAL = ("name", "seeds", *PUBLICATION)

# Settings that the sweep gives each trial itself, and what to do instead of setting them.
GIVEN_BY_THE_SWEEP = {
    "seed": "list `seeds`",
    "results_dir": "each trial has its own directory",
    "n_workers": "`cores` of `resources` says it",
}
MAX_TRIALS = 10_000
MAX_NAME = 100  # characters
PUBLISHED_EPISODES = 96  # under all commands together


@dataclass(frozen=True)
class Publication:
    """Evaluation and table entry of a trial that is published.

    what: words for the tables. episodes: of the evaluation, per command. robustness: whether it is evaluated under
    disturbances, too. beside: name of a trial above, whose agent of the same seed is evaluated in the same run; or "".
    reproduce: whether `make reproduce` reruns it. courses: of follow, names of those that it is evaluated along; () for all.
    """

    what: str
    episodes: int
    robustness: bool
    beside: str
    reproduce: bool
    courses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    index: place of its configuration in the file, from 0. fixed, varied: {setting: value}, those that all trials share, and its
    own. results_dir: directory of the runs of all its seeds. name: of that directory, "" where it is made of `varied`.
    publication: None where the trial is not published.
    """

    index: int
    fixed: dict
    varied: dict
    seed: int
    results_dir: Path
    name: str = ""
    publication: Publication | None = None

    @property
    def settings(self):
        return self.fixed | self.varied

    @property
    def config(self):
        return make_config(**self.settings, seed=self.seed)

    @property
    def directory(self):
        return self.results_dir / str(self.seed)

    @property
    def configuration(self):
        """Words for the trial without its seed."""
        return self.name or ", ".join(f"{name} {shown(value)}" for name, value in self.varied.items()) or "all"


@dataclass(frozen=True)
class Sweep:
    """Trials in the order of the file, seed after seed, so that all are tried before any is repeated.

    directory: absolute, of everything that the sweep leaves. text: the content of its file.
    """

    directory: Path
    trials: tuple
    resources: Resources
    text: bytes

    def only(self, trials):
        """Return the sweep with these of its trials alone."""
        return dataclasses.replace(self, trials=tuple(trials))


def read_sweep(path, directory):
    """Return the `Sweep` of the YAML file at `path`, to be in `directory`, which need not exist. Raises UserError.

    All values are read as text; the config says what is a number. A trial with a name has its runs in DIRECTORY/NAME/SEED, any
    other where experiment-launcher puts them, DIRECTORY/SETTING___VALUE/.../SEED of what is varied (`_generate_results_dir` of
    its launcher.py).
    """
    path, directory = Path(path), Path(directory).resolve()
    try:
        text = read_bytes(path, MAX_TEXT)
        # Every scalar as text, so that neither `2:00:00` nor `no` nor `1e-4` is taken for something else.
        given = read_yaml(path, loader=yaml.BaseLoader)
    except NoSuchFile as error:
        raise UserError(f"{error}; name the YAML file of a sweep") from None
    try:
        _require_keys(given, KEYS, "a sweep")
        resources = given.get("resources") or {}
        _require_keys(resources, RESOURCES, "resources")
        return Sweep(directory, tuple(_trials(given, directory)), read_resources(resources), text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _require_keys(given, known, what):
    if not isinstance(given, dict):
        raise UserError(f"{what} is made of {', '.join(known)}; see launchers/sweeps for examples")
    for name in given.keys() - set(known):
        raise UserError(f"{name}: there is no such thing in {what}; there are {', '.join(known)}")


def _mapping(given, name):
    found = given.get(name) or {}
    if not isinstance(found, dict):
        raise UserError(f"{name}: must be `name: value` lines, not {brief(found)}")
    return found


def _trials(given, directory):
    fixed = _mapping(given, "fixed")
    configurations, directories, n_trials = [], {}, 0  # the first: (trial of the first seed, all its seeds)
    for index, entry in enumerate(_entries(given)):
        seeds = _seeds(entry.get("seeds", given.get("seeds", "3")))
        n_trials += len(seeds)
        if n_trials > MAX_TRIALS:
            raise UserError(f"trials: more than {MAX_TRIALS:,}, all seeds together; make several sweeps of it")
        varied = {name: value for name, value in entry.items() if name not in TRIAL}
        trial = _trial(index, fixed, varied, seeds, directory)
        if "name" in entry:
            name = _name(entry["name"], configurations)
            trial = dataclasses.replace(trial, name=name, results_dir=directory / name)
        trial = dataclasses.replace(trial, publication=_publication(entry, trial, seeds, configurations))
        other = directories.setdefault(trial.directory, trial)
        if other is not trial:
            raise UserError(
                f"trials: {other.configuration} and {trial.configuration} would both be in {trial.directory}; "
                "leave one out, or use values that differ in more than spaces and slashes"
            )
        configurations.append((trial, seeds))
    for seed in dict.fromkeys(seed for _, seeds in configurations for seed in seeds):
        yield from (dataclasses.replace(trial, seed=seed) for trial, seeds in configurations if seed in seeds)


def _entries(given):
    """Yield what is said of each trial, {name: text or list}."""
    if given.keys() >= {"grid", "trials"}:
        raise UserError("grid, trials: give one of them; a list of trials can hold what a grid holds, and more")
    if "trials" in given:
        trials = given["trials"]
        if not isinstance(trials, list) or not trials or not all(isinstance(each, dict) for each in trials):
            raise UserError("trials: must be a list of {name: value, ...}")
        yield from trials
        return
    grid = _mapping(given, "grid")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"grid: {name}: must be a list of values, [...], not {brief(values)}")
    yield from (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))


def _seeds(given):
    texts = given if isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) and re.fullmatch("[0-9]{1,10}", text) for text in texts):
        raise UserError(f"seeds: must be how many, or a list of whole numbers, not {brief(given)}")
    seeds = [int(text) for text in texts]
    if not isinstance(given, list):
        if not 1 <= seeds[0] <= MAX_TRIALS:
            raise UserError(f"seeds: must be at least 1, and at most {MAX_TRIALS:,}")
        return list(range(seeds[0]))
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds: the same one twice: {shown(seeds)}")
    return seeds


def _trial(index, fixed, varied, seeds, directory):
    """Return the `Trial` of the first seed, without a name. fixed, varied: as text."""
    for name in fixed.keys() & varied.keys():
        raise UserError(f"{name}: is both fixed and varied; leave one out")
    for name, instead in GIVEN_BY_THE_SWEEP.items():
        if name in fixed or name in varied:
            raise UserError(f"{name}: cannot be set here: {instead}")
    given = {name: value for name, value in (fixed | varied).items() if value not in NULLS}
    try:
        config = make_config(**given, seed=max(seeds))
        # Those without a value, too.
        require_options([*fixed, *varied], **chosen_in(config))
    except UserError as error:
        values = ", ".join(map(shown, varied.values()))[:200]
        raise UserError(f"trial {index} ({values or 'all'}): {error}") from None
    whole, settings = resolved_name(config.task.demonstrations), config.settings()
    if config.task.demonstrations != whole:
        raise UserError(f"demonstrations: must be a whole path, such as {whole}: the sweep may go on from another directory")
    if config.sampling.scheduler == "slurm":
        raise UserError("scheduler: slurm is for one big run; a trial is a job by itself")
    fixed, varied = ({name: settings[name] for name in group} for group in (fixed, varied))
    folders = (f"{name}___{str(value).replace(' ', '').replace('/', '-')}" for name, value in varied.items())
    return Trial(index, fixed, varied, seeds[0], directory.joinpath(*folders))


def _name(name, above):
    if not isinstance(name, str) or not re.fullmatch(f"[a-z0-9_-]{{1,{MAX_NAME}}}", name):
        raise UserError(
            f"name: must be of lower-case letters, digits, - and _, because a folder is named so, not {brief(name)}"
        )
    if any(trial.name == name for trial, _ in above):
        raise UserError(f"name: {name} is taken by a trial above")
    return name


def _publication(entry, trial, seeds, above):
    """Return the `Publication` of a trial, None where its entry says nothing of one."""
    given = {name: entry[name] for name in PUBLICATION if name in entry}
    if not given:
        return None
    where = f"trial {trial.index} ({trial.configuration})"
    if not trial.name or not given.get("what") or not isinstance(given["what"], str):
        raise UserError(f"{where}: one that is published needs `name` and `what`, words for the tables")
    courses = given.get("courses", [])
    if not isinstance(courses, list) or not set(map(str, courses)) <= set(COURSES):
        raise UserError(f"{where}: courses: must be a list of some of {', '.join(COURSES)}, not {brief(courses)}")
    try:
        n_commands = len(task_commands(**trial.config.task.of_commands, courses=courses or None))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    episodes = given.get("episodes", str(max(1, PUBLISHED_EPISODES // n_commands)))
    if not isinstance(episodes, str) or not re.fullmatch("[1-9][0-9]{0,6}", episodes) or int(episodes) > MOST_EPISODES:
        raise UserError(
            f"{where}: episodes: must be a whole number of at least 1, and at most {MOST_EPISODES}, not {brief(episodes)}"
        )
    for name in ("robustness", "reproduce"):
        if given.setdefault(name, "false") not in ("true", "false"):
            raise UserError(f"{where}: {name}: must be true or false, not {brief(given[name])}")
    beside = given.get("beside", "")
    other_seeds = next((seeds for other, seeds in above if other.name and other.name == beside), ())
    if beside and not set(seeds) <= set(other_seeds):
        raise UserError(f"{where}: beside: {brief(beside)} must be the name of a trial above, with the same seeds")
    return Publication(
        what=given["what"],
        episodes=int(episodes),
        robustness=given["robustness"] == "true",
        beside=beside,
        reproduce=given["reproduce"] == "true",
        courses=tuple(courses),
    )
