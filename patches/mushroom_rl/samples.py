"""Small agents for the probes."""


def small_agent(body=None, std_0=1.0):
    """A `TRPO` agent of 3 observations and 2 actions; policy and critic have networks of `torch.nn` only.

    body: a module of 3 inputs and 3 outputs, the first layer of both networks; one for each where it is None.
    """
    import torch
    from mushroom_rl.algorithms.actor_critic import TRPO
    from mushroom_rl.core import MDPInfo
    from mushroom_rl.policy import GaussianTorchPolicy
    from mushroom_rl.utils.spaces import Box

    def network(input_shape, output_shape, **_):
        first = torch.nn.Linear(input_shape[0], 3) if body is None else body
        return torch.nn.Sequential(first, torch.nn.Tanh(), torch.nn.Linear(3, output_shape[0]))

    info = MDPInfo(Box(-1.0, 1.0, shape=(3,)), Box(-1.0, 1.0, shape=(2,)), 0.99, 100)
    critic = {
        "network": network,
        "optimizer": {"class": torch.optim.Adam, "params": {"lr": 1e-2}},
        "loss": torch.nn.functional.mse_loss,
        "input_shape": (3,),
        "output_shape": (1,),
        "batch_size": 16,
    }
    return TRPO(info, GaussianTorchPolicy(network, (3,), (2,), std_0=std_0), critic, max_kl=0.01, ent_coeff=1e-3)


def small_dataset(n=24, seed=0):
    """`n` transitions of 3 observations and 2 actions, two episodes, as mushroom-rl's `Core` hands them to an agent."""
    import numpy as np

    generator = np.random.default_rng(seed)
    dataset, state = [], generator.standard_normal(3)
    for k in range(n):
        last = k in (n // 2, n - 1)
        action, reached = generator.standard_normal(2), generator.standard_normal(3)
        dataset.append((state, action, float(generator.standard_normal()), reached, False, last))
        state = generator.standard_normal(3) if last else reached
    return dataset
