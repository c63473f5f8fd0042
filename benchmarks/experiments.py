"""The experiments behind the published figures: results/experiments.yaml, read and checked, and the commands of each."""

import dataclasses
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml

from qi_ext.tasks.directions import task_commands
from qi_ext.training.config import make_config, makes_the_experiment
from qi_ext.utils.errors import UserError

FILE = "experiments.yaml"
RUNS = Path("runs", "results")
EVALUATION = "evaluation.json"
EPISODES = 96  # in all directions together
# What the commands set themselves.
RESERVED = {"seed", "results_dir", "evaluation_episodes", "resume"}


@dataclass(frozen=True, eq=False)
class Experiment:
    """A row of experiments.yaml.

    name: of its folders. what: words for the tables. options: of run_gail.py, {name: value}. episodes: of the evaluation, per
    direction; 0 for as many as make 96 in all. robustness: whether it is evaluated under disturbances, too. beside: name of a
    row above, whose agent of the same seed is evaluated in the same run; or "". reproduce: whether `make reproduce` reruns it.
    """

    name: str
    what: str
    options: dict
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 0
    robustness: bool = False
    beside: str = ""
    reproduce: bool = False

    @property
    def config(self):
        return make_config(**self.options)

    @property
    def settings(self):
        """What makes its runs what they are, defaults included: {name: value}, without seed, place and machine."""
        settings = self.config.settings()
        return {name: value for name, value in settings.items() if name not in RESERVED and makes_the_experiment(name)}

    def command(self):
        """What run_gail.py is given, without seed and place."""
        words = ["launchers/run_gail.py"]
        for name, value in self.options.items():
            words += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        return words

    def training(self, seed, runs=RUNS):
        """The command that trains one seed under the folder `runs`."""
        place = ["--results_dir", str(Path(runs, self.name)), "--evaluation_episodes", "0"]
        return [*self.command(), "--seed", str(seed), *place]

    def commands(self, seed):
        """Both, as they would be typed, wherever the run was."""
        return [f"python {shlex.join(words)}" for words in (self.training(seed), self.evaluation(seed))]

    def evaluation(self, seed, runs=RUNS):
        """The command that evaluates the agent of that seed."""
        words = ["launchers/evaluate.py", "--agent", str(agent_path(runs, self.name, seed)), "--episodes", str(self.episodes)]
        for name in ("n_workers", "pool", "scheduler"):
            if name in self.options:
                words += [f"--{name}", str(self.options[name])]
        if self.robustness:
            words.append("--robustness")
        if self.beside:
            words += ["--beside", str(agent_path(runs, self.beside, seed))]
        return [*words, "--json", str(Path(runs, self.name, str(seed), EVALUATION))]


def agent_path(runs, name, seed):
    return Path(runs, name, str(seed), "agent.safetensors")


def read_experiments(folder):
    """The rows of experiments.yaml in `folder`, {name: Experiment}. Raises UserError where one cannot be run as it stands."""
    path = Path(folder, FILE)
    try:
        rows = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: must be a list of experiments")
    experiments = {}
    for number, row in enumerate(rows, start=1):
        named = isinstance(row, dict) and isinstance(row.get("name"), str)
        try:
            experiment = _experiment(row, experiments)
        except UserError as error:
            raise UserError(f"{path}: {row['name'] if named else f'row {number}'}: {error}") from None
        experiments[experiment.name] = experiment
    return experiments


def _experiment(row, above):
    fields = Experiment.__dataclass_fields__
    if not isinstance(row, dict):
        raise UserError(f"must have {', '.join(fields)}")
    for name in row.keys() - fields.keys():
        raise UserError(f"{name}: no such key; there are {', '.join(fields)}")
    for name, kind in (("name", str), ("what", str), ("options", dict)):
        if not isinstance(row.get(name), kind):
            raise UserError(f"{name}: must be there, {'text' if kind is str else 'names and values'}")
    if not re.fullmatch("[a-z0-9_-]+", row["name"]):
        raise UserError("name: must be of lower-case letters, digits, - and _, because folders are named so")
    if row["name"] in above:
        raise UserError("name: is taken by a row above")
    for name in row["options"]:
        if not isinstance(name, str):
            raise UserError(f"options: must have names, not {name!r}")
    reserved = sorted(RESERVED & row["options"].keys())
    if reserved:
        raise UserError(f"options: {reserved[0]} is not for a row to choose; leave it out")
    config = make_config(**row["options"])
    seeds = row.get("seeds", list(fields["seeds"].default))
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise UserError("seeds: must be a list of whole numbers of at least 0")
    per_direction = max(1, EPISODES // len(task_commands(config.task.task, config.n_directions)))
    episodes = row.get("episodes", per_direction)
    if type(episodes) is not int or episodes < 1:
        raise UserError(f"episodes: must be a whole number of at least 1, not {episodes!r}")
    for name in ("robustness", "reproduce"):
        if not isinstance(row.get(name, False), bool):
            raise UserError(f"{name}: must be true or false, not {row[name]!r}")
    other = row.get("beside", "")
    if not isinstance(other, str):
        raise UserError(f"beside: must be the name of a row above, not {other!r}")
    if other and (other not in above or not set(seeds) <= set(above[other].seeds)):
        raise UserError(f"beside: {other!r} must be a row above, with the same seeds")
    return dataclasses.replace(Experiment(**row), seeds=tuple(seeds), episodes=episodes)
