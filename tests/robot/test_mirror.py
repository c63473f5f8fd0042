"""The A1's mirror image: what it is made of, that physics agrees, and that agents and learner are symmetric."""

import json

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from qi_ext.agents.acting import Actor, load_agent, save_agent
from qi_ext.agents.onnx_export import export_onnx
from qi_ext.demonstrations import load_demonstrations
from qi_ext.learning import GAIL
from qi_ext.learning.cloning import clone
from qi_ext.learning.natural_gradient import Linearized
from qi_ext.learning.policy import GaussianPolicy
from qi_ext.robot import a1, mirror
from qi_ext.robot.commands import Command, task_commands
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.sampling.rollouts import ARRAYS, Rollouts
from qi_ext.tasks import QuadrupedDirection
from qi_ext.training.config import make_config
from qi_ext.utils.errors import UserError


@pytest.fixture(scope="module")
def demonstrations():
    return load_demonstrations("trot", task_commands("hard"))


@pytest.fixture(scope="module")
def environment():
    return QuadrupedDirection("hard", seed=0)


@pytest.fixture
def make_agent(environment, demonstrations):
    def make(seed=0, **settings):
        small = dict.fromkeys(("policy_hidden", "critic_hidden", "discriminator_hidden"), [16])
        small |= {"discriminator_batch_size": 32, "batch_size": 64}
        config = make_config("hard", **(small | settings))
        return GAIL(environment.info, demonstrations, config, np.random.SeedSequence(seed))

    return make


@pytest.fixture
def actor():
    """Of random weights, a std of its own for each action, symmetric."""
    random = np.random.default_rng(0)
    layers = [(random.normal(size=shape), random.normal(size=shape[0])) for shape in ((16, 37), (12, 16))]
    mean, spread, log_std = random.normal(size=37), random.uniform(0.5, 2.0, 37), random.normal(size=12)
    layers = [tuple(part.astype(np.float32) for part in layer) for layer in layers]
    return Actor(layers, *(part.astype(np.float32) for part in (mean, spread, log_std)), symmetry="mirror")


def some_observations(n=50):
    """Of commands in all directions."""
    observations = np.random.default_rng(1).normal(size=(n, 37)).astype(np.float32)
    angles = 2.0 * np.pi * np.arange(n) / n
    observations[:, a1.GOAL] = np.stack([np.cos(angles), np.sin(angles), np.full(n, 0.5)], axis=1)
    return observations


def test_legs_change_sides_and_odd_coordinates_their_sign():
    observation = np.arange(1.0, 38.0)
    image = dict(
        zip([row[2] + row[1] for row in a1.observation_table()], mirror.mirror_observations(observation), strict=False)
    )
    own = dict(zip([row[2] + row[1] for row in a1.observation_table()], observation, strict=False))
    for kind in ("position", "velocity"):
        for name, sign in (("trunk_tz", 1), ("trunk_list", -1), ("trunk_tilt", 1), ("trunk_rotation", -1)):
            assert image[name + kind] == sign * own[name + kind]
        for leg, other in (("FR", "FL"), ("FL", "FR"), ("RR", "RL"), ("RL", "RR")):
            for part, sign in (("hip", -1), ("thigh", 1), ("calf", 1)):
                assert image[f"{leg}_{part}_joint{kind}"] == sign * own[f"{other}_{part}_joint{kind}"]
    assert image["trunk_txvelocity"] == own["trunk_txvelocity"]
    assert image["trunk_tyvelocity"] == -own["trunk_tyvelocity"]
    np.testing.assert_array_equal(mirror.mirror_observations(observation)[a1.GOAL], [35.0, -36.0, 37.0])


def test_a_mirror_image_of_a_mirror_image_is_the_thing_itself():
    observations = some_observations()
    actions = observations[:, :12]
    np.testing.assert_array_equal(mirror.mirror_observations(mirror.mirror_observations(observations)), observations)
    np.testing.assert_array_equal(mirror.mirror_actions(mirror.mirror_actions(actions)), actions)


def test_only_commands_to_the_right_are_to_the_right():
    commands = [Command(angle) for angle in (0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)]
    observations = np.zeros((8, 37))
    observations[:, a1.GOAL] = [command.features for command in commands]
    assert mirror.to_the_right(observations)[:, 0].tolist() == [False] * 5 + [True] * 3


def test_the_simulated_robot_is_nearly_its_own_mirror_image(environment, demonstrations):
    # Not quite: the trunk's centre of mass is 4 mm to the left.
    rows = np.random.default_rng(0).integers(0, len(demonstrations.states), 20)
    moved, apart = [], []
    for row in rows:
        state, action = demonstrations.states[row], demonstrations.actions[row]
        environment.reset(obs=state)
        after = environment.step(action)[0]
        environment.reset(obs=mirror.mirror_observations(state))
        image = environment.step(mirror.mirror_actions(action))[0]
        moved.append(after - state)
        apart.append(mirror.mirror_observations(after) - image)
    moved, apart = (np.sqrt(np.mean(np.square(x), axis=0)) for x in (moved, apart))
    joints = [*range(*a1.LEG_POSITION.indices(37)), *range(*a1.LEG_VELOCITY.indices(37))]
    assert (apart[joints] < 0.1 * moved[joints]).all()


def test_an_agent_acts_as_the_mirror_image_of_what_it_does_in_the_mirrored_state(actor):
    observations = some_observations()
    images = mirror.mirror_observations(observations)
    np.testing.assert_allclose(actor.mean(images), mirror.mirror_actions(actor.mean(observations)), rtol=1e-4, atol=1e-4)


def test_its_action_is_the_mean_of_the_networks_two(actor):
    layers = [(np.ascontiguousarray(weight.T), bias) for weight, bias in actor.layers]
    plain = Actor(layers, actor.observation_mean, actor.observation_inverse_std, np.log(actor.std))
    observations = some_observations()
    of_image = mirror.mirror_actions(plain.mean(mirror.mirror_observations(observations)))
    np.testing.assert_allclose(actor.mean(observations), (plain.mean(observations) + of_image) / 2, rtol=1e-4, atol=1e-4)
    assert np.abs(actor.mean(observations) - plain.mean(observations)).max() > 0.1


def test_one_observation_is_acted_on_as_many_are(actor):
    observations = some_observations()
    one_by_one = np.stack([actor.act(observation) for observation in observations])
    np.testing.assert_allclose(one_by_one, actor.act(observations), rtol=1e-4, atol=1e-5)


def test_the_file_of_an_agent_says_its_symmetry(actor, tmp_path):
    save_agent(tmp_path / "agent.safetensors", actor, {})
    loaded = load_agent(tmp_path / "agent.safetensors")
    assert loaded.symmetry == "mirror"
    np.testing.assert_array_equal(loaded.mean(some_observations()), actor.mean(some_observations()))


@pytest.mark.parametrize("symmetry", ["rotation", "mirror"])
def test_an_agent_of_a_symmetry_that_it_cannot_have_is_refused(tmp_path, symmetry):
    one = np.ones(1, dtype=np.float32)
    save_agent(tmp_path / "agent.safetensors", Actor([(one[None], one)], one, one, one, symmetry=symmetry), {})
    with pytest.raises(UserError, match=f"symmetry is '{symmetry}'"):
        load_agent(tmp_path / "agent.safetensors")


def test_the_exported_file_is_symmetric_too(actor, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    assert export_onnx(actor, tmp_path / "walk.onnx") < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "walk.onnx"), providers=["CPUExecutionProvider"])
    observations = some_observations()
    (actions,) = session.run(["action"], {"observation": observations})
    np.testing.assert_allclose(actions, actor.act(observations), rtol=1e-4, atol=1e-5)
    assert json.loads(session.get_modelmeta().custom_metadata_map["action_names"])


@pytest.fixture
def policy():
    return GaussianPolicy(37, 12, [16, 16], 0.1, np.random.SeedSequence(0), symmetry="mirror")


def test_the_policys_torch_side_is_what_acts(policy):
    observations = some_observations()
    expected = policy.actor.mean(observations)
    np.testing.assert_allclose(policy.mean_t(torch.from_numpy(observations)).detach(), expected, atol=1e-6)
    np.testing.assert_allclose(Linearized(policy, torch.from_numpy(observations)).mean, expected, atol=1e-6)


@pytest.mark.parametrize("n", [1, 50, 700])  # the last of more rows than are done together
def test_products_with_the_jacobian_are_those_of_autograd(policy, n):
    observations, parameters = torch.from_numpy(some_observations(n)), list(policy.network.parameters())
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(sum(parameter.numel() for parameter in parameters), generator=generator)
    precision, gradients = torch.rand(12, generator=generator), torch.randn(n, 12, generator=generator)

    def pulled_back(u, **options):
        return parameters_to_vector(torch.autograd.grad(policy.mean_t(observations), parameters, u, **options))

    dummy = torch.zeros(n, 12, requires_grad=True)
    (along,) = torch.autograd.grad(pulled_back(dummy, create_graph=True), dummy, vector)
    linearized = Linearized(policy, observations)
    for found, expected in (
        (linearized.pulled_back(gradients), pulled_back(gradients)),
        (linearized.gauss_newton(vector, precision), pulled_back(along * precision)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def gathered(environment, agent, n_steps=64):
    sampler = BatchedSampler(environment, pool="serial")
    lanes = sampler.lanes(np.random.SeedSequence(5).spawn(8))
    _, rollouts = sampler.fragment(lanes, agent.policy.actor, n_steps)
    sampler.close()
    assert mirror.to_the_right(rollouts.observations).any()
    return rollouts


def image(rollouts):
    """The same with all robots mirrored."""
    arrays = dict(vars(rollouts)) | {"actions": mirror.mirror_actions(rollouts.actions)}
    for name in ("observations", "next_observations"):
        arrays[name] = mirror.mirror_observations(arrays[name])
    return Rollouts(**arrays)


def to_a_side(rollouts):
    """Lanes that are never told to walk straight on, or back."""
    lanes = np.flatnonzero(np.abs(rollouts.observations[..., mirror.SINE]).min(axis=1) > 0.1)
    assert len(lanes) > 1
    return Rollouts(**{name: getattr(rollouts, name)[lanes] for name in ARRAYS}, episodes=rollouts.episodes[:0])


def test_robots_and_their_mirror_images_teach_the_same(environment, make_agent):
    one, other = make_agent(), make_agent()
    rollouts = to_a_side(gathered(environment, one))
    one.fit_rollouts(rollouts)
    other.fit_rollouts(image(rollouts))
    np.testing.assert_array_equal(one.policy.get_weights(), other.policy.get_weights())
    assert one.diagnostics == other.diagnostics


def test_without_the_symmetry_they_do_not(environment, make_agent):
    one, other = make_agent(symmetry="none"), make_agent(symmetry="none")
    rollouts = to_a_side(gathered(environment, one))
    one.fit_rollouts(rollouts)
    other.fit_rollouts(image(rollouts))
    assert np.abs(one.policy.get_weights() - other.policy.get_weights()).max() > 1e-4


def test_stds_stay_equal_on_both_sides(environment, make_agent):
    agent = make_agent()
    for _ in range(3):
        agent.fit_rollouts(gathered(environment, agent))
    stds = agent.policy.actor.std
    assert agent.diagnostics["kl"] > 0.0
    assert np.ptp(stds) > 1e-5
    np.testing.assert_allclose(stds[mirror.ACTION_ORDER], stds, rtol=1e-6)


def test_demonstrations_are_seen_to_the_left_only(make_agent):
    sines = [make_agent(symmetry=symmetry)._expert[:, mirror.SINE].numpy() for symmetry in ("mirror", "none")]
    assert sines[0].min() > -1e-6
    assert sines[1].min() == -1.0
    np.testing.assert_allclose(np.sort(sines[0]), np.sort(np.abs(sines[1])), atol=1e-6)


def test_cloning_learns_both_sides_from_one(make_agent, demonstrations):
    policy = make_agent(policy_hidden=[64, 64]).policy
    left = [i for i, command in enumerate(demonstrations.commands) if command.direction_deg == 45.0]
    clone(policy, demonstrations.select(left), 30, make_config("hard"), np.random.SeedSequence(0))
    errors = {
        angle: np.mean((policy.actor.mean(part.states) - part.actions) ** 2)
        for angle in (45.0, 315.0, 135.0)
        for part in [demonstrations.of(Command(angle), "nominal")]
    }
    assert errors[315.0] < 0.1 * errors[135.0]
