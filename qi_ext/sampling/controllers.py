"""What acts in a block of lanes: the policy, the expert, or chance. Numpy and MuJoCo only."""

import numpy as np

from qi_ext.robot import a1


class PolicyController:
    """Acts as `actor`, a `qi_ext.agents.acting.Actor`; the noise is each lane's own."""

    def __init__(self, actor, deterministic=False):
        self.actor = actor
        self.deterministic = deterministic

    def begin(self, block, lane):
        """An episode starts in `lane`."""

    def actions(self, block, observations, lanes):
        """Actions, (rows, 12), for observations, (rows, 37); only `lanes` count."""
        # All rows together, whatever `lanes` are: the result of a matrix product depends on the number of rows.
        actions = self.actor.mean(observations)
        if not self.deterministic:
            for lane in lanes:
                actions[lane] += self.actor.std * block.generators[lane].standard_normal(a1.N_ACTIONS, dtype=np.float32)
        return actions


class ExpertController:
    """Acts as the trot controller in closed loop, which reads the simulation's state. Whole episodes only."""

    def __init__(self):
        self._trots = {}

    def begin(self, block, lane):
        # Here, because scipy comes with that package, and the workers of a training run can do without.
        from qi_ext.demonstrations.trot import TrotController

        cosine, sine, speed = block.goal[lane]
        trot = TrotController(block.specification.model, float(np.arctan2(sine, cosine)), float(speed))
        trot.reset(block.datas[lane])
        self._trots[lane] = trot

    def actions(self, block, observations, lanes):
        actions = np.zeros((len(observations), a1.N_ACTIONS))
        for lane in lanes:
            actions[lane] = self._trots[lane].action(block.datas[lane])
        return actions


class RandomController:
    """Uniform torques."""

    def begin(self, block, lane):
        pass

    def actions(self, block, observations, lanes):
        actions = np.zeros((len(observations), a1.N_ACTIONS))
        for lane in lanes:
            actions[lane] = block.generators[lane].uniform(-1.0, 1.0, a1.N_ACTIONS)
        return actions
