"""Every probe sees the fault before its patch, and not after. imitation-lib's are in upstream/."""

import mujoco
import pytest

from patches import libraries
from patches.probing import probe_all

pytestmark = pytest.mark.extensive

NAMES = ("mushroom_rl", "loco_mujoco", "experiment_launcher")
EXTRAS = ("experiment_launcher",)
FAULTS_OF_MUJOCO_4 = ("mushroom_rl/blow-up-aborts",)
PATCHES = [patch for name in NAMES for patch in libraries()[name].patches]


@pytest.fixture(scope="module")
def probed():
    """Results of all probes, {full name of the patch: Probed}."""
    return {result.state.patch.full_name: result for result in probe_all(*NAMES)}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.full_name)
def test_a_probe_sees_the_fault_before_its_patch_and_not_after(probed, patch):
    library = libraries()[patch.library]
    version = library.found()
    if version is None and patch.library in EXTRAS:
        pytest.skip(f"{library.distribution} is not installed; it is an extra")
    assert version in patch.versions, f"{library.distribution} {version}: the patch is for {' or '.join(patch.versions)}"
    if patch.full_name in FAULTS_OF_MUJOCO_4 and mujoco.__version__ < "4":
        pytest.skip(f"MuJoCo {mujoco.__version__} does not have this fault")
    result = probed[patch.full_name]
    assert result.holds, (result.before, result.after, result.error)
