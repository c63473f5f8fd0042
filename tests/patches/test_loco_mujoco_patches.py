"""loco-mujoco with its patches: what they mend, what they leave alone, and that they leave without a trace."""

import sys

import numpy as np
import pytest

import patches
from patches.library import Edits
from patches.loco_mujoco import archives
from patches.loco_mujoco.download import PERFECT, REAL
from patches.loco_mujoco.local_site import local_site, zipped
from patches.loco_mujoco.synthetic import PERFECT_SIMPLE, REAL_SIMPLE, SPEED, a1, data_sets, perfect_set, real_set

VELOCITY = slice(16, 34)
GOAL = slice(34, 37)


# Gymnasium's checker warns of boundless observations, and of the seed() that loco-mujoco's environment keeps.
pytestmark = pytest.mark.filterwarnings("ignore:.*WARN", "ignore:New trajectories loaded")


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
def environments():
    return a1(n_trajectories=7), a1(n_trajectories=7)


@pytest.fixture(scope="module")
def gym_environment():
    from loco_mujoco.environments.gymnasium import GymnasiumWrapper

    with data_sets({REAL_SIMPLE: real_set(n_trajectories=7)}):
        yield GymnasiumWrapper("UnitreeA1.simple", horizon=20)


def draw():
    return np.random.uniform()  # noqa: NPY002


def seed_numpy(seed):
    np.random.seed(seed)  # noqa: NPY002


def test_seeded_environment_starts_where_upstream_does_after_seeding_numpy(environments):
    environment, _ = environments
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


def test_seeded_environments_do_not_disturb_each_other(environments):
    first, second = environments
    first.seed(1)
    alone = [first.reset() for _ in range(6)]
    first.seed(1)
    second.seed(2)
    together = [(first.reset(), second.reset())[0] for _ in range(6)]
    np.testing.assert_array_equal(alone, together)


def test_resets_and_seeds_leave_numpys_generator_as_it_is(environments):
    environment, _ = environments
    environment.reset()
    np.random.normal()  # noqa: NPY002  (leaves half of a pair behind, which is part of the state)
    before = np.random.get_state()  # noqa: NPY002
    environment.seed(3)
    environment.reset()
    environment.trajectories.reset_trajectory()
    for was, is_now in zip(before, np.random.get_state(), strict=True):  # noqa: NPY002
        np.testing.assert_array_equal(was, is_now)


def test_environment_that_is_never_seeded_is_decided_by_numpys_seed():
    def episodes():
        seed_numpy(7)
        environment = a1(n_trajectories=7, random_start=True)
        return np.array([environment.reset() for _ in range(4)])

    np.testing.assert_array_equal(episodes(), episodes())


def test_environment_with_a_generator_of_its_own_is_left_to_it():
    from qi_ext.tasks import QuadrupedDirection

    environment = QuadrupedDirection("hard", seed=0)
    before = np.random.get_state()  # noqa: NPY002
    first = environment.reset()
    environment.seed(0)
    assert np.array_equal(environment.reset(), first)
    assert all(np.array_equal(*pair) for pair in zip(before, np.random.get_state(), strict=True))  # noqa: NPY002


def test_trajectory_reset_by_itself_draws_from_its_environments_generator(environments):
    environment, _ = environments
    environment.seed(4)
    expected = environment.trajectories.reset_trajectory()
    environment.seed(4)
    seed_numpy(99)
    for is_now, was in zip(environment.trajectories.reset_trajectory(), expected, strict=True):
        np.testing.assert_array_equal(is_now, was)


def test_trajectory_without_an_environment_draws_from_numpys_generator():
    from loco_mujoco.utils import Trajectory

    columns = {"q_x": np.arange(1000.0), "q_y": np.arange(1000.0)}
    bounds = {"low": [], "high": [], "joint_pos_idx": [], "warn": False}
    mapping = {"interpolate_map": None, "interpolate_remap": None, "control_dt": 0.002}
    trajectory = Trajectory(keys=list(columns), traj_files=columns, **bounds, **mapping)

    def start():
        seed_numpy(6)
        trajectory.reset_trajectory()
        return trajectory.subtraj_step_no

    assert start() == start()


def test_reset_that_fails_gives_numpys_generator_back(environments):
    environment, _ = environments
    environment.reset()
    seed_numpy(1)
    expected = draw()
    seed_numpy(1)
    with pytest.raises(TypeError):
        environment.reset(np.zeros(37))  # the A1 cannot be reset to an observation
    assert draw() == expected


@pytest.mark.parametrize("seed", [-1, 2**32, "one"])
def test_seeds_that_numpy_refuses_are_refused(environments, seed):
    with pytest.raises((ValueError, TypeError)):
        environments[0].seed(seed)


def test_random_rotation_turns_heading_and_velocity_alike():
    environment = a1(setup_random_rot=True, random_start=True)
    environment.seed(0)
    headings = []
    for _ in range(5):
        observation = environment.reset()
        heading = observation[3]
        expected = np.linalg.norm(observation[16:18]) * np.array([np.cos(heading), np.sin(heading)])
        np.testing.assert_allclose(observation[16:18], expected, atol=1e-9)
        headings.append(heading)
    assert len(set(headings)) == 5


def test_rotating_regular_arrays_is_as_it_was():
    from loco_mujoco.utils.math import rotate_obs

    rotated = rotate_obs([0.0, 1.0, 0.0], np.pi / 2, 0, 1, 2)
    assert rotated.dtype == float
    np.testing.assert_allclose(rotated, [np.pi / 2, 0.0, 1.0], atol=1e-12)


def test_fallen_state_says_how_high_the_trunk_is(environments):
    environment, _ = environments
    observation = environment.reset()
    assert environment._has_fallen(observation, return_err_msg=True) == (False, "")
    observation[0] = -0.5
    fallen, message = environment._has_fallen(observation, return_err_msg=True)
    assert fallen
    assert "-0.500000" in message


def test_randomization_with_sigma_stays_above_zero():
    from dm_control import mjcf
    from loco_mujoco.utils.domain_randomization import set_joint_conf

    joint = mjcf.RootElement().worldbody.add("body").add("joint", name="knee", damping=0.0)
    for _ in range(10):
        set_joint_conf({"damping": {"sigma": 1.0}}, joint)
        assert 0.0 <= joint.damping < np.inf


def test_first_samples_move_as_the_second_ones(environments):
    dataset = environments[0].create_dataset()
    first = np.concatenate([[0], np.flatnonzero(dataset["last"])[:-1] + 1])
    assert len(first) == 7
    np.testing.assert_array_equal(dataset["states"][first, VELOCITY], dataset["states"][first + 1, VELOCITY])
    assert (dataset["states"][first, 16] > 0.4).all()


@pytest.mark.parametrize("direction_deg", [0.0, 45.0, 90.0, 135.0, 180.0, -90.0])
def test_goal_of_a_real_set_is_the_recorded_one(direction_deg):
    environment = a1(direction=np.radians(direction_deg))
    goal = [np.cos(np.radians(direction_deg)), np.sin(np.radians(direction_deg)), SPEED]
    for state in environment.create_dataset()["states"]:
        np.testing.assert_allclose(state[GOAL], goal, atol=1e-9)


@pytest.mark.parametrize("direction_deg", [0.0, 45.0, 90.0, 180.0, -135.0])
def test_resets_and_steps_command_what_a_perfect_set_does(direction_deg):
    from loco_mujoco import LocoEnv

    files = perfect_set(direction=np.radians(direction_deg), speed=0.7)
    with data_sets({PERFECT_SIMPLE: files}):
        environment = LocoEnv.make("UnitreeA1.simple.perfect")
    dataset = environment.create_dataset()
    np.testing.assert_array_equal(dataset["states"], files["states"])
    goal = dataset["states"][0, GOAL]
    np.testing.assert_allclose(environment.reset()[GOAL], goal, atol=1e-9)
    np.testing.assert_allclose(environment.step(np.zeros(12))[0][GOAL], goal, atol=1e-9)


def test_perfect_set_of_one_trajectory_gives_what_it_holds():
    from loco_mujoco import LocoEnv

    files = perfect_set(n_trajectories=1)
    with data_sets({PERFECT_SIMPLE: files}):
        environment = LocoEnv.make("UnitreeA1.simple.perfect")
    assert environment.trajectories.number_of_trajectories == 1
    np.testing.assert_array_equal(environment.create_dataset()["states"], files["states"])


def test_gymnasium_seed_decides_the_episode(gym_environment):
    def episode(seed):
        observation, _ = gym_environment.reset(seed=seed)
        return [observation, gym_environment.step(np.full(12, 0.1))[0], gym_environment.reset()[0]]

    np.testing.assert_array_equal(episode(3), episode(3))
    assert not np.array_equal(episode(3), episode(4))
    episode(2**40)


def test_gymnasium_episode_is_truncated_at_the_horizon(gym_environment):
    for _ in range(2):
        gym_environment.reset()
        truncated = [gym_environment.step(np.zeros(12))[3] for _ in range(20)]
        assert truncated == [False] * 19 + [True]


def test_gymnasium_makes_an_environment_that_its_checker_accepts():
    import gymnasium
    from gymnasium.utils.env_checker import check_env

    with data_sets({REAL_SIMPLE: real_set()}):
        environment = gymnasium.make("LocoMujoco", env_name="UnitreeA1.simple")
        check_env(environment.unwrapped, skip_render_check=True)
        assert environment.spec.make().observation_space == environment.observation_space


def test_gymnasiums_own_shorter_limit_holds_as_before():
    import gymnasium

    with data_sets({REAL_SIMPLE: real_set()}):
        environment = gymnasium.make("LocoMujoco", env_name="UnitreeA1.simple", max_episode_steps=2, horizon=4)
    environment.reset()
    assert [environment.step(np.zeros(12))[3] for _ in range(2)] == [False, True]


def test_unwrapped_gives_what_loco_mujocos_environment_has(gym_environment):
    unwrapped = gym_environment.unwrapped
    assert unwrapped.info is unwrapped._env.info
    assert unwrapped.trajectories.number_of_trajectories == 7
    assert unwrapped.create_dataset()["states"].shape[1] == 37
    with pytest.raises(AttributeError, match="nonsense"):
        _ = unwrapped.nonsense


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("UnitreeA1.simple", ("quadrupeds/real/walk_straight.npz is missing", "loco-mujoco-download-real")),
        (
            "UnitreeA1.hard.perfect",
            ("unitreea1_hard/perfect_expert_dataset_det.npz is missing", "loco-mujoco-download-perfect"),
        ),
        ("HumanoidTorque.walk", ("humanoids/real/", "loco-mujoco-download-real")),
    ],
)
@pytest.mark.filterwarnings("ignore:Datasets not found")
def test_missing_set_is_named_with_the_command_that_brings_it(task, words):
    from loco_mujoco import LocoEnv

    with data_sets() as package, pytest.raises(FileNotFoundError) as caught:
        LocoEnv.make(task)
    message = str(caught.value)
    assert all(word in message for word in (*words, str(package)))
    assert "mini_datasets" not in message
    assert "\n" not in message


@pytest.mark.filterwarnings("ignore:Datasets not found")
def test_small_set_is_used_where_there_is_one():
    from loco_mujoco import LocoEnv

    with data_sets({"datasets/quadrupeds/real/mini_datasets/walk_straight.npz": real_set(n_trajectories=3)}):
        assert LocoEnv.make("UnitreeA1.simple").trajectories.number_of_trajectories == 3


def test_debug_without_a_small_set_says_so():
    from loco_mujoco import LocoEnv

    with data_sets({REAL_SIMPLE: real_set()}), pytest.raises(FileNotFoundError, match="leave out debug=True"):
        LocoEnv.make("UnitreeA1.simple", debug=True)


def test_users_own_file_is_left_to_numpy(environments, tmp_path):
    environment, _ = environments
    parameters = {"traj_path": tmp_path / "mine.npz", "traj_dt": 0.002, "control_dt": 0.01}
    with pytest.raises(FileNotFoundError, match="mine.npz") as caught:
        environment.load_trajectory(parameters)
    assert "download" not in str(caught.value)


def test_users_own_datasets_folder_is_not_loco_mujocos(environments, tmp_path, monkeypatch):
    environment, _ = environments
    (tmp_path / "datasets").mkdir()
    np.savez(tmp_path / "datasets" / "mine.npz", **real_set(n_trajectories=7))
    monkeypatch.chdir(tmp_path)
    environment.load_trajectory({"traj_path": "datasets/mine.npz", "traj_dt": 0.002, "control_dt": environment.dt})
    assert environment.trajectories.number_of_trajectories == 7


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


def test_reverting_leaves_the_library_as_it_was():
    import loco_mujoco.environments.gymnasium as gymnasium_module
    from loco_mujoco import utils
    from loco_mujoco.environments import LocoEnv, UnitreeA1
    from loco_mujoco.utils import dataset, domain_randomization, math, trajectory

    owners = [LocoEnv, UnitreeA1, trajectory.Trajectory, gymnasium_module.GymnasiumWrapper]
    owners += [dataset, domain_randomization, math, utils, sys.modules[UnitreeA1.__module__]]
    patches.revert("loco_mujoco")
    try:
        before = [dict(vars(owner)) for owner in owners]
        patches.apply("loco_mujoco")
        assert any(vars(owner) != was for owner, was in zip(owners, before, strict=True))
    finally:
        patches.revert("loco_mujoco")
    try:
        for owner, was in zip(owners, before, strict=True):
            assert dict(vars(owner)) == was
    finally:
        patches.apply("loco_mujoco")


@pytest.fixture
def joint():
    """A joint of a model that can be compiled, all its randomizable parameters 1."""
    from dm_control import mjcf

    body = mjcf.RootElement().worldbody.add("body")
    body.add("geom", type="sphere", size=[0.1])
    return body.add("joint", name="knee", damping=1.0, stiffness=1.0, armature=1.0, frictionloss=1.0)


@pytest.mark.parametrize("parameter", ["damping", "stiffness", "armature", "frictionloss"])
@pytest.mark.parametrize("asked", [{"uniform_range": [0.9, 1.1]}, {"uniform_range_delta": 0.1}])
def test_randomized_parameter_fills_its_range_and_no_more(joint, parameter, asked):
    from loco_mujoco.utils.domain_randomization import set_joint_conf

    values = []
    for _ in range(100):
        setattr(joint, parameter, 1.0)
        set_joint_conf({parameter: asked}, joint)
        values.append(getattr(joint, parameter))
    assert 0.9 <= min(values) < 0.93
    assert 1.07 < max(values) <= 1.1


def test_wrong_range_is_refused_as_before(joint):
    from loco_mujoco.utils.domain_randomization import set_joint_conf

    with pytest.raises(AssertionError, match="bigger than stiffness"):
        set_joint_conf({"stiffness": {"uniform_range_delta": 2.0}}, joint)


def test_models_are_drawn_about_the_one_that_was_loaded(joint, tmp_path):
    from loco_mujoco.utils.domain_randomization import build_MjModel_from_xml_handle

    (tmp_path / "randomization.yaml").write_text("Joints: {knee: {damping: {sigma: 0.0}, stiffness: {uniform_range: [2, 3]}}}")
    models = [build_MjModel_from_xml_handle(joint.root, str(tmp_path / "randomization.yaml")) for _ in range(3)]
    assert [model.dof_damping[0] for model in models] == [1.0] * 3
    assert len({model.jnt_stiffness[0] for model in models}) == 3
    assert joint.stiffness == 1.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "FileNotFoundError: .*"),
        ("Joints: {knee: {frictionloss: {uniform_range_delta: 2.0}}}", "AssertionError: .* bigger than frictionloss.*"),
    ],
)
def test_wrong_randomization_is_told_by_workers_too_however_often_one_asks(joint, tmp_path, text, why):
    from loco_mujoco.utils.domain_randomization import DomainRandomizationHandler

    path = tmp_path / "randomization.yaml"
    if text:
        path.write_text(text)
    handler = DomainRandomizationHandler([joint.root], str(path), N_worker_per_xml=1)
    try:
        for _ in range(3):
            with pytest.raises(RuntimeError, match=f"randomization.yaml: {why}"):
                handler.get_randomized_model(0)
    finally:
        for pool in handler._pools:
            pool.terminate()


def test_randomized_episodes_are_decided_by_the_environments_seed(tmp_path):
    (tmp_path / "randomization.yaml").write_text("Joints: {FR_hip_joint: {damping: {uniform_range: [1.0, 2.0]}}}")
    path = str(tmp_path / "randomization.yaml")
    environment = a1(domain_randomization_config=path, parallel_dom_rand=False, random_start=True)

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
