"""A trained agent that acts: the policy's forward pass in numpy, read from a small safe file."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from qi_ext.robot import a1, mirror
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import write_whole
from qi_ext.utils.limits import MOST_CHARACTERS_OF_A_LINE
from qi_ext.utils.reading import NoSuchFile
from qi_ext.utils.tensor_file import read_safetensors, to_safetensors

__all__ = ["PRETRAINED", "Actor", "load_agent", "save_agent"]

FORMAT_VERSION = "2"  # 1 was the same without a symmetry
SYMMETRIES = ("mirror", "none")
ACTIVATIONS: dict[str, Callable] = {"relu": lambda x: np.maximum(x, 0.0), "tanh": np.tanh}
MAX_BYTES = 2**30  # of a file
MAX_LAYERS, MAX_WIDTH = 65, 65536
LARGEST_OBSERVATION, LARGEST_ACTION = 1e6, 1e36  # float32 ends at 3e38
LARGEST_LOG_STD = 50.0
PRETRAINED = Path(__file__).with_name("pretrained")


class Actor:
    """A Gaussian policy as numpy arrays, float32: normalizer, hidden layers with their activation, linear mean, constant std.

    Where its symmetry is `mirror`, its action in the mirrored state is the mirrored action: the mean action is the average of
    the network's output for the state, and the mirrored output for the mirrored state.
    """

    def __init__(
        self,
        layers: Sequence[tuple[np.ndarray, np.ndarray]],
        observation_mean: np.ndarray,
        observation_inverse_std: np.ndarray,
        log_std: np.ndarray,
        metadata: Mapping[str, str] | None = None,
        symmetry: str = "none",
        activation: str = "relu",
    ) -> None:
        """layers: [(weight (out, in), bias (out,)), ...]. Statistics of observations, (n,). log_std: of actions, (m,).

        symmetry: none, or mirror, of an A1 only. activation: a key of `ACTIVATIONS`.
        """
        # Stored transposed and contiguous: one row times a matrix is what acting does at every step.
        self.layers = [(np.ascontiguousarray(weight.T), bias) for weight, bias in layers]
        self.observation_mean = observation_mean
        self.observation_inverse_std = observation_inverse_std
        self._log_std = log_std
        self.std = np.exp(log_std)
        self.metadata = dict(metadata or {})
        self.symmetry = symmetry
        self.activation = activation

    def mean(self, observations: ArrayLike) -> np.ndarray:
        """Return mean actions, (..., m), for observations, (..., n)."""
        observations = np.asarray(observations, dtype=np.float32)
        if self.symmetry == "none":
            return self._network(observations)
        direct, mirrored = self._network(np.stack([observations, mirror.mirror_observations(observations)]))
        return np.float32(0.5) * (direct + mirror.mirror_actions(mirrored))

    def _network(self, observations: np.ndarray) -> np.ndarray:
        activate = ACTIVATIONS[self.activation]
        x = (observations - self.observation_mean) * self.observation_inverse_std
        for weight, bias in self.layers[:-1]:
            x = activate(x @ weight + bias)
        weight, bias = self.layers[-1]
        return x @ weight + bias

    def act(
        self, observation: ArrayLike, deterministic: bool = True, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Return actions, (..., m), float32, not clipped, for observations, (..., n).

        generator: a `numpy.random.Generator`, needed when not deterministic. Raises ValueError for a wrong shape,
        and where an observation is not finite or not real.
        """
        if np.shape(observation)[-1:] != self.observation_mean.shape:
            raise ValueError(
                f"act: observations must have shape (..., {len(self.observation_mean)}), not {np.shape(observation)}"
            )
        if np.asarray(observation).dtype.kind not in "biuf":
            raise ValueError(f"act: observations must be real numbers, not {np.asarray(observation).dtype}")
        with np.errstate(over="ignore"):
            observation = np.asarray(observation, dtype=np.float32)
        if not np.all(np.isfinite(observation)):
            raise ValueError("act: an observation holds a NaN or an infinite number; end the episode before it is acted on")
        action = self.mean(observation)
        if deterministic:
            return action
        if generator is None:
            raise ValueError("act: a stochastic action needs a numpy.random.Generator, passed as generator=")
        return action + self.std * generator.standard_normal(action.shape, dtype=np.float32)


def save_agent(path: str | Path, actor: Actor, metadata: dict[str, str]) -> None:
    """Write `actor` as a file for `load_agent`, whole or not at all. metadata: {str: str}, beside layers and symmetry."""
    tensors = {
        "observation_mean": actor.observation_mean,
        "observation_inverse_std": actor.observation_inverse_std,
        "log_std": actor._log_std,
    }
    sizes = [len(actor.observation_mean)]
    for i, (weight, bias) in enumerate(actor.layers):
        tensors |= {f"layer{i}.weight": np.ascontiguousarray(weight.T), f"layer{i}.bias": bias}
        sizes.append(len(bias))
    own = {"format_version": FORMAT_VERSION, "layers": ",".join(map(str, sizes))}
    own |= {"symmetry": actor.symmetry, "activation": actor.activation}
    write_whole(path, to_safetensors(tensors, metadata | own))


def agent_path(name: str | Path) -> Path:
    """Return the path of an agent's file: `name` itself, or else the packaged agent of that name, such as `pretrained/simple`.

    Raises UserError where the package has no agent of that name.
    """
    path = Path(name)
    # Not Path's own is_file, which raises where a name is too long.
    if path.parts[:-1] != (PRETRAINED.name,) or os.path.isfile(path):
        return path
    there = {file.stem: file for file in sorted(PRETRAINED.glob("*.safetensors"))}
    if path.name not in there:
        names = ", ".join(f"{PRETRAINED.name}/{stem}" for stem in there) or "none"
        raise UserError(f"agent: no such file: {path}, and no pretrained agent of that name; there are: {names}")
    return there[path.name]


def load_agent(path: str | Path) -> Actor:
    """Return the agent saved at `path`, an `Actor`; its `metadata` hold task, algorithm, step, demonstrations and versions.

    path: of a file, or `pretrained/simple`, `hard` or `follow`, which come with the package. Needs numpy only (no torch).
    Raises UserError where the file is missing, damaged, or was not written by `save_agent`.
    """
    path = agent_path(path)
    try:
        tensors, metadata = read_safetensors(path, MAX_BYTES)
    except NoSuchFile:
        raise UserError(f"agent: no such file: {path}; give the agent.safetensors of a run directory") from None
    except UserError as error:
        hint = "; python -m patches.shrink makes an agent of ours of it" if path.suffix == ".msh" else ""
        hint = f"; the agent of a run is {path / 'agent.safetensors'}" if os.path.isdir(path) else hint
        raise UserError(f"agent: {error}{hint}") from None
    if any(len(text) > MOST_CHARACTERS_OF_A_LINE for item in metadata.items() for text in item):
        raise UserError(
            f"agent: {path}: its metadata have a text of more than {MOST_CHARACTERS_OF_A_LINE:,} characters; it is damaged"
        )
    if metadata.get("format_version") not in ("1", FORMAT_VERSION):
        raise UserError(
            f"agent: {path}: format version {metadata.get('format_version')!r:.100}, but this program reads {FORMAT_VERSION!r}"
        )
    return _actor(tensors, metadata, path)


def _actor(tensors: dict[str, np.ndarray], metadata: dict[str, str], path: Path) -> Actor:
    try:
        sizes = [int(size) for size in metadata["layers"].split(",", MAX_LAYERS)]
        if len(sizes) < 2 or not all(1 <= size <= MAX_WIDTH for size in sizes):
            raise ValueError
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        shapes: dict[str, tuple[int, ...]] = {
            "log_std": (sizes[-1],),
            "observation_mean": (sizes[0],),
            "observation_inverse_std": (sizes[0],),
        }
        for i, (n_in, n_out) in enumerate(pairs):
            shapes |= {f"layer{i}.weight": (n_out, n_in), f"layer{i}.bias": (n_out,)}
    except (KeyError, ValueError):
        raise UserError(f"agent: {path}: the metadata do not say the layer sizes; this is no agent of ours") from None
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != shape or tensor.dtype != np.float32 or not np.all(np.isfinite(tensor)):
            raise UserError(f"agent: {path}: {name} must be finite float32 of shape {shape}; the file is damaged")
    if tensors["log_std"].max() > LARGEST_LOG_STD:
        raise UserError(
            f"agent: {path}: log_std reaches {tensors['log_std'].max():g}, at most {LARGEST_LOG_STD:g}; it is damaged"
        )
    # With finite weights, too, actions can overflow.
    reach = LARGEST_OBSERVATION * float(np.abs(tensors["observation_inverse_std"]).max())
    for i in range(len(pairs)):
        weight, bias = (np.abs(tensors[f"layer{i}.{part}"].astype(np.float64)) for part in ("weight", "bias"))
        reach = weight.sum(axis=1).max() * reach + bias.max()
    if reach > LARGEST_ACTION:
        raise UserError(f"agent: {path}: its weights are so large that its actions may not be finite; it is damaged")
    symmetry, of_a1 = metadata.get("symmetry", "none"), (sizes[0], sizes[-1]) == (a1.N_OBSERVATIONS, a1.N_ACTIONS)
    if symmetry not in SYMMETRIES or (symmetry == "mirror" and not of_a1):
        raise UserError(
            f"agent: {path}: the metadata say that its symmetry is {symmetry!r:.100}, which it cannot be; it is damaged"
        )
    activation = metadata.get("activation", "relu")  # the only one before it was written
    if activation not in ACTIVATIONS:
        raise UserError(
            f"agent: {path}: the activation is {activation!r:.100}, but this program knows {', '.join(ACTIVATIONS)}; "
            "a newer one may know it"
        )
    return Actor(
        [(tensors[f"layer{i}.weight"], tensors[f"layer{i}.bias"]) for i in range(len(pairs))],
        tensors["observation_mean"],
        tensors["observation_inverse_std"],
        tensors["log_std"],
        metadata,
        symmetry,
        activation,
    )
