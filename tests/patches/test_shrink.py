"""`python -m patches.shrink`: one agent shrunk, what is refused, and that no file is run."""

import io
import os
import pickle
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from mushroom_rl.algorithms.actor_critic import TRPO
from mushroom_rl.core import MDPInfo
from mushroom_rl.policy import GaussianTorchPolicy
from mushroom_rl.utils.spaces import Box
from torch import nn

from patches.shrink import PLACE_OF_NETWORK, main, shrink
from qi_ext import load_agent
from qi_ext.utils.errors import UserError

DIRECTIONS = {"simple": np.zeros(1), "hard": np.arange(8) * np.pi / 4}


class Standardizer(nn.Module):
    """Attributes as imitation-lib's has them."""

    def __init__(self, observations):
        super().__init__()
        self._use_cuda = False
        self._count = np.array([len(observations) + 1e-2])
        self._sum, self._sumsq = observations.sum(0), (observations**2).sum(0) + 1e-2
        average, squares = self._sum / self._count, self._sumsq / self._count
        self.mean, self.std = average, np.sqrt(np.maximum(squares - average**2, 1e-2))


class FullyConnectedNetwork(nn.Module):
    """Attributes as imitation-lib's has them."""

    def __init__(self, input_shape, output_shape, sizes, activations, standardizer, **_):
        super().__init__()
        sizes = [input_shape[0], *sizes, output_shape[0]]
        self._linears = nn.ModuleList([nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)])
        self._activations = nn.ModuleList([kind() for kind in activations])
        self._stand = standardizer
        self._squeeze_out = False


class GAIL(TRPO):
    pass


class VAIL(GAIL):
    pass


class SQIL(TRPO):
    pass


@pytest.fixture(autouse=True)
def imitation_lib(monkeypatch):
    """The classes of this file are imitation-lib's, to whoever pickles them."""
    places = {
        "imitation_lib.utils.networks": (Standardizer, FullyConnectedNetwork),
        "imitation_lib.imitation.gail_TRPO": (GAIL,),
        "imitation_lib.imitation.vail_TRPO": (VAIL,),
        "imitation_lib.imitation.sqil": (SQIL,),
    }
    names = {name.rsplit(".", i)[0] for name in places for i in range(3)}
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name, classes in places.items():
        for kind in classes:
            monkeypatch.setattr(kind, "__module__", name)
            monkeypatch.setattr(sys.modules[name], kind.__name__, kind, raising=False)


def observations(task="simple", n=400, speed=0.5):
    rng = np.random.default_rng(0)
    result = rng.normal(rng.standard_normal(37), rng.uniform(0.2, 2.0, 37), (n, 37)).astype(np.float32)
    direction = rng.choice(DIRECTIONS[task], n)
    result[:, 34:] = np.stack([np.cos(direction), np.sin(direction), np.full(n, speed)], 1)
    return result


def agent(kind=GAIL, seen=None, n=37, m=12, sizes=(16, 8), activations=(nn.ReLU, nn.ReLU, nn.Identity)):
    torch.manual_seed(0)
    standardizer = None if seen is None else Standardizer(seen)
    given = {"sizes": sizes, "activations": activations, "standardizer": standardizer, "network": FullyConnectedNetwork}
    info = MDPInfo(Box(-1.0, 1.0, shape=(n,)), Box(-1.0, 1.0, shape=(m,)), 0.99, 1000)
    policy = GaussianTorchPolicy(input_shape=(n,), output_shape=(m,), std_0=0.5, **given)
    made = kind(info, policy, given | {"input_shape": (n,), "output_shape": (1,)})
    made._demonstrations = {"states": np.zeros((1000, 37))}
    made._add_save_attr(_demonstrations="pickle!")
    return made


@pytest.fixture
def save(tmp_path):
    """save(agent): the path of its file."""

    def write(made):
        made.save(tmp_path / "agent.msh", full_save=True)
        return tmp_path / "agent.msh"

    return write


def expected_mean(made, x):
    """The network's own arithmetic, in float64."""
    network = made.policy._mu.model.network
    x = np.asarray(x, np.float64)
    if network._stand is not None:
        x = (x - network._stand.mean) / network._stand.std
    for i, layer in enumerate(network._linears):
        x = x @ layer.weight.detach().numpy().T.astype(np.float64) + layer.bias.detach().numpy()
        x = np.maximum(x, 0.0) if i < len(network._linears) - 1 else x
    return x


def rewritten(path, name, data):
    """A copy of the file whose member `name` is `data`, and gone where it is None."""
    changed = path.with_name("changed.msh")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for member in source.namelist():
            content = data if member == name else source.read(member)
            if content is not None:
                target.writestr(member, content)
    return changed


def tensor_file(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "task"), [(GAIL, "simple"), (VAIL, "hard")])
def test_the_agent_acts_as_the_published_network(save, capsys, kind, task):
    seen = observations(task)
    made = agent(kind, seen, sizes=(512, 256))
    path = save(made)
    main([str(path)])
    written = path.with_suffix(".safetensors")
    assert written.stat().st_size < 1e6
    actor = load_agent(written)
    np.testing.assert_allclose(actor.mean(seen), expected_mean(made, seen), rtol=0.0, atol=1e-5)
    np.testing.assert_allclose(actor.std, 0.5, rtol=1e-6)
    assert {name: actor.metadata[name] for name in ("task", "algorithm", "speed", "layers")} == {
        "task": task,
        "algorithm": kind.__name__.lower(),
        "speed": "0.50",
        "layers": "37,512,256,12",
    }
    # Steps and seed are not known, and not made up: evaluate.py has its own defaults.
    assert not {"step", "seed", "demonstrations"} & actor.metadata.keys()
    assert "its steps, seed and demonstrations are not known" in capsys.readouterr().out


def test_statistics_are_optional_but_the_task_is_not(save):
    made = agent()
    path = save(made)
    with pytest.raises(UserError, match="add --task simple or --task hard"):
        shrink(path)
    actor, metadata = shrink(path, "hard")
    x = observations()
    np.testing.assert_allclose(actor.mean(x), expected_mean(made, x), rtol=0.0, atol=1e-5)
    assert metadata["task"] == "hard"
    assert "speed" not in metadata


def test_demonstrations_are_not_read(save):
    shrink(rewritten(save(agent(seen=observations())), "_demonstrations.pickle", b"no pickle at all"))


@pytest.mark.extensive
def test_agents_of_a_gpu_are_read_without_one(save):
    from patches.mushroom_rl.location import _register, _saving_as, holding

    _register()
    with holding(_saving_as, "cuda:0"):
        path = save(agent(seen=observations()))
    shrink(path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": SQIL}, "asks for 'imitation_lib.imitation.sqil.SQIL', .* only GAIL_TRPO and VAIL_TRPO"),
        ({"activations": (nn.ReLU, nn.Tanh, nn.Identity)}, "asks for 'torch.nn.modules.activation.Tanh'"),
        ({"activations": (nn.ReLU, nn.ReLU, nn.ReLU)}, "its activations are ReLU, ReLU, ReLU;"),
        ({"n": 36}, r"weight 0 has the shape \(16, 36\), not \(16, 37\)"),
        ({"m": 11}, "it has 11 actions, not the 12"),
        ({"sizes": (), "activations": ()}, "its activations are none"),
    ],
)
def test_other_agents_are_refused_by_name(save, given, message):
    with pytest.raises(UserError, match=f"agent.msh.*{message}") as refused:
        shrink(save(agent(**given)), "simple")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.policy._log_sigma, "data", torch.full((12,), np.nan)), "log_sigma is not finite"),
        (lambda m: m._stand.mean.fill(np.inf), "mean of its observations is not finite"),
        (lambda m: m._stand.std.fill(0.0), "standard deviations .* not positive"),
        (lambda m: setattr(m._stand, "std", np.ones(36)), "std of its observations is of 36, not 37"),
        (lambda m: setattr(m._stand, "_count", np.array([1e-2])), "of no observations"),
        (lambda m: setattr(m._linears[1].weight, "data", torch.zeros(1).expand(8, 16)), "weight 1 has the shape"),
        (lambda m: delattr(m, "_linears"), "damaged, or no agent"),
        (lambda m: setattr(m, "_stand", nn.ReLU()), "ReLU stands where a Standardizer or Standardizerv2 should"),
    ],
)
def test_contents_that_do_not_fit_are_named(save, change, message):
    made = agent(seen=observations())
    network = made.policy._mu.model.network
    network.policy = made.policy  # for `change`; a plain attribute, gone before saving
    change(network)
    del network.policy
    with pytest.raises(UserError, match=message):
        shrink(save(made))


def test_preprocessors_and_features_are_refused(save):
    preprocessing, featured = agent(), agent()
    preprocessing.add_preprocessor(preprocessing.policy)
    featured.phi = "features"
    for made, message in ((preprocessing, "has preprocessors"), (featured, "sees features")):
        with pytest.raises(UserError, match=message):
            shrink(save(made), "simple")


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


MEMBERS = ["config", "policy.mushroom/config", "policy.mushroom/_log_sigma.torch", PLACE_OF_NETWORK]


@pytest.mark.parametrize("member", MEMBERS)
def test_files_run_no_code(save, tmp_path, member):
    made = tmp_path / "made"
    call = Call(os.mkdir, str(made))
    data = tensor_file(call) if member.endswith(".torch") else pickle.dumps({"type": call})
    with pytest.raises(UserError, match="asks for '(posix|nt)."):
        shrink(rewritten(save(agent()), member, data), "simple")
    assert not made.exists()


def test_damaged_files_are_told_in_one_line(save):
    def refuse(path):
        with pytest.raises(UserError, match=path.name) as refused:
            shrink(path, "simple")
        assert "\n" not in str(refused.value)

    path = save(agent())
    for member in MEMBERS:
        for data in (None, b"", b"PK\x03\x04", b"no pickle", pickle.dumps([1]), tensor_file([1.0])):
            refuse(rewritten(path, member, data))
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refuse(path)


@pytest.mark.extensive
def test_what_would_unpack_to_more_than_an_agent_has_is_not_unpacked(save, tmp_path):
    def compressed(source, target, change):
        with zipfile.ZipFile(source) as plain, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
            for member in plain.namelist():
                packed.writestr(member, change(member, plain.read(member)))
        return target

    path = save(agent())
    bomb = compressed(path, tmp_path / "bomb.msh", lambda name, data: bytes(2**27) if name == PLACE_OF_NETWORK else data)
    with pytest.raises(UserError, match="has 134,217,728 bytes, more than the 67,108,864"):
        shrink(bomb, "simple")
    with zipfile.ZipFile(path) as source:
        inner = io.BytesIO(source.read(PLACE_OF_NETWORK))
    packed = compressed(inner, io.BytesIO(), lambda name, data: data).getvalue()
    with pytest.raises(UserError, match="is compressed, which torch.save never does"):
        shrink(rewritten(path, PLACE_OF_NETWORK, packed), "simple")


def test_mistakes_end_in_one_line_and_exit_code_2_and_leave_nothing_behind(save, tmp_path):
    path = save(agent(seen=observations()))
    (tmp_path / "text.msh").write_text("text")
    for arguments, message in (
        ([tmp_path / "none.msh"], "no such file"),
        ([path, "--task", "harder"], "--task: unknown task 'harder'; choose one of simple, hard, follow"),
        ([path, "--output", tmp_path], "is a directory"),
        ([path, "--output", path], "is the agent itself"),
        ([path, "--output", tmp_path / "nowhere" / "agent.safetensors"], "--output"),
    ):
        with pytest.raises(UserError, match=message):
            main(list(map(str, arguments)))
    command = [sys.executable, "-m", "patches.shrink", tmp_path / "text.msh"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("python -m patches.shrink: agent: ")
    assert "text.msh: the file is damaged" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["agent.msh", "text.msh"]
