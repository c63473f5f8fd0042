"""The comparison with other libraries: its tables are those of its data, and their policies act alike as agents of ours."""

import json
from pathlib import Path

import numpy as np
import pytest

from qi_ext.utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import peers

    return peers


@pytest.fixture
def peer_results(peers):
    import peer_results

    return peer_results


def result(seed, returns, command="learn.py"):
    """A result whose policies have these returns, 100 steps and half a minute after each other."""
    snapshots = [
        {"step": 100 * i, "minutes": 0.5 * i, "deterministic": value, "stochastic": value / 2}
        for i, value in enumerate(returns)
    ]
    last = {mode: {"return_mean": returns[-1], "falls": seed, "episodes": 96} for mode in ("deterministic", "stochastic")}
    versions = {"commit": None, "clean": True, "processor": "one", "cores": 2, "gpu": None, "versions": {"python": "3.13.0"}}
    made_with = versions | {"physics_steps_per_second": 2000}
    return {"name": "a", "seed": seed, "command": command, "snapshots": snapshots, "last": last, "made_with": made_with}


def write(folder, *results):
    for each in results:
        (folder / each["name"]).mkdir(exist_ok=True)
        (folder / each["name"] / f"{each['seed']}.json").write_text(json.dumps(each))


def test_the_committed_tables_are_those_of_the_committed_results(peers, peer_results):
    text = (ROOT / "docs" / "comparison.md").read_text()
    results = peer_results.read_results(ROOT / "results" / "peers", peers.PEERS)
    assert peer_results.with_tables(text, peers.PEERS, results) == text, "anew: python benchmarks/peers.py tables"


def test_a_row_has_the_first_policies_that_come_to_a_return(peers, peer_results, tmp_path):
    a = {"a": peers.Peer("learner a", "learn.py", (0, 1))}
    write(tmp_path, result(0, [0.0, 300.0, 500.0, 900.0]), result(1, [0.0, 450.0, 420.0, 780.0]))
    table = peer_results.with_tables(peer_results.BEGIN + peer_results.END, a, peer_results.read_results(tmp_path, a))
    rows = [line for line in table.splitlines() if line.startswith("| learner a")]
    # To 400 after 200 and 100 steps; to 800 one of them; falls are 0 and 1.
    assert rows[0].startswith("| learner a | 1.5 | 300 | 840 [780, 900] | 1/192 | 150, 0.8 | 1 of 2 seeds |")
    assert rows[1].endswith("| 1 of 2 seeds | - |")


def test_the_curve_ends_where_the_first_seed_does(peer_results):
    minutes, returns = peer_results.mean_curve([result(0, [0.0, 100.0, 200.0]), result(1, [0.0, 300.0])], "deterministic")
    assert minutes[-1] == 0.5
    np.testing.assert_allclose(returns, 400.0 * minutes)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"command": "other.py"}, "was made by another command"), ({"snapshots": []}, "snapshots"), ({"seed": "1"}, "seed")],
)
def test_a_result_of_something_else_is_refused(peers, peer_results, tmp_path, change, complaint):
    write(tmp_path, result(0, [1.0]))
    path = tmp_path / "a" / "0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=complaint):
        peer_results.read_results(tmp_path, {"a": peers.Peer("learner a", "learn.py")})


def test_a_policy_of_stable_baselines_acts_alike_as_an_agent_of_ours(peers):
    pytest.importorskip("imitation")
    import sb3_peers
    import torch
    from imitation.policies.base import NormalizeFeaturesExtractor
    from stable_baselines3.common.policies import ActorCriticPolicy

    env = sb3_peers.make_env()
    policy = ActorCriticPolicy(
        env.observation_space, env.action_space, lambda _: 1e-3, features_extractor_class=NormalizeFeaturesExtractor
    )
    observations = np.random.default_rng(0).normal(size=(64, 37))
    policy.features_extractor.normalize.update_stats(torch.as_tensor(observations, dtype=torch.float32))
    expected = policy.get_distribution(torch.as_tensor(observations, dtype=torch.float32)).mode().detach()
    np.testing.assert_allclose(sb3_peers.actor_of(policy).act(observations), expected, atol=1e-5)
