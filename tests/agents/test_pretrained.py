"""The agents that come with the package: they are found by name, are small, and walk."""

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
from qi_ext.evaluation import evaluate, load_evaluated_agent
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


def test_an_unknown_name_says_which_there_are(folder):
    with pytest.raises(UserError, match=r"there are: pretrained/small$"):
        load_agent("pretrained/large")


def test_it_is_exported_into_the_current_directory(folder):
    runpy.run_path(str(ROOT / "launchers" / "export.py"))["main"](["--agent", "pretrained/small"])
    assert Path("small.onnx").is_file()
    assert [path.name for path in folder.iterdir()] == ["small.safetensors"]


# {agent: the published run that it comes from}
SHIPPED = {"simple": "simple-gail-4096/0", "hard": "hard-gail-warm/0", "follow": "follow-gail-warm/0"}


def environment_of(agent):
    """The environment of its published evaluation."""
    return agent.environment(courses=["drawn"] if agent.settings["task"] == "follow" else ())


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

    def test_walks(self, name):
        agent = load_evaluated_agent(f"pretrained/{name}")
        with closing(agent.source(environment_of(agent), pool="serial")) as source:
            for command in source.environment.commands[:: 4 if name == "hard" else 1]:
                result = evaluate(source, agent.controller(), 1, agent.seed, agent.step, commands=[command])
                assert (result["return_mean"] > 800.0, result["directions"][0]["falls"]) == (True, 0)

    @pytest.mark.slow
    def test_gets_the_published_results(self, name):
        """To the digits that are published, on the recorded type of processor; elsewhere within 5 %."""
        agent = load_evaluated_agent(f"pretrained/{name}")
        published = json.loads((ROOT / "results" / SHIPPED[name] / "result.json").read_text())["evaluation"]
        with closing(agent.source(environment_of(agent))) as source:
            for policy in ("deterministic", "stochastic"):
                episodes = published[policy]["episodes"] // len(source.environment.commands)
                result = evaluate(source, agent.controller(policy == "deterministic"), episodes, agent.seed, agent.step)
                assert result["return_mean"] == pytest.approx(published[policy]["return_mean"], rel=0.05)
                assert min(row["return_mean"] for row in result["directions"]) > 800.0

    def test_acts_within_reason_where_the_expert_was(self, name):
        agent = load_agent(f"pretrained/{name}")
        demonstrations = load_demonstrations("trot", task_commands(name))
        assert agent.metadata["demonstrations_hash"] == demonstrations.content_hash()
        actions = agent.act(demonstrations.states[::10])
        assert np.isfinite(actions).all()
        assert np.mean(np.abs(actions) >= 1.0) < 0.05
        assert np.sqrt(np.mean((actions - demonstrations.actions[::10]) ** 2)) < 0.5
