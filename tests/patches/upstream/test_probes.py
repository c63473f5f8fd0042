"""Every probe of imitation-lib's patches: it sees the fault before, and not after."""

import pytest

from patches import libraries
from patches.probing import probe_all

PATCHES = libraries()["imitation_lib"].patches


@pytest.fixture(scope="module")
def probed():
    return {result.state.patch.full_name: result for result in probe_all("imitation_lib")}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_a_probe_sees_the_fault_before_its_patch_and_not_after(probed, patch):
    result = probed[patch.full_name]
    assert result.holds, (result.before, result.after, result.error)
