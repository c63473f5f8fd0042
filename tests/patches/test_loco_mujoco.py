"""loco-mujoco with its patches: what they mend beyond what the probes show, and what they leave alone."""

import contextlib

import numpy as np
import pytest

import patches
from patches.library import Edits
from patches.loco_mujoco import archives
from patches.loco_mujoco.download import PERFECT, REAL
from patches.loco_mujoco.local_site import local_site, zipped
from patches.loco_mujoco.synthetic import PERFECT_SIMPLE, REAL_SIMPLE, a1, data_sets, perfect_set, real_set

extensive = pytest.mark.extensive
# Gymnasium's checker warns of boundless observations, and of the seed() that loco-mujoco's environment keeps.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*WARN", "ignore:New trajectories loaded", "ignore:Datasets not found", "ignore:.*DISPLAY environment"
)

VELOCITY = slice(16, 34)
GOAL = slice(34, 37)


@pytest.fixture(scope="module", autouse=True)
def patched():
    patches.apply("loco_mujoco")
    yield
    patches.revert("loco_mujoco")


@pytest.fixture(autouse=True)
def global_generator_stays():
    state = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002


@pytest.fixture(scope="module")
def environment():
    return a1(n_trajectories=7)


@pytest.fixture(scope="module")
def gym_environment():
    from loco_mujoco.environments.gymnasium import GymnasiumWrapper

    with data_sets({REAL_SIMPLE: real_set(n_trajectories=7)}):
        yield GymnasiumWrapper("UnitreeA1.simple", horizon=20)


def seed_numpy(seed):
    np.random.seed(seed)  # noqa: NPY002


# Demonstrations


def test_first_samples_move_as_the_second_ones(environment):
    dataset = environment.create_dataset()
    first = np.concatenate([[0], np.flatnonzero(dataset["last"])[:-1] + 1])
    assert len(first) == 7
    np.testing.assert_array_equal(dataset["states"][first, VELOCITY], dataset["states"][first + 1, VELOCITY])
    assert (dataset["states"][first, 16] > 0.4).all()


@extensive
@pytest.mark.parametrize(("n_trajectories", "direction_deg"), [(1, -135.0), (2, 90.0)])
def test_resets_and_steps_command_what_a_perfect_set_does(n_trajectories, direction_deg):
    from loco_mujoco import LocoEnv

    files = perfect_set(n_trajectories, direction=np.radians(direction_deg), speed=0.7)
    with data_sets({PERFECT_SIMPLE: files}):
        environment = LocoEnv.make("UnitreeA1.simple.perfect")
    assert environment.trajectories.number_of_trajectories == n_trajectories
    states = environment.create_dataset()["states"]
    np.testing.assert_array_equal(states, files["states"])
    np.testing.assert_allclose(environment.reset()[GOAL], states[0, GOAL], atol=1e-9)
    np.testing.assert_allclose(environment.step(np.zeros(12))[0][GOAL], states[0, GOAL], atol=1e-9)


# Random numbers


@extensive
def test_a_seeded_environment_starts_where_upstream_does_after_seeding_numpy(environment):
    environment.seed(5)
    observations = [environment.reset() for _ in range(5)]
    patches.revert("loco_mujoco")
    try:
        seed_numpy(5)
        for observation in observations:
            # First samples are mended, so only positions are the same in all of them.
            np.testing.assert_array_equal(environment.reset()[:16], observation[:16])
    finally:
        patches.apply("loco_mujoco")


@extensive
def test_resets_and_seeds_leave_numpys_generator_as_it_is(environment):
    from qi_ext.tasks import QuadrupedDirection

    own = QuadrupedDirection("hard", seed=0)  # it has a generator already, and is left to it
    environment.reset()
    np.random.normal()  # noqa: NPY002  (leaves half of a pair behind, which is part of the state)
    before = np.random.get_state()  # noqa: NPY002
    first = own.reset()
    own.seed(0)
    assert np.array_equal(own.reset(), first)
    environment.seed(4)
    expected = environment.trajectories.reset_trajectory()
    environment.seed(4)
    assert all(map(np.array_equal, environment.trajectories.reset_trajectory(), expected))
    with pytest.raises(TypeError):
        environment.reset(np.zeros(37))  # the A1 cannot be reset to an observation
    with pytest.raises(ValueError, match="Seed must be between"):
        environment.seed(-1)
    assert all(map(np.array_equal, before, np.random.get_state()))  # noqa: NPY002


@extensive
def test_what_is_never_seeded_is_decided_by_numpys_seed():
    from loco_mujoco.utils import Trajectory

    columns = {"q_x": np.arange(1000.0), "q_y": np.arange(1000.0)}
    bounds = {"low": [], "high": [], "joint_pos_idx": [], "warn": False}
    mapping = {"interpolate_map": None, "interpolate_remap": None, "control_dt": 0.002}
    trajectory = Trajectory(keys=list(columns), traj_files=columns, **bounds, **mapping)

    def starts():
        seed_numpy(7)
        trajectory.reset_trajectory()
        environment = a1(n_trajectories=7, random_start=True)
        return trajectory.subtraj_step_no, np.array([environment.reset() for _ in range(4)]).tobytes()

    assert starts() == starts()


# numpy 2


@extensive
def test_a_random_rotation_turns_heading_and_velocity_alike():
    environment = a1(setup_random_rot=True, random_start=True)
    environment.seed(0)
    headings = set()
    for _ in range(5):
        observation = environment.reset()
        heading = observation[3]
        expected = np.linalg.norm(observation[16:18]) * np.array([np.cos(heading), np.sin(heading)])
        np.testing.assert_allclose(observation[16:18], expected, atol=1e-9)
        headings.add(heading)
    assert len(headings) == 5


# Gymnasium


@extensive
def test_gymnasiums_seed_decides_the_episode_the_horizon_ends_it_and_unwrapped_has_all_attributes(gym_environment):
    def episode(seed):
        observation, _ = gym_environment.reset(seed=seed)
        return [observation, gym_environment.step(np.full(12, 0.1))[0], gym_environment.reset()[0]]

    np.testing.assert_array_equal(episode(3), episode(3))
    assert not np.array_equal(episode(3), episode(4))
    episode(2**40)
    for _ in range(2):
        gym_environment.reset()
        assert [gym_environment.step(np.zeros(12))[3] for _ in range(20)] == [False] * 19 + [True]
    unwrapped = gym_environment.unwrapped
    assert unwrapped.info is unwrapped._env.info
    with pytest.raises(AttributeError, match="nonsense"):
        _ = unwrapped.nonsense


@extensive
def test_gymnasium_makes_an_environment_that_its_checker_accepts_and_a_shorter_limit_holds():
    import gymnasium
    from gymnasium.utils.env_checker import check_env

    with data_sets({REAL_SIMPLE: real_set()}):
        environment = gymnasium.make("LocoMujoco", env_name="UnitreeA1.simple", max_episode_steps=2, horizon=4)
        check_env(environment.unwrapped, skip_render_check=True)
        assert environment.spec.make().observation_space == environment.observation_space
    environment.reset()
    assert [environment.step(np.zeros(12))[3] for _ in range(2)] == [False, True]


# Data sets


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("UnitreeA1.simple", ("quadrupeds/real/walk_straight.npz is missing", "loco-mujoco-download-real")),
        pytest.param(
            "UnitreeA1.hard.perfect",
            ("unitreea1_hard/perfect_expert_dataset_det.npz is missing", "loco-mujoco-download-perfect"),
            marks=extensive,
        ),
        pytest.param("HumanoidTorque.walk", ("humanoids/real/", "loco-mujoco-download-real"), marks=extensive),
    ],
)
def test_a_missing_set_is_named_with_the_command_that_brings_it(task, words):
    from loco_mujoco import LocoEnv

    with data_sets() as package, pytest.raises(FileNotFoundError) as caught:
        LocoEnv.make(task)
    message = str(caught.value)
    assert all(word in message for word in (*words, str(package)))
    assert "mini_datasets" not in message
    assert "\n" not in message


@extensive
def test_a_small_set_is_used_where_there_is_one():
    from loco_mujoco import LocoEnv

    with data_sets({"datasets/quadrupeds/real/mini_datasets/walk_straight.npz": real_set(n_trajectories=3)}):
        assert LocoEnv.make("UnitreeA1.simple").trajectories.number_of_trajectories == 3
    with data_sets({REAL_SIMPLE: real_set()}), pytest.raises(FileNotFoundError, match="leave out debug=True"):
        LocoEnv.make("UnitreeA1.simple", debug=True)


@extensive
def test_users_own_files_and_datasets_folder_are_left_to_numpy(environment, tmp_path, monkeypatch):
    path = tmp_path / "datasets" / "mine.npz"
    parameters = {"traj_path": "datasets/mine.npz", "traj_dt": 0.002, "control_dt": environment.dt}
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="mine.npz") as caught:
        environment.load_trajectory(parameters)
    assert "download" not in str(caught.value)
    path.parent.mkdir()
    np.savez(path, **real_set(n_trajectories=7))
    environment.load_trajectory(parameters)
    assert environment.trajectories.number_of_trajectories == 7


@extensive
def test_downloading_all_puts_all_in_place():
    import loco_mujoco.utils

    files = {archive.name: zipped({"set.npz": archive.folder.encode()}) for archive in REAL + PERFECT}
    redirected = Edits()
    with data_sets() as package, local_site(files) as site:
        redirected.replace(archives, "SITE", site.url)
        try:
            loco_mujoco.utils.download_all_datasets()
        finally:
            redirected.undo()
        for archive in REAL + PERFECT:
            assert (package / "datasets" / archive.folder / "set.npz").read_text() == archive.folder


# Domain randomization


@pytest.fixture
def joint():
    """A joint of a model that can be compiled, all its randomizable parameters 1."""
    from patches.loco_mujoco.randomization import _knee

    return _knee().find("joint", "knee")


@extensive
@pytest.mark.parametrize("asked", [{"uniform_range": [0.9, 1.1]}, {"uniform_range_delta": 0.1}])
def test_randomized_parameters_fill_their_range_and_no_more(joint, asked):
    from loco_mujoco.utils.domain_randomization import set_joint_conf

    for parameter in ("damping", "stiffness", "armature", "frictionloss"):
        values = []
        for _ in range(100):
            setattr(joint, parameter, 1.0)
            set_joint_conf({parameter: asked}, joint)
            values.append(getattr(joint, parameter))
        assert 0.9 <= min(values) < 0.93
        assert 1.07 < max(values) <= 1.1


@extensive
def test_a_wrong_randomization_is_told_by_workers_however_often_one_asks(joint, tmp_path):
    from loco_mujoco.utils.domain_randomization import DomainRandomizationHandler

    path = tmp_path / "randomization.yaml"
    path.write_text("Joints: {knee: {frictionloss: {uniform_range_delta: 2.0}}}")
    handler = DomainRandomizationHandler([joint.root], str(path), N_worker_per_xml=1)
    with contextlib.ExitStack() as ending:
        for pool in handler._pools:
            ending.callback(pool.terminate)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="randomization.yaml: AssertionError: .* bigger than frictionloss"):
                handler.get_randomized_model(0)


@extensive
def test_randomized_episodes_are_decided_by_the_environments_seed(tmp_path):
    path = tmp_path / "randomization.yaml"
    path.write_text("Joints: {FR_hip_joint: {damping: {uniform_range: [1.0, 2.0]}}}")
    environment = a1(domain_randomization_config=str(path), parallel_dom_rand=False, random_start=True)

    def dampings():
        environment.seed(8)
        found = []
        for _ in range(3):
            environment.reset()
            found.append(float(environment._model.joint("FR_hip_joint").damping[0]))
        return found

    first = dampings()
    assert dampings() == first
    assert len(set(first)) == 3
