"""Fixtures that several folders share. Environments are built once; a test that uses one begins with a reset."""

import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

HANGS_AFTER = 120  # s, for a whole test

# As many workers as there are processors is one here: two files are tested at a time, and each worker imports MuJoCo anew. What
# takes several says how many.
os.environ["LOKY_MAX_CPU_COUNT"] = "1"


@pytest.fixture(scope="session")
def simple():
    """`QuadrupedDirection("simple")`."""
    from qi_ext.tasks import QuadrupedDirection

    return QuadrupedDirection("simple", seed=0)


@pytest.fixture(scope="session")
def hard():
    """`QuadrupedDirection("hard")`."""
    from qi_ext.tasks import QuadrupedDirection

    return QuadrupedDirection("hard", seed=0)


@pytest.fixture(scope="session")
def lacking():
    """lacking(reason): skips, or fails where all that tests need is said to be installed, as .ci/run says."""
    return pytest.fail if os.environ.get("ALL_INSTALLED") else pytest.skip


@pytest.fixture(scope="session")
def drawing(lacking):
    """What draws pictures here; lacking where nothing does."""
    from qi_ext.utils.drawing import rendering_backend
    from qi_ext.utils.errors import UserError

    try:
        return rendering_backend()
    except UserError as error:
        lacking(str(error))


@pytest.fixture(scope="session")
def stock():
    """loco-mujoco's own A1, without a trajectory: its state is to be set by hand."""
    from loco_mujoco.environments import UnitreeA1

    import qi_ext.tasks  # noqa: F401  (keeps the window library of loco-mujoco quiet)

    return UnitreeA1(reward_type="velocity_vector", reward_params={}, random_start=False)


@pytest.fixture(scope="session")
def gliding():
    """A function that makes small `Demonstrations`: a trunk gliding along each direction, the legs swinging in sines.

    moving_at: m/s along the direction, the commanded `speed` where it is None.
    """
    from qi_ext.demonstrations import Demonstrations
    from qi_ext.robot import a1
    from qi_ext.robot.commands import Command

    def make(directions_deg=(0.0, 90.0), rows=50, speed=0.5, moving_at=None):
        commands = tuple(Command(direction, speed) for direction in directions_deg)
        n = rows * len(commands)
        time = np.arange(n)[:, None] * a1.CONTROL_DT
        phase = np.arange(a1.N_ACTIONS)
        states = np.zeros((n, a1.N_OBSERVATIONS))
        states[:, a1.TRUNK_Z] = -0.17
        states[:, a1.LEG_POSITION] = np.tile([0.0, 0.9, -1.8], 4) + 0.1 * np.sin(10.0 * time + phase)
        states[:, a1.LEG_VELOCITY] = np.cos(10.0 * time + phase)
        for i, command in enumerate(commands):
            segment = slice(i * rows, (i + 1) * rows)
            along = command.speed if moving_at is None else moving_at
            states[segment, a1.TRUNK_VX : a1.TRUNK_VY + 1] = along * command.features[:2]
            states[segment, a1.GOAL] = command.features
        actions = 0.3 * np.sin(10.0 * time + phase)
        return Demonstrations(
            states=states,
            bounds=np.arange(len(commands) + 1) * rows,
            commands=commands,
            kind=("nominal",) * len(commands),
            source="synthetic: gliding",
            synthetic=True,
            actions=actions,
            executed_actions=np.clip(actions + 0.01, -1.0, 1.0),
            external_force=np.tile([1.0, 2.0, 3.0], (n, 1)),
            initial_state=np.arange(4.0 * len(commands)).reshape(-1, 4),
        )

    return make


@pytest.fixture(scope="session")
def walking():
    """A function that cuts small `Demonstrations` from nominal segments of the embedded sets: `rows` in each direction."""
    import functools

    from qi_ext.demonstrations import formats
    from qi_ext.demonstrations.loading import embedded_path
    from qi_ext.robot.commands import Command

    embedded = functools.cache(lambda task: formats.read(embedded_path(task)))

    def make(directions_deg=(0.0,), rows=50, speed=0.5):
        whole = embedded("hard" if any(directions_deg) else "simple")
        nominal = {
            direction: [
                i for i, command in enumerate(whole.commands) if (command, whole.kind[i]) == (Command(direction), "nominal")
            ]
            for direction in directions_deg
        }
        parts = whole.select(nominal[direction].pop(0) for direction in directions_deg)
        kept = np.concatenate([np.arange(begin, begin + rows) for begin in parts.bounds[:-1]])
        cut = {name: getattr(parts, name)[kept] for name in ("states", "actions", "executed_actions", "external_force")} | {
            "bounds": np.arange(len(directions_deg) + 1) * rows
        }
        return replace(parts, **cut).with_commands([Command(direction, speed) for direction in directions_deg])

    return make


@pytest.fixture(scope="session")
def FakeCuda():
    """The class of tests/fake_cuda.py."""
    return _load_module(Path(__file__).with_name("fake_cuda.py")).FakeCuda


@pytest.fixture
def fake_cuda(FakeCuda):
    """A pretended CUDA device, on for the whole test; see tests/fake_cuda.py."""
    with FakeCuda() as fake:
        yield fake


@pytest.fixture(scope="session")
def slurm(lacking):
    """The `SlurmCluster` of tests/slurm_cluster.py, running; lacking where Slurm is not installed."""
    module = _load_module(Path(__file__).with_name("slurm_cluster.py"))
    if not module.is_installed():
        lacking("Slurm is not installed: apt-get install slurmctld slurmd slurm-client munge")
    with module.SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def deadline():
    """A test that hangs fails."""

    def out_of_time(number, frame):
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(HANGS_AFTER)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def load_module():
    """load_module(path): imports the module at a path: with `--import-mode=importlib` no test can import its neighbour."""
    return _load_module


@pytest.fixture(scope="session")
def run_python():
    """run_python(program, *arguments): runs a program in a fresh Python that imports this checkout; a `CompletedProcess`."""

    def run(program, *arguments):
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, *arguments],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def _load_module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
