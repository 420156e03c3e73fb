"""The one exception for a mistake that the person who called us can mend, and what it quotes of others."""

# Characters of a message that quotes a damaged file: a name in it may be megabytes.
LONGEST_REASON = 300


class UserError(ValueError):
    """Wrong input from outside: an argument, a file, a data set.

    The message names the argument, what is allowed and what came. Library code raises it;
    the command line prints it without a traceback and exits with code 2.
    """


def first_line(error, text=None, longest=LONGEST_REASON):
    """Returns the first line of what an error says, of `text` if that is given; its kind where it says nothing."""
    lines = (str(error) if text is None else text).strip().splitlines()
    return lines[0][:longest] if lines else type(error).__name__
