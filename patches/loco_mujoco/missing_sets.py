"""Patch of the error where a data set is not installed: it says which, and how to download it."""

from pathlib import Path

from patches.library import crash
from patches.loco_mujoco.library import LIBRARY
from patches.loco_mujoco.synthetic import data_sets, quiet

_SMALL = "mini_datasets"


def _package():
    import loco_mujoco

    return Path(loco_mujoco.__file__).resolve().parent


def _need(path):
    """Raise FileNotFoundError where `path` is that of a data set of loco-mujoco, and missing."""
    package = _package()
    path = Path(path).absolute()
    if path.exists() or not path.is_relative_to(package / "datasets"):
        return
    full = Path(*(part for part in path.parts if part != _SMALL))
    if _SMALL in path.parts and full.exists():
        raise FileNotFoundError(
            f"loco-mujoco: the small data set {path.relative_to(package)} is missing in {package}; "
            "its package does not ship it: leave out debug=True to use the full one, which is there"
        )
    which = next((kind for kind in ("real", "perfect") if kind in full.relative_to(package).parts), None)
    command = f"loco-mujoco-download-{which}" if which else "loco-mujoco-download"
    raise FileNotFoundError(
        f"loco-mujoco: data set {full.relative_to(package)} is missing in {package}; download it with: {command}"
    )


def _probe():
    quiet()
    from loco_mujoco import LocoEnv

    with data_sets():
        seen = crash(LocoEnv.make, "UnitreeA1.simple")
    named = "download it with: loco-mujoco-download" in seen and "real/walk_straight.npz" in seen
    return "" if named else seen or "no error without a data set"


@LIBRARY.patch(
    "missing-sets",
    target="loco_mujoco.environments.base:LocoEnv.load_trajectory, load_dataset_and_get_traj_files",
    sees="without a data set, FileNotFoundError of a path with mini_datasets in it, which is not in the package and which "
    "nobody named",
    remedy="one FileNotFoundError that says which data set is missing, where it was looked for and which command downloads it",
    upstream="https://github.com/robfiras/loco-mujoco/issues/16",
    probe=_probe,
)
def _install(edits):
    from loco_mujoco.environments import UnitreeA1
    from loco_mujoco.environments.base import LocoEnv

    @edits.wrap(LocoEnv, "load_trajectory")
    def load_trajectory(original, self, traj_params, *arguments, **keywords):
        if traj_params.get("traj_path") is not None:
            _need(traj_params["traj_path"])
        return original(self, traj_params, *arguments, **keywords)

    @edits.wrap(UnitreeA1, "load_dataset_and_get_traj_files")
    @edits.wrap(LocoEnv, "load_dataset_and_get_traj_files")
    def load_dataset(original, self, dataset_path, *arguments, **keywords):
        _need(_package() / dataset_path)
        return original(self, dataset_path, *arguments, **keywords)
