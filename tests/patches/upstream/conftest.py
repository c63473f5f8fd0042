"""The real imitation-lib, from the checkout that IMITATION_LIB names, or installed; without it, every test here is skipped.

make test-upstream IMITATION_LIB=DIR
"""

import os
import sys

import pytest

CHECKOUT = os.environ.get("IMITATION_LIB", "")
if CHECKOUT:
    sys.path.insert(0, CHECKOUT)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [CHECKOUT, os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session", autouse=True)
def imitation_lib():
    """Skips where there is no imitation-lib, and fails where it is not the one that the patches are for."""
    from patches.imitation_lib.library import COMMIT, found_commit

    found = found_commit()
    if found is None and not CHECKOUT:
        pytest.skip("imitation-lib is not installed; make test-upstream IMITATION_LIB=DIR runs these against a checkout")
    assert found == COMMIT, f"the imitation-lib found is {found}, not {COMMIT}"


@pytest.fixture
def patched():
    """imitation-lib and mushroom-rl with what `patches.apply()` does unasked."""
    import patches

    patches.apply("imitation_lib", "mushroom_rl")
    yield
    patches.revert()


@pytest.fixture
def all_patched():
    """imitation-lib and mushroom-rl with all patches there are, those that change training results too."""
    import patches

    known = patches.libraries()
    patches.set_applied({patch.full_name for name in ("imitation_lib", "mushroom_rl") for patch in known[name].patches})
    yield
    patches.revert()
