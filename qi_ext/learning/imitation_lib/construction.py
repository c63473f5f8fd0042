"""The published agents, put together from a table of settings."""

import inspect

import torch
from imitation_lib.imitation import GAIL_TRPO, VAIL_TRPO
from imitation_lib.utils import (
    DiscriminatorNetwork,
    FullyConnectedNetwork,
    GailDiscriminatorLoss,
    NormcInitializer,
    Standardizer,
    VariationalNet,
    VDBLoss,
)
from mushroom_rl.policy import GaussianTorchPolicy

from qi_ext.learning.networks import Activation


def build_agent(
    mdp_info,
    dataset,
    algorithm,
    use_cuda,
    writer,
    *,
    discriminator_input,
    policy_hidden,
    initial_std,
    critic_hidden,
    critic_learning_rate,
    critic_batch_size,
    critic_epochs,
    discriminator_hidden,
    discriminator_learning_rate,
    discriminator_batch_size,
    discriminator_every,
    entropy_coefficient,
    max_kl,
    gae_lambda,
    line_search_steps,
    cg_iterations,
    cg_damping,
    **bottleneck,
):
    """Return GAIL_TRPO or VAIL_TRPO, put together as in loco-mujoco's examples/imitation_learning.

    mdp_info: mushroom-rl's MDPInfo. dataset: of `Demonstrations.dataset`. algorithm: gail or vail. writer: has
    `add_scalar(tag, value, step)`. discriminator_input: state, next_state or action. bottleneck: `VAIL_SETTINGS` for vail.
    """
    n_observations, n_actions = mdp_info.observation_space.shape[0], mdp_info.action_space.shape[0]
    more_inputs = {"state": 0, "next_state": n_observations, "action": n_actions}[discriminator_input]
    standardizer, seen = (Standardizer(use_cuda=use_cuda) for _ in range(2))

    def network(hidden, output_shape, **more):
        initializers = [NormcInitializer(1.0) for _ in hidden] + [NormcInitializer(0.001)]
        return {
            "network": FullyConnectedNetwork,
            "input_shape": (n_observations,),
            "output_shape": output_shape,
            "n_features": list(hidden),
            "activations": [Activation.NAME] * len(hidden) + ["identity"],
            "initializers": initializers,
            "standardizer": standardizer,
            "use_cuda": use_cuda,
        } | more

    discriminator = {
        "optimizer": _adam(discriminator_learning_rate),
        "batch_size": discriminator_batch_size,
        "input_shape": (n_observations + more_inputs,),
        "output_shape": (1,),
        "use_actions": discriminator_input == "action",
        "use_next_states": discriminator_input == "next_state",
        "standardizer": seen,
        "use_cuda": use_cuda,
    }
    if algorithm == "vail":
        agent, more = VAIL_TRPO, _bottleneck(discriminator["input_shape"], list(discriminator_hidden), **bottleneck)
        loss = more.pop("loss")
        discriminator |= more
    else:
        agent, loss = GAIL_TRPO, GailDiscriminatorLoss()
        hidden = list(discriminator_hidden)
        discriminator |= {"network": DiscriminatorNetwork, "n_features": hidden, "squeeze_out": False}
        discriminator["activations"] = ["tanh"] * len(hidden) + ["identity"]
    critic = network(critic_hidden, (1,), optimizer=_adam(critic_learning_rate), squeeze_out=False)
    return agent(
        mdp_info=mdp_info,
        policy_class=GaussianTorchPolicy,
        policy_params=network(policy_hidden, (n_actions,), std_0=initial_std),
        sw=writer,
        discriminator_params=discriminator,
        critic_params=critic | {"loss": torch.nn.functional.mse_loss, "batch_size": critic_batch_size},
        critic_fit_params={"n_epochs": critic_epochs},
        trpo_standardizer=standardizer,
        D_standardizer=seen,
        train_D_n_th_epoch=discriminator_every,
        demonstrations=dataset,
        act_mask=None if discriminator_input == "action" else [],
        use_next_states=discriminator_input == "next_state",
        loss=loss,
        ent_coeff=entropy_coefficient,
        max_kl=max_kl,
        lam=gae_lambda,
        n_epochs_line_search=line_search_steps,
        n_epochs_cg=cg_iterations,
        cg_damping=cg_damping,
    )


def _bottleneck(input_shape, hidden, *, information_constraint, code_size, beta_learning_rate):
    """Return VAIL's loss, and how its network is made."""
    *hidden, width = hidden
    loss = VDBLoss(info_constraint=information_constraint, lr_beta=beta_learning_rate)
    encoder = FullyConnectedNetwork(input_shape, (width,), hidden, [Activation.NAME] * (len(hidden) + 1))
    decoder = FullyConnectedNetwork((code_size,), (1,), [], ["identity"], initializers=[NormcInitializer(0.1)])
    return {"loss": loss, "network": VariationalNet, "z_size": code_size, "encoder_net": encoder, "decoder_net": decoder}


# Settings of the agents, by the config's names; those of VAIL come on top.
GAIL_SETTINGS = inspect.getfullargspec(build_agent).kwonlyargs
VAIL_SETTINGS = inspect.getfullargspec(_bottleneck).kwonlyargs


def _adam(learning_rate):
    return {"class": torch.optim.Adam, "params": {"lr": learning_rate, "weight_decay": 0.0}}
