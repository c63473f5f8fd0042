"""Command lines: errors as one line with the right exit code."""

import argparse
import math
import os
import signal
import sys

from qi_ext.utils.errors import SamplingError, Terminated, UserError, fault_of_the_machine
from qi_ext.utils.output import lasting_output, printable
from qi_ext.utils.upstream import how_to_install
from qi_ext.utils.words import did_you_mean


class Parser(argparse.ArgumentParser):
    """A parser whose every complaint is a UserError of one line. Options are never abbreviated; numbers are finite."""

    def __init__(self, program, description, **more):
        super().__init__(
            prog=program,
            usage="%(prog)s [--option value ...]",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            exit_on_error=False,
            **more,
        )
        self.register("type", int, _whole_number)
        self.register("type", float, _finite_number)

    def parse_args(self, args=None, namespace=None):
        for word in self.options_in(args):
            if word not in self._option_string_actions:
                self.error(f"{word}: no such option{did_you_mean(word, self._option_string_actions)}; see --help")
        return super().parse_args(args, namespace)

    def parse_known_args(self, args=None, namespace=None):
        given = self.options_in(args)
        for action in self._actions:
            # Not by argparse, whose message differs with Python's version and does not say what is wanted.
            if action.required and action.option_strings and not {"-h", "--help", *action.option_strings} & set(given):
                self.error(f"{action.option_strings[0]}: required; {action.help}")
        try:
            return super().parse_known_args(args, namespace)
        except argparse.ArgumentError as error:
            raise UserError(f"{error.argument_name}: {error.message}" if error.argument_name else error.message) from None

    def error(self, message):
        raise UserError(message)

    def options_in(self, args):
        """Return the options among the words of a command line, as they were given, a list; None is sys.argv."""
        words = sys.argv[1:] if args is None else args
        return [word.partition("=")[0] for word in words if word.startswith("--") or word == "-h"]


def _whole_number(text):
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text:.100}") from None


def _finite_number(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"must be a finite number, not {text:.100}")
    return number


def run_command(program, main):
    """Run `main()` as a program, and exit with its code.

    The user's mistakes end in one line and exit code 2, the machine's faults in one line and 1, a fault of ours in a traceback,
    interruptions in 128 and the number of the signal. Losing standard output or standard error changes none of these.
    """
    with lasting_output():
        try:
            _require_directory()
            code = main()
        except (KeyboardInterrupt, Terminated) as stop:
            code = 128 + (stop.number if isinstance(stop, Terminated) else signal.SIGINT)
        except Exception as error:
            code, text = _told(error)
            if not text:
                raise
            print(f"{program}: {text}", file=sys.stderr)
        sys.exit(code)


def _require_directory():
    try:
        os.getcwd()
    except OSError as error:  # libraries end the process, or fail at anything that names a file
        raise UserError(f"the working directory cannot be used ({error.strerror}); cd to one that is there") from None


def _told(error):
    """Exit code and text of an error; "" for one that deserves its traceback."""
    if isinstance(error, UserError):
        return 2, str(error)
    if isinstance(error, ModuleNotFoundError):
        return 2, how_to_install(error)
    if isinstance(error, SamplingError):
        return 1, str(error)  # with the traceback of the worker
    if isinstance(error, FloatingPointError):
        return 1, printable(str(error))
    return 1, fault_of_the_machine(error)
