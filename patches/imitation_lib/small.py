"""Small GAIL and VAIL agents and a small task, for probes and tests; built as the published launchers build theirs."""

import functools

import numpy as np

N_OBSERVATIONS, N_ACTIONS = 4, 2


class Writer:
    """The part of a SummaryWriter that agents use. scalars: {tag: [(step, value), ...]}."""

    def __init__(self):
        self.scalars = {}

    def add_scalar(self, tag, value, step=None):
        self.scalars.setdefault(tag, []).append((step, value.item() if hasattr(value, "item") else float(value)))


def mdp_info():
    """Return mushroom-rl's MDPInfo of the small task."""
    from mushroom_rl.core import MDPInfo
    from mushroom_rl.utils.spaces import Box

    spaces = [Box(-np.ones(n), np.ones(n)) for n in (N_OBSERVATIONS, N_ACTIONS)]
    return MDPInfo(*spaces, gamma=0.99, horizon=10, dt=0.01)


def Glider():
    """Return an environment that adds actions to the first observations."""
    from mushroom_rl.core import Environment

    class Gliding(Environment):
        def __init__(self):
            super().__init__(mdp_info())

        def reset(self, state=None):
            self.state = np.zeros(N_OBSERVATIONS) if state is None else state
            return self.state

        def step(self, action):
            self.state = self.state + np.pad(action, (0, N_OBSERVATIONS - N_ACTIONS))
            return self.state, 1.0, False, {}

        def stop(self):
            pass

    return Gliding()


def dataset(rows=16, episode=8, seed=0):
    """Transitions as mushroom-rl lists them, in episodes of `episode` steps; 0: no episode ends."""
    generator = np.random.default_rng(seed)
    states = generator.normal(size=(rows + 1, N_OBSERVATIONS))
    actions = generator.normal(size=(rows, N_ACTIONS))
    lasts = [bool(episode) and (i + 1) % episode == 0 for i in range(rows)]
    return [(states[i], actions[i], 1.0, states[i + 1], False, lasts[i]) for i in range(rows)]


def demonstrations(rows=64):
    """Expert dataset, as loco-mujoco's create_dataset returns it."""
    states = np.random.default_rng(1).normal(1.0, 1.0, (rows + 1, N_OBSERVATIONS))
    return {"states": states[:-1], "next_states": states[1:], "absorbing": np.zeros(rows), "last": np.zeros(rows)}


def pieces(algorithm="gail", std_0=1.0, n_observations=N_OBSERVATIONS, n_actions=N_ACTIONS, hidden=(8, 8), **discriminator):
    """Keywords of an agent, {name: value}. Seeds torch's global generator, which initial weights are drawn from.

    discriminator: further parameters of the discriminator's network.
    """
    import torch
    from imitation_lib.utils import DiscriminatorNetwork, FullyConnectedNetwork, NormcInitializer, Standardizer, VariationalNet
    from mushroom_rl.policy import GaussianTorchPolicy

    torch.manual_seed(0)
    adam = {"class": torch.optim.Adam, "params": {"lr": 1e-4, "weight_decay": 0.0}}
    standardizer, seen_by_discriminator = Standardizer(), Standardizer()
    hidden = list(hidden)
    to_actions = {
        "network": FullyConnectedNetwork,
        "input_shape": (n_observations,),
        "n_features": hidden,
        "activations": ["relu"] * len(hidden) + ["identity"],
        "initializers": [NormcInitializer(1.0)] * len(hidden) + [NormcInitializer(0.001)],
        "standardizer": standardizer,
    }
    to_values = to_actions | {"output_shape": (1,), "squeeze_out": False, "optimizer": adam, "batch_size": 8}
    judge = {
        "input_shape": (2 * n_observations,),
        "output_shape": (1,),
        "standardizer": seen_by_discriminator,
        "use_actions": False,
        "use_next_states": True,
        "optimizer": adam,
        "batch_size": 8,
    }
    if algorithm == "gail":
        activations = ["tanh"] * len(hidden) + ["identity"]
        judge |= {"network": DiscriminatorNetwork, "n_features": hidden, "activations": activations, "squeeze_out": False}
    else:
        plain = functools.partial(FullyConnectedNetwork, standardizer=None, squeeze_out=False)
        encoder = plain((2 * n_observations,), (hidden[-1],), hidden[:-1], ["relu"] * len(hidden))
        decoder = plain((3,), (1,), [], ["identity"], initializers=[NormcInitializer(0.1)])
        judge |= {"network": VariationalNet, "z_size": 3, "encoder_net": encoder, "decoder_net": decoder}
    return {
        "mdp_info": mdp_info(),
        "policy_class": GaussianTorchPolicy,
        "policy_params": to_actions | {"output_shape": (n_actions,), "std_0": std_0},
        "sw": None,
        "discriminator_params": judge | discriminator,
        "critic_params": to_values | {"loss": torch.nn.functional.mse_loss},
        "trpo_standardizer": standardizer,
        "D_standardizer": seen_by_discriminator,
        "train_D_n_th_epoch": 1,
        "demonstrations": demonstrations(),
        "use_next_states": True,
        "act_mask": [],
    }


def gail(**changes):
    """Return a GAIL_TRPO agent. changes: keywords in place of those of `pieces`."""
    from imitation_lib.imitation import GAIL_TRPO
    from imitation_lib.utils import GailDiscriminatorLoss

    return GAIL_TRPO(**pieces("gail") | {"loss": GailDiscriminatorLoss()} | changes)


def vail(**changes):
    """Return a VAIL_TRPO agent. changes: keywords in place of those of `pieces`."""
    from imitation_lib.imitation import VAIL_TRPO
    from imitation_lib.utils import VDBLoss

    return VAIL_TRPO(**pieces("vail") | {"loss": VDBLoss(info_constraint=0.5, lr_beta=0.01)} | changes)
