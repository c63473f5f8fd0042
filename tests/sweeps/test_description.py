"""The description of a sweep, and what is refused in it."""

import re

import pytest

from qi_ext.sweeps.description import Publication, read_sweep
from qi_ext.sweeps.resources import Resources
from qi_ext.training.config import make_config
from qi_ext.utils.errors import UserError

CLONED = "name: cloned, what: cloning, n_steps: 0, warm_start: 1"


@pytest.fixture
def read(tmp_path):
    """A function: the `Sweep` of the text of a file."""

    def read(text):
        path = tmp_path / "tried.yaml"
        path.write_text(text)
        return read_sweep(path, tmp_path / "out")

    return read


def test_a_grid_is_every_combination_with_every_seed(read, tmp_path):
    sweep = read("fixed: {task: hard}\ngrid: {gamma: [0.9, 0.97], max_kl: [0.01, 0.02]}\nseeds: [3, 5]")
    assert [(t.seed, t.varied["gamma"], t.varied["max_kl"]) for t in sweep.trials] == [
        (seed, gamma, kl) for seed in (3, 5) for gamma in (0.9, 0.97) for kl in (0.01, 0.02)
    ]
    assert sweep.trials[1].directory == tmp_path / "out" / "gamma___0.9" / "max_kl___0.02" / "3"
    assert sweep.trials[1].config.task.task == "hard"


def test_directories_are_those_of_experiment_launcher(read):
    launcher = pytest.importorskip("experiment_launcher").Launcher
    sweep = read("trials:\n- {policy_hidden: [64, 32], wandb: a/b c}\n- {gamma: 1e-1}\n- {}\nseeds: 1")
    for trial in sweep.trials:
        varied = {f"{name}__": value for name, value in trial.varied.items()}
        its_own = object.__new__(launcher)
        its_own._compact_dirs = False
        assert str(trial.results_dir) == its_own._generate_results_dir(str(sweep.directory), trial.fixed | varied)


def test_values_are_what_the_setting_makes_of_them(read):
    """YAML itself would make 7200 of the time, False of the project, and text of the rate."""
    sweep = read(
        "fixed: {discriminator_learning_rate: 1e-4, wandb: no, policy_hidden: [64, 32], n_steps: null}\n"
        "seeds: 1\nresources: {time: 2:00:00, memory: 3G, cores: 3, gpu: a100:2, partition: long, account: me}"
    )
    (trial,) = sweep.trials
    settings = {"discriminator_learning_rate": 1e-4, "wandb": "no", "policy_hidden": [64, 32]}
    assert trial.settings == settings | {"n_steps": make_config().run.n_steps}
    assert sweep.resources == Resources(3, 3072, 7200, "a100:2", "long", "me")
    assert read("resources: {time: null, gpu: ~, account: Null, partition: }").resources == Resources()


@pytest.mark.parametrize("text, seconds", [("90", 5400), ("10:30", 630), ("1-2:30", 95400), ("2-00:00:01", 172801)])
def test_times_are_slurms(read, text, seconds):
    assert read(f"resources: {{time: {text}}}").resources.time == seconds


def test_a_directory_has_one_name(read, tmp_path):
    sweep = read("seeds: 1")
    (tmp_path / "link").symlink_to(tmp_path)
    assert read_sweep(tmp_path / "link" / "tried.yaml", tmp_path / "link" / "out").trials == sweep.trials


def test_trials_may_have_names_and_seeds_of_their_own(read, tmp_path):
    sweep = read("trials:\n- {name: first, gamma: 0.9, seeds: [4]}\n- {gamma: 0.8}\nseeds: [4, 5]")
    first, second, again = sweep.trials
    assert (first.directory, first.configuration) == (tmp_path / "out" / "first" / "4", "first")
    assert (first.varied, first.publication) == ({"gamma": 0.9}, None)
    assert (second.seed, again.seed, again.directory) == (4, 5, tmp_path / "out" / "gamma___0.8" / "5")


def test_published_trials_have_96_episodes_unless_they_say_otherwise(read):
    hard = "name: hard, what: GAIL, task: hard, episodes: 5, robustness: true, beside: cloned, reproduce: true"
    follow = "name: follow, what: drawn, task: follow, courses: [drawn, circle]"
    sweep = read(f"trials:\n- {{{CLONED}}}\n- {{name: all, what: hard, task: hard}}\n- {{{hard}}}\n- {{{follow}}}\nseeds: 1")
    assert [trial.publication for trial in sweep.trials] == [
        Publication("cloning", 96, False, "", False),
        Publication("hard", 12, False, "", False),
        Publication("GAIL", 5, True, "cloned", True),
        Publication("drawn", 48, False, "", False, ("drawn", "circle")),
    ]


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "a sweep is made of fixed, grid, trials, seeds, resources"),
        ("a: {b", "is not YAML"),
        ("grid: {gamma: [0.9]}\nmore: 1", "more: there is no such thing in a sweep"),
        ("grid: {gamma: 0.9}", "grid: gamma: must be a list of values"),
        ("grid: {gamma: [0.9]}\ntrials: [{gamma: 0.9}]", "grid, trials: give one of them"),
        ("trials: {gamma: 0.9}", "trials: must be a list"),
        ("trials: []", "trials: must be a list"),
        ("fixed: [1]", "fixed: must be `name: value` lines"),
        ("fixed: {gamma: 0.9}\ngrid: {gamma: [0.9]}", "gamma: is both fixed and varied"),
        ("grid: {gamma: [0.9], gamma: [0.8]}", "line 1: gamma is there twice"),
        ("grid: {gama: [0.9]}", "trial 0 (0.9): --gama: no such option"),
        ("fixed: {gama: null}", "--gama: no such option"),
        ("grid: {gamma: [0.9, 1.5]}", "trial 1 (1.5): --gamma: must be at most 1, not 1.5"),
        ("grid: {wandb: [a/b, a-b]}", "wandb a/b and wandb a-b would both be in"),
        ("fixed: {seed: 1}", "seed: cannot be set here: list `seeds`"),
        ("seeds: 0", "seeds: must be at least 1"),
        ("seeds: -1", "seeds: must be how many, or a list of whole numbers"),
        ("seeds: [1, 1]", "seeds: the same one twice: 1 1"),
        ("resources: {core: 1}", "core: there is no such thing in resources"),
        ("resources: {cores: 0}", "resources: cores: must be a whole number of at least 1"),
        ("resources: {cores: [1]}", "resources: cores: must be one value"),
        ("resources: {cores: 1" + "0" * 30 + "}", "resources: cores: must be a whole number of at least 1, and at most 99999"),
        ("resources: {cores: 1e30}", "resources: cores: must be a whole number"),
        ("seeds: 1" + "0" * 9, "seeds: must be at least 1, and at most 10,000"),
        ("seeds: 1" + "0" * 99, "seeds: must be how many, or a list of whole numbers"),
        ("grid: {gamma: [" + "0.9, " * 5000 + "], seed: [1]}", "seed: cannot be set here"),
        ("fixed: " + "[" * 40, "is nested deeper than 32 levels"),
        ("fixed: {n_steps: 1e25}", "--n_steps: must be at most 1000000000000"),
        ("resources: {memory: much}", "resources: memory: must be as 4G or 4000M"),
        ("resources: {time: 0:30}", "resources: time: must be HOURS:MINUTES:SECONDS or DAYS-HOURS, and a minute at least"),
        ("resources: {gpu: 'a b'}", "resources: gpu: must be how many"),
        ("resources: {partition: 'a b'}", "resources: partition: must be one word"),
        ("fixed: {pool: dask, scheduler: slurm}", "scheduler: slurm is for one big run"),
        ("grid: {demonstrations: [trot, mine.npz]}", "demonstrations: must be a whole path, such as /"),
        ("trials: [{name: Über}]", "name: must be of lower-case letters"),
        ("trials: [{name: a}, {name: a}]", "name: a is taken by a trial above"),
        ("trials: [{what: GAIL}]", "trial 0 (all): one that is published needs `name` and `what`"),
        ("trials: [{name: a, what: GAIL, episodes: 0}]", "trial 0 (a): episodes: must be a whole number of at least 1"),
        ("trials: [{name: a, what: GAIL, robustness: 1}]", "trial 0 (a): robustness: must be true or false, not '1'"),
        (
            "trials: [{name: a, what: GAIL, task: follow, courses: [curve]}]",
            "courses: must be a list of some of drawn, straight, circle",
        ),
        ("trials: [{name: a, what: GAIL, courses: [drawn]}]", "trial 0 (a): courses: only follow has any"),
        (f"trials: [{{{CLONED}}}, {{name: a, what: GAIL, beside: b}}]", "trial 1 (a): beside: 'b' must be the name"),
        (f"trials: [{{{CLONED}}}, {{name: a, what: GAIL, beside: cloned, seeds: [7]}}]", "with the same seeds"),
    ],
)
def test_mistakes_are_one_line(read, text, complaint):
    with pytest.raises(UserError, match=re.escape(complaint)) as caught:
        read(text)
    assert "tried.yaml: " in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_sweep(tmp_path / "none.yaml", tmp_path)


def test_the_ready_sweeps_can_be_read(request, tmp_path):
    files = sorted((request.config.rootpath / "launchers" / "sweeps").glob("*.yaml"))
    assert [path.stem for path in files] == ["experiments", "first", "hard", "simple"]
    for path in files:
        assert read_sweep(path, tmp_path).trials
