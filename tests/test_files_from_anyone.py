"""Every reader of files, driven by hypothesis: mutated valid files and random structures.

Whatever a file holds, its reader gives a value or a UserError (of archives, a DownloadError) of one line, within bounded time
and memory. A structure that passes is used as its callers use it. `make test` tries some hundred files a reader,
`make test-slow` does so for ten minutes.
"""

import importlib.util
import io
import json
import os
import pickle
import resource
import shutil
import time
from collections import Counter
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from patches.loco_mujoco.archives import DownloadError, unpack
from patches.loco_mujoco.local_site import zipped
from patches.safe_pickle import load_pickle
from patches.shrink import _Things
from qi_ext.demonstrations import formats, loco_mujoco_formats, minari
from qi_ext.demonstrations.motion_clip_writer import write_clip
from qi_ext.demonstrations.motion_clips import read_clips
from qi_ext.evaluation.evaluated_agent import load_evaluated_agent
from qi_ext.report.html import _directions, _gaits, _returns
from qi_ext.report.runs import read_curves, read_run
from qi_ext.report.tables import table
from qi_ext.sweeps.description import read_sweep
from qi_ext.sweeps.published_curve import curve_csv, read_curve, return_reached
from qi_ext.sweeps.published_result import _summary
from qi_ext.sweeps.schemas import EVALUATED, MADE_WITH, PUBLISHED
from qi_ext.sweeps.status import count, statuses
from qi_ext.tasks.course_files import read_course
from qi_ext.training import log
from qi_ext.training.checkpoints import FILE, Checkpoint, Checkpoints
from qi_ext.training.config import make_config
from qi_ext.training.episode_counter import EpisodeCounter
from qi_ext.training.health import Health
from qi_ext.training.resume import find_start, stored_choices
from qi_ext.training.run_directory import RunDirectory
from qi_ext.utils.errors import UserError
from qi_ext.utils.reading import read_bytes, read_json
from qi_ext.utils.tensor_file import read_tensors, to_safetensors, write_tensors

ROOT = Path(__file__).parents[1]
PUBLISHED_RESULT = ROOT / "results" / "hard-gail" / "0" / "result.json"
SECONDS, MEGABYTES = 10.0, 600  # that one file may take, and that all together may add

NASTY_TEXT = ["", "x", "../../x", "a\nb", "\0", "\ud800", "$x_{$", "9" * 400, "nan", "1e999", "-1", "x" * 5000, "/dev/zero"]
NASTY = [None, True, -1, 0, 10**12, 10**30, -(10**400), 1e308, -0.0, 0.5, [], {}, [[]], [{}], *NASTY_TEXT]
NASTY_BYTES = [
    b"",
    b"\0",
    b"\xff\xfe",
    b'"',
    b"{",
    b"[" * 200,
    b"]",
    b"9" * 400,
    b"&a [*a]",
    b"*a",
    b"- ",
    b": ",
    b"\n",
    b"1e999",
]
NASTY_BYTES += [
    b"NaN",
    b"2020-13-45",
    b"!!binary x",
    b"!!timestamp x",
    b"<<: ",
    b"PK\x05\x06",
    b"\\ud800",
    b",,",
    b"\x96\xff\xff\xff\x7f",
]

values = st.recursive(
    st.sampled_from(NASTY) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def places(value, path=()):
    """Every place in plain data, as the keys that lead to it."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from places(each, (*path, key))


def put(value, path, new):
    """Plain data with `new` at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


@st.composite
def mutated(draw, value):
    """Plain data, of which one to three places hold something else, or are missing."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(value))))
        if path and draw(st.booleans()) and isinstance(path[-1], str):
            container = value
            for key in path[:-1]:
                container = container[key]
            value = put(value, path[:-1], {key: each for key, each in container.items() if key != path[-1]})
        else:
            value = put(value, path, draw(values))
    return value


@st.composite
def damaged(draw, content):
    """Bytes of which one to four pieces were cut out, doubled, replaced or flipped."""
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.integers(0, 40) | st.integers(0, 4000)))
        new = draw(
            st.sampled_from(NASTY_BYTES)
            | st.binary(max_size=20)
            | st.just(content[begin:end] * 2)
            | st.just(bytes(end - begin))
        )
        content = content[:begin] + new + content[end:]
    return content


def as_json(value):
    return json.dumps(value).encode()


def as_yaml(value):
    return yaml.safe_dump(value, sort_keys=False).encode("utf-8", "surrogatepass")


class Kind:
    """One kind of file: valid content, mutations of its structure, and what reads it."""

    def __init__(self, content, reader, structure=None):
        """content: bytes. reader: name of the file, and read(directory, path). structure: a strategy of bytes."""
        self.name, self._read = reader
        self.contents = damaged(content) if structure is None else damaged(content) | structure

    def read(self, directory, make):
        """Read the file that make(path) has made."""
        path = directory / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
        self._read(directory, path)


CONFIG = make_config(task="hard", n_steps=128).settings() | {"results_dir": "runs"}
ROW = {name: 1.0 for name in ("direction_deg", "return_mean", "return_std", "length_mean", "velocity_error_mean")}
POLICY = {
    "return_mean": 1.0,
    "directions": [ROW | {"falls": 0, "episodes": 4}],
    "mean": {"yaw_drift": None, "foot_clearance": 0.1},
}
RESULT = {
    "steps": 128,
    "training_seconds": 1.0,
    "demonstrations": "trot",
    "evaluation": {"deterministic": POLICY, "random": POLICY},
}
TRIAL = {"started": 1.0, "ended": 2.0, "exit_code": 1, "host": "h", "pid": 1, "slurm_job": "", "progressed": True}
SWEEP = {"fixed": {"n_steps": 128}, "grid": {"gamma": [0.9, 0.95]}, "seeds": 2, "resources": {"cores": 1, "time": "1:00:00"}}
NAMED = {"trials": [{"name": "a", "what": "GAIL", "episodes": 3, "gamma": 0.9, "seeds": [1, 2]}], "fixed": {"task": "hard"}}
EVALUATION = {"deterministic": POLICY, "robustness": [{"condition": "pushes", "deterministic": POLICY}]}
PROGRESS = "step,return_mean,steps_per_second,episodes,length_mean,speed_along,std,line_search_step\r\n"
PROGRESS += "".join(f"{32 * i},{i}.5,900.0,2,100,0.4,0.1,1\r\n" for i in range(1, 9))


def read_config(directory, path):
    (directory / "agent.safetensors").write_bytes(small_agent())
    stored_choices(str(directory))
    run = read_run(directory)
    assert run.title and run.command
    find_start({}, str(directory))


def use_result(directory, path):
    result = RunDirectory(directory).read_result()
    if result is not None and "evaluation" in result:
        evaluation = result["evaluation"]
        table(evaluation, result.get("demonstrations", "")), _returns([evaluation]), _directions(evaluation), _gaits(evaluation)


def use_curves(directory, path):
    read_curves(path)
    curve = read_curve(path, 10.0)
    if {"episodes", "return_mean", "length_mean", "steps_per_second"} <= curve.keys():
        return_reached(curve, 1.0), curve_csv(curve)


def use_rows(directory, path):
    Health(0.5, 0.01).recall(log._cut(path, 128))


def use_trial(directory, path):
    (directory / "sweep.yaml").write_text("fixed: {n_steps: 128}\nseeds: 2")
    assert len(count(statuses(read_sweep(directory / "sweep.yaml", directory)))) > 0


def use_checkpoint(directory, path):
    start = find_start({}, str(directory))
    start.checkpoint.require_demonstrations("trot", "abc")
    start.checkpoint.load_into({"agent": Fits(), "lanes": Fits(), "episodes": EpisodeCounter()})


class Fits:
    """A part that takes any state, as it is not about the checks of the parts."""

    def state(self):
        return {"weight": np.ones(3)}

    def load_state(self, state):
        pass


def checkpoint_bytes(directory):
    counter = EpisodeCounter()
    counter.steps = 64
    about = {"step": 64, "score": 1.5, "config": CONFIG, "seconds": 1.5, "demonstrations_hash": "abc"}
    checkpoint = Checkpoint.of({"agent": Fits(), "lanes": Fits(), "episodes": counter}, **about)
    Checkpoints(directory).save(checkpoint, lambda path: path.touch(), keep=1)
    return (directory / "checkpoints" / "64" / FILE).read_bytes()


@st.composite
def whole_checkpoints(draw, path):
    """Checkpoints whose digest fits, and whose JSON may not."""
    arrays, data = read_tensors(path, "checkpoint")
    changed = path.with_name(f"changed{draw(st.integers(0, 3))}")
    data = draw(mutated(data))
    try:
        write_tensors(changed, "checkpoint", draw(st.just(arrays) | st.just({"episodes/first": np.ones(2)})), data)
    except (ValueError, UnicodeEncodeError):
        return b""
    return changed.read_bytes()


@cache
def small_agent():
    zeros = np.zeros(37, dtype=np.float32)
    arrays = {"observation_mean": zeros, "observation_inverse_std": zeros, "log_std": zeros[:12]}
    arrays |= {"layer0.weight": np.zeros((12, 37), dtype=np.float32), "layer0.bias": zeros[:12]}
    about = {"format_version": "2", "layers": "37,12", "symmetry": "mirror", "task": "hard", "seed": "0", "step": "64"}
    return to_safetensors(arrays, about | {"n_directions": "8", "speed": "0.5", "lanes_per_block": "4"})


@st.composite
def whole_agents(draw):
    """Agents whose tensors are whole, and whose metadata may be anything."""
    content = small_agent()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    name = draw(st.sampled_from(sorted(header)) | st.sampled_from(["lanes_per_block", "n_directions", "speed", "x"]))
    text = draw(st.sampled_from(NASTY_TEXT) | st.text(max_size=10) | st.integers().map(str) | st.floats().map(str))
    try:
        return to_safetensors(load(content), header | {name: text})
    except UnicodeEncodeError:
        return b""


COURSE = [{"seconds": 2.0, "speed": 0.4}, {"seconds": 1.0, "direction_deg": 90.0, "turn_rate": -30.0}]
MINARI_ID, MINARI = "quadruped/fuzz-v0", {}  # {name of a file: its content}, once there is a dataset
DTYPES = ("f8", "f4", "i8", "u1", "?", "c16", "U3", "S0", "U0", "M8[s]", "V4")


@st.composite
def whole_npz(draw, arrays):
    """Archives of which some arrays are of other types, shapes and values."""
    changed = dict(arrays)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(arrays)))
        array = arrays[name]
        how = draw(st.integers(0, 4))
        if how == 0:
            del changed[name]
            break
        if how == 1:
            changed[name] = np.zeros(draw(st.lists(st.integers(0, 40), max_size=3)), dtype=draw(st.sampled_from(DTYPES)))
        elif how == 2 and array.dtype.kind in "fi":
            changed[name] = array.copy()
            changed[name].flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from([-1, 0, 7, 10**6]))
        elif how == 3 and array.dtype.kind == "f":
            changed[name] = array.copy()
            changed[name].flat[draw(st.integers(0, array.size - 1))] = draw(st.sampled_from([np.nan, np.inf, -1e300, 1e-300]))
        else:
            changed[name] = np.array(draw(st.sampled_from([np.nan, np.inf, 1e300, -1, "x", True])))
    return npz_bytes(changed)


def npz_bytes(arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_pickle(directory, path):
    try:
        load_pickle(read_bytes(path, 10**6), _Things(), "here")
    except RecursionError:
        raise
    except Exception as error:  # as shrink does
        raise UserError(" ".join(str(error).split())[:300]) from None


def read_minari(directory, path):
    """Read the dataset of which `path` is one file; the other is whole."""
    for name, content in MINARI.items():
        if not os.path.lexists(path.parent / name):
            (path.parent / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(directory))
        minari.read(MINARI_ID)


def minari_files(directory, demonstrations):
    """{name: bytes} of the files of a Minari dataset."""
    env = gymnasium.make("qi_ext.tasks:QuadrupedDirection-v0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(directory))
        minari.write(MINARI_ID, demonstrations, env)
    return {path.name: path.read_bytes() for path in (directory / MINARI_ID / "data").iterdir()}


def read_archive(directory, path):
    unpack(path, directory / "sets", directory)


def kinds(directory, gliding):
    """{name: Kind}. directory: for what they are made of."""
    content = checkpoint_bytes(directory)
    formats.write(directory / "good.npz", gliding((0.0, 0.0), rows=10))
    write_clip(directory / "a.txt", gliding((0.0,), rows=10))
    formats.write(directory / "packed.npz", gliding((0.0, 0.0), rows=10), packed=True)
    loco_mujoco_formats.write_perfect(directory / "perfect.npz", gliding((0.0, 0.0), rows=10))
    loco_mujoco_formats.write_real(directory / "real.npz", gliding((0.0, 0.0), rows=10))
    arrays = {}
    for name in ("good", "packed", "perfect", "real"):
        with np.load(directory / f"{name}.npz") as archive:
            arrays[name] = {key: archive[key] for key in archive.files}
    published, machine = (
        json.loads(PUBLISHED_RESULT.read_text()),
        [{"commit": None, "clean": True, "processor": "p", "cores": 2}],
    )
    machine[0] |= {"gpu": None, "versions": {"numpy": "2"}}

    MINARI.update(minari_files(directory, gliding((0.0, 0.0), rows=10)) if importlib.util.find_spec("minari") else {})
    metadata = json.loads(MINARI.get("metadata.json", "{}"))

    def npz_reader(directory, path):
        formats.read(path)

    def json_of(value, read, name="file.json"):
        return Kind(as_json(value), (name, read), mutated(value).map(as_json))

    def yaml_of(value, read, name):
        return Kind(as_yaml(value), (name, read), mutated(value).map(as_yaml))

    pickled = pickle.dumps({"type": list, "a": [np.arange(3.0), np.float64(1)], "b": bytearray(9)}, protocol=5)
    return {
        "agent": Kind(small_agent(), ("a.safetensors", lambda _, path: load_evaluated_agent(str(path))), whole_agents()),
        "checkpoint": Kind(
            content, (f"checkpoints/64/{FILE}", use_checkpoint), whole_checkpoints(directory / "checkpoints" / "64" / FILE)
        ),
        "config": yaml_of(CONFIG, read_config, "config.yaml"),
        "result": json_of(RESULT, use_result, "result.json"),
        "curves": Kind(PROGRESS.encode(), ("progress.csv", use_curves)),
        "rows": Kind(PROGRESS.encode(), ("progress.csv", use_rows)),
        "trial": json_of(TRIAL, use_trial, "gamma___1/0/trial.json"),
        "trial of a seed": json_of(TRIAL, use_trial, "0/trial.json"),
        "sweep": yaml_of(SWEEP, lambda directory, path: read_sweep(path, directory), "s.yaml"),
        "named sweep": yaml_of(NAMED, lambda directory, path: read_sweep(path, directory), "s.yaml"),
        "course": yaml_of(COURSE, lambda _, path: read_course(str(path)), "mine.yaml"),
        "published": json_of(published, lambda _, path: read_json(path, PUBLISHED)),
        "evaluation": json_of(EVALUATION, lambda _, path: _summary(read_json(path, EVALUATED)["deterministic"])),
        "made with": json_of(machine, lambda _, path: read_json(path, MADE_WITH)),
        "our npz": Kind((directory / "good.npz").read_bytes(), ("a.npz", npz_reader), whole_npz(arrays["good"])),
        "packed npz": Kind((directory / "packed.npz").read_bytes(), ("a.npz", npz_reader), whole_npz(arrays["packed"])),
        "perfect npz": Kind((directory / "perfect.npz").read_bytes(), ("a.npz", npz_reader), whole_npz(arrays["perfect"])),
        "real npz": Kind((directory / "real.npz").read_bytes(), ("a.npz", npz_reader), whole_npz(arrays["real"])),
        "motion clip": Kind(
            (directory / "a.txt").read_bytes(),
            ("a.txt", lambda _, path: read_clips(str(path))),
            mutated(json.loads((directory / "a.txt").read_text())).map(as_json),
        ),
        "minari metadata": json_of(metadata, read_minari, f"{MINARI_ID}/data/metadata.json"),
        "minari data": Kind(MINARI.get("main_data.hdf5", b""), (f"{MINARI_ID}/data/main_data.hdf5", read_minari)),
        "pickle": Kind(pickled, ("a.pickle", read_pickle)),
        "archive": Kind(zipped({"a.npz": b"a" * 99, "b/c.npz": b"b"}), ("a.zip", read_archive)),
    }


NAMES = (
    *("agent", "checkpoint", "config", "result", "curves", "rows", "trial", "trial of a seed", "sweep", "named sweep"),
    *(
        "published",
        "evaluation",
        "made with",
        "our npz",
        "packed npz",
        "perfect npz",
        "real npz",
        "minari metadata",
        "minari data",
    ),
    *("pickle", "archive", "course", "motion clip"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory, gliding):
    return kinds(tmp_path_factory.mktemp("made"), gliding)


@contextmanager
def bounded(name, content):
    """One line where a file is refused, and bounded time."""
    began = time.monotonic()
    try:
        yield
    except (UserError, DownloadError) as error:
        assert "\n" not in str(error) and len(str(error)) < 2000, str(error)[:500]
    assert time.monotonic() - began < SECONDS, f"{name} took {time.monotonic() - began:.1f} s of {content[:200]!r}"


def drive(kind, name, directory, n, number=0):
    """Try n files; returns how many."""
    tried = Counter()

    @seed(number)
    @settings(max_examples=n, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(kind.contents)
    def one(content):
        tried[name] += 1
        place = directory / f"{number}-{name}-{tried[name]}"
        place.mkdir()
        with bounded(name, content):
            kind.read(place, lambda path: path.write_bytes(content))
        shutil.rmtree(place)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    one()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 1024
    return tried[name]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(made, name, tmp_path, capsys):
    drive(made[name], name, tmp_path, n=int(os.environ.get("FUZZ_FILES", "60")))


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["FIFO", "directory", "device"]
)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_waits_on_what_is_no_file(made, name, make, tmp_path, capsys):
    with bounded(name, b""):
        made[name].read(tmp_path, make)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ten_minutes_of_files_are_read_or_refused_in_one_line(made, tmp_path, capsys):
    end, number, tried = time.monotonic() + float(os.environ.get("FUZZ_SECONDS", "600")), 0, Counter()
    while time.monotonic() < end:
        number += 1
        for name in NAMES:
            tried[name] += drive(made[name], name, tmp_path, 100, number)
    with capsys.disabled():
        print(f"\n{tried.total():,} files: {dict(tried)}")
