"""Patch of downloading loco-mujoco's data sets."""

import contextlib
from pathlib import Path

from patches.library import Edits, crash
from patches.loco_mujoco import archives
from patches.loco_mujoco.archives import Archive
from patches.loco_mujoco.library import LIBRARY
from patches.loco_mujoco.local_site import local_site, zipped
from patches.loco_mujoco.synthetic import data_sets, quiet

REAL = (
    Archive("13737593", "humanoid_datasets_v0.4.1.zip", "humanoids/real"),
    Archive("13737593", "quadruped_datasets_v0.4.1.zip", "quadrupeds/real"),
)
PERFECT = (
    Archive("13737593", "humanoid_datasets_perfect_v0.4.1.zip", "humanoids/perfect"),
    Archive("13737593", "quadruped_datasets_perfect_v0.4.1.zip", "quadrupeds/perfect"),
)
RAW_MOCAP = (Archive("10625721", "raw_motion_capture_v0.1.zip", "data_generation/00_raw_mocap_data"),)


def _probe():
    quiet()
    import wget
    from loco_mujoco.utils import dataset

    files = {archive.name: zipped({"walk.npz": bytes(100_000)}) for archive in REAL}
    original = wget.download
    # wget leaves files in the working directory.
    with data_sets() as package, contextlib.chdir(package), local_site(files, cuts=[60], refuses="Python-urllib") as site:

        def from_site(url, out=None, bar=None):
            return original(url.replace("https://zenodo.org", site.url), out=out, bar=None)

        redirected = Edits()
        redirected.replace(wget, "download", from_site)
        redirected.replace(archives, "SITE", site.url)
        seen = crash(dataset.download_real_datasets)
        redirected.undo()
        left = sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())
    expected = [f"datasets/{archive.folder}/walk.npz" for archive in REAL]
    return "" if not seen and left == expected else f"{seen or 'no error'}; there are {', '.join(left) or 'no files'}"


@LIBRARY.patch(
    "download",
    target="loco_mujoco.utils.dataset:download_real_datasets, download_perfect_datasets, download_raw_mocap_datasets",
    sees="downloading data sets stops at servers that refuse Python's user agent, starts from zero after each interruption, "
    "and unpacks whatever came, unchecked, leaving half-written files",
    remedy="downloads name themselves, go on where they broke off, are checked against the size and checksum that the site "
    "declares, and are unpacked only when they are whole and stay within their folder; errors are one line",
    upstream="https://github.com/robfiras/loco-mujoco/issues/21",
    probe=_probe,
)
def _install(edits):
    import loco_mujoco
    from loco_mujoco.utils import dataset

    def downloader(name, chosen):
        def download():
            archives.install(chosen, Path(loco_mujoco.__file__).resolve().parent / "datasets")

        download.__name__ = download.__qualname__ = name
        archive_names = ", ".join(archive.name for archive in chosen)
        download.__doc__ = f"Download and unpack {archive_names}; raises what `patches.loco_mujoco.archives.install` does."
        edits.replace_everywhere(dataset, name, download)

    # download_all_datasets calls two of these.
    downloader("download_real_datasets", REAL)
    downloader("download_perfect_datasets", PERFECT)
    downloader("download_raw_mocap_datasets", RAW_MOCAP)
