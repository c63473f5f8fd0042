"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """Bad input. The message is one line that says what, where and what to do; launchers print it and exit with code 2."""
