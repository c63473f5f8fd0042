"""Command lines: the config's fields as options, and errors as one line with the right exit code."""

import argparse
import dataclasses
import re
import signal
import sys

from jsonargparse import ArgumentParser

from qi_ext.errors import SamplingError, Terminated, UserError
from qi_ext.training.config import ALGORITHMS, BACKENDS, TASKS, config_class, make_config, settable, warm_defaults
from qi_ext.training.resume import stored_choice
from qi_ext.training.values import shown

# The headings of --help, each by the first field below it.
GROUPS = {
    "task": "the run",
    "n_envs": "sampling",
    "batch_size": "TRPO",
    "discriminator_input": "discriminator",
    "warm_start_std": "warm start",
    "information_constraint": "information bottleneck",
}


class Parser(ArgumentParser):
    """A parser whose every complaint is a UserError of one line. Options are never abbreviated."""

    def __init__(self, program, description):
        super().__init__(
            prog=program,
            usage="%(prog)s [--option value ...]",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message, *args, **kwargs):
        text = re.sub(r'Parser key "(\w+)"', r"--\1", " ".join(str(message).split()))
        for kind, words in (("int", "a whole number"), ("float", "a finite number")):
            text = re.sub(rf"Expected an? <class '{kind}'>\. Got value: (.*)", rf"must be {words}, not \1", text)
        raise UserError(text)


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


def run_command(program, main):
    """Run `main()` as a program: its mistakes end in one line and exit code 2, its interruptions in 130 and 143."""
    try:
        sys.exit(main())
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if "out of memory" not in str(error) and not isinstance(error, SamplingError):
            raise
        hint = "" if isinstance(error, SamplingError) else "; try --device cpu"
        print(f"{program}: {error}{hint}", file=sys.stderr)
        sys.exit(1)
    except (FloatingPointError, OSError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Terminated:
        sys.exit(128 + signal.SIGTERM)


def _early(arguments, name, default):
    """The value of --name before anything is parsed, because the defaults of all others depend on it."""
    value = default
    for i, argument in enumerate(arguments):
        if argument.startswith(f"--{name}="):
            value = argument.split("=", 1)[1]
        elif argument == f"--{name}" and i + 1 < len(arguments):
            value = arguments[i + 1]
    return value
