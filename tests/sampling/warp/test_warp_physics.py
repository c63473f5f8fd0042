"""MuJoCo Warp against MuJoCo itself, and what ends a run."""

import mujoco
import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp")
pytestmark = pytest.mark.extensive

from qi_ext.demonstrations import load_demonstrations  # noqa: E402
from qi_ext.sampling.read_environment import read_environment  # noqa: E402
from qi_ext.sampling.warp.physics import WarpPhysics  # noqa: E402
from qi_ext.tasks.directions import task_commands  # noqa: E402
from qi_ext.utils.errors import SamplingError  # noqa: E402

# Largest difference of positions, m and rad, after so many control steps; measured 5.3e-7, 2.3e-6 and 1.5e-5 (MuJoCo 4.0.0).
# Another version of MuJoCo itself, 2.3.7, differs by 5.6e-6, 4.8e-5 and 1.3e-3.
AGREEMENT = {1: 1e-6, 10: 5e-6, 100: 5e-5}


@pytest.fixture(scope="module")
def spec(environments):
    return read_environment(environments["hard"])


@pytest.fixture(scope="module")
def walks():
    """Start states, (12, 36), and actions, (12, 100, 12), of undisturbed walks of the trot controller."""
    recorded = load_demonstrations("trot", task_commands("hard"))
    chosen = [i for i in range(recorded.n_segments) if recorded.kind[i] == "nominal"][:12]
    rows = [recorded.segment(i) for i in chosen]
    starts = np.stack([np.concatenate([[0.0, 0.0], recorded.states[row][0, :34]]) for row in rows])
    return starts, np.stack([recorded.executed_actions[row][:100] for row in rows])


def walk_in_mujoco(spec, start, actions):
    """Positions, (T, nq), after each of `actions`."""
    data, found = mujoco.MjData(spec.model), []
    data.qpos[spec.addresses.qpos], data.qvel[spec.addresses.qvel] = np.split(start, 2)
    for action in actions:
        data.ctrl[spec.addresses.actuators] = action * spec.scale + spec.offset
        mujoco.mj_step(spec.model, data, spec.n_substeps)
        found.append(data.qpos.copy())
    return np.array(found)


def test_it_walks_as_mujoco_does(spec, walks):
    starts, actions = walks
    physics = WarpPhysics(spec, len(starts), torch.device("cpu"), contacts=16, constraint_rows=96)
    physics.reset(torch.ones(len(starts), dtype=torch.bool), torch.as_tensor(starts, dtype=torch.float32))
    found = []
    for action in torch.as_tensor(actions, dtype=torch.float32).unbind(dim=1):
        assert not physics.step(action).any()
        found.append(physics.qpos.numpy().copy())
    physics.check_overflow()
    expected = [walk_in_mujoco(spec, *walk) for walk in zip(starts, actions, strict=True)]
    difference = np.abs(np.stack(found, axis=1) - expected)
    for n_steps, most in AGREEMENT.items():
        assert difference[:, n_steps - 1].max() <= most, n_steps


@pytest.mark.parametrize(
    ("room", "said"),
    [
        ({"contacts": 16, "constraint_rows": 24}, "an env has more than 24 constraint rows; raise --constraint_rows"),
        ({"contacts": 1, "constraint_rows": 96}, "envs have more than 2 contacts together; raise --contacts"),
    ],
)
def test_what_finds_no_room_ends_the_run_with_the_number_to_raise(spec, walks, room, said, monkeypatch):
    monkeypatch.setattr("qi_ext.sampling.warp.physics.LEAST_CONTACTS", 1)
    physics = WarpPhysics(spec, 2, torch.device("cpu"), **room)
    physics.reset(torch.ones(2, dtype=torch.bool), torch.as_tensor(walks[0][:2], dtype=torch.float32))
    for _ in range(3):
        physics.step(torch.zeros(2, 12))
    with pytest.raises(SamplingError, match=said):
        physics.check_overflow()


def test_a_blow_up_is_seen_in_its_world_alone(spec, walks):
    physics = WarpPhysics(spec, 3, torch.device("cpu"), contacts=16, constraint_rows=96)
    everywhere, starts = torch.ones(3, dtype=torch.bool), torch.as_tensor(walks[0][:3], dtype=torch.float32)
    physics.reset(everywhere, starts)
    calm = physics.step(torch.zeros(3, 12)), physics.qpos[[0, 2]].clone()
    starts[1, 18:] = 1e12
    physics.reset(everywhere, starts)
    assert physics.step(torch.zeros(3, 12)).tolist() == [False, True, False]
    assert torch.equal(physics.qpos[[0, 2]], calm[1])
    physics.reset(torch.tensor([False, True, False]), torch.as_tensor(walks[0][:3], dtype=torch.float32))
    assert not physics.step(torch.zeros(3, 12)).any()
    physics.check_overflow()
