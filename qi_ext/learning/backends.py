"""Which agents a config asks for: ours, or imitation-lib's."""

from qi_ext.learning.gail import GAIL, VAIL
from qi_ext.utils.errors import UserError


def agent_class(config):
    """The class of the agent, called with (mdp_info, demonstrations, config, seed, device).

    The backend imitation_lib patches imitation-lib and mushroom-rl in this process. Raises UserError where imitation-lib is not
    installed, or is not the one that the patches are for.
    """
    if config.backend == "native":
        return {"gail": GAIL, "vail": VAIL}[config.algorithm]
    import patches
    from patches.imitation_lib.library import COMMIT, found_commit

    found = found_commit()
    if found != COMMIT:
        what = "is not installed" if found is None else f"is {found}, and the patches are for {COMMIT}"
        raise UserError(
            f"--backend: imitation-lib {what}; install it: python -m pip install --no-deps -r requirements-upstream.txt"
        )
    patches.apply("mushroom_rl", "imitation_lib")
    from qi_ext.learning.imitation_lib import PublishedAgent

    return PublishedAgent
