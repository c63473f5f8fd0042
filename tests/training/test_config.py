import subprocess
import sys

import numpy as np
import pytest

from qi_ext.learning.imitation_lib import settings as imitation_lib_settings
from qi_ext.tasks.directions import TASKS
from qi_ext.training.algorithms import ALGORITHMS, Algorithm
from qi_ext.training.config import all_options, chosen_in, config_groups, make_config, makes_the_experiment, may_change
from qi_ext.training.metadata import agent_metadata
from qi_ext.training.presets import PRESETS
from qi_ext.utils.errors import UserError
from qi_ext.utils.settings import Settings, option

CHOICES = [
    (task, algorithm, backend, "mujoco")
    for task in TASKS
    for algorithm in ("gail", "vail")
    for backend in ("native", "imitation_lib")
]
CHOICES += [("hard", "gail", "native", "warp"), ("follow", "vail", "native", "warp")]


def refusal(*choice, **settings):
    """The message that the settings are refused with, which must be one line."""
    with pytest.raises(UserError) as caught:
        make_config(*choice, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("choice", CHOICES, ids=" ".join)
def test_a_config_can_be_made_again_of_its_settings(choice):
    config = make_config(*choice, n_steps=7)
    task, algorithm, backend, physics = choice
    assert tuple(chosen_in(config).values()) == choice
    unusual = [f"-{name}" for name in (backend, physics) if name not in ("native", "mujoco")]
    assert config.run.results_dir == f"runs/{task}-{algorithm}{''.join(unusual)}"
    assert make_config(**config.settings()) == config


def test_there_are_all_options_without_docstrings(monkeypatch):
    known = list(all_options())
    for group in config_groups("simple", "vail", "native").values():
        monkeypatch.setattr(group, "__doc__", None)  # as by python -OO
    assert list(all_options()) == known


def test_presets_name_settings_that_there_are():
    words = {"native", "imitation_lib", "simple", "hard", "follow", "warm", "scratch", *ALGORITHMS}
    for named, values in PRESETS:
        assert words.issuperset(named)
        assert all_options().keys() >= values.keys()


def test_the_published_settings_are_those_of_loco_mujocos_examples():
    simple, hard = (make_config(task, "vail", "imitation_lib") for task in ("simple", "hard"))
    assert (simple.vail.information_constraint, simple.imitation_lib.discriminator_every) == (1.0, 6)
    assert (hard.vail.information_constraint, hard.imitation_lib.discriminator_every) == (0.1, 3)
    assert {(config.policy.initial_std, config.policy.final_std, config.trpo.symmetry) for config in (simple, hard)} == {
        (1.0, 1e-4, "none")
    }


def test_with_warp_as_many_updates_are_made_from_larger_batches():
    for task, warm in (("simple", 0), ("hard", 0), ("hard", 60), ("follow", 60)):
        on_cpu, on_gpu = (make_config(task, physics=physics, warm_start=warm) for physics in ("mujoco", "warp"))
        wider = on_gpu.trpo.batch_size / on_cpu.trpo.batch_size
        assert on_gpu.trpo.batch_size % on_gpu.sampling.n_envs == 0 and wider > 10
        assert on_gpu.run.n_steps == wider * on_cpu.run.n_steps
        assert on_gpu.policy.std_half_life == wider * on_cpu.policy.std_half_life
        assert on_gpu.disturbances.disturb_after == wider * on_cpu.disturbances.disturb_after
    assert refusal(contacts=9) == "--contacts: no such option for --algorithm gail --physics mujoco; see --help " + (
        "--algorithm gail --physics mujoco"
    )
    assert refusal("simple", "vail", "imitation_lib", "warp") == "--physics: warp goes with --backend native, not imitation_lib"
    assert refusal(physics="cuda").startswith("--physics: must be ")


@pytest.mark.parametrize("epochs", [60, "60"])
def test_a_warm_start_has_defaults_of_its_own_that_what_is_given_replaces(epochs):
    cold, warm = make_config("hard", "vail"), make_config("hard", "vail", warm_start=epochs, max_kl=0.5)
    assert (cold.run.results_dir, warm.run.results_dir) == ("runs/hard-vail", "runs/hard-vail-warm")
    assert (cold.run.n_steps, cold.disturbances.disturb_after, cold.vail.information_constraint) == (3_000_000, 1_900_000, 8.0)
    assert (warm.run.n_steps, warm.disturbances.disturb_after, warm.vail.information_constraint) == (1_150_000, 0, 2.0)
    assert warm.disturbances.push > cold.disturbances.push > 0.0
    assert warm.trpo.max_kl == 0.5
    assert make_config(**warm.settings()) == warm


def test_none_leaves_the_default():
    assert make_config("hard", n_steps=None, policy_hidden=None, code_size=None, warm_start=None) == make_config("hard")


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"n_steps": "1e5"}, 100_000),
        ({"n_steps": np.int64(3)}, 3),
        ({"n_steps": 5.0}, 5),
        ({"gamma": "0.5"}, 0.5),
        ({"gamma": 1}, 1.0),
        ({"policy_hidden": "16"}, [16]),
        ({"policy_hidden": ("16", 32)}, [16, 32]),
        ({"n_workers": "auto"}, "auto"),
        ({"n_workers": "3"}, 3),
        ({"demonstrations": "3"}, "3"),
        ({"task": "hard", "speeds": ["0.3", 0.7]}, [0.3, 0.7]),
        ({"task": "hard", "speeds": "0.3 0.7"}, [0.3, 0.7]),
    ],
    ids=str,
)
def test_values_may_be_text_and_come_in_their_type(settings, found):
    *_, name = settings
    value = make_config(**settings).settings()[name]
    assert (type(value), value) == (type(found), found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_envs": 0}, "--n_envs: must be at least 1, not 0"),
        ({"gamma": "1.5"}, "--gamma: must be at most 1, not 1.5"),
        ({"gamma": "nan"}, "--gamma: must be a finite number, not nan"),
        ({"gamma": "much"}, "--gamma: must be a number, not 'much'"),
        ({"n_steps": 2.5}, "--n_steps: must be a whole number, not 2.5"),
        ({"n_steps": True}, "--n_steps: must be a number, not True"),
        ({"n_steps": [3]}, "--n_steps: must be a whole number, not [3]"),
        ({"n_workers": "few"}, "--n_workers: must be auto or a whole number, not 'few'"),
        ({"n_workers": 0}, "--n_workers: must be auto or at least 1, not 0"),
        ({"policy_hidden": []}, "--policy_hidden: must be at least one value, not []"),
        ({"policy_hidden": [16, "x"]}, "--policy_hidden: must be a whole number, not 'x'"),
        ({"policy_hidden": [0, 0]}, "--policy_hidden: must be at least 1, not 0"),
        ({"demonstrations": 3}, "--demonstrations: must be text, not 3"),
        ({"pool": "threads"}, "--pool: must be loky, serial or dask, not 'threads'"),
        ({"task": "harder"}, "--task: must be simple, hard or follow, not 'harder'; did you mean hard?"),
        ({"algorithm": "bc"}, "--algorithm: must be gail or vail, not 'bc'"),
        ({"backend": "ours"}, "--backend: must be native or imitation_lib, not 'ours'"),
        ({"final_std": 0.5}, "--final_std: must be at most --initial_std, 0.3, not 0.5"),
        ({"warm_start_std": 0.005}, "--warm_start_std: must be at least --min_std, 0.01, not 0.005"),
        ({"speeds": [0.3]}, "--speeds: only hard draws one of several, not simple; leave it out"),
        ({"task": "hard", "speeds": [0.3], "speed": 0.7}, "--speed: not beside speeds, which says them all; leave it out"),
        ({"task": "hard", "speeds": [4]}, "--speeds: must be at most 3, not 4"),
        ({"task": "hard", "stops": 0.4}, "--stops: only follow draws any, not hard; leave it out"),
        ({"code_size": 8}, "--code_size: no such option for --algorithm gail; see --help --algorithm gail"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_of_what_it_must_be_and_what_it_was(settings, message):
    assert refusal(**settings) == message


def test_several_speeds_are_in_the_metadata_of_an_agent_and_one_leaves_them_as_they_were():
    several, one = make_config("hard", speeds=[0.3, 0.7]), make_config("hard", speed=0.3)
    assert agent_metadata(several, 0, "", "")["speeds"] == "0.3 0.7"
    assert "speeds" not in agent_metadata(one, 0, "", "")


def test_an_option_that_does_not_exist_is_refused_by_name():
    assert refusal(xyz=1) == "--xyz: no such option; see --help"
    assert refusal(n_stepz=1) == "--n_stepz: no such option; did you mean --n_steps?; see --help"


@pytest.mark.parametrize("name", sorted(imitation_lib_settings.DOES_NOT_KNOW))
def test_what_published_agents_do_not_know_is_refused_by_name(name):
    assert refusal("simple", "vail", "imitation_lib", **{name: 1}).startswith(
        f"--{name}: no such option for --algorithm vail --backend imitation_lib;"
    )


def test_published_agents_do_not_see_how_the_command_is_missed():
    assert "next_state, state or action" in refusal(backend="imitation_lib", discriminator_input="tracking")


def test_what_may_change_is_machine_and_length_and_some_of_it_makes_another_experiment():
    names = set(all_options())
    assert {name for name in names if may_change(name)} >= {"n_workers", "pool", "device", "n_steps", "demonstrations"}
    assert {name for name in names if may_change(name) and makes_the_experiment(name)} == {
        "n_steps",
        "minutes",
        "demonstrations",
    }
    assert makes_the_experiment("gamma") and not may_change("gamma")


class Amp(Settings):
    """AMP of somebody else."""

    margin: float = option(1.0, "distance of the labels", 0.0)


def test_an_algorithm_from_outside_is_a_line_in_the_registry(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "amp", Algorithm("my.discriminators:Amp", Amp))
    config = make_config("hard", "amp", margin="2")
    assert (config.amp.margin, config.run.results_dir) == (2.0, "runs/hard-amp")
    assert make_config(**config.settings()) == config
    assert "--margin: no such option for --algorithm gail" in refusal(margin=2)
    assert "must be gail or vail with --backend imitation_lib" in refusal("hard", "amp", "imitation_lib")


def test_the_config_needs_neither_torch_nor_the_simulator():
    code = "import sys, qi_ext.training.arguments; print({'torch', 'mujoco', 'loco_mujoco'} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("n_steps", "1e25", "must be at most 1000000000000, not 10000000000000000905969664"),
        ("batch_size", "1e30", "must be at most 16777216, not 1000000000000000019884624838656"),
        ("seed", "9" * 5000, "must be a finite number, not inf"),
        ("seed", 10**5000, "must be at most 4294967295, not a number of thousands of digits"),
        ("minutes", "1e300", "must be at most 1e+06, not 1e+300"),
        ("policy_hidden", [8] * 17, "must be at most 16 values, not [8, 8"),
        ("results_dir", "a\0b", "must be text without null characters, not 'a\\x00b'"),
        ("demonstrations", "x" * 5000, "must be at most 4096 characters long, not 'xxx"),
        ("demonstrations", "", "must be some text, not ''"),
    ],
    ids=range(9),
)
def test_what_is_too_large_is_refused_in_a_short_line(name, value, message):
    with pytest.raises(UserError) as caught:
        make_config(**{name: value})
    assert str(caught.value).startswith(f"--{name}: {message}") and len(str(caught.value)) < 200
