import dataclasses

import numpy as np
import pytest

from qi_ext.training.config import CONFIGS, config_class, given_settings, make_config, warm_defaults
from qi_ext.training.defaults import SimpleVail
from qi_ext.utils.errors import UserError

FIELDS = dataclasses.fields(SimpleVail)  # the fields of all native ones
NUMBERS = [item for item in FIELDS if item.type in (int, float)]
LISTS = [item for item in FIELDS if item.type is list]
LIMITED = [item for item in NUMBERS if item.metadata["low"] > -np.inf]

each = pytest.mark.parametrize(("task", "algorithm", "backend"), sorted(CONFIGS))


def refusal(**settings):
    """The message that the settings are refused with, which must be one line."""
    with pytest.raises(UserError) as caught:
        make_config(**settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


@each
def test_defaults_are_valid_and_belong_to_the_choice(task, algorithm, backend):
    config = make_config(task, algorithm, backend)
    assert type(config) is config_class(task, algorithm, backend)
    assert (config.task, config.algorithm, config.backend) == (task, algorithm, backend)
    assert config.results_dir == f"runs/{task}-{algorithm}" + ("-imitation_lib" if backend == "imitation_lib" else "")


@each
def test_every_field_has_a_plain_type_and_a_help_text(task, algorithm, backend):
    for item in dataclasses.fields(config_class(task, algorithm, backend)):
        assert item.type in (str, int, float, list), item.name
        assert item.metadata["help"], item.name


@each
def test_every_default_is_of_its_fields_type(task, algorithm, backend):
    config = make_config(task, algorithm, backend)
    for item in dataclasses.fields(config):
        assert type(getattr(config, item.name)) is item.type, item.name


@each
def test_a_config_can_be_made_again_of_its_settings(task, algorithm, backend):
    config = make_config(task, algorithm, backend, n_steps=7)
    assert make_config(**given_settings(config)) == config


NATIVE = [(task, algorithm) for task, algorithm, backend in sorted(CONFIGS) if backend == "native"]


@pytest.mark.parametrize(("task", "algorithm"), NATIVE)
@pytest.mark.parametrize("epochs", [60, "60"])
def test_a_warm_start_has_defaults_of_its_own(task, algorithm, epochs):
    cold, warm = make_config(task, algorithm), make_config(task, algorithm, warm_start=epochs)
    own = warm_defaults(type(cold))
    assert own["push"] > cold.push
    assert warm.disturb_after == 0
    assert given_settings(warm) == given_settings(cold) | own | {"warm_start": 60}
    assert make_config(**given_settings(warm)) == warm


def test_what_is_given_replaces_the_defaults_of_a_warm_start():
    assert make_config(warm_start=60, push=0.0, n_steps=None) == make_config(
        **given_settings(make_config(warm_start=60)) | {"push": 0}
    )


@pytest.mark.parametrize("settings", [{"warm_start": 0}, {"warm_start": "0"}, {"warm_start": None}], ids=str)
def test_no_warm_start_leaves_the_defaults(settings):
    assert make_config("hard", **settings) == make_config("hard")


@each
def test_the_defaults_of_a_warm_start_are_values_of_their_fields(task, algorithm, backend):
    chosen = config_class(task, algorithm, backend)
    own = warm_defaults(chosen)
    assert given_settings(chosen(**own)).items() >= own.items()
    if backend != "native":
        assert not own


@pytest.mark.parametrize("name", ["cg_fraction", "gradient_penalty", "warm_start", "min_std"])
def test_what_published_agents_do_not_know_is_refused_by_name(name):
    message = refusal(backend="imitation_lib", **{name: 1})
    assert message.startswith(f"--{name}: no such option for --algorithm gail --backend imitation_lib")


def test_what_only_published_agents_know_is_refused_for_ours():
    assert refusal(discriminator_every=3).startswith("--discriminator_every: no such option for --algorithm gail;")


def test_the_published_settings_of_each_task():
    simple, hard = (make_config(task, "vail", "imitation_lib") for task in ("simple", "hard"))
    assert (simple.information_constraint, simple.discriminator_every) == (1.0, 6)
    assert (hard.information_constraint, hard.discriminator_every) == (0.1, 3)
    assert {config.initial_std for config in (simple, hard)} == {1.0}


def test_no_two_configs_share_a_list():
    first, second = make_config(), make_config()
    first.policy_hidden.append(1)
    assert second.policy_hidden == make_config().policy_hidden


def test_none_leaves_the_default():
    assert make_config("hard", "vail", n_steps=None, policy_hidden=None, code_size=None) == make_config("hard", "vail")


def test_settings_replace_defaults():
    config = make_config("hard", n_steps=7, gamma=0.5, policy_hidden=[3, 4], demonstrations="file.npz")
    assert (config.n_steps, config.gamma, config.policy_hidden, config.demonstrations) == (7, 0.5, [3, 4], "file.npz")


def test_numbers_are_taken_in_any_form_that_is_exact():
    config = make_config(n_steps="7", seed=np.int64(3), batch_size=32.0, gamma="1e-1", max_kl=1, policy_hidden=(8, "4"))
    assert (config.n_steps, config.seed, config.batch_size, config.gamma, config.max_kl) == (7, 3, 32, 0.1, 1.0)
    assert config.policy_hidden == [8, 4]
    assert all(type(getattr(config, item.name)) is item.type for item in NUMBERS if hasattr(config, item.name))


def test_a_single_size_is_a_list_of_one():
    assert make_config(policy_hidden=64).policy_hidden == [64]


@pytest.mark.parametrize("name", [item.name for item in LIMITED])
def test_a_value_below_its_range_is_refused_by_name_and_range(name):
    item = SimpleVail.__dataclass_fields__[name]
    message = refusal(algorithm="vail", **{name: item.type(item.metadata["low"] - 1)})
    assert message.startswith(f"--{name}: must be at least {item.metadata['low']:g}")


@pytest.mark.parametrize("name", [item.name for item in LIMITED if item.metadata["high"] < np.inf])
def test_a_value_above_its_range_is_refused_by_name(name):
    item = SimpleVail.__dataclass_fields__[name]
    assert refusal(algorithm="vail", **{name: item.type(item.metadata["high"] + 1)}).startswith(f"--{name}: must be ")


@pytest.mark.parametrize("name", [item.name for item in NUMBERS])
@pytest.mark.parametrize("value", ["abc", True, float("nan"), [1], 1j, ""], ids=str)
def test_what_is_no_number_is_refused_by_name(name, value):
    assert refusal(algorithm="vail", **{name: value}).startswith(f"--{name}: must be ")


@pytest.mark.parametrize("name", [item.name for item in NUMBERS if item.type is int])
@pytest.mark.parametrize("value", [20.5, "20.5", float("inf")])
def test_what_is_no_whole_number_is_refused_by_name(name, value):
    assert "whole number" in refusal(algorithm="vail", **{name: value})


@pytest.mark.parametrize("name", ["n_steps", "gamma"])
def test_a_number_beyond_all_measure_is_refused_by_name(name):
    assert refusal(**{name: 10**400}).startswith(f"--{name}: must be ")


@pytest.mark.parametrize("name", [item.name for item in LISTS])
@pytest.mark.parametrize("value", [[], [0], [16, -1], [16, 4097], [1.5], ["x"], [[16]], "512 256"], ids=str)
def test_a_list_that_is_not_of_sizes_is_refused_by_name(name, value):
    assert refusal(**{name: value}).startswith(f"--{name}: ")


@pytest.mark.parametrize("name", [item.name for item in FIELDS if item.type is str and item.name != "n_workers"])
def test_what_is_no_text_is_refused_by_name(name):
    assert refusal(**{name: 3}).startswith(f"--{name}: ")


@pytest.mark.parametrize(
    ("value", "kept"), [("auto", "auto"), (3, "3"), ("3", "3"), (np.int64(3), "3"), ("3.0", "3"), (3.0, "3")]
)
def test_the_number_of_workers_is_auto_or_a_whole_number(value, kept):
    assert make_config(n_workers=value).n_workers == kept


@pytest.mark.parametrize("value", ["abc", "", 0, "0", -1, "-1", 2.5, "2.5", True, "nan", [2]], ids=repr)
def test_any_other_number_of_workers_is_refused_by_name(value):
    message = refusal(n_workers=value)
    assert message.startswith("--n_workers: must be auto or a whole number of at least 1")
    assert repr(value) in message


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("task", "simple, hard"),
        ("algorithm", "gail, vail"),
        ("compat", "task, upstream"),
        ("discriminator_input", "next_state, state, action"),
        ("pool", "loky, serial, dask"),
        ("warm_start_actions", "auto, recorded, inferred"),
    ],
)
def test_an_unknown_choice_is_refused_with_those_there_are(name, known):
    message = refusal(**{name: "other"})
    assert message.startswith(f"--{name}: unknown ")
    assert "'other'" in message
    assert known in message


def test_an_option_that_does_not_exist_is_refused_by_name():
    assert refusal(stepz=1).startswith("--stepz: no such option")


def test_an_option_of_another_algorithm_is_refused_by_name():
    message = refusal(algorithm="gail", code_size=8)
    assert message.startswith("--code_size: no such option")
    assert "gail" in message
