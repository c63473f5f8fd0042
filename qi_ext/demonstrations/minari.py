"""Read and write demonstrations as local datasets of Minari (minari.farama.org): an episode is a segment.

Episodes of `write` are read as they were, because their infos and metadata hold what Minari has no place for. Of others, such
as those of Minari's `DataCollector`, the last observation is left out: no action was taken in it.
"""

import json
import math
import re
import shutil
import warnings
from dataclasses import replace
from typing import NotRequired

import numpy as np
from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict  # of typing, pydantic takes none before Python 3.12

from qi_ext.demonstrations import npz
from qi_ext.demonstrations.formats import from_arrays, require_ours
from qi_ext.robot import a1
from qi_ext.utils.errors import UserError
from qi_ext.utils.files import require_writable
from qi_ext.utils.reading import open_regular, read_json
from qi_ext.utils.words import in_one_line

PREFIX = "minari:"  # of a dataset's id, where demonstrations are named
LABEL = "expert_action"
MAX_LINKS = 200_000  # arrays and groups of a file
MAX_DEPTH = 8  # of groups in each other
MAX_SPACE = 100_000  # numbers of an observation or action
# Infos of an episode that hold arrays of our format, a row for each observation.
INFOS = {"actions": LABEL, "executed_actions": "executed_action", "external_force": "external_force"}


class _Metadata(TypedDict):
    """What is used of a dataset's metadata.json."""

    __pydantic_config__ = ConfigDict(extra="allow")

    total_episodes: int
    observation_space: NotRequired[str]
    action_space: NotRequired[str]


_METADATA = TypeAdapter(_Metadata)


def read(dataset_id):
    """Return `Demonstrations` from a local dataset, as `formats.from_arrays` does. Raises UserError where it holds none.

    Nothing is unpickled or executed: arrays come from HDF5, all else from JSON.
    """
    where = PREFIX + dataset_id
    minari, path = _found(dataset_id, "demonstrations")
    if not path.is_dir():
        raise UserError(f"demonstrations: {where}: no such dataset in {path.parent}; `minari list local` shows those there are")
    try:
        _require_harmless(path / "data", where)
        dataset = minari.load_dataset(dataset_id)
        episodes = list(dataset)
        metadata = list(dataset.storage.get_episode_metadata(dataset.episode_indices))
        _require_episodes(episodes, where)
        ours = all("initial_state" in own for own in metadata)
        arrays = _ours(episodes, metadata, dataset.storage.metadata) if ours else _recorded(episodes)
    except UserError:
        raise
    except Exception as error:  # Minari checks by assertions, and hands on whatever its storage raises
        reason = in_one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"demonstrations: {where}: cannot be read: {reason}; write or record it again") from None
    demonstrations = from_arrays(arrays, where)
    return demonstrations if ours else replace(demonstrations, source=f"recorded: {where}")


def write(dataset_id, demonstrations, env, made_by=""):
    """Write a new local dataset, whole or not at all: actions are the executed ones, truncation ends an episode.

    env: `gymnasium.make("qi_ext.tasks:QuadrupedDirection-v0", ...)`, whose task gives the rewards, and which Minari's
    `recover_environment` makes again. made_by: the command line that recorded them, kept as the description.
    Raises UserError where one of the arrays is None or the dataset cannot be made.
    """
    require_ours(demonstrations, PREFIX + dataset_id)
    minari, path = require_new(dataset_id, "demonstrations")
    from minari.data_collector import EpisodeBuffer

    task = env.unwrapped.quadruped.task
    episodes, metadata = [], []
    for i, command in enumerate(demonstrations.commands):
        rows = demonstrations.segment(i)
        states, actions = demonstrations.states[rows], demonstrations.executed_actions[rows][:-1]
        infos = {info: getattr(demonstrations, name)[rows] for name, info in INFOS.items()}
        infos |= {name: np.full(len(states), getattr(command, name)) for name in ("direction_deg", "speed")}
        rewards = task.reward(states[:-1], actions, states[1:])
        ends = np.arange(len(actions)) == len(actions) - 1
        episodes.append(EpisodeBuffer(None, None, None, states, actions, rewards, np.zeros_like(ends), ends, infos))
        metadata.append({"kind": demonstrations.kind[i], "initial_state": demonstrations.initial_state[i]})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an author that is not given, and the like
            dataset = minari.create_dataset_from_buffers(
                dataset_id, episodes, env, algorithm_name=demonstrations.source, description=made_by or None
            )
        dataset.storage.update_episode_metadata(metadata)
        dataset.storage.update_metadata({"source": demonstrations.source, "synthetic": bool(demonstrations.synthetic)})
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def require_new(dataset_id, option):
    """Return Minari and the path of a new dataset. Raises UserError, naming `option`, unless one can be made with this id."""
    minari, path = _found(dataset_id, option)
    if path.exists():
        raise UserError(f"{option}: {path} is there already; choose another version, or first `minari delete {dataset_id}`")
    require_writable(next(parent for parent in path.parents if parent.exists()), option)
    return minari, path


def _found(dataset_id, option):
    """Return Minari, and the path of a dataset with this id, there or not. Raises UserError, naming `option`."""
    try:
        import h5py  # noqa: F401  (which Minari itself misses only later)
        import minari
        from minari.dataset.minari_dataset import parse_dataset_id
        from minari.storage.datasets_root_dir import get_dataset_path
    except ModuleNotFoundError as error:
        raise UserError(f'{option}: {error.name} is not installed; pip install "minari[hdf5]"') from None
    try:
        parse_dataset_id(dataset_id)
        return minari, get_dataset_path(dataset_id)
    except (TypeError, ValueError):  # the former where it has no version
        raise UserError(f"{option}: {dataset_id!r} is no id of a dataset, such as quadruped/trot-hard-v0") from None


def _require_harmless(data, where):
    """Raise UserError where Minari would execute what the files in `data` name, wait on one, or read more than is allowed."""
    import h5py

    try:
        metadata = read_json(data / "metadata.json", _METADATA)
        # Only then its size is known before it is read.
        if metadata.get("data_format") != "hdf5":
            raise UserError("its data_format is not hdf5, the only one that is read")
        # Minari takes spaces that are missing from the environment of env_spec, whose entry point can be any function.
        if not {"observation_space", "action_space"} <= metadata.keys():
            raise UserError("metadata.json has no spaces, as of Minari before 0.5")
        for name in ("observation_space", "action_space"):
            _require_small_space(json.loads(metadata[name]), name)
        with open_regular(data / "main_data.hdf5") as opened, h5py.File(opened, "r") as file:
            left = [npz.MAX_BYTES, MAX_LINKS]
            _require_small(file, left, 0)
            if metadata["total_episodes"] > len(file):
                raise UserError(f"it has {len(file)} episodes, and metadata.json says {metadata['total_episodes']}")
    except UserError as error:
        raise UserError(f"demonstrations: {where}: cannot be read: {error}; write or record it again") from None


def _require_small_space(space, name):
    """Raise UserError where a space, as Minari's JSON has it, would make arrays larger than anything that is learned from."""
    if isinstance(space, dict):
        shape = space.get("shape", [])
        sizes = shape if isinstance(shape, list) else [shape]
        small = all(isinstance(n, int) and 0 <= n <= MAX_SPACE for n in sizes) and math.prod(sizes) <= MAX_SPACE
        if not small or not re.fullmatch("(float|u?int|bool)[0-9]{0,2}", str(space.get("dtype", "float64"))):
            raise UserError(f"{name} is of a shape or type that nothing here has")
    for each in space.values() if isinstance(space, dict) else space if isinstance(space, list) else ():
        if isinstance(each, dict | list):
            _require_small_space(each, name)


def _require_small(group, left, depth):
    """Raise UserError where what an HDF5 group holds is not in its own file, or more than `left`: [bytes, links]."""
    import h5py

    _require_small_attributes(group, left)
    for name in group:
        left[1] -= 1
        if left[1] < 0 or depth > MAX_DEPTH:
            raise UserError(f"holds more than {MAX_LINKS:,} arrays, or deeper than {MAX_DEPTH} levels")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise UserError(f"{name!r:.100} is a link to elsewhere, which is not followed")
        item = group[name]
        if isinstance(item, h5py.Group):
            _require_small(item, left, depth + 1)
            continue
        if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual or item.dtype.hasobject:
            raise UserError(f"{name!r:.100} is no plain array in this file")
        _require_small_attributes(item, left)
        _take(item.nbytes, left)


def _require_small_attributes(item, left):
    for name in item.attrs:
        attribute = item.attrs.get_id(name)
        _take(attribute.get_storage_size(), left)


def _take(size, left):
    left[0] -= size
    if left[0] < 0:
        raise UserError(f"unpacks to more than the {npz.MAX_BYTES / 2**30:.0f} GiB allowed")


def _require_episodes(episodes, where):
    if not episodes or min(map(len, episodes)) < 2:
        raise UserError(f"demonstrations: {where}: must have episodes, each of at least 2 steps; leave out what is shorter")
    for episode in episodes:
        for name, rows, width in (("observations", 1, a1.N_OBSERVATIONS), ("actions", 0, a1.N_ACTIONS)):
            array, shape = getattr(episode, name), (len(episode) + rows, width)
            found = getattr(array, "shape", f"a {type(array).__name__}")
            if found != shape:
                what = f"{name} of episode {episode.id} must have shape {shape}, not {found}"
                raise UserError(f"demonstrations: {where}: {what}; record them in qi_ext.tasks:QuadrupedDirection-v0")


def _ours(episodes, metadata, whole):
    """Return the arrays of our format. whole: the dataset's metadata."""
    return {name: np.concatenate([episode.infos[info] for episode in episodes]) for name, info in INFOS.items()} | {
        "states": np.concatenate([episode.observations for episode in episodes]),
        "segment_bounds": np.cumsum([0, *(len(episode.observations) for episode in episodes)]),
        "command": np.array([[episode.infos[name][0] for name in ("direction_deg", "speed")] for episode in episodes]),
        "kind": np.array([own["kind"] for own in metadata]),
        "initial_state": np.stack([own["initial_state"] for own in metadata]),
        "source": np.array(whole["source"]),
        "synthetic": np.array(whole["synthetic"]),
    }


def _recorded(episodes):
    """Return the arrays of loco-mujoco's perfect format."""
    labels = [(episode.infos or {}).get(LABEL, episode.actions)[: len(episode)] for episode in episodes]
    return {
        "states": np.concatenate([episode.observations[:-1] for episode in episodes]),
        "actions": np.concatenate(labels),
        "last": np.concatenate([np.arange(len(episode)) == len(episode) - 1 for episode in episodes]),
    }
