"""Learners of a config, by algorithm and backend; `--backend imitation_lib` with the real one: tests/patches/upstream."""

from pathlib import Path

import pytest

from patches.imitation_lib.library import COMMIT, REPOSITORY, found_commit
from qi_ext.learning import GAIL, VAIL, AdversarialLearner
from qi_ext.training.algorithms import ALGORITHMS, Algorithm
from qi_ext.training.learner import require_backend
from qi_ext.utils.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("algorithm", "expected"), [("gail", GAIL), ("vail", VAIL)])
def test_the_native_backend_is_ours(make_learner, algorithm, expected):
    learner = make_learner(algorithm, code_size=7) if algorithm == "vail" else make_learner(algorithm)
    assert type(learner) is AdversarialLearner
    assert type(learner.discriminator) is expected
    assert algorithm == "gail" or learner.discriminator.code_size == 7


def test_the_trust_region_after_a_warm_start_begins_with_its_own_standard_deviation(make_learner):
    learner = make_learner(warm_start=1, warm_start_std=0.1, max_kl=0.02, final_max_kl=0.001)
    learner.policy.set_std(0.1)
    assert learner.policy_optimizer.trust_region == pytest.approx(0.02)


class Halved(GAIL):
    def reward(self, inputs):
        return 0.5 * super().reward(inputs)


def test_an_algorithm_from_outside_is_one_line_in_the_registry(make_learner, make_batch, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "halved", Algorithm(Halved))
    plain, halved = make_learner(), make_learner("halved")
    batch = make_batch(plain.policy)
    assert (halved.rewards(batch) == 0.5 * plain.rewards(batch)).all()


def refusal(small_config):
    """The line that the backend is refused with."""
    with pytest.raises(UserError, match="^--backend: ") as caught:
        require_backend(small_config(backend="imitation_lib"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(found_commit() is not None, reason="imitation-lib is installed here")
def test_without_imitation_lib_one_line_says_how_to_install_it(small_config):
    line = refusal(small_config)
    assert "imitation-lib is not installed" in line
    assert f"pip install --no-deps git+{REPOSITORY}@{COMMIT} " in line


def test_another_imitation_lib_is_refused_by_name(small_config, tmp_path, monkeypatch):
    (tmp_path / "imitation_lib").mkdir()
    (tmp_path / "imitation_lib" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    line = refusal(small_config)
    assert "imitation-lib is of other source" in line
    assert "the patches are for b097abd" in line


def test_the_requirements_name_the_commit_that_the_patches_are_for():
    (line,) = [line for line in (ROOT / "requirements-upstream.txt").read_text().splitlines() if not line.startswith("#")]
    assert f"git+{REPOSITORY}@{COMMIT}" in line
