"""imitation-lib's GAIL and VAIL, patched, as learners of our training loop."""

import contextlib

import numpy as np
import torch
from mushroom_rl.policy import Policy

from qi_ext.agents.acting import Actor, save_agent
from qi_ext.learning.imitation_lib.construction import build_agent
from qi_ext.learning.networks import Activation
from qi_ext.learning.state import StatefulAgent, to_array
from qi_ext.learning.transitions import expert_transitions

# The names of our diagnostics, by what the published agents write to TensorBoard.
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


class PublishedAgent(StatefulAgent):
    """GAIL_TRPO or VAIL_TRPO, learning as it does by itself, and acting in the pool; with the phases of `AdversarialLearner`.

    Its own `fit` is one piece, and all of it happens in `policy_step`: the phases before gather nothing, those after have
    nothing left to do. Envs act with the statistics as they were when the batch began, so acting does not add to them, as it
    does in stock `Core`; `fit` does. Everything random is drawn from a generator of the agent's own.
    """

    def __init__(
        self, mdp_info, demonstrations, algorithm, seed, device="cpu", *, discriminator_input, metadata=None, **settings
    ):
        """algorithm: gail or vail. seed: a `numpy.random.SeedSequence`. discriminator_input: state, next_state or action.

        metadata: {str: str}, written by `save`. settings: `GAIL_SETTINGS`, and with vail `VAIL_SETTINGS`.
        Raises UserError where the discriminator is to see actions and the demonstrations have none.
        """
        self.generator = np.random.default_rng(seed)
        self.device = torch.device(device)
        self._skipped = NOT_OF_GAIL if algorithm == "gail" else ()
        self._diagnostics = {}
        self._curves = _Curves()
        if discriminator_input == "action":
            _ = expert_transitions(demonstrations, "none", "cpu").actions  # raises where there are none
        dataset = demonstrations.dataset()
        with self._own_randomness():
            self.published = build_agent(
                mdp_info,
                dataset,
                algorithm,
                self.device.type == "cuda",
                self._curves,
                discriminator_input=discriminator_input,
                **settings,
            )
        self.progress = _Progress(self.published)
        # The statistics are the expert's first, since acting does not fill them.
        self.published._trpo_standardizer.update_mean_std(dataset["states"])
        super().__init__(mdp_info, PublishedPolicy(self.published.policy), metadata)

    def fit(self, dataset, **info):
        """Make one update from mushroom-rl's dataset, or a `Rollouts`. Raises FloatingPointError on what is not finite."""
        self.policy_step(self.batch(dataset))

    def batch(self, rollouts):
        """Return mushroom-rl's dataset of a `Rollouts`, whose fragments end in rows that are `last`."""
        return rollouts if isinstance(rollouts, list) else rollouts.dataset()

    def rewards(self, batch):
        """Return None: `policy_step` asks the discriminator."""

    def advantages(self, batch, rewards):
        """Return None twice: `policy_step` asks the critic."""
        return None, None

    def policy_step(self, batch, advantages=None):
        """Run the published `fit`: critic, policy and, every `discriminator_every` updates, discriminator."""
        self._curves.written.clear()
        before = self.published.policy.get_weights()
        with self._own_randomness():
            self.published.fit(batch)
        self.policy.sync()
        moved = not np.array_equal(before, self.published.policy.get_weights())
        self._diagnostics = {name: self._curves.written.get(tag) for tag, name in CURVES.items() if tag not in self._skipped}
        self._diagnostics |= {
            "std": float(self.policy.actor.std.mean()),
            "line_search_step": None if moved else 0.0,  # the published code does not tell how long it was
        }

    def fit_critic(self, batch, targets):
        """Do nothing: `policy_step` has."""

    def fit_discriminator(self, batch):
        """Do nothing: `policy_step` has."""

    def diagnostics(self):
        """Return figures of the last update, {name: float or None}."""
        return dict(self._diagnostics)

    def parts(self):
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
        """Copy the network's weights into a new `actor`. Raises FloatingPointError where they are not finite."""
        network = self._policy._mu.model.network
        layers = [(to_array(linear.weight), to_array(linear.bias)) for linear in network._linears]
        mean, std = (np.asarray(value, np.float32) for value in (network._stand.mean, network._stand.std))
        log_std = to_array(self._policy._log_sigma)
        if not all(np.isfinite(array).all() for array in (*(part for layer in layers for part in layer), mean, std, log_std)):
            raise FloatingPointError("training: policy weights are not finite: try a smaller max_kl, in a new run")
        self.actor = Actor(layers, mean, 1.0 / std, log_std, activation=Activation.NAME)

    def draw_action(self, state):
        """Draw actions, (..., 12), for observations, (..., 37), both numpy."""
        return self.actor.act(state, self.deterministic, self.generator)

    def reset(self):
        pass

    def save_agent(self, path, metadata):
        """Write the agent as of the last `sync`; see `acting.save_agent`."""
        save_agent(path, self.actor, metadata)


class _Curves:
    """The part of SummaryWriter that the published agent uses; written: {tag: the last value}."""

    def __init__(self):
        self.written = {}

    def add_scalar(self, tag, value, step=None):
        self.written[tag] = value.item() if isinstance(value, torch.Tensor) else float(value)


class _Progress:
    """Counters of the published agent, as a part of its state."""

    def __init__(self, agent):
        self._agent = agent

    def state_dict(self):
        beta = getattr(self._agent._D.model._loss, "_beta", 0.0)
        return {"updates": torch.tensor(self._agent._iter), "beta": torch.tensor(float(beta), dtype=torch.float64)}

    def load_state_dict(self, state):
        self._agent._iter = int(state["updates"])
        if hasattr(self._agent._D.model._loss, "_beta"):
            self._agent._D.model._loss._beta = float(state["beta"])
