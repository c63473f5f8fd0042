"""The command line of a run: an option for each setting, with the help and the defaults of the experiment that is chosen."""

import sys
from typing import get_origin

from qi_ext.training.algorithms import ALGORITHMS
from qi_ext.training.config import CHOICES, make_config, options, require_options
from qi_ext.training.resume import stored_choices
from qi_ext.utils.command_line import Parser
from qi_ext.utils.errors import UserError
from qi_ext.utils.settings import shown


def parse_config(program, description, arguments=None):
    """The settings that a command line gives, {name: text or list of text}, and `resume`, and `print_config` where it is given.

    Defaults, and the help, are those of the --task, --algorithm, --backend and --physics among `arguments` (default:
    sys.argv), or of the run to resume. Raises UserError, in one line, for what is wrong with them.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    early = Parser(program, description, add_help=False)
    for name in ("resume", *CHOICES):
        early.add_argument(f"--{name}")
    chosen = _given(early.parse_known_args(arguments)[0])
    stored = stored_choices(chosen.pop("resume", ""))
    parser = Parser(program, description)
    text = "go on with the run in this directory, with its settings; auto: start the run, or go on with it, whichever fits"
    parser.add_argument("--resume", default="", help=text, metavar="RUN_DIR")
    text = "print all settings of the run, as its config.yaml would hold them, and end"
    parser.add_argument("--print_config", action="store_true", default=None, help=text)
    chosen = CHOICES | stored | chosen
    _add_options(parser, chosen)
    parsed, unknown = parser.parse_known_args(arguments)
    require_options((text[2:].partition("=")[0] for text in unknown if text.startswith("--")), **chosen)
    if unknown:
        raise UserError(f"{unknown[0]}: is no option; options begin with --")
    given = _given(parsed)
    if not stored:
        # Wrong here is wrong in any run.
        make_config(**{name: value for name, value in given.items() if name not in ("resume", "print_config")})
    return given


def _add_options(parser, chosen):
    defaults = make_config(**chosen).settings()
    warm = make_config(**chosen, warm_start=1).settings() if "warm_start" in defaults else defaults
    for title, fields in options(**chosen).items():
        group = parser.add_argument_group(title)
        for name, field in fields.items():
            default = shown(defaults[name])
            if warm[name] != defaults[name] and name != "warm_start":
                default += f"; {shown(warm[name])} after a warm start"
            text = _algorithms() if name == "algorithm" else field.description
            values = "+" if defaults[name] else "*"  # a list that may be empty is given so by a sweep
            # All as text: the config itself says what a number is, whoever sets it.
            group.add_argument(
                f"--{name}",
                help=(f"{text} [{default}]" if default else text).replace("%", "%%"),
                metavar="X",
                nargs=values if get_origin(field.annotation) is list else "?" if field.annotation is bool else None,
                const="True" if field.annotation is bool else None,
            )


def _algorithms():
    return ", ".join(f"{name} ({each.description})" if each.description else name for name, each in ALGORITHMS.items())


def _given(parsed):
    return {name: value for name, value in vars(parsed).items() if value is not None}
