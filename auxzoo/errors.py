"""The one exception for a mistake that the person who called us can mend."""


class UserError(ValueError):
    """Wrong input from outside: an argument, a file, a data set.

    The message names the argument, what is allowed and what came. Library code raises it;
    the command line prints it without a traceback and exits with code 2.
    """
