"""Train the A1 to walk as commanded, by GAIL or VAIL on TRPO, from demonstrations of states alone.

    qi-ext train --task hard

runs the experiment; every option has a default that belongs to the task and algorithm chosen. The run directory,
RESULTS_DIR/SEED, holds config.yaml, progress.csv, TensorBoard events, agent.safetensors, checkpoints/STEP/ and, once the run
is finished, result.json and report.html. A run that was stopped or killed goes on with

    qi-ext train --resume runs/hard-gail/0
"""

import inspect
import sys
from pathlib import Path

import yaml

from qi_ext.training.arguments import parse_config
from qi_ext.training.config import all_options, make_config
from qi_ext.training.resume import find_start
from qi_ext.utils.display import say
from qi_ext.utils.output import lasting_output
from qi_ext.utils.programs import command, program, shell_word
from qi_ext.utils.settings import plain_type


def experiment(resume="", **settings):
    """Run one experiment; the keywords are the settings of the config. None takes the default of the task and algorithm.

    resume: "" for a new run, "auto" to start it or go on with it, or the run directory to go on with.
    """
    with lasting_output():
        start = find_start(settings, resume)

        from qi_ext.experiment import run_experiment  # after what can be refused at once, because it takes seconds

        return run_experiment(start)


# experiment-launcher reads the settings off the signature: plain types, each with a default.
GIVEN = {"task": "simple", "algorithm": "gail", "backend": "native", "seed": 0, "results_dir": ""}
experiment.__signature__ = inspect.Signature(
    [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=plain_type(field), default=GIVEN.get(name))
        for name, field in all_options().items()
    ]
    + [inspect.Parameter("resume", inspect.Parameter.KEYWORD_ONLY, annotation=str, default="")]
)


def main(arguments=None):
    """Parse and run.

    Exit codes: 0 done, 1 a fault, 2 the user's mistake, 129 SIGHUP, 130 Ctrl-C, 143 SIGTERM (these three after saving).
    """
    settings = parse_config(program("train"), __doc__, arguments)
    if settings.pop("print_config", False):
        resume = settings.pop("resume")
        config = make_config(**settings) if resume in ("", "auto") else find_start(settings, resume).config
        print(yaml.safe_dump(config.settings(), sort_keys=False), end="")
        return
    result = experiment(**settings)
    directory = Path(result["directory"])
    tensorboard = f"{shell_word(sys.executable)} -m tensorboard.main --logdir {shell_word(directory.absolute())}"
    say(f"trained in {result['training_seconds']:.0f} s; everything is in {directory}:")
    say(f"  agent   {directory / 'agent.safetensors'}")
    say(f"  curves  {directory / 'progress.csv'}, or: {tensorboard}")
    say(f"  result  {directory / 'result.json'}")
    if (directory / "report.html").exists():
        say(f"  report  {directory / 'report.html'}, for a browser")
    say(f"evaluate it again: {command('evaluate')} --agent {shell_word((directory / 'agent.safetensors').absolute())}")
