"""What makes walking harder for whatever acts: pushes on the trunk, and noise in the actions. Numpy and MuJoCo only."""

import numpy as np

from qi_ext import a1
from qi_ext.sampling.controllers import PolicyController

PUSH_STEPS = 10  # 0.1 s
PUSH_EVERY_STEPS = 125  # 1.25 s


class DisturbedController:
    """Acts as another controller does, and disturbs it. Whole episodes only.

    push: N, on the trunk, horizontal, for 0.1 s in each 1.25 s of an episode; its moment and direction are drawn.
    noise: standard deviation of what is added to each action, in units of 34 Nm.
    Random numbers are the lane's own; those of the pushes are drawn as the episode starts, after its start state, so that
    controllers that draw nothing meet the same pushes from the same starts.
    """

    def __init__(self, controller, push=0.0, noise=0.0):
        self.controller = controller
        self.push = push
        self.noise = noise
        self._pushes, self._time = {}, {}

    def begin(self, block, lane):
        if self.push:
            self._pushes[lane] = self._draw(block.specification.horizon, block.generators[lane])
        self._time[lane] = 0
        self.controller.begin(block, lane)

    def actions(self, block, observations, lanes):
        actions = self.controller.actions(block, observations, lanes)
        trunk = block.specification.model.body("trunk").id
        for lane in lanes:
            if self.push:
                # At each step, so that a push ends; what a lane's simulation holds is discarded after its episode.
                block.datas[lane].xfrc_applied[trunk, :2] = self._pushes[lane][self._time[lane]]
            if self.noise:
                actions[lane] += self.noise * block.generators[lane].standard_normal(a1.N_ACTIONS)
            self._time[lane] += 1
        return actions

    def _draw(self, horizon, generator):
        """Forces of each step of an episode, (horizon, 2), N."""
        forces = np.zeros((horizon, 2))
        for begin in range(0, horizon, PUSH_EVERY_STEPS):
            first = begin + generator.integers(PUSH_EVERY_STEPS - PUSH_STEPS + 1)
            angle = generator.uniform(0.0, 2.0 * np.pi)
            forces[first : first + PUSH_STEPS] = self.push * np.array([np.cos(angle), np.sin(angle)])
        return forces


class PushedController:
    """Acts as another controller does, and pushes the robot now and then, to train it: a batch may end in mid-episode.

    push: N, the largest of the pushes: horizontal, on the trunk, direction and size drawn evenly. They begin and end by chance,
    as often and as long on average as those of an evaluation. A push is remembered by the lane's simulation, and random numbers
    are the lane's own, so that a lane goes on in the next batch as if there were no end of this one.
    """

    def __init__(self, controller, push):
        self.controller = controller
        self.push = push

    def begin(self, block, lane):
        self.controller.begin(block, lane)

    def actions(self, block, observations, lanes):
        actions = self.controller.actions(block, observations, lanes)
        trunk = block.specification.model.body("trunk").id
        for lane in lanes:
            force, generator = block.datas[lane].xfrc_applied[trunk], block.generators[lane]
            chance = generator.random()
            if force.any():
                if chance < 1.0 / PUSH_STEPS:
                    force[:] = 0.0
            elif chance < 1.0 / (PUSH_EVERY_STEPS - PUSH_STEPS):
                angle, size = generator.uniform(0.0, 2.0 * np.pi), generator.uniform(0.0, self.push)
                force[:2] = size * np.cos(angle), size * np.sin(angle)
        return actions


def training_controller(actor, deterministic=False, push=0.0):
    """Acts as `actor`, under pushes where there are to be any."""
    controller = PolicyController(actor, deterministic)
    return PushedController(controller, push) if push else controller
