"""Command lines: the config's fields as options, and errors as one line with the right exit code."""

import dataclasses
import sys

from qi_ext.training.config import ALGORITHMS, BACKENDS, TASKS, config_class, make_config, settable, warm_defaults
from qi_ext.training.resume import stored_choice
from qi_ext.training.values import shown
from qi_ext.utils.command_line import Parser

# The headings of --help, each by the first field below it.
GROUPS = {
    "task": "the run",
    "n_envs": "sampling",
    "batch_size": "TRPO",
    "discriminator_input": "discriminator",
    "warm_start_std": "warm start",
    "information_constraint": "information bottleneck",
}


def parse_config(program, description, arguments=None):
    """The settings that a command line gives, {name: value}, and `resume`; checked against the config that they choose.

    Defaults, and the help, are those of the --task, --algorithm and --backend among `arguments` (default: sys.argv), or of the
    run to resume.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    stored = stored_choice(_early(arguments, "resume", ""))
    chosen = config_class(
        _early(arguments, "task", stored.get("task", TASKS[0])),
        _early(arguments, "algorithm", stored.get("algorithm", ALGORITHMS[0])),
        _early(arguments, "backend", stored.get("backend", BACKENDS[0])),
    )
    warm = warm_defaults(chosen)
    parser = Parser(program, description)
    text = "go on with the run in this directory, with its settings; auto: start the run, or go on with it, whichever fits"
    parser.add_argument("--resume", type=str, default="", help=text, metavar="RUN_DIR")
    for item in settable(chosen):
        if item.name in GROUPS:
            group = parser.add_argument_group(GROUPS[item.name])
        default = item.default if item.default is not dataclasses.MISSING else item.default_factory()
        text = shown(default)
        if item.name in warm:
            text = f"{text}; {warm[item.name]} after a warm start"
        text = item.metadata["help"] + (f" [{text}]" if text else "")
        # All as text: the config itself says what a number is, whoever sets it.
        group.add_argument(f"--{item.name}", type=str, help=text, metavar="X", nargs="+" if item.type is list else None)
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    resume = given.pop("resume")
    if not stored:
        make_config(**given)  # what is wrong with them is wrong in any run
    return given | {"resume": resume}


def _early(arguments, name, default):
    """The value of --name before anything is parsed, because the defaults of all others depend on it."""
    value = default
    for i, argument in enumerate(arguments):
        if argument.startswith(f"--{name}="):
            value = argument.split("=", 1)[1]
        elif argument == f"--{name}" and i + 1 < len(arguments):
            value = arguments[i + 1]
    return value
