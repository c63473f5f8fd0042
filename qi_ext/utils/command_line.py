"""Command lines: errors as one line with the right exit code."""

import argparse
import re
import signal
import sys

from jsonargparse import ArgumentParser

from qi_ext.utils.errors import SamplingError, Terminated, UserError


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
