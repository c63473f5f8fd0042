"""The A1 in N worlds of MuJoCo Warp on one device, whose state torch reads and writes."""

import importlib.metadata
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import mujoco
import torch

from qi_ext.sampling.env_spec import EnvSpec
from qi_ext.sampling.envs import LARGEST
from qi_ext.utils.errors import SamplingError, UserError
from qi_ext.utils.words import in_one_line

LEAST_CONTACTS = 4096  # room for those of all envs: of one that blows up, hundreds of pairs may be near
STATE = ("qpos", "qvel", "qacc_warmstart", "xfrc_applied")  # from which a world goes on


def require_warp() -> None:
    """Raise UserError unless MuJoCo Warp is there, at the version of MuJoCo."""
    try:
        found = importlib.metadata.version("mujoco-warp")
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found != mujoco.__version__:
        what = "is not installed" if found is None else f"is {found}, and MuJoCo {mujoco.__version__}"
        raise UserError(f"--physics: mujoco-warp {what}; pip install mujoco-warp=={mujoco.__version__}")


class WarpPhysics:
    """N worlds. MuJoCo Warp computes in float32, with the solver's tolerance raised to 1e-6.

    qpos, qvel: (N, nq), (N, nv), float32; like the others of `STATE` they may be written to between steps.
    """

    qpos: torch.Tensor
    qvel: torch.Tensor
    qacc_warmstart: torch.Tensor
    xfrc_applied: torch.Tensor
    ctrl: torch.Tensor
    qfrc_applied: torch.Tensor
    overflow: torch.Tensor

    def __init__(self, spec: EnvSpec, n_envs: int, device: torch.device, contacts: int, constraint_rows: int) -> None:
        """contacts: room for contacts, mean per env, shared by all. constraint_rows: room for constraint rows, per env.

        `check_overflow` raises where either is exceeded. Raises UserError where MuJoCo Warp cannot be had, or its room.
        """
        require_warp()
        import mujoco_warp
        import warp

        warp.config.log_level = logging.ERROR  # or there is a line for each of a hundred kernels, and one where there is no GPU
        warp.init()
        self._warp, self._mujoco_warp = warp, mujoco_warp
        self._spec, self._device = spec, warp.device_from_torch(device)
        if self._device.is_cuda and not (warp.is_conditional_graph_supported() and warp.is_mempool_enabled(self._device)):
            raise UserError("--physics: MuJoCo Warp needs a GPU with memory pools, and a driver of CUDA 12.4 or later")
        room = max(contacts * n_envs, LEAST_CONTACTS)
        try:
            with warp.ScopedDevice(self._device):
                self._model = mujoco_warp.put_model(spec.model)
                self._data = mujoco_warp.make_data(spec.model, nworld=n_envs, naconmax=room, njmax=constraint_rows)
        except RuntimeError as error:  # of memory, which Warp has no class for
            raise UserError(f"--n_envs: {n_envs:,} do not fit on {device}: {in_one_line(error)}") from None
        self._model.opt.warn_overflow = 0  # it would print; `check_overflow` tells
        kinds = mujoco_warp.OverflowType
        # Iteration limits are left out: MuJoCo stops there, too. So is EPA's buffer, whose size is fixed.
        self._overflows = {
            f"an env has more than {constraint_rows} constraint rows; raise --constraint_rows": kinds.NEFC | kinds.NJMAX_NNZ,
            f"envs have more than {room} contacts together; raise --contacts": kinds.BROADPHASE | kinds.NARROWPHASE | kinds.CCD,
        }
        for name in (*STATE, "qacc", "ctrl", "qfrc_applied", "overflow"):
            setattr(self, name, warp.to_torch(getattr(self._data, name)))
        self._dropped = torch.zeros_like(self.overflow)
        self._positions, self._velocities, self._actuators = (
            torch.as_tensor(indices, device=device)
            for indices in (spec.addresses.qpos, spec.addresses.qvel, spec.addresses.actuators)
        )
        self._joints, self._trunk = self._velocities[6:], spec.addresses.trunk
        self._scale, self._offset = (
            torch.as_tensor(array, dtype=torch.float32, device=device) for array in (spec.scale, spec.offset)
        )
        self._graph = self._captured()
        self.overflow.zero_()

    def joint_state(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return positions and velocities, (N, 18) each, of `a1.JOINTS`."""
        return self.qpos[:, self._positions], self.qvel[:, self._velocities]

    def reset(self, where: torch.Tensor, states: torch.Tensor) -> None:
        """Reset the worlds marked in `where`, (N,), bool, to states, (N, 36)."""
        mask = where[:, None]
        self.qpos[:, self._positions] = torch.where(mask, states[:, :18], self.qpos[:, self._positions])
        self.qvel[:, self._velocities] = torch.where(mask, states[:, 18:], self.qvel[:, self._velocities])
        self.qacc_warmstart.masked_fill_(mask, 0.0)
        self.xfrc_applied.masked_fill_(mask[..., None], 0.0)

    @property
    def push(self) -> torch.Tensor:
        """Force on the trunk, (N, 2), N, in the world; to be written to."""
        return self.xfrc_applied[:, self._trunk, :2]

    def step(self, actions: torch.Tensor, torques: torch.Tensor | None = None) -> torch.Tensor:
        """Take a control step; return True where the simulation blew up, (N,): these worlds must be reset.

        actions: (N, 12), in units of 34 Nm. torques: (N, 12), Nm, that are added at the joints.
        """
        self.ctrl[:, self._actuators] = actions * self._scale + self._offset
        if torques is not None:
            self.qfrc_applied[:, self._joints] = torques
        with self._warp.ScopedDevice(self._device):
            # On torch's stream, because what is read and written between the steps is.
            stream = self._warp.stream_from_torch(actions.device) if self._device.is_cuda else None
            self._warp.capture_launch(self._graph, stream=stream)
        blown_up = torch.zeros(len(actions), dtype=torch.bool, device=actions.device)
        for name in ("qpos", "qvel", "qacc"):
            blown_up |= ~(getattr(self, name).abs() <= LARGEST).all(dim=1)  # NaN fails this comparison, too
        self._dropped |= torch.where(blown_up, 0, self.overflow)
        self.overflow.zero_()
        return blown_up

    def check_overflow(self) -> None:
        """Raise SamplingError where contacts or constraints were dropped, with the number to raise."""
        dropped = self._dropped.cpu()
        for said, kinds in self._overflows.items():
            if (dropped & int(kinds)).any():
                raise SamplingError(f"physics: {said}")

    def state(self) -> dict[str, torch.Tensor]:
        """What the worlds go on from, {name: tensor}, which further steps change."""
        return {name: getattr(self, name) for name in STATE}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a copy of what `state` gave."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self._dropped.zero_()

    def _captured(self) -> Any:
        """Return the substeps of a control step as one graph, because to launch them one by one takes far longer."""
        warp, scopes = self._warp, ExitStack()
        if self._device.is_cuda:
            # CUDA cannot capture the legacy default stream, which is torch's.
            stream = torch.cuda.Stream(self.qpos.device)
            stream.wait_stream(torch.cuda.current_stream(self.qpos.device))
            scopes.enter_context(warp.ScopedStream(warp.stream_from_torch(stream), sync_enter=False))
        else:
            scopes.enter_context(warp.ScopedDevice(self._device))
        with scopes:
            self._substeps()  # which compiles, from the model's own pose
            with warp.ScopedCapture(device=self._device) as capture:
                self._substeps()
            warp.synchronize_device(self._device)
        return capture.graph

    def _substeps(self) -> None:
        for _ in range(self._spec.n_substeps):
            self._mujoco_warp.step(self._model, self._data)
