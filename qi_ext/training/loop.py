"""The training loop: collect, rewards, advantages, policy step, fits, log, checkpoint."""

import time

from qi_ext.utils.errors import SamplingError, Terminated


def learn(run):
    """Train `run`, a `TrainingRun`, until it is over, and save it.

    Ctrl-C, SIGTERM, SIGHUP and SamplingError stop it between two updates, and pass on after it is saved. FloatingPointError,
    where numbers are not finite, and OSError, where nothing can be written, leave the last checkpoint as it is.
    """
    source, learner, counter, n_steps = run.source, run.learner, run.counter, run.batch_size
    try:
        if not run.is_over():
            source.start(learner, n_steps, step=counter.steps)
        while not run.is_over():
            began = time.monotonic()
            source.wait()
            collected = time.monotonic()
            with run.signals.held():  # from here on envs, learner and counter change, and fit together only at the end
                rollouts = source.collect()
                counter.add(rollouts.n_steps, source.n_envs, rollouts.episodes, run.measured[rollouts.episodes["env"]])
                batch = learner.batch(rollouts)
                rewards = learner.rewards(batch)
                advantages, targets = learner.advantages(batch, rewards)
                learner.policy_step(batch, advantages)
                if counter.steps < run.n_steps:
                    source.start(learner, n_steps, step=counter.steps)  # gathered while the rest is fitted
                learner.fit_critic(batch, targets)
                learner.fit_discriminator(batch)
                seconds = {"collect_seconds": collected - began, "learn_seconds": time.monotonic() - collected}
                run.note(rollouts, learner.diagnostics(), seconds)
                if run.is_checkpoint_due() and not run.is_over():
                    run.save()
        run.save()
    except (KeyboardInterrupt, Terminated, SamplingError):
        run.save()
        run.say_stopped()
        raise
    finally:
        source.drop()
