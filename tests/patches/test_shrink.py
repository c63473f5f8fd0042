import io
import os
import pickle
import subprocess
import sys
import types
import zipfile
from pathlib import Path

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
    """What imitation-lib's holds."""

    def __init__(self, observations):
        super().__init__()
        self._use_cuda = False
        self._count = np.array([len(observations) + 1e-2])
        self._sum, self._sumsq = observations.sum(0), (observations**2).sum(0) + 1e-2
        average, squares = self._sum / self._count, self._sumsq / self._count
        self.mean, self.std = average, np.sqrt(np.maximum(squares - average**2, 1e-2))


class FullyConnectedNetwork(nn.Module):
    """What imitation-lib's holds."""

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


def save(made, path):
    made.save(path, full_save=True)
    return path


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


@pytest.mark.parametrize(("kind", "algorithm"), [(GAIL, "gail"), (VAIL, "vail")])
@pytest.mark.parametrize("task", ["simple", "hard"])
def test_the_agent_acts_as_the_published_network(tmp_path, capsys, kind, algorithm, task):
    seen = observations(task)
    made = agent(kind, seen, sizes=(512, 256))
    main([str(save(made, tmp_path / "best.msh"))])
    written = tmp_path / "best.safetensors"
    assert written.stat().st_size < 1e6
    actor = load_agent(written)
    np.testing.assert_allclose(actor.mean(seen), expected_mean(made, seen), rtol=0.0, atol=1e-5)
    np.testing.assert_allclose(actor.std, 0.5, rtol=1e-6)
    assert {name: actor.metadata[name] for name in ("task", "algorithm", "speed", "layers")} == {
        "task": task,
        "algorithm": algorithm,
        "speed": "0.50",
        "layers": "37,512,256,12",
    }
    # What is not known is not made up: evaluate.py has its own defaults.
    assert not {"step", "seed", "demonstrations"} & actor.metadata.keys()
    assert "its steps, seed and demonstrations are not known" in capsys.readouterr().out


def test_statistics_are_optional_but_the_task_is_not(tmp_path):
    made = agent()
    path = save(made, tmp_path / "agent.msh")
    with pytest.raises(UserError, match="add --task simple or --task hard"):
        shrink(path)
    actor, metadata = shrink(path, "hard")
    x = observations()
    np.testing.assert_allclose(actor.mean(x), expected_mean(made, x), rtol=0.0, atol=1e-5)
    assert metadata["task"] == "hard"
    assert "speed" not in metadata


def test_the_task_can_be_given(tmp_path):
    assert shrink(save(agent(seen=observations()), tmp_path / "agent.msh"), "hard")[1]["task"] == "hard"


def test_demonstrations_are_not_read(tmp_path):
    path = save(agent(seen=observations()), tmp_path / "agent.msh")
    shrink(rewritten(path, "_demonstrations.pickle", b"no pickle at all"))


def test_agents_of_a_gpu_are_read_without_one(tmp_path):
    from patches.mushroom_rl.location import _register, _saving_as

    _register()
    token = _saving_as.set("cuda:0")
    try:
        path = save(agent(seen=observations()), tmp_path / "agent.msh")
    finally:
        _saving_as.reset(token)
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
def test_other_agents_are_refused_by_name(tmp_path, given, message):
    path = save(agent(**given), tmp_path / "agent.msh")
    with pytest.raises(UserError, match=message) as refused:
        shrink(path, "simple")
    assert "agent.msh" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.policy._log_sigma, "data", torch.full((12,), np.nan)), "log_sigma is not finite"),
        (lambda m: setattr(m.policy._log_sigma, "data", torch.zeros(11)), "log_sigma has the shape"),
        (lambda m: m._stand.mean.fill(np.inf), "mean of its observations is not finite"),
        (lambda m: m._stand.std.fill(0.0), "standard deviations .* not positive"),
        (lambda m: setattr(m._stand, "std", np.ones(36)), "std of its observations is of 36, not 37"),
        (lambda m: setattr(m._stand, "_count", np.array([1e-2])), "of no observations"),
        (lambda m: setattr(m._linears[1].weight, "data", torch.zeros(1).expand(8, 16)), "weight 1 has the shape"),
        (lambda m: delattr(m, "_linears"), "damaged, or no agent"),
        (lambda m: setattr(m, "_linears", m._activations), "ReLU stands where a Linear should"),
        (lambda m: setattr(m, "_stand", nn.ReLU()), "ReLU stands where a Standardizer or Standardizerv2 should"),
    ],
)
def test_contents_that_do_not_fit_are_named(tmp_path, change, message):
    made = agent(seen=observations())
    network = made.policy._mu.model.network
    network.policy = made.policy  # for `change`; a plain attribute, gone before saving
    change(network)
    del network.policy
    with pytest.raises(UserError, match=message):
        shrink(save(made, tmp_path / "agent.msh"))


def test_preprocessors_and_features_are_refused(tmp_path):
    made = agent()
    made.add_preprocessor(made.policy)
    with pytest.raises(UserError, match="has preprocessors"):
        shrink(save(made, tmp_path / "agent.msh"), "simple")
    made = agent()
    made.phi = "features"
    with pytest.raises(UserError, match="sees features"):
        shrink(save(made, tmp_path / "agent.msh"), "simple")


class Call:
    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


MEMBERS = ["config", "policy.mushroom/config", "policy.mushroom/_log_sigma.torch", PLACE_OF_NETWORK]


@pytest.mark.parametrize("member", MEMBERS)
def test_files_run_no_code(tmp_path, member):
    path, made = save(agent(), tmp_path / "agent.msh"), tmp_path / "made"
    for function, argument in (
        (os.mkdir, str(made)),
        (os.system, f"mkdir {made}"),
        (eval, f"__import__('os').mkdir({str(made)!r})"),
    ):
        call = Call(function, argument)
        data = tensor_file(call) if member.endswith(".torch") else pickle.dumps({"type": call})
        with pytest.raises(UserError, match="asks for '(posix|nt|builtins)."):
            shrink(rewritten(path, member, data), "simple")
        assert not made.exists()


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("data", [None, b"", b"\x80\x04", b"PK\x03\x04", b"no pickle", pickle.dumps([1]), tensor_file([1.0])])
def test_damaged_members_are_told_in_one_line(tmp_path, member, data):
    with pytest.raises(UserError, match=r"changed\.msh") as refused:
        shrink(rewritten(save(agent(), tmp_path / "agent.msh"), member, data), "simple")
    assert "\n" not in str(refused.value)


def test_truncated_files_are_refused(tmp_path):
    path = save(agent(), tmp_path / "agent.msh")
    data = path.read_bytes()
    for size in np.linspace(0, len(data) - 1, 23).astype(int):
        path.write_bytes(data[:size])
        with pytest.raises(UserError, match=r"agent\.msh: .*damaged"):
            shrink(path, "simple")


def test_members_of_more_than_their_size_are_not_unpacked(tmp_path):
    path = save(agent(), tmp_path / "agent.msh")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(tmp_path / "bomb.msh", "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.namelist():
            target.writestr(member, bytes(2**27) if member == PLACE_OF_NETWORK else source.read(member))
    with pytest.raises(UserError, match="has 134,217,728 bytes, more than the 67,108,864"):
        shrink(tmp_path / "bomb.msh", "simple")


def test_nor_are_bombs_within_tensor_files(tmp_path):
    path, packed = save(agent(), tmp_path / "agent.msh"), io.BytesIO()
    with zipfile.ZipFile(path) as source:
        inner = source.read(PLACE_OF_NETWORK)
    with zipfile.ZipFile(io.BytesIO(inner)) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.namelist():
            target.writestr(member, source.read(member))
    with pytest.raises(UserError, match="is compressed, which torch.save never does"):
        shrink(rewritten(path, PLACE_OF_NETWORK, packed.getvalue()), "simple")


def run(*arguments, **environment):
    command = [sys.executable, "-m", "patches.shrink", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def test_mistakes_end_in_one_line_and_leave_nothing_behind(tmp_path):
    path = save(agent(seen=observations()), tmp_path / "agent.msh")
    (tmp_path / "text.msh").write_text("text")
    for arguments, message in (
        ([tmp_path / "none.msh"], "no such file"),
        ([tmp_path / "text.msh"], "text.msh: the file is damaged"),
        ([path, "--task", "harder"], "--task: unknown task 'harder'; choose one of simple, hard"),
        ([path, "--output", tmp_path], "is a directory"),
        ([path, "--output", path], "is the agent itself"),
        ([path, "--output", tmp_path / "nowhere" / "agent.safetensors"], "--output"),
    ):
        with pytest.raises(UserError, match=message):
            main(list(map(str, arguments)))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["agent.msh", "text.msh"]
    done = run(tmp_path / "text.msh")
    assert done.returncode == 2
    assert done.stderr.startswith("python -m patches.shrink: agent: ")
    assert done.stderr.count("\n") == 1


REAL = """
import sys
import numpy as np, torch
from mushroom_rl.core import MDPInfo
from mushroom_rl.policy import GaussianTorchPolicy
from mushroom_rl.utils.spaces import Box
from imitation_lib.imitation import GAIL_TRPO
from imitation_lib.utils import DiscriminatorNetwork, FullyConnectedNetwork, Standardizer
seen = np.load(sys.argv[1])
stand = Standardizer()
stand.update_mean_std(seen)
given = dict(network=FullyConnectedNetwork, n_features=[512, 256], activations=["relu", "relu", "identity"])
info = MDPInfo(Box(-np.inf, np.inf, shape=(37,)), Box(-1.0, 1.0, shape=(12,)), 0.99, 1000)
policy = dict(input_shape=(37,), output_shape=(12,), std_0=0.5, standardizer=stand, use_cuda=False, **given)
critic = dict(input_shape=(37,), output_shape=(1,), standardizer=stand, use_cuda=False, **given)
discriminator = dict(given, network=DiscriminatorNetwork, input_shape=(37,), output_shape=(1,), use_actions=False)
agent = GAIL_TRPO(info, GaussianTorchPolicy, policy, None, discriminator, critic, stand, Standardizer(),
                  demonstrations=dict(states=seen))
agent.save(sys.argv[2], full_save=True)
network = agent.policy._mu.model.network
x = ((torch.from_numpy(seen) - torch.tensor(stand.mean)) / torch.tensor(stand.std)).float()
for layer, activation in zip(network._linears, network._activations):
    x = activation(layer(x))
np.save(sys.argv[3], x.detach().numpy())
"""


@pytest.mark.skipif("IMITATION_LIB" not in os.environ, reason="IMITATION_LIB names no checkout of imitation-lib")
def test_an_agent_of_imitation_lib_itself(tmp_path):
    seen = observations("hard")
    np.save(tmp_path / "seen.npy", seen)
    files = [tmp_path / name for name in ("seen.npy", "agent.msh", "mean.npy")]
    path = os.pathsep.join([os.environ["IMITATION_LIB"], os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "-c", REAL, *map(str, files)], env=os.environ | {"PYTHONPATH": path}, check=True)
    actor, metadata = shrink(tmp_path / "agent.msh")
    np.testing.assert_allclose(actor.mean(seen), np.load(tmp_path / "mean.npy"), rtol=0.0, atol=1e-5)
    assert metadata["task"] == "hard"
    assert Path(tmp_path / "agent.msh").stat().st_size > 1e6
