"""Steps per second of our A1 beside the stock one and beside bare physics, interleaved in one run.

    python benchmarks/environment_step.py

Each walks the same trot (actions recorded by the expert), so that contacts cost the same. Prints the median over rounds.
"""

import statistics
import sys
import time
from pathlib import Path

import mujoco

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the code beside this file, whatever is installed

from qi_ext.demonstrations.recording import record
from qi_ext.robot import a1
from qi_ext.tasks import QuadrupedDirection

ROUNDS, STEPS = 9, 200


def main():
    from loco_mujoco.environments import UnitreeA1

    ours = QuadrupedDirection("simple", seed=0)
    stock = UnitreeA1(reward_type="velocity_vector", reward_params={}, random_start=False)
    demonstrations, _ = record(QuadrupedDirection("simple", demonstrations=None), 22 * STEPS * a1.CONTROL_DT, 0)
    actions = demonstrations.executed_actions[demonstrations.segment(0)][:STEPS]
    start = demonstrations.initial_state[0]
    ours.reset(obs=demonstrations.states[0])
    stock._obs = ours._obs.copy()

    def physics(action):
        ours.data.ctrl[:] = action
        mujoco.mj_step(ours.model, ours.data, a1.N_SUBSTEPS)

    contenders = {"bare mj_step": (ours, physics), "ours": (ours, ours.step), "stock UnitreeA1": (stock, stock.step)}
    rates = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, (environment, step) in contenders.items():
            mujoco.mj_setState(environment._model, environment._data, start, mujoco.mjtState.mjSTATE_INTEGRATION)
            # Upstream reads the goal off the arrow, which must be a rotation before the first step.
            stock._set_goal_arrow()
            begin = time.perf_counter()
            for action in actions:
                step(action)
            rates[name].append(STEPS / (time.perf_counter() - begin))
    for name, rate in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rate, rates["stock UnitreeA1"], strict=True))
        print(f"{name:16} {statistics.median(rate):7.0f} steps/s  {ratio:5.2f} x stock")


if __name__ == "__main__":
    main()
