"""The published way of building agents, on the embedded demonstrations: trained, saved, loaded elsewhere, evaluated."""

import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

N_STEPS, N_STEPS_PER_FIT = 20_000, 1_000  # a batch as loco-mujoco's launcher has it

EVALUATE = """
import sys, numpy as np, patches
patches.apply()
import qi_ext.tasks
from loco_mujoco import LocoEnv
from mushroom_rl.core import Agent, Core
from mushroom_rl.utils.dataset import compute_J
agent = Agent.load(sys.argv[1])
count = agent._trpo_standardizer._count.copy()
dataset = Core(agent, LocoEnv.make("QuadrupedDirection.simple", seed=0)).evaluate(n_episodes=3, quiet=True)
assert np.array_equal(agent._trpo_standardizer._count, count), "evaluating changed the statistics"
print(len(compute_J(dataset)), np.mean(compute_J(dataset)))
"""


@pytest.mark.parametrize("algorithm", ["gail", "vail"])
def test_it_trains_saves_loads_in_a_new_process_and_evaluates(patched, algorithm, tmp_path):
    from imitation_lib.utils import BestAgentSaver, GailDiscriminatorLoss, VDBLoss
    from loco_mujoco import LocoEnv
    from mushroom_rl.core import Core
    from torch.utils.tensorboard import SummaryWriter

    import qi_ext.tasks  # noqa: F401
    from patches.imitation_lib import small

    env = LocoEnv.make("QuadrupedDirection.simple", seed=0)
    writer = SummaryWriter(tmp_path)
    changes = {
        "mdp_info": env.info,
        "demonstrations": env.create_dataset(),
        "sw": writer,
        "train_D_n_th_epoch": 3,
        "loss": GailDiscriminatorLoss() if algorithm == "gail" else VDBLoss(info_constraint=1.0, lr_beta=1e-5),
    }
    pieces = small.pieces(algorithm, n_observations=37, n_actions=12, hidden=(512, 256), batch_size=2048)
    agent = {"gail": small.gail, "vail": small.vail}[algorithm](**pieces | changes)
    Core(agent, env).learn(n_steps=N_STEPS, n_steps_per_fit=N_STEPS_PER_FIT, quiet=True)
    saver = BestAgentSaver(str(tmp_path), n_epochs_save=25)
    saver.save(agent, 1.0)
    writer.close()

    curves = EventAccumulator(str(tmp_path)).Reload()
    for tag in ("EpLenMean", "vf_loss", "kl", "DiscrimLoss", "D_Expert_Accuracy", *(["Beta"] if algorithm == "vail" else [])):
        points = curves.Scalars(tag)
        assert [point.step for point in points] == list(range(3, 21, 3)), tag
        assert all(np.isfinite(point.value) for point in points), tag
    # Beyond the trust region of 0.01, because the critic's fit moves the statistics before it is logged.
    assert all(0.0 < point.value < 0.1 for point in curves.Scalars("kl"))
    assert agent._iter == 1 + N_STEPS // N_STEPS_PER_FIT

    (file,) = tmp_path.glob("*.msh")
    assert file.stat().st_size < 8e6  # policy, critic, discriminator and optimizers, without demonstrations
    done = subprocess.run([sys.executable, "-c", EVALUATE, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    episodes, episode_return = done.stdout.split()[-2:]
    assert episodes == "3"
    assert 0.0 < float(episode_return) <= 1000.0
