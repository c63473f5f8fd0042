"""imitation-lib's GAIL and VAIL, patched, as agents of our training loop."""

import contextlib

import numpy as np
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
from mushroom_rl.core import Agent
from mushroom_rl.policy import GaussianTorchPolicy, Policy

from qi_ext.agents.acting import Actor, save_agent
from qi_ext.learning.gail import discriminator_inputs

# What the published agents write to TensorBoard, by our names.
CURVES = {
    "vf_loss": "critic_loss",
    "entropy": "entropy",
    "kl": "kl",
    "DiscrimLoss": "discriminator_loss",
    "D_Generator_Accuracy": "discriminator_accuracy_policy",
    "D_Expert_Accuracy": "discriminator_accuracy_expert",
    "Beta": "beta",
    "Bottleneck_Loss": "information_excess",
}
NOT_OF_GAIL = ("Beta", "Bottleneck_Loss")


class PublishedAgent(Agent):
    """GAIL_TRPO or VAIL_TRPO, learning as it does by itself, and acting in the pool.

    The pool's robots act with the statistics as they were when the batch began, so acting does not add to them, as it does in
    stock `Core`; `fit` does. Everything random is drawn from a generator of the agent's own.
    """

    def __init__(self, mdp_info, demonstrations, config, seed, device="cpu"):
        """As `qi_ext.learning.GAIL` takes them, and refuses them; config: of the backend imitation_lib."""
        self.config = config
        self.generator = np.random.default_rng(seed)
        self.device = torch.device(device)
        self.diagnostics = {}
        self._curves = _Curves()
        dataset = demonstrations.dataset()
        inputs = discriminator_inputs(config, demonstrations)
        with self._own_randomness():
            self.published = _build(mdp_info, dataset, inputs, config, self.device.type == "cuda", self._curves)
        self.progress = _Progress(self.published)
        # As ours begin too: the statistics are the expert's first, since acting does not fill them.
        self.published._trpo_standardizer.update_mean_std(dataset["states"])
        super().__init__(mdp_info, PublishedPolicy(self.published.policy))

    def fit(self, dataset, **info):
        """One update from mushroom-rl's dataset. Raises FloatingPointError on numbers that are not finite."""
        self._curves.written.clear()
        before = self.published.policy.get_weights()
        with self._own_randomness():
            self.published.fit(dataset)
        self.policy.sync()
        moved = not np.array_equal(before, self.published.policy.get_weights())
        skipped = NOT_OF_GAIL if self.config.algorithm == "gail" else ()
        self.diagnostics = {name: self._curves.written.get(tag) for tag, name in CURVES.items() if tag not in skipped} | {
            "std": float(self.policy.actor.std.mean()),
            "line_search_step": None if moved else 0.0,  # how long it was is not told
        }

    def fit_rollouts(self, rollouts):
        """One update from a `qi_ext.sampling.Rollouts`, whose fragments end in rows that are `last`."""
        self.fit(rollouts.dataset())

    def parts(self):
        """All that learning goes on from, by name; see `qi_ext.learning.state`."""
        agent = self.published
        critic, discriminator = agent._V.model, agent._D.model
        return {
            "policy.network": agent.policy._mu.model.network,
            "policy.log_std": agent.policy._log_sigma,
            "policy.generator": self.policy.generator,
            "critic": critic.network,
            "critic_optimizer": critic._optimizer,
            "discriminator": discriminator.network,
            "discriminator_optimizer": discriminator._optimizer,
            "progress": self.progress,
            "generator": self.generator,
        }

    @contextlib.contextmanager
    def _own_randomness(self):
        """The published code draws from numpy's and torch's global generators; they are seeded for it, and put back."""
        before = np.random.get_state()  # noqa: NPY002
        for_numpy, for_torch = (int(word) for word in self.generator.integers(2**32, size=2))
        on_gpu = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(on_gpu), torch.cuda.device(self.device) if on_gpu else contextlib.nullcontext():
                np.random.seed(for_numpy)  # noqa: NPY002
                torch.manual_seed(for_torch)
                yield
        finally:
            np.random.set_state(before)  # noqa: NPY002


class PublishedPolicy(Policy):
    """A GaussianTorchPolicy of FullyConnectedNetwork, acting in numpy with the weights as of the last `sync`."""

    def __init__(self, policy):
        self._policy = policy
        self.deterministic = False
        self.generator = np.random.default_rng(0)
        self.sync()

    def seed(self, seed):
        """Restart the generator of the actions' noise from an int or a `numpy.random.SeedSequence`."""
        self.generator = np.random.default_rng(seed)

    @torch.no_grad()
    def sync(self):
        """Make the acting weights those of the network. Raises FloatingPointError where they are not finite."""
        network = self._policy._mu.model.network
        layers = [(_array(linear.weight), _array(linear.bias)) for linear in network._linears]
        mean, std = (np.asarray(value, np.float32) for value in (network._stand.mean, network._stand.std))
        log_std = _array(self._policy._log_sigma)
        if not all(np.isfinite(array).all() for array in (*(part for layer in layers for part in layer), mean, std, log_std)):
            raise FloatingPointError("training: policy weights are not finite: try a smaller max_kl, in a new run")
        self.actor = Actor(layers, mean, 1.0 / std, log_std)

    def draw_action(self, state):
        """Actions, (..., 12), for observations, (..., 37), both numpy."""
        return self.actor.act(state, self.deterministic, self.generator)

    def reset(self):
        pass

    def save_agent(self, path, metadata):
        """Write the agent as of the last `sync`; see `acting.save_agent`."""
        save_agent(path, self.actor, metadata)


class _Curves:
    """What the published agent asks of a SummaryWriter; written: {tag: the last value}."""

    def __init__(self):
        self.written = {}

    def add_scalar(self, tag, value, step=None):
        self.written[tag] = value.item() if isinstance(value, torch.Tensor) else float(value)


class _Progress:
    """What the published agent counts, as a part of a checkpoint."""

    def __init__(self, agent):
        self._agent = agent

    def state_dict(self):
        beta = getattr(self._agent._D.model._loss, "_beta", 0.0)
        return {"updates": torch.tensor(self._agent._iter), "beta": torch.tensor(float(beta), dtype=torch.float64)}

    def load_state_dict(self, state):
        self._agent._iter = int(state["updates"])
        if hasattr(self._agent._D.model._loss, "_beta"):
            self._agent._D.model._loss._beta = float(state["beta"])


def _build(mdp_info, dataset, inputs, config, use_cuda, writer):
    """The agent, put together as loco-mujoco's examples/imitation_learning do it."""
    n_observations, n_actions = mdp_info.observation_space.shape[0], mdp_info.action_space.shape[0]
    standardizer = Standardizer(use_cuda=use_cuda)

    def network(hidden, output_shape, **more):
        initializers = [NormcInitializer(1.0) for _ in hidden] + [NormcInitializer(0.001)]
        return {
            "network": FullyConnectedNetwork,
            "input_shape": (n_observations,),
            "output_shape": output_shape,
            "n_features": list(hidden),
            "activations": ["relu"] * len(hidden) + ["identity"],
            "initializers": initializers,
            "standardizer": standardizer,
            "use_cuda": use_cuda,
        } | more

    seen = Standardizer(use_cuda=use_cuda)
    judge = {
        "optimizer": _adam(config.discriminator_learning_rate),
        "batch_size": config.discriminator_batch_size,
        "input_shape": (n_observations + {"states": 0, "next_states": n_observations, "actions": n_actions}[inputs[-1]],),
        "output_shape": (1,),
        "use_actions": inputs[-1] == "actions",
        "use_next_states": inputs[-1] == "next_states",
        "standardizer": seen,
        "use_cuda": use_cuda,
    }
    if config.algorithm == "vail":
        algorithm = VAIL_TRPO
        loss = VDBLoss(info_constraint=config.information_constraint, lr_beta=config.beta_learning_rate)
        judge |= {"network": VariationalNet, "z_size": config.code_size} | _encoder_and_decoder(judge["input_shape"], config)
    else:
        algorithm, loss = GAIL_TRPO, GailDiscriminatorLoss()
        hidden = list(config.discriminator_hidden)
        activations = ["tanh"] * len(hidden) + ["identity"]
        judge |= {"network": DiscriminatorNetwork, "n_features": hidden, "activations": activations, "squeeze_out": False}
    critic = network(config.critic_hidden, (1,), optimizer=_adam(config.critic_learning_rate), squeeze_out=False)
    return algorithm(
        mdp_info=mdp_info,
        policy_class=GaussianTorchPolicy,
        policy_params=network(config.policy_hidden, (n_actions,), std_0=config.initial_std),
        sw=writer,
        discriminator_params=judge,
        critic_params=critic | {"loss": torch.nn.functional.mse_loss, "batch_size": config.critic_batch_size},
        critic_fit_params={"n_epochs": config.critic_epochs},
        trpo_standardizer=standardizer,
        D_standardizer=seen,
        train_D_n_th_epoch=config.discriminator_every,
        demonstrations=dataset,
        act_mask=None if inputs[-1] == "actions" else [],
        use_next_states=inputs[-1] == "next_states",
        loss=loss,
        ent_coeff=config.entropy_coefficient,
        max_kl=config.max_kl,
        lam=config.gae_lambda,
        n_epochs_line_search=config.line_search_steps,
        n_epochs_cg=config.cg_iterations,
        cg_damping=config.cg_damping,
    )


def _encoder_and_decoder(input_shape, config):
    *hidden, width = config.discriminator_hidden
    encoder = FullyConnectedNetwork(input_shape, (width,), hidden, ["relu"] * (len(hidden) + 1))
    decoder = FullyConnectedNetwork((config.code_size,), (1,), [], ["identity"], initializers=[NormcInitializer(0.1)])
    return {"encoder_net": encoder, "decoder_net": decoder}


def _adam(learning_rate):
    return {"class": torch.optim.Adam, "params": {"lr": learning_rate, "weight_decay": 0.0}}


def _array(tensor):
    return tensor.detach().cpu().numpy().copy()
