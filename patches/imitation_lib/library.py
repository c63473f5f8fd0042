"""imitation-lib. It is on no package index, and its version number never changes, so its source tells the commit."""

import hashlib
import importlib.util
from pathlib import Path

from patches.library import Library
from patches.mushroom_rl.library import IMPORTS

COMMIT = "b097abd"
REPOSITORY = "https://github.com/robfiras/ls-iq"

# The files that the patches change, and the SHA-256 of their text at that commit, with Unix line ends.
_FILES = (
    "imitation/gail_TRPO.py",
    "imitation/vail_TRPO.py",
    "utils/math.py",
    "utils/networks.py",
    "utils/training.py",
)
_DIGEST = "cd9991b4bd14985aaa3acfdee272fcdefd2b0008535e72fdbde5a45f46526028"


def found_commit():
    """Commit of the imitation-lib that would be imported, None where there is none. Imports nothing."""
    spec = importlib.util.find_spec("imitation_lib")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    digest = hashlib.sha256()
    for name in _FILES:
        path = folder / name
        digest.update(name.encode() + path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else b"missing")
    return COMMIT if digest.hexdigest() == _DIGEST else f"of other source ({digest.hexdigest()[:7]})"


LIBRARY = Library("imitation_lib", "imitation_lib", versions=(COMMIT,), found=found_commit, imports=IMPORTS)
