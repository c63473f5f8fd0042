"""Patch of TRPO's conjugate gradient: on the CPU, search direction and residual do not share memory."""

from patches.mushroom_rl.library import LIBRARY


def _probe_cg():
    import numpy as np
    import torch
    from mushroom_rl.algorithms.actor_critic import TRPO

    n = 6
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    matrix = (basis * np.geomspace(1.0, 30.0, n)) @ basis.T
    b = np.linspace(1.0, 2.0, n)

    class Quadratic(TRPO):
        def __init__(self):
            self._n_epochs_cg = lambda: n
            self._cg_residual_tol = lambda: 0.0

        def _fisher_vector_product(self, p, obs, old_pol_dist):
            return torch.from_numpy(matrix @ p)

    x = Quadratic()._conjugate_gradient(torch.from_numpy(b.copy()), None, None)
    residual = np.linalg.norm(matrix @ x - b) / np.linalg.norm(b)
    return "" if residual < 1e-6 else f"after {n} steps in {n} dimensions the relative residual is {residual:.2g}, not 0"


@LIBRARY.patch(
    "cg-aliasing",
    target="mushroom_rl.algorithms.actor_critic.deep_actor_critic.trpo:TRPO._conjugate_gradient",
    sees="on the CPU, search direction and residual begin as the same memory, so the first step spoils the direction: policy "
    "steps are worse than those of the same code on a GPU",
    remedy="the right-hand side is handed over so that each reading of it is a copy",
    changes_results="TRPO on the CPU takes other policy steps, those that it takes on a GPU",
    default=False,
    probe=_probe_cg,
)
def _cg_aliasing(edits):
    from mushroom_rl.algorithms.actor_critic import TRPO

    @edits.wrap(TRPO, "_conjugate_gradient")
    def conjugate_gradient(original, self, b, *arguments, **keywords):
        return original(self, _Copied(b), *arguments, **keywords)


class _Copied:
    """Tensor whose `detach().cpu().numpy()` is a copy each time."""

    def __init__(self, tensor):
        self._tensor = tensor

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self._tensor.detach().cpu().numpy().copy()
