"""Patch of generalized advantages: those of one rollout do not depend on the rollout behind it in the batch."""

from patches.mushroom_rl.library import LIBRARY


def _probe_gae():
    import numpy as np
    from mushroom_rl.utils.value_functions import compute_gae

    def gae(rows):
        states, reached, rewards = (part[rows] for part in (s, ss, r))
        n = len(states)
        return compute_gae(lambda x: x[:, :1], states, reached, rewards, np.zeros(n), np.zeros(n), 0.99, 0.95)[1]

    # Two rollouts of four steps each, one behind the other in the batch, neither ended.
    path = np.random.default_rng(0).standard_normal((2, 5, 2))
    s, ss, r = path[:, :-1].reshape(-1, 2), path[:, 1:].reshape(-1, 2), np.ones(8)
    joined, apart = gae(slice(0, 8)), np.concatenate([gae(slice(0, 4)), gae(slice(4, 8))])
    error = np.abs(joined - apart).max()
    return "" if error == 0.0 else f"advantages of two rollouts differ by {error:.2g} from those of each alone"


@LIBRARY.patch(
    "gae-boundaries",
    target="mushroom_rl.utils.value_functions:compute_gae",
    sees="rollouts that are joined to one batch without `last` at each seam leak into each other's advantages, silently",
    remedy="a row ends its rollout also where the state it reached is not the state of the next row; batches that were right "
    "give the same numbers, bit for bit",
    probe=_probe_gae,
)
def _gae_boundaries(edits):
    import numpy as np
    from mushroom_rl.utils import value_functions

    @edits.wrap_everywhere(value_functions, "compute_gae")
    def compute_gae(original, V, s, ss, r, absorbing, last, gamma, lam):
        last = np.array(last, dtype=bool)
        leaps = np.asarray(ss)[:-1] != np.asarray(s)[1:]
        last[:-1] |= leaps.any(axis=tuple(range(1, leaps.ndim))).reshape(last[:-1].shape)
        return original(V, s, ss, r, absorbing, last, gamma, lam)
