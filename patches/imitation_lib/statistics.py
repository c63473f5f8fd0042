"""Patches of the running statistics of Standardizer: their precision, device and storage."""

import contextlib
import io

import numpy as np

from patches.imitation_lib.blocks import frozen
from patches.imitation_lib.library import LIBRARY
from patches.library import crash

_STANDARDIZER = "imitation_lib.utils.networks:Standardizer"
_UPDATE = _STANDARDIZER + ".update_mean_std"

STD_FLOOR = 0.01  # as qi_ext.learning.networks.MIN_STD


def _samples(rows=64, columns=3):
    return np.random.default_rng(0).normal(2.0, 3.0, (rows, columns)).astype(np.float32)


def _probe_floor():
    from imitation_lib.utils import Standardizer

    standardizer = Standardizer()
    standardizer.update_mean_std(np.random.default_rng(0).normal(0.0, 0.03, (100_000, 2)))
    found = float(standardizer.std[0])
    return "" if abs(found - 0.03) < 1e-3 else f"a standard deviation of 0.03 is taken for {found:.3g}"


@LIBRARY.patch(
    "standardizer-floor",
    target=_UPDATE,
    sees="no standard deviation is taken for less than 0.1; 15 of the A1's 37 observations have less",
    remedy=f"the least standard deviation is {STD_FLOOR}",
    changes_results="yes",
    default=False,
    probe=_probe_floor,
)
def _standardizer_floor(edits):
    from imitation_lib.utils import Standardizer

    @edits.wrap(Standardizer, "update_mean_std")
    def update_mean_std(original, self, x):
        original(self, x)
        variance = self._sumsq / self._count - self.mean**2
        self.std = np.sqrt(np.maximum(variance, STD_FLOOR**2))


def _probe_sums():
    from imitation_lib.utils import Standardizer

    standardizer = Standardizer()
    standardizer.update_mean_std(np.full((1, 2), 2.0**24, np.float32))
    for _ in range(8):
        standardizer.update_mean_std(np.ones((1, 2), np.float32))
    missing = 2.0**24 + 8.0 - float(np.ravel(standardizer._sum)[0])
    return "" if missing == 0.0 else f"a sum of 2^24 + 8 is short of {missing:g}"


@LIBRARY.patch(
    "standardizer-sums",
    target=_UPDATE,
    sees="the sums are float32 and stop moving at some 1e8 samples",
    remedy="adds in float64",
    changes_results="in the last bits",
    probe=_probe_sums,
)
def _standardizer_sums(edits):
    from imitation_lib.utils import Standardizer

    @edits.wrap(Standardizer, "update_mean_std")
    def update_mean_std(original, self, x):
        for name in ("_sum", "_sumsq"):  # float32 in older files
            if isinstance(getattr(self, name), np.ndarray):
                setattr(self, name, getattr(self, name).astype(np.float64))
        original(self, np.asarray(x, np.float64))


def _probe_nan():
    from imitation_lib.utils import Standardizer

    standardizer = Standardizer()
    with contextlib.suppress(FloatingPointError):
        standardizer.update_mean_std(np.array([[1.0, np.nan]]))
    standardizer.update_mean_std(_samples(columns=2))
    return "" if np.isfinite(standardizer.mean).all() else f"one NaN, and the mean is {standardizer.mean} from then on"


@LIBRARY.patch(
    "standardizer-nan",
    target=_UPDATE,
    sees="one NaN among the observations makes every later action NaN",
    remedy="raises FloatingPointError that names the columns, before any statistic has changed",
    probe=_probe_nan,
)
def _standardizer_nan(edits):
    from imitation_lib.utils import Standardizer

    @edits.wrap(Standardizer, "update_mean_std")
    def update_mean_std(original, self, x):
        finite = np.isfinite(x).all(axis=0)
        if not finite.all():
            columns = ", ".join(map(str, np.flatnonzero(~finite)))
            raise FloatingPointError(f"Standardizer: observations are not finite in columns {columns}; nothing was changed")
        original(self, x)


def _probe_device():
    import torch
    from imitation_lib.utils import Standardizer

    class Elsewhere(torch.Tensor):
        """Tensor on the meta device, which stands for a GPU: every machine has it. Zeros are read back from it."""

        def cpu(self):
            return torch.zeros(self.shape)

    standardizer = Standardizer()
    standardizer.update_mean_std(_samples())
    found = standardizer(torch.from_numpy(_samples())).dtype
    elsewhere = torch.zeros(4, 3, device="meta").as_subclass(Elsewhere)
    mixed = crash(standardizer, elsewhere)
    return mixed or ("" if found == torch.float32 else f"float32 observations come out as {found}")


@LIBRARY.patch(
    "standardizer-device",
    target=_STANDARDIZER,
    sees="on a GPU the first fit ends in 'Expected all tensors to be on the same device'; float32 becomes float64",
    remedy="normalizes on the device and in the type of the observations, whatever use_cuda says",
    upstream="https://github.com/robfiras/loco-mujoco/issues/5, https://github.com/robfiras/loco-mujoco/issues/55",
    probe=_probe_device,
)
def _standardizer_device(edits):
    import torch
    from imitation_lib.utils import networks

    def forward(self, inputs):
        if not frozen:
            observed = inputs.detach().cpu()
            self.update_mean_std(observed.numpy())
        # In float64, then rounded: bit for bit what the networks' own .float() has always given.
        mean, std = (torch.as_tensor(np.asarray(value, np.float64), device=inputs.device) for value in (self.mean, self.std))
        standardized = (inputs - mean).div(std)
        return standardized.to(inputs.dtype if inputs.is_floating_point() else torch.get_default_dtype())

    edits.replace(networks.Standardizer, "forward", forward)
    edits.replace(networks.Standardizerv2, "forward", forward)


def _probe_state_dict():
    import torch
    from imitation_lib.utils import Standardizer

    trained, fresh = Standardizer(), Standardizer()
    trained.update_mean_std(_samples())
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return "" if np.array_equal(fresh.mean, trained.mean) else f"the mean is {fresh.mean} after load_state_dict"


@LIBRARY.patch(
    "standardizer-state-dict",
    target=_STANDARDIZER,
    sees="state_dict() has no statistics, so a network restored from one acts on observations as they are",
    remedy="puts the sums and the count into state_dict(); one that has none is still taken, and leaves them as they are",
    probe=_probe_state_dict,
)
def _standardizer_state_dict(edits):
    import torch
    from imitation_lib.utils import Standardizer

    names = ("_sum", "_sumsq", "_count", "mean", "std")

    @edits.wrap(Standardizer, "_save_to_state_dict")
    def save(original, self, destination, prefix, keep_vars):
        original(self, destination, prefix, keep_vars)
        for name in names:
            destination[prefix + name] = torch.tensor(np.asarray(getattr(self, name), np.float64))

    @edits.wrap(Standardizer, "_load_from_state_dict")
    def load(original, self, state_dict, prefix, *arguments):
        for name in names:
            if prefix + name in state_dict:
                # Taken out, or torch would call them unexpected.
                value = state_dict.pop(prefix + name).detach().cpu().numpy().copy()
                setattr(self, name, value[()])  # a number where there were no observations yet, as in a new one
        original(self, state_dict, prefix, *arguments)
