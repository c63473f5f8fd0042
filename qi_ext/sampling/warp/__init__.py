"""Physics on a GPU: MuJoCo Warp steps thousands of envs at once, and rollouts go to the learner without leaving the device."""
