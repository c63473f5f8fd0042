"""loco-mujoco reads the files we write for it: its own `LocoEnv.make("UnitreeA1.hard")` and `.perfect`."""

import numpy as np
import pytest

from qi_ext.demonstrations import formats, load_demonstrations
from qi_ext.demonstrations.loading import embedded_path
from qi_ext.robot import a1
from qi_ext.robot.commands import angle_between, task_commands


@pytest.fixture(scope="module")
def walks():
    """The first nominal segment of each of the 8 directions."""
    demonstrations = formats.read(embedded_path("hard"))
    nominal = [i for i, kind in enumerate(demonstrations.kind) if kind == "nominal"]
    return demonstrations.select({demonstrations.commands[i]: i for i in reversed(nominal)}.values())


@pytest.fixture(scope="module")
def stock_environments(walks, tmp_path_factory):
    """`UnitreeA1.hard` and `UnitreeA1.hard.perfect`, their sets written by us to where loco-mujoco looks for them."""
    import loco_mujoco

    package = tmp_path_factory.mktemp("loco_mujoco")
    sets = package / "datasets" / "quadrupeds"
    (sets / "real").mkdir(parents=True)
    (sets / "perfect" / "unitreea1_hard").mkdir(parents=True)
    formats.write_loco_mujoco_real(sets / "real" / "walk_8_dir.npz", walks)
    formats.write_loco_mujoco_perfect(sets / "perfect" / "unitreea1_hard" / "perfect_expert_dataset_det.npz", walks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loco_mujoco, "__file__", str(package / "__init__.py"))
        yield {
            "real": loco_mujoco.LocoEnv.make("UnitreeA1.hard"),
            "perfect": loco_mujoco.LocoEnv.make("UnitreeA1.hard.perfect"),
        }


@pytest.fixture(scope="module", params=["real", "perfect"])
def dataset(stock_environments, request):
    """What upstream's `create_dataset` returns."""
    return stock_environments[request.param].create_dataset()


def trajectories(dataset):
    return np.split(dataset["states"], np.flatnonzero(dataset["last"])[:-1] + 1)


def angle_deg(x, y):
    return float(np.degrees(np.arctan2(y, x)))


def motion_deg(states):
    """Angle of the mean velocity."""
    return angle_deg(states[:, a1.TRUNK_VX].mean(), states[:, a1.TRUNK_VY].mean())


def test_dataset_has_the_observations_of_the_task(dataset, walks):
    assert dataset["states"].shape[1] == dataset["next_states"].shape[1] == a1.N_OBSERVATIONS
    assert len(trajectories(dataset)) == walks.n_segments


def test_dataset_has_no_fallen_state(dataset):
    assert not a1.has_fallen(dataset["states"]).any()


def test_datasets_goal_points_along_the_motion(dataset):
    for states in trajectories(dataset):
        goals = np.degrees(np.arctan2(states[:, a1.GOAL][:, 1], states[:, a1.GOAL][:, 0]))
        assert angle_between(goals, motion_deg(states)).max() < 3.0


def test_datasets_goal_speed_is_the_commanded_one(dataset):
    np.testing.assert_allclose(dataset["states"][:, a1.GOAL][:, 2], 0.5, atol=1e-12)


def test_dataset_shows_the_walk_that_was_written(dataset, walks):
    # Upstream's resampling of the real format stretches time a little, and its first velocities are 0.
    for states, i in zip(trajectories(dataset), range(walks.n_segments), strict=True):
        expected = walks.states[walks.segment(i)][: len(states)]
        np.testing.assert_allclose(states[1:, a1.POSITION], expected[1:, a1.POSITION], atol=0.15)
        np.testing.assert_allclose(states[1:].mean(axis=0)[a1.VELOCITY], expected[1:].mean(axis=0)[a1.VELOCITY], atol=0.1)


def test_perfect_dataset_brings_the_actions(stock_environments, walks):
    dataset = stock_environments["perfect"].create_dataset()
    np.testing.assert_array_equal(dataset["actions"], walks.dataset()["actions"])


def test_observed_goal_points_along_the_motion_after_a_reset(stock_environments):
    environment = stock_environments["real"]
    states = trajectories(environment.create_dataset())
    global_state = np.random.get_state()  # noqa: NPY002  (upstream draws from it)
    environment.seed(0)
    try:
        for _ in range(20):
            goal = environment.reset()[a1.GOAL]
            assert angle_between(angle_deg(goal[0], goal[1]), motion_deg(states[environment.trajectories.traj_no])) < 3.0
            assert goal[2] == pytest.approx(0.5)
    finally:
        np.random.set_state(global_state)  # noqa: NPY002


@pytest.mark.parametrize("form", ["real", "perfect"])
def test_we_read_back_what_we_write_for_loco_mujoco(walks, form, tmp_path):
    path = tmp_path / "set.npz"
    {"real": formats.write_loco_mujoco_real, "perfect": formats.write_loco_mujoco_perfect}[form](path, walks)
    demonstrations = load_demonstrations(path, task_commands("hard"))
    assert demonstrations.commands == walks.commands
    for i in range(walks.n_segments):
        states = demonstrations.states[demonstrations.segment(i)]
        np.testing.assert_allclose(states, walks.states[walks.segment(i)][: len(states)], atol=1e-9)
