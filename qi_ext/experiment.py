"""One experiment: train, evaluate, report."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext

from qi_ext.evaluation import evaluate_agent
from qi_ext.report.tables import table
from qi_ext.sampling.pool_source import PoolSource
from qi_ext.sampling.source import RolloutSource
from qi_ext.tasks import QuadrupedDirection
from qi_ext.training.resume import Start
from qi_ext.training.source import evaluation_settings
from qi_ext.training.training_run import TrainingRun
from qi_ext.utils.display import make_console, say
from qi_ext.utils.errors import Terminated


def run_experiment(start: Start, make_source: Callable[..., RolloutSource] | None = None) -> dict:
    """Train a run, evaluate its agent and write its report, as far as that is not done; return the content of result.json.

    start: from `training.resume.find_start`. make_source: as `TrainingRun` takes it. Raises UserError for what cannot be run,
    and else as `training.loop.learn` does.
    """
    training = TrainingRun(start, make_source)
    result = training.finished()
    if result is None:
        with training:
            result = training.train()
            if training.config.run.evaluation_episodes:
                result |= _evaluated(training)
            training.directory.write_result(result)
            if "evaluation" in result:
                _show(result)
                _write_report(training)
    elif "evaluation" in result:
        _show(result)
        if not training.directory.report.exists():
            _write_report(training)
    return result | {"directory": str(training.directory.path)}


def _show(result: dict) -> None:
    make_console().print(table(result["evaluation"], result.get("demonstrations", "")))


def _evaluated(training: TrainingRun) -> dict:
    """Evaluate the trained agent; return the evaluation and its seconds, as result.json has them."""
    began = time.monotonic()
    config, actor = training.config, training.learner.policy.actor
    try:
        with evaluation_source(training) as source:
            evaluation = evaluate_agent(source, actor, config.run.evaluation_episodes, config.run.seed, training.counter.steps)
    except (KeyboardInterrupt, Terminated):
        say(f"trained, but stopped in the evaluation; go on with {training.resume_hint}")
        raise
    seconds = time.monotonic() - began
    with training.signals.held():
        means = {name: evaluation[name]["return_mean"] for name in ("deterministic", "stochastic")}
        training.log.write_hyperparameters(training.counter.steps, means)
    return {"evaluation": evaluation, "evaluation_seconds": seconds}


def evaluation_source(training: TrainingRun) -> AbstractContextManager[PoolSource]:
    """The source of episodes, for `with`, that a run is evaluated in: its own where it can be."""
    task = training.config.task
    environment = training.env
    if task.of_environment != task.of_training:
        environment = QuadrupedDirection(**task.of_environment)
    elif isinstance(training.source, PoolSource):  # one of another kind runs no episodes for evaluation
        return nullcontext(training.source)
    return closing(PoolSource(environment, **evaluation_settings(training.config)))


def _write_report(training: TrainingRun) -> None:
    """Write the page. The run is finished without it, so that a fault is only reported."""
    from qi_ext.report.page import write_report  # matplotlib, which takes a second

    directory = training.directory
    try:
        write_report([directory.path], directory.report, training.config.run.evaluation_episodes)
    except (KeyboardInterrupt, Terminated):
        say(f"trained and evaluated, but stopped before its page was written; {training.resume_hint} writes it")
        raise
    except Exception as error:
        say(f"no report: {error}")
