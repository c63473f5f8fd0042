"""Patches of domain randomization: its distributions, errors and workers."""

import multiprocessing
import tempfile
import time
import zlib
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patches.loco_mujoco.library import LIBRARY
from patches.loco_mujoco.synthetic import quiet


def _module():
    quiet()
    import loco_mujoco  # noqa: F401  (it and its submodule import each other)
    from loco_mujoco.utils import domain_randomization

    return domain_randomization


def _knee():
    """Model of one joint, with damping, stiffness, armature and friction of 1."""
    from dm_control import mjcf

    model = mjcf.RootElement()
    body = model.worldbody.add("body", name="leg")
    body.add("geom", type="sphere", size=[0.1])
    body.add("joint", name="knee", damping=1.0, stiffness=1.0, armature=1.0, frictionloss=1.0)
    return model


def _randomized(model, asked, n):
    """Damping of n models, (n,). asked: its distribution, as the configuration file has it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "randomization.yaml"
        path.write_text(f"Joints: {{knee: {{damping: {asked}}}}}\n")
        build = _module().build_MjModel_from_xml_handle
        return np.array([build(model, str(path)).dof_damping[0] for _ in range(n)])


def _probe_drift():
    np.random.seed(0)  # noqa: NPY002
    dampings = _randomized(_knee(), "{uniform_range_delta: 0.1}", 50)
    far = np.abs(dampings - 1.0).max()
    return "" if far <= 0.1 else f"damping up to {far:.2f} off the model's, when 0.1 was asked for"


@LIBRARY.patch(
    "randomization-drift",
    target="loco_mujoco.utils.domain_randomization:build_MjModel_from_xml_handle",
    sees="with sigma or uniform_range_delta, parameters drift away from the model's: each model is drawn about the one before",
    remedy="each model is drawn about the one that was loaded",
    changes_results="randomized parameters keep the distribution that was asked for",
    probe=_probe_drift,
)
def _install_drift(edits):
    @edits.wrap_everywhere(_module(), "build_MjModel_from_xml_handle")
    def build_MjModel_from_xml_handle(original, xml_handle, path_domain_rand_conf):
        return original(deepcopy(xml_handle), path_domain_rand_conf)


_DRAWN_FROM_NORMAL = ("frictionloss", "armature", "stiffness")


def _probe_uniform():
    np.random.seed(0)  # noqa: NPY002
    seen = []
    for name in _DRAWN_FROM_NORMAL:
        joint = _knee().find("joint", "knee")
        values = []
        for _ in range(20):
            _module().set_joint_conf({name: {"uniform_range": [0.9, 1.1]}}, joint)
            # Newer MuJoCo takes several numbers for stiffness.
            values.extend(np.ravel(getattr(joint, name)))
        if min(values) < 0.9 or max(values) > 1.1:
            seen.append(f"{name} between {min(values):.2f} and {max(values):.2f}")
    return "; ".join(seen) and "of [0.9, 1.1]: " + "; ".join(seen)


@LIBRARY.patch(
    "randomization-uniform",
    target="loco_mujoco.utils.domain_randomization:set_joint_conf",
    sees="uniform_range and uniform_range_delta of frictionloss, armature and stiffness give values far outside of the range, "
    "negative ones too: they are drawn from a normal distribution, with the upper bound for standard deviation",
    remedy="they are drawn uniformly from the range",
    changes_results="randomized parameters have the distribution that was asked for",
    probe=_probe_uniform,
)
def _install_uniform(edits):
    @edits.wrap_everywhere(_module(), "set_joint_conf")
    def set_joint_conf(original, conf, jh):
        before = {name: getattr(jh, name) for name in _DRAWN_FROM_NORMAL}
        result = original(conf, jh)
        for name, asked in conf.items():
            if name not in before or "sigma" in asked:
                continue
            if "uniform_range" in asked:
                low, high = asked["uniform_range"]
            else:
                low, high = before[name] - asked["uniform_range_delta"], before[name] + asked["uniform_range_delta"]
            setattr(jh, name, np.random.uniform(low, high))  # noqa: NPY002
        return result


@dataclass(frozen=True)
class _Failure:
    """Error that a worker sends in place of a model that it could not make."""

    text: str


@contextmanager
def _asked(path):
    """Context with a worker that was asked for a model, and the queue of its answers. path: of its configuration file."""
    fork = multiprocessing.get_context("fork")
    models, orders = fork.Queue(), fork.Queue()
    worker = fork.Process(target=_module().build_MjModel_from_xml_handle_job, args=(_knee(), str(path), models, orders))
    worker.start()
    try:
        orders.put("get")
        yield worker, models
    finally:
        worker.terminate()
        worker.join()


def _probe_errors():
    with tempfile.TemporaryDirectory() as directory, _asked(Path(directory) / "missing.yaml") as (worker, models):
        for _ in range(300):
            if not models.empty() or not worker.is_alive():
                break
            time.sleep(0.1)
        answered = not models.empty()
    return "" if answered else "without its configuration file, a worker ends and sends nothing, for which reset waits"


@LIBRARY.patch(
    "randomization-errors",
    target="loco_mujoco.utils.domain_randomization:build_MjModel_from_xml_handle_job, "
    "loco_mujoco.utils.domain_randomization:DomainRandomizationHandler.get_randomized_model",
    sees="with parallel_dom_rand (the default) and a configuration file that is missing, or asks for what cannot be, reset "
    "waits for ever",
    remedy="reset raises a RuntimeError that names the file and says what is wrong",
    probe=_probe_errors,
)
def _install_errors(edits):
    module = _module()

    @edits.wrap_everywhere(module, "build_MjModel_from_xml_handle_job")
    def build_MjModel_from_xml_handle_job(original, xml_handle, path_domain_rand_conf, sq, rq):
        while True:  # the environment may ask again; SystemExit and signals end it
            try:
                original(xml_handle, path_domain_rand_conf, sq, rq)
            except Exception as error:
                where = f"domain randomization, {path_domain_rand_conf}"
                sq.put(_Failure(f"patches: {where}: {type(error).__name__}: {error}"))

    @edits.wrap(module.DomainRandomizationHandler, "get_randomized_model")
    def get_randomized_model(original, self, model_id):
        model = original(self, model_id)
        if isinstance(model, _Failure):
            raise RuntimeError(model.text)
        return model


def _probe_workers():
    dampings = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "randomization.yaml"
        path.write_text("Joints: {knee: {damping: {uniform_range: [1.0, 2.0]}}}\n")
        for _ in range(2):
            with _asked(path) as (_, models):
                dampings.append(float(models.get(timeout=30).dof_damping[0]))
    return "" if dampings[0] != dampings[1] else f"two workers both drew {dampings[0]:.4f}"


@LIBRARY.patch(
    "randomization-workers",
    target="loco_mujoco.utils.domain_randomization:build_MjModel_from_xml_handle_job",
    sees="with parallel_dom_rand (the default) each randomized model comes once from every worker: all draw the same numbers",
    remedy="each worker seeds its generator from numpy's global one and its own name",
    changes_results="randomized models are all different",
    probe=_probe_workers,
)
def _install_workers(edits):
    @edits.wrap_everywhere(_module(), "build_MjModel_from_xml_handle_job")
    def build_MjModel_from_xml_handle_job(original, *arguments):
        inherited = np.random.randint(2**32, dtype=np.uint32)  # noqa: NPY002
        name = multiprocessing.current_process().name
        np.random.seed([inherited, zlib.crc32(name.encode())])  # noqa: NPY002
        original(*arguments)
