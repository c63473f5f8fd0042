"""The config of a run: which dataclass of settings belongs to a task, an algorithm and a backend, and its making."""

import dataclasses
import types

from qi_ext.robot.commands import TASKS
from qi_ext.training.defaults import ALGORITHMS, BACKENDS, HardGail, HardVail, SimpleGail, SimpleVail
from qi_ext.training.published_defaults import PublishedHardGail, PublishedHardVail, PublishedSimpleGail, PublishedSimpleVail
from qi_ext.training.values import checked
from qi_ext.utils.errors import UserError

CONFIGS = types.MappingProxyType(
    {
        ("simple", "gail", "native"): SimpleGail,
        ("hard", "gail", "native"): HardGail,
        ("simple", "vail", "native"): SimpleVail,
        ("hard", "vail", "native"): HardVail,
        ("simple", "gail", "imitation_lib"): PublishedSimpleGail,
        ("hard", "gail", "imitation_lib"): PublishedHardGail,
        ("simple", "vail", "imitation_lib"): PublishedSimpleVail,
        ("hard", "vail", "imitation_lib"): PublishedHardVail,
    }
)

# Every field that any of them has, {name: dataclasses.Field}.
SETTINGS = types.MappingProxyType(PublishedSimpleVail.__dataclass_fields__)


# Settings that may change while a run goes on, and yet make another one of what is run from the beginning.
OTHERWISE = ("n_steps", "minutes", "demonstrations")


def config_class(task, algorithm, backend="native"):
    """The config dataclass of a task, an algorithm and a backend. Raises UserError where there is none."""
    choices = {"task": (task, TASKS), "algorithm": (algorithm, ALGORITHMS), "backend": (backend, BACKENDS)}
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise UserError(f"--{name}: unknown {name} {value!r}; choose one of {', '.join(allowed)}")
    return CONFIGS[task, algorithm, backend]


def settable(chosen):
    """The fields of a config dataclass that can be given, in order."""
    return [item for item in dataclasses.fields(chosen) if item.name not in chosen.absent]


def given_settings(config):
    """What `make_config` makes this config of, {name: value}."""
    return {item.name: getattr(config, item.name) for item in settable(config)}


def warm_defaults(chosen):
    """What defaults of a config dataclass are others after a warm start, {name: value}."""
    if "warm_start" in chosen.absent:
        return {}
    return {item.name: item.metadata["warm"] for item in settable(chosen) if item.metadata["warm"] is not None}


def make_config(task="simple", algorithm="gail", backend="native", **settings):
    """The config of these, with `settings` in place of its defaults; those that are None leave the default.

    With a warm start among them, the defaults are those that go with one.
    """
    chosen = config_class(task, algorithm, backend)
    settings = {name: value for name, value in settings.items() if value is not None}
    for name in sorted(settings.keys() - {item.name for item in settable(chosen)}):
        if name in SETTINGS:
            choice = f"--algorithm {algorithm}" + (f" --backend {backend}" if backend != "native" else "")
            raise UserError(f"--{name}: no such option for {choice}; see --help {choice}")
        raise UserError(f"--{name}: no such option; see --help")
    if checked(SETTINGS["warm_start"], settings.get("warm_start", 0)) > 0:
        settings = warm_defaults(chosen) | settings
    return chosen(task=task, algorithm=algorithm, backend=backend, **settings)


def may_change(name):
    """Whether a resumed run may have another value of this setting."""
    return name in SETTINGS and SETTINGS[name].metadata["may_change"]
