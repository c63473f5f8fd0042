"""The config of a run: its settings in groups, made from flat names and values, and back."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ConfigDict
from pydantic.fields import FieldInfo

from qi_ext.learning.imitation_lib.settings import DOES_NOT_KNOW, ImitationLib
from qi_ext.training.algorithms import ALGORITHMS, IMITATION_LIB_HAS
from qi_ext.training.presets import preset
from qi_ext.training.settings import (
    BACKEND_GROUPS,
    GROUPS,
    PHYSICS_GROUPS,
    Critic,
    Discriminator,
    Disturbances,
    Policy,
    Run,
    Sampling,
    Task,
    Trpo,
    Vail,
    WarmStart,
    Warp,
)
from qi_ext.utils.errors import UserError
from qi_ext.utils.settings import Settings, brief
from qi_ext.utils.words import did_you_mean, listed

__all__ = ["Config", "make_config"]

# The defaults of all other settings depend on these, and on the warm start.
CHOICES = {"task": "simple", "algorithm": "gail", "backend": "native", "physics": "mujoco"}

# A resumed run may have other values of these, because what is learned does not depend on them (but for the last bits, on the
# device). That demonstrations are the same, wherever they are, is checked by their hash.
MAY_CHANGE = frozenset(
    {
        *("demonstrations", "n_steps", "minutes", "results_dir", "evaluation_episodes", "checkpoint_every"),
        *("keep_checkpoints", "wandb", "device", "n_workers", "pool", "scheduler", "contacts", "constraint_rows"),
    }
)
# Those among them that make another experiment of a run which has them from the beginning.
_ANOTHER_EXPERIMENT = frozenset({"demonstrations", "n_steps", "minutes"})

# Settings that older versions did not have, with the values that they behaved as, whatever the defaults are now.
_BEFORE_IT_WAS_A_SETTING = {
    "disturb_after": 0,
    "demonstrations": "trot",
    "speeds": [],
    "warm_start_threads": 1,
    "fit": False,
    "max_pitch": 0.192,
    "physics": "mujoco",
    "reward_offset": 0.0,
    "stops": 1 / 8,
}


class Config(Settings):
    """All settings of a run, in groups: `config.trpo.max_kl`.

    Those of an algorithm are under its name; a group that the run does not have is None. Settings that its backend does not
    know have the values that describe what the backend does.
    """

    model_config = ConfigDict(extra="allow")  # the group of an algorithm that is not ours

    task: Task
    run: Run
    sampling: Sampling
    disturbances: Disturbances
    trpo: Trpo
    policy: Policy
    critic: Critic
    discriminator: Discriminator
    warm_start: WarmStart
    vail: Vail | None = None
    warp: Warp | None = None
    imitation_lib: ImitationLib | None = None

    def settings(self) -> dict[str, Any]:
        """Return the settings that `make_config` makes this config of, {name: value}."""
        unknown = DOES_NOT_KNOW if self.run.backend == "imitation_lib" else ()
        groups = (group for _, group in self if group is not None)
        return {name: value for group in groups for name, value in group if name not in unknown}

    def replace(self, **settings: Any) -> "Config":
        """Return a config with these settings in place of its own."""
        return make_config(**(self.settings() | settings))


def chosen_in(config: Config) -> dict[str, str]:
    """The values of `CHOICES` in a config."""
    settings = config.settings()
    return {name: settings[name] for name in CHOICES}


def config_groups(task: str, algorithm: str, backend: str, physics: str = "mujoco") -> dict[str, type[Settings]]:
    """The groups of settings that a run has, {name: class}.

    Raises UserError where the backend has no such algorithm, or cannot learn from such physics.
    """
    # These complain of a task, backend or physics that there is not.
    Task(task=task), Run(backend=backend, physics=physics)  # type: ignore[arg-type]
    if physics != "mujoco" and backend != "native":
        raise UserError(f"--physics: {physics} goes with --backend native, not {backend}")
    known = IMITATION_LIB_HAS if backend == "imitation_lib" else tuple(ALGORITHMS)
    if algorithm not in known:
        where = f" with --backend {backend}" if backend != "native" else ""
        raise UserError(f"--algorithm: must be {listed(known)}{where}, not {brief(algorithm)}{did_you_mean(algorithm, known)}")
    own = ALGORITHMS[algorithm].settings
    return GROUPS | PHYSICS_GROUPS[physics] | ({algorithm: own} if own else {}) | BACKEND_GROUPS[backend]


def options(
    task: str = "simple", algorithm: str = "gail", backend: str = "native", physics: str = "mujoco"
) -> dict[str, dict[str, FieldInfo]]:
    """The settings that can be given, {heading: {name: pydantic field}}."""
    unknown = DOES_NOT_KNOW if backend == "imitation_lib" else ()
    found = {
        (model.__doc__ or model.__name__).rstrip("."): {  # python -OO leaves docstrings out
            name: field for name, field in model.model_fields.items() if name not in unknown
        }
        for model in config_groups(task, algorithm, backend, physics).values()
    }
    return {heading: fields for heading, fields in found.items() if fields}


def _option_names(task: str, algorithm: str, backend: str, physics: str) -> set[str]:
    return {name for fields in options(task, algorithm, backend, physics).values() for name in fields}


def all_options() -> dict[str, FieldInfo]:
    """The settings that can be given to some run, {name: pydantic field}."""
    choices = [("simple", algorithm, "native", "warp") for algorithm in ALGORITHMS]
    choices += [("simple", "vail", "imitation_lib", "mujoco")]
    return {name: field for choice in choices for fields in options(*choice).values() for name, field in fields.items()}


def require_options(
    names: Iterable[str], task: str = "simple", algorithm: str = "gail", backend: str = "native", physics: str = "mujoco"
) -> None:
    """Raise UserError for a name that is no setting, or none of a run with this algorithm, backend and physics."""
    known = _option_names(task, algorithm, backend, physics)
    for name in sorted(set(names) - known):
        if name in all_options():
            choice = f"--algorithm {algorithm}" + (f" --backend {backend}" if backend != "native" else "")
            choice += f" --physics {physics}" if name in Warp.model_fields else ""
            raise UserError(f"--{name}: no such option for {choice}; see --help {choice}")
        raise UserError(f"--{name}: no such option{did_you_mean(f'--{name}', (f'--{each}' for each in known))}; see --help")


def make_config(
    task: str = "simple", algorithm: str = "gail", backend: str = "native", physics: str = "mujoco", **settings: Any
) -> Config:
    """The `Config` of these settings.

    Those that are not given, or None, have the defaults that go with the task, algorithm, backend, physics and warm start.
    Numbers may be text. Raises UserError, in one line, for a setting that there is not, or a value that it cannot have.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    chosen = {"task": task, "algorithm": algorithm, "backend": backend, "physics": physics}
    require_options(given, **chosen)
    warm = WarmStart(warm_start=given.get("warm_start", 0)).warm_start > 0
    values = preset(**chosen, warm=warm) | given | chosen
    if not values.get("results_dir"):
        parts = [task, algorithm] + [backend] * (backend != "native") + [physics] * (physics != "mujoco") + ["warm"] * warm
        values["results_dir"] = f"runs/{'-'.join(parts)}"
    groups: dict[str, Any] = {
        group: model(**{name: values[name] for name in model.model_fields if name in values})
        for group, model in config_groups(**chosen).items()
    }
    config = Config(**groups)
    _check_standard_deviations(config)
    return config


def _check_standard_deviations(config: Config) -> None:
    policy = config.policy
    if policy.final_std > policy.initial_std:
        raise UserError(f"--final_std: must be at most --initial_std, {policy.initial_std:g}, not {policy.final_std:g}")
    stds = {
        "initial_std": policy.initial_std,
        "final_std": policy.final_std,
        "warm_start_std": config.warm_start.warm_start_std,
    }
    for name, value in stds.items():
        if value < policy.min_std:
            raise UserError(f"--{name}: must be at least --min_std, {policy.min_std:g}, not {value:g}")


def require_sound(settings: Mapping[str, Any], where: Any) -> None:
    """Raise UserError, beginning with `where`, for a value of stored settings, {name: value}, that none can have.

    Those that this program does not know, or that are missing, are of another version, and left to whoever uses them.
    """
    try:
        for model in config_groups(**_stored_choices(settings)).values():
            model(**{name: settings[name] for name in model.model_fields if name in settings})
    except (UserError, TypeError) as error:  # the latter: something that cannot be the name of an algorithm
        raise UserError(f"{where}: {error}") from None


def _stored_choices(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {name: stored.get(name, default) for name, default in CHOICES.items()}


def with_later_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored settings of a run, {name: value}, and those that came since, with the values that it behaved as.

    Raises UserError where it has a task, algorithm, backend or physics that there is not.
    """
    own = _option_names(**_stored_choices(stored))
    return {name: value for name, value in _BEFORE_IT_WAS_A_SETTING.items() if name in own} | dict(stored)


def may_change(name: str) -> bool:
    """Return whether a resumed run may have another value of this setting."""
    return name in MAY_CHANGE


def makes_the_experiment(name: str) -> bool:
    """Return whether runs that differ in this setting from their beginning are different experiments."""
    return name not in MAY_CHANGE or name in _ANOTHER_EXPERIMENT
