"""The A1's mirror image: its coordinates, and its physics."""

import numpy as np

from qi_ext.robot import a1, mirror
from qi_ext.robot.commands import Command


def test_legs_change_sides_and_coordinates_across_the_mirror_change_sign():
    observation = np.arange(1.0, 38.0)
    names = [(quantity, joint) for _, quantity, joint, _ in a1.observation_table()[: a1.GOAL.start]]
    own = dict(zip(names, observation, strict=False))
    image = dict(zip(names, mirror.mirror_observations(observation), strict=False))
    others = {f"trunk_{name}": (f"trunk_{name}", sign) for name, sign in (("tx", 1), ("tz", 1), ("tilt", 1))}
    others |= {f"trunk_{name}": (f"trunk_{name}", -1) for name in ("ty", "list", "rotation")}
    for leg, other in (("FR", "FL"), ("FL", "FR"), ("RR", "RL"), ("RL", "RR")):
        for part, sign in (("hip", -1), ("thigh", 1), ("calf", 1)):
            others[f"{leg}_{part}_joint"] = (f"{other}_{part}_joint", sign)
    for quantity, joint in names:
        other, sign = others[joint]
        assert image[quantity, joint] == sign * own[quantity, other]
    np.testing.assert_array_equal(mirror.mirror_observations(observation)[a1.GOAL], [35.0, -36.0, 37.0])


def test_the_image_of_an_image_is_the_original():
    observations = np.random.default_rng(0).normal(size=(50, 37)).astype(np.float32)
    actions = observations[:, :12]
    np.testing.assert_array_equal(mirror.mirror_observations(mirror.mirror_observations(observations)), observations)
    np.testing.assert_array_equal(mirror.mirror_actions(mirror.mirror_actions(actions)), actions)


def test_transitions_are_mirrored_only_where_the_command_points_to_the_right():
    random = np.random.default_rng(0)
    observations, next_observations, actions = (
        random.normal(size=(8, 37)),
        random.normal(size=(8, 37)),
        random.normal(size=(8, 12)),
    )
    observations[:, a1.GOAL] = [Command(45.0 * i).features for i in range(8)]
    assert mirror.to_the_right(observations)[:, 0].tolist() == [False] * 5 + [True] * 3
    given = observations, next_observations, actions
    images = (
        mirror.mirror_observations(observations),
        mirror.mirror_observations(next_observations),
        mirror.mirror_actions(actions),
    )
    for found, own, image in zip(mirror.to_the_left(*given), given, images, strict=True):
        np.testing.assert_array_equal(found[:5], own[:5])
        np.testing.assert_array_equal(found[5:], image[5:])
    assert mirror.to_the_left(observations, next_observations, None)[2] is None


def test_the_simulated_robot_is_nearly_its_own_mirror_image(hard):
    # Not quite: the trunk's centre of mass is 4 mm to the left.
    demonstrations, moved, apart = hard.demonstrations, [], []
    for row in np.random.default_rng(0).integers(0, len(demonstrations.states), 20):
        state, action = demonstrations.states[row], demonstrations.actions[row]
        hard.reset(obs=state)
        after = hard.step(action)[0]
        hard.reset(obs=mirror.mirror_observations(state))
        image = hard.step(mirror.mirror_actions(action))[0]
        moved.append(after - state)
        apart.append(mirror.mirror_observations(after) - image)
    moved, apart = (np.sqrt(np.mean(np.square(x), axis=0)) for x in (moved, apart))
    joints = np.r_[a1.LEG_POSITION, a1.LEG_VELOCITY]
    assert (apart[joints] < 0.1 * moved[joints]).all()
