"""A sweep as its YAML file says: which trials, with which seeds, and what each of them may use."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from qi_ext.demonstrations import resolved_name
from qi_ext.sampling.pool import available_cpus
from qi_ext.training.config import make_config
from qi_ext.utils.errors import UserError
from qi_ext.utils.settings import shown

KEYS = ("fixed", "grid", "trials", "seeds", "resources")
RESOURCES = ("cores", "memory", "time", "gpu", "partition", "account")

# What the sweep itself says of a trial, and how.
GIVEN_OTHERWISE = {
    "seed": "list `seeds`",
    "results_dir": "each trial has its own directory",
    "n_workers": "`cores` of `resources` says it",
}
MEBIBYTES = {"": 1, "M": 1, "G": 1024}
NULLS = ("null", "Null", "NULL", "~")


@dataclass(frozen=True)
class Resources:
    """Of one trial. memory: MiB. time: s, after which Slurm ends a job, which then goes on in a new one. gpu: how many, or
    TYPE:NUMBER. Empty text is the cluster's default."""

    cores: int = 2
    memory: int = 4096
    time: int = 4 * 3600
    gpu: str = ""
    partition: str = ""
    account: str = ""

    @property
    def at_once(self):
        """How many trials fit on the processors that this process may use."""
        return max(1, available_cpus() // self.cores)


@dataclass(frozen=True)
class Trial:
    """One run of a sweep. fixed, varied: {name: value}, which together make its config; varied is in the directory's name.

    index: place in the sweep, from 0. results_dir: what `seed` is a directory of.
    """

    index: int
    fixed: dict
    varied: dict
    seed: int
    results_dir: Path

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
        """What is varied, in words: the same for all seeds."""
        return ", ".join(f"{name} {shown(value)}" for name, value in self.varied.items()) or "all"


@dataclass(frozen=True)
class Sweep:
    """Trials in the order of the file, seed after seed, so that all are tried before any is repeated."""

    directory: Path
    trials: tuple
    resources: Resources
    text: bytes


def read_sweep(path, directory):
    """The `Sweep` of a YAML file, to be in `directory`, which need not be there. All values are read as text; the config says
    what is a number. Raises UserError.

    Results are where experiment-launcher puts them: DIRECTORY/NAME___VALUE/.../SEED, of what is varied (its launcher.py,
    `_generate_results_dir`).
    """
    path, directory = Path(path), Path(directory).resolve()
    try:
        text = path.read_bytes()
        said = yaml.load(text, _Loader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name the YAML file of a sweep") from None
    except (yaml.YAMLError, UnicodeDecodeError, _Twice) as error:
        raise UserError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    try:
        _require_keys(said, KEYS, "a sweep")
        resources = _resources(said.get("resources") or {})
        combinations, seeds = list(_combinations(said)), _seeds(said.get("seeds", "3"))
        trials = tuple(_trials(_mapping(said, "fixed"), combinations, seeds, directory))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Sweep(directory, trials, resources, text)


class _Twice(Exception):
    pass


class _Loader(yaml.BaseLoader):
    """Every scalar as text, so that neither `2:00:00` nor `no` nor `1e-4` is taken for something else."""

    def construct_mapping(self, node, deep=False):
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            names = [key.value for key, _ in node.value]
            twice = next(name for name in names if names.count(name) > 1)
            raise _Twice(f"line {node.start_mark.line + 1}: {twice} is there twice")
        return mapping


def _require_keys(said, known, what):
    if not isinstance(said, dict):
        raise UserError(f"{what} is made of {', '.join(known)}; see launchers/sweeps for examples")
    for name in said.keys() - set(known):
        raise UserError(f"{name}: there is no such thing in {what}; there are {', '.join(known)}")


def _mapping(said, name):
    found = said.get(name) or {}
    if not isinstance(found, dict):
        raise UserError(f"{name}: must be `name: value` lines, not {found!r}")
    return found


def _combinations(said):
    """What is varied, {name: value as text}, of each trial."""
    if said.get("grid") and said.get("trials"):
        raise UserError("grid, trials: give one of them; a list of trials can hold what a grid holds, and more")
    if said.get("trials"):
        if not isinstance(said["trials"], list) or not all(isinstance(each, dict) for each in said["trials"]):
            raise UserError("trials: must be a list of {name: value, ...}")
        yield from said["trials"]
        return
    grid = _mapping(said, "grid")
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"grid: {name}: must be a list of values, [...], not {values!r}")
    yield from (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))


def _seeds(said):
    texts = said if isinstance(said, list) else [said]
    if not texts or not all(isinstance(text, str) and re.fullmatch("[0-9]+", text) for text in texts):
        raise UserError(f"seeds: must be how many, or a list of whole numbers, not {said!r}")
    seeds = [int(text) for text in texts]
    if not isinstance(said, list):
        if not seeds[0]:
            raise UserError("seeds: must be at least 1")
        return list(range(seeds[0]))
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds: the same one twice: {shown(seeds)}")
    return seeds


def _trials(fixed, combinations, seeds, directory):
    taken = {}
    for index, (seed, varied) in enumerate(itertools.product(seeds, combinations)):
        for name in fixed.keys() & varied.keys():
            raise UserError(f"{name}: is both fixed and varied; leave one out")
        for name, how in GIVEN_OTHERWISE.items():
            if name in fixed or name in varied:
                raise UserError(f"{name}: cannot be set here: {how}")
        try:
            config = make_config(**_without_null(fixed | varied), seed=seed)
        except UserError as error:
            raise UserError(f"trial {index} ({', '.join(map(shown, varied.values())) or 'all'}): {error}") from None
        whole, settings = resolved_name(config.task.demonstrations), config.settings()
        if config.task.demonstrations != whole:
            raise UserError(
                f"demonstrations: must be a whole path, such as {whole}: the sweep may go on from another directory"
            )
        if config.sampling.scheduler == "slurm":
            raise UserError("scheduler: slurm is for one big run; a trial is a job by itself")
        fixed_values, varied_values = ({name: settings[name] for name in group} for group in (fixed, varied))
        trial = Trial(index, fixed_values, varied_values, seed, _results_dir(directory, varied_values))
        other = taken.setdefault(str(trial.directory), trial)
        if other is not trial:
            raise UserError(
                f"trials: {other.configuration} and {trial.configuration} would both be in {trial.directory}; "
                "leave one out, or use values that differ in more than spaces and slashes"
            )
        yield trial


def _without_null(settings):
    return {name: value for name, value in settings.items() if value not in NULLS}


def _results_dir(directory, varied):
    """Where experiment-launcher puts the seeds of what has these settings."""
    names = (f"{name}___{str(value).replace(' ', '').replace('/', '-')}" for name, value in varied.items())
    return Path(directory, *names)


def _resources(said):
    _require_keys(said, RESOURCES, "resources")
    for name, value in said.items():
        if not isinstance(value, str):
            raise UserError(f"resources: {name}: must be one value, not {value!r}")
    said = {name: value for name, value in said.items() if value not in (*NULLS, "")}
    found = {name: value for name, value in said.items() if name in ("gpu", "partition", "account") and value != "0"}
    if not re.fullmatch(r"([\w.-]+:)*[0-9]*", found.get("gpu", "")):
        raise UserError(f"resources: gpu: must be how many, or TYPE:NUMBER, not {said['gpu']!r}")
    for name in ("partition", "account"):
        if re.search(r"\s", found.get(name, "")):
            raise UserError(f"resources: {name}: must be one word, not {said[name]!r}")
    if "cores" in said:
        if not re.fullmatch("[1-9][0-9]*", said["cores"]):
            raise UserError(f"resources: cores: must be a whole number of at least 1, not {said['cores']!r}")
        found["cores"] = int(said["cores"])
    if "memory" in said:
        match = re.fullmatch(r"([1-9][0-9]*)\s*([MG]?)(i?B)?", said["memory"])
        if not match:
            raise UserError(f"resources: memory: must be as 4G or 4000M, of all cores together, not {said['memory']!r}")
        found["memory"] = int(match[1]) * MEBIBYTES[match[2]]
    if "time" in said:
        found["time"] = _seconds(said["time"])
    return Resources(**found)


def _seconds(text):
    """Of a time as sbatch(1) takes it: MINUTES[:SECONDS], HOURS:MINUTES:SECONDS, DAYS-HOURS[:MINUTES[:SECONDS]]."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match:
        days, *rest = match.groups()
        numbers = [int(each) for each in rest if each is not None]
        if days is None:
            numbers = [0, *numbers] if len(numbers) < 3 else numbers
        hours, minutes, seconds = (numbers + [0, 0])[:3]
        total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
        if total >= 60:
            return total
    raise UserError(f"resources: time: must be HOURS:MINUTES:SECONDS or DAYS-HOURS, and a minute at least, not {text!r}")
