"""loco-mujoco reads the files we write for it: its own `LocoEnv.make("UnitreeA1.hard")` and `.perfect`."""

import numpy as np
import pytest

from qi_ext.demonstrations import formats, loco_mujoco_formats
from qi_ext.demonstrations.loading import embedded_path
from qi_ext.robot import a1
from qi_ext.robot.commands import angle_between

WRITERS = {"real": loco_mujoco_formats.write_real, "perfect": loco_mujoco_formats.write_perfect}
FILES = {"real": "real/walk_8_dir.npz", "perfect": "perfect/unitreea1_hard/perfect_expert_dataset_det.npz"}
ENVIRONMENTS = {"real": "UnitreeA1.hard", "perfect": "UnitreeA1.hard.perfect"}


@pytest.fixture(scope="module")
def walks():
    """The first nominal segment of each of the 8 directions."""
    embedded = formats.read(embedded_path("hard"))
    nominal = [i for i, kind in enumerate(embedded.kind) if kind == "nominal"]
    return embedded.select({embedded.commands[i]: i for i in reversed(nominal)}.values())


@pytest.fixture(scope="module", params=WRITERS)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def stock_environment(walks, form, tmp_path_factory):
    """loco-mujoco's environment, its set written by us to where it looks for it."""
    import loco_mujoco

    package = tmp_path_factory.mktemp("loco_mujoco")
    path = package / "datasets" / "quadrupeds" / FILES[form]
    path.parent.mkdir(parents=True)
    WRITERS[form](path, walks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loco_mujoco, "__file__", str(package / "__init__.py"))
        yield loco_mujoco.LocoEnv.make(ENVIRONMENTS[form])


@pytest.fixture(scope="module")
def dataset(stock_environment):
    """The result of upstream's `create_dataset`."""
    return stock_environment.create_dataset()


def trajectories(dataset):
    return np.split(dataset["states"], np.flatnonzero(dataset["last"])[:-1] + 1)


def angle_deg(x, y):
    return np.degrees(np.arctan2(y, x))


def motion_deg(states):
    """Angle of the mean velocity."""
    return angle_deg(states[:, a1.TRUNK_VX].mean(), states[:, a1.TRUNK_VY].mean())


def test_loco_mujoco_reads_the_walk_that_was_written(dataset, walks, form):
    assert not a1.has_fallen(dataset["states"]).any()
    # Upstream's resampling of the real format stretches time a little, and its first velocities are 0.
    for states, i in zip(trajectories(dataset), range(walks.n_segments), strict=True):
        expected = walks.states[walks.segment(i)][: len(states)]
        np.testing.assert_allclose(states[1:, a1.POSITION], expected[1:, a1.POSITION], atol=0.15)
        np.testing.assert_allclose(states[1:].mean(axis=0)[a1.VELOCITY], expected[1:].mean(axis=0)[a1.VELOCITY], atol=0.1)
    if form == "perfect":
        np.testing.assert_array_equal(dataset["actions"], walks.dataset()["actions"])


def test_its_goals_point_along_the_motion_at_the_commanded_speed(dataset):
    for states in trajectories(dataset):
        cosine, sine, speed = states[:, a1.GOAL].T
        assert angle_between(angle_deg(cosine, sine), motion_deg(states)).max() < 3.0
        np.testing.assert_allclose(speed, 0.5, atol=1e-12)


@pytest.mark.parametrize("form", ["real"], indirect=True)  # a perfect set holds no trajectories to start from
def test_its_observed_goal_points_along_the_motion_after_a_reset(stock_environment, dataset):
    states = trajectories(dataset)
    global_state = np.random.get_state()  # noqa: NPY002  (upstream draws from it)
    stock_environment.seed(0)
    try:
        for _ in range(20):
            cosine, sine, speed = stock_environment.reset()[a1.GOAL]
            motion = motion_deg(states[stock_environment.trajectories.traj_no])
            assert angle_between(angle_deg(cosine, sine), motion) < 3.0
            assert speed == pytest.approx(0.5)
    finally:
        np.random.set_state(global_state)  # noqa: NPY002
