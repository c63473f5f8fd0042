"""Patches of the values of experiments: they are the same under Slurm as locally.

A value that the command line would change is written twice: as `--name=json:VALUE`, then as the library writes it. The library
reads the last one, as it always does; where the patch is applied in the experiment too, the first one counts. Experiments that
do not end in the library's `run_experiment` have parsers of their own, and are given the arguments that the library writes.
"""

import inspect
import json
import re
import sys
from functools import partial
from shlex import quote

from patches.experiment_launcher import LIBRARY
from patches.experiment_launcher.attributes import attributes
from patches.experiment_launcher.reading import named_parameters, read_type, takes_any_keyword
from patches.experiment_launcher.trial import launch

_EXACT = re.compile(r"--([^=]+)=json:(.*)", re.DOTALL)


class Quoted(str):
    """Text that is already quoted for the shell."""


_NOTHING = Quoted()


def written_by(edits, write_arguments):
    """Have a `Launcher` write the arguments in its Slurm scripts with write_arguments(function, write, experiment).

    function: that of the experiment, None where the library does not read its command line. write(experiment): the text that
    the library writes.
    """
    from experiment_launcher import Launcher, launcher

    @edits.wrap(Launcher, "_run_slurm")
    def run_with_arguments(run_slurm, self, test):
        function = _read_by_library(launcher.import_module(self._experiment_py_file))
        with attributes(self, _convert_to_command_line=partial(write_arguments, function, self._convert_to_command_line)):
            return run_slurm(self, test)


def _read_by_library(module):
    from experiment_launcher import run_experiment

    source = inspect.getsource(module)
    its_own = getattr(module, "run_experiment", run_experiment) is not run_experiment
    if its_own or "experiment_launcher" not in source or "run_experiment" not in source:
        return None
    return getattr(module, "experiment", None)


def _exactly(edits, changes):
    """Write values as JSON too, and read them so, where changes(value, name, function) is true and JSON can hold them."""
    from experiment_launcher import launcher

    def write_exactly(function, write, experiment):
        if function is None:
            return write(experiment)
        twice = {}
        for name, value in experiment.items():
            written = isinstance(name, Quoted) or isinstance(value, Quoted)
            exact = None if written or not changes(value, name, function) else _json(value)
            if exact is not None:
                twice[Quoted(f"{name}={quote(f'json:{exact}')}")] = _NOTHING
                # The library would take them for options. Without the patch, an option without a value is refused.
                tokens = value if isinstance(value, list | tuple) else [value]
                if any(str(each).startswith("--") for each in tokens):
                    value = _NOTHING
            twice[name] = value
        return write(twice)

    written_by(edits, write_exactly)

    @edits.wrap(launcher, "parse_args")
    def parse_exactly(parse_args, func):
        before = sys.argv
        exact, rest = _split(before[1:])
        sys.argv = [before[0], *rest]
        try:
            return parse_args(func) | exact
        finally:
            sys.argv = before


def _json(value):
    try:
        return json.dumps(value, default=lambda array: array.tolist())
    except (AttributeError, TypeError, ValueError):
        return None


def _is_json(text):
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _split(arguments):
    """Split a command line into the values given as JSON, {name: value}, and the other arguments."""
    exact, rest, skipped = {}, [], None
    for text in arguments:
        match = _EXACT.fullmatch(text)
        if match and _is_json(match[2]):
            exact[match[1]] = json.loads(match[2])
            skipped = f"--{match[1]}"
        elif skipped and (text == skipped or not text.startswith("--")):
            continue
        else:
            skipped = None
            rest.append(text)
    return exact, rest


def _parameter(name, function):
    return named_parameters(function).get(name)


def _compare(parameters, sent):
    outcome = launch(sent, parameters=parameters)
    if not outcome.received:
        return outcome.seen
    wrong = {name: outcome.received[0].get(name, "nothing") for name in sent}
    return ", ".join(
        f"{name} = {value!r}, not {sent[name]!r}" for name, value in wrong.items() if repr(value) != repr(sent[name])
    )


def _probe_none():
    return _compare("name: str = 'walk', other: str = None,", {"name": None, "other": None})


@LIBRARY.patch(
    "none",
    target="experiment_launcher.launcher:Launcher._convert_to_command_line, parse_args",
    sees="None arrives as the text 'None' under Slurm, or is refused: invalid int value",
    remedy="where it is the default it is left out, elsewhere the experiment gets it (with patches applied in its file)",
    probe=_probe_none,
)
def _none(edits):
    def without_default_none(function, write, experiment):
        if function is None:
            return write(experiment)

        def is_default(name):
            parameter = _parameter(name, function)
            return parameter is not None and parameter.default is None

        return write({name: value for name, value in experiment.items() if value is not None or not is_default(name)})

    written_by(edits, without_default_none)
    _exactly(edits, lambda value, name, function: value is None)


def _probe_lists():
    return _compare("sizes: list = None, names: list = None,", {"sizes": [64, 0.5, True, None, "1"], "names": []})


@LIBRARY.patch(
    "lists",
    target="experiment_launcher.launcher:Launcher._convert_to_command_line, parse_args",
    sees="lists arrive as lists of texts under Slurm, empty ones are refused: expected at least one argument",
    remedy="they arrive as they were given, tuples as lists (with patches applied in the experiment's file)",
    probe=_probe_lists,
)
def _lists(edits):
    _exactly(edits, lambda value, name, function: isinstance(value, list | tuple))


def _probe_scalars():
    return _compare("label: str = '', **more", {"label": 7, "run": "007", "switch": "on"})


@LIBRARY.patch(
    "scalars",
    target="experiment_launcher.launcher:Launcher._convert_to_command_line, parse_args",
    sees="under Slurm, '007' arrives as 7 and 'on' as True in **kwargs, and 7 as '7' in a parameter that is read as text",
    remedy="they arrive as they were given (with patches applied in the experiment's file)",
    probe=_probe_scalars,
)
def _scalars(edits):
    from experiment_launcher import launcher

    def changes(value, name, function):
        parameter = _parameter(name, function)
        if parameter is not None:
            return isinstance(value, int | float) and read_type(parameter, function) is str
        if not takes_any_keyword(function):
            return False
        # argparse takes the beginning of an option's name for that option.
        if any(other.startswith(name) for other in ("help", *named_parameters(function))):
            return True
        return isinstance(value, str) and (value.startswith("-") or launcher.string_to_primitive(value) != value)

    _exactly(edits, changes)


def _probe_dashes():
    return _compare("name: str = '', x: float = 0.0,", {"name": "--x", "x": -1e-3})


@LIBRARY.patch(
    "dashes",
    target="experiment_launcher.launcher:Launcher._convert_to_command_line",
    sees="values that begin with a dash end the Slurm job: expected one argument",
    remedy="they are written --name=value",
    probe=_probe_dashes,
)
def _dashes(edits):
    def with_equals_sign(function, write, experiment):
        if function is None:
            return write(experiment)
        joined = {}
        for name, value in experiment.items():
            dash = not isinstance(value, list) and str(value).startswith("-")
            if dash and _parameter(name, function) is not None:
                name, value = f"{name}={value}", _NOTHING
            joined[name] = value
        return write(joined)

    written_by(edits, with_equals_sign)
