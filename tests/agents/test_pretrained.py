"""The agents that come with the package: whichever there are can be found, are small, and act as they should."""

import hashlib
import json
import runpy
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import qi_ext
from qi_ext.agents.acting import PRETRAINED, Actor, agent_path, load_agent, save_agent
from qi_ext.demonstrations import load_demonstrations
from qi_ext.evaluation import evaluate
from qi_ext.evaluation.walker import load_subject
from qi_ext.sampling.pool_source import BatchedSampler
from qi_ext.tasks.directions import task_commands
from qi_ext.utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of pretrained agents with one of random weights in it, `small`; the current directory is another."""
    (tmp_path / "package").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("qi_ext.agents.acting.PRETRAINED", tmp_path / "package" / "pretrained")
    (tmp_path / "package" / "pretrained").mkdir()
    write_agent(tmp_path / "package" / "pretrained" / "small.safetensors", seed=0)
    return tmp_path / "package" / "pretrained"


def write_agent(path, seed):
    random = np.random.default_rng(seed)
    weight, bias, mean = (random.normal(0.0, 0.1, shape).astype(np.float32) for shape in ((12, 37), 12, 37))
    actor = Actor([(weight, bias)], mean, np.ones(37, dtype=np.float32), np.zeros(12, dtype=np.float32))
    save_agent(path, actor, {"task": "simple", "who": str(seed)})


def test_a_pretrained_agent_is_found_by_its_name(folder):
    assert agent_path("pretrained/small") == folder / "small.safetensors"
    assert qi_ext.load_agent("pretrained/small").metadata["who"] == "0"


def test_a_file_of_that_path_wins(folder):
    Path("pretrained").mkdir()
    write_agent(Path("pretrained", "small"), seed=1)
    assert load_agent("pretrained/small").metadata["who"] == "1"


@pytest.mark.parametrize("name", ["pretrained/large", "pretrained/" + "x" * 400])
def test_an_unknown_name_says_which_there_are(folder, name):
    with pytest.raises(UserError) as caught:
        load_agent(name)
    assert "\n" not in str(caught.value)
    if "large" in name:
        assert str(caught.value).endswith("there are: pretrained/small")


def test_it_is_exported_into_the_current_directory(folder):
    # With the names that the launcher finds when it starts.
    runpy.run_path(str(ROOT / "launchers" / "export.py"))["main"](["--agent", "pretrained/small"])
    assert Path("small.onnx").is_file()
    assert [path.name for path in folder.iterdir()] == ["small.safetensors"]


# Of each, the published run that it is the agent of.
SHIPPED = {"simple": "simple-gail/0", "hard": "hard-gail-warm/0"}


def test_there_is_one_of_each_task():
    assert {path.stem for path in PRETRAINED.glob("*.safetensors")} == SHIPPED.keys()


@pytest.mark.parametrize("name", SHIPPED)
class TestEach:
    def test_is_small_and_says_where_it_comes_from(self, name):
        path = PRETRAINED / f"{name}.safetensors"
        agent = load_agent(f"pretrained/{name}")
        assert path.stat().st_size < 1_000_000
        assert agent.metadata["task"] == name
        assert agent.metadata["demonstrations"] == "trot"
        assert not [value for value in agent.metadata.values() if str(value).startswith("/")]

    def test_is_the_agent_of_a_published_run(self, name):
        digest = hashlib.sha256((PRETRAINED / f"{name}.safetensors").read_bytes()).hexdigest()
        assert digest == json.loads((ROOT / "results" / SHIPPED[name] / "result.json").read_text())["agent"]["file_sha256"]

    def test_walks_in_each_direction(self, name):
        subject = load_subject(f"pretrained/{name}")
        sampler = BatchedSampler(subject.environment(), subject.lanes_per_block, pool="serial")
        for deterministic, least in ((True, 850.0), (False, 800.0)):
            result = evaluate(sampler, subject.controller(deterministic), 1, subject.seed, subject.step)
            assert min(row["return_mean"] for row in result["directions"]) > least
            assert sum(row["falls"] for row in result["directions"]) == 0

    @pytest.mark.slow
    def test_gets_the_published_figures(self, name):
        """To the digits that are published, on the recorded type of processor; elsewhere within 5 %."""
        subject = load_subject(f"pretrained/{name}")
        published = json.loads((ROOT / "results" / SHIPPED[name] / "result.json").read_text())["evaluation"]
        sampler = BatchedSampler(subject.environment(), subject.lanes_per_block, pool="loky")
        with closing(sampler):
            for policy in ("deterministic", "stochastic"):
                controller = subject.controller(policy == "deterministic")
                episodes = published[policy]["episodes"] // len(sampler.environment.commands)
                result = evaluate(sampler, controller, episodes, subject.seed, subject.step)
                assert result["return_mean"] == pytest.approx(published[policy]["return_mean"], rel=0.05)

    def test_acts_within_reason_where_the_expert_was(self, name):
        agent = load_agent(f"pretrained/{name}")
        demonstrations = load_demonstrations("trot", task_commands(name))
        assert agent.metadata["demonstrations_hash"] == demonstrations.content_hash()
        actions = agent.act(demonstrations.states)
        assert np.isfinite(actions).all()
        # Of the limit; the trot expert hardly ever comes to it.
        assert np.mean(np.abs(actions) >= 1.0) < 0.05
        assert np.sqrt(np.mean((actions - demonstrations.actions) ** 2)) < 0.5
