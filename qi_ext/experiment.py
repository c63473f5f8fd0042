"""One experiment: train, evaluate, report."""

import time

from qi_ext.training.resume import find_start
from qi_ext.utils.display import Display, make_console, say
from qi_ext.utils.errors import Terminated


def experiment(resume="", **settings):
    """Train a run, evaluate its agent and write its report, as far as that is not done; returns what result.json holds.

    resume: "" for a new run, "auto" to start it or go on with it, or the run directory to go on with. settings: options of
    `run_gail.py`; None takes the default of task and algorithm. Raises UserError for what cannot be run, and else as
    `training.loop.learn` does.
    """
    start = find_start(settings, resume)

    from qi_ext.training.training import Training  # after what can be refused at once, because it takes a second

    training = Training(start)
    result = training.finished()
    if result is None:
        with training:
            result = training.train()
            if training.config.run.evaluation_episodes:
                result |= _evaluated(training)
            training.directory.write_result(result)
            _report(training, result)
    elif not training.directory.report.exists():
        _report(training, result)
    return result | {"directory": str(training.directory.path)}


def _evaluated(training):
    """The evaluation of a trained agent, and how long it took."""
    from qi_ext.evaluation import compare, gait_measures

    began = time.monotonic()
    episodes, key = training.config.run.evaluation_episodes, (training.config.run.seed, training.counter.steps)
    try:
        with Display("evaluating", 4 * episodes * len(training.env.commands), "episodes") as display:
            evaluation = compare(
                training.source,
                training.learner.policy.actor,
                episodes,
                *key,
                display.advance,
                measures=gait_measures(training.env, *key),
            )
    except (KeyboardInterrupt, Terminated):
        say(f"trained, but stopped in the evaluation; go on with {training.resume_hint}")
        raise
    seconds = time.monotonic() - began
    with training.signals.held():
        means = {name: evaluation[name]["return_mean"] for name in ("deterministic", "stochastic")}
        training.log.write_hyperparameters(training.counter.steps, means)
    return {"evaluation": evaluation, "evaluation_seconds": seconds}


def _report(training, result):
    """Print the evaluation and write the page, where there is one. A run is finished without it: what prevents it is said."""
    if "evaluation" not in result:
        return
    from qi_ext.report.page import write_report
    from qi_ext.report.tables import table

    directory = training.directory
    make_console().print(table(result["evaluation"], training.demonstrations.source))
    try:
        write_report([directory.path], directory.report, training.config.run.evaluation_episodes)
    except (KeyboardInterrupt, Terminated):
        say(f"trained and evaluated, but stopped before its page was written; {training.resume_hint} writes it")
        raise
    except Exception as error:
        say(f"no report: {error}")
