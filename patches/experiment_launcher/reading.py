"""Patches of the command line of an experiment: it takes all parameters that its function has."""

import inspect
import re
import sys
import types
import typing
from functools import wraps

from patches.experiment_launcher import LIBRARY
from patches.experiment_launcher.trial import launch
from patches.library import crash

_TYPES = (str, int, float, bool, list)
_OWN = ("seed", "results_dir")  # the library adds these itself
_MISSING = object()


def read_type(parameter, function):
    """Type as which the command line reads a parameter: str, int, float, bool or list, None where none of them fits.

    The annotation decides, also where it is a string, optional or generic; without one the default does, and without both it
    is str.
    """
    annotation = parameter.annotation
    while isinstance(annotation, str):
        try:
            annotation = eval(annotation, inspect.unwrap(function).__globals__)
        except Exception:
            return None
    if annotation is parameter.empty:
        annotation = str if parameter.default in (parameter.empty, None) else type(parameter.default)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        some = [each for each in typing.get_args(annotation) if each is not type(None)]
        annotation = some[0] if len(some) == 1 else None
    annotation = typing.get_origin(annotation) or annotation
    return annotation if annotation in _TYPES else None


def named_parameters(function):
    """Parameters of a function that have a name on the command line, {name: inspect.Parameter}."""
    found = inspect.signature(function).parameters
    return {name: given for name, given in found.items() if given.kind not in (given.VAR_POSITIONAL, given.VAR_KEYWORD)}


def takes_any_keyword(function):
    """True where a function takes keywords that it does not name."""
    return any(given.kind == given.VAR_KEYWORD for given in inspect.signature(function).parameters.values())


def _stand_in(function, parameters):
    """Function that is never called, with the parameters that the library is to see."""

    @wraps(function)
    def stand_in():
        pass

    stand_in.__signature__ = inspect.Signature([each.replace(kind=each.KEYWORD_ONLY) for each in parameters])
    return stand_in


def _probe_annotations():
    outcome = launch({"n": 3}, parameters="n: int = 0, x: float | None = None,", header="from __future__ import annotations")
    return "" if outcome.received else outcome.seen


@LIBRARY.patch(
    "annotations",
    target="experiment_launcher.launcher:translate_experiment_params_to_argparse",
    sees="'str' object has no attribute '__name__' under `from __future__ import annotations`; _empty not found without one",
    remedy="strings, optional and generic types are read; without an annotation the default's type counts, else it is text",
    probe=_probe_annotations,
)
def _annotations(edits):
    import experiment_launcher.launcher as launcher

    def plain(parameter, function):
        if parameter.default is parameter.empty or parameter.name in _OWN:
            return parameter
        annotation = read_type(parameter, function)
        if annotation is None:
            shown = inspect.formatannotation(parameter.annotation)
            known = ", ".join(each.__name__ for each in _TYPES)
            raise NotImplementedError(f"{function.__name__}({parameter.name}: {shown}): annotate it with one of {known}")
        return parameter.replace(annotation=annotation)

    @edits.wrap(launcher, "translate_experiment_params_to_argparse")
    def with_plain_annotations(translate, parser, func):
        return translate(parser, _stand_in(func, [plain(each, func) for each in named_parameters(func).values()]))


def _probe_required():
    outcome = launch({"n": 3}, parameters="n: int,")
    if not outcome.received:
        return outcome.seen
    return "" if outcome.received[0]["n"] == 3 else f"n = {outcome.received[0]['n']!r}"


@LIBRARY.patch(
    "required-parameters",
    target="experiment_launcher.launcher:parse_args",
    sees="a parameter without a default runs locally; under Slurm: unrecognized arguments",
    remedy="it is an option as all others are, and one line says so where it is not given",
    probe=_probe_required,
)
def _required_parameters(edits):
    import experiment_launcher.launcher as launcher

    def required(function):
        for name, given in named_parameters(function).items():
            if given.default is given.empty and name not in _OWN and read_type(given, function):
                yield name, given.replace(default=_MISSING, annotation=read_type(given, function))

    @edits.wrap(launcher, "translate_experiment_params_to_argparse")
    def with_required(translate, parser, func):
        added = dict(required(func))
        parser = translate(parser, _stand_in(func, (named_parameters(func) | added).values()))
        parser.set_defaults(**dict.fromkeys(added, _MISSING))
        return parser

    @edits.wrap(launcher, "parse_args")
    def parse_with_required(parse_args, func):
        arguments = parse_args(func)
        for name, given in arguments.items():
            if given is _MISSING:
                print(f"{sys.argv[0]}: error: --{name} is missing: it has no default", file=sys.stderr)
                raise SystemExit(2)
        return arguments


def _probe_negative():
    from experiment_launcher.launcher import parse_args

    def experiment(x: float = 0.0):
        pass

    before, sys.argv = sys.argv, ["experiment.py", "--x", "-1e-3"]
    try:
        return crash(parse_args, experiment)
    except SystemExit:
        return "--x -1e-3: expected one argument"
    finally:
        sys.argv = before


@LIBRARY.patch(
    "negative-numbers",
    target="experiment_launcher.launcher:parse_args",
    sees="--x -1e-3, also as the launcher writes it: error: argument --x: expected one argument",
    remedy="-1e-3, -1. and -inf are numbers as -1 is",
    probe=_probe_negative,
)
def _negative_numbers(edits):
    import experiment_launcher.launcher as launcher

    number = re.compile(r"-(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?$|-(inf|infinity|nan)$", re.IGNORECASE)

    @edits.wrap(launcher, "translate_experiment_params_to_argparse")
    def with_negative_numbers(translate, parser, func):
        # argparse of Python before 3.14 does not know exponents, and has no public way to say so.
        parser._negative_number_matcher = number
        return translate(parser, func)
