"""What the scripts share on the command line: errors as one clear line, and values that argparse does not know."""

import argparse
import contextlib
import sys


class UserError(Exception):
    """Something that the user can put right; its text names the file or flag, the value and the remedy."""


def run(main):
    """Call `main()` as a script: a UserError ends in one line on stderr and exit status 2, Ctrl-C in 130."""
    try:
        sys.exit(main())
    except UserError as error:
        # From a loader's worker the text comes with that process's traceback; the message is its last line.
        text = str(error).strip().splitlines()[-1].removeprefix("utils.cli.UserError: ")
        print(f"error: {text}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `python test.py | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that may not be written to
        print(f"error: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


@contextlib.contextmanager
def memory_errors(remedy):
    """Turn running out of memory, on a GPU or the CPU, into a UserError that says which flag to turn."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own errors are RuntimeErrors
        text = str(error).lower()
        if isinstance(error, RuntimeError) and "out of memory" not in text and "allocate memory" not in text:
            raise
        raise UserError(f"out of memory; {remedy}") from None


def truth(text):
    """argparse type for True or False in the usual spellings."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return words[text.lower()]


def number_above(limit, kind, inclusive=False):
    """argparse type for a number of the given kind (int, float) above a limit."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' if kind is int else ''}number") from None
        if not (value >= limit if inclusive else value > limit) or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be {'at least' if inclusive else 'above'} {limit}")
        return value

    return parse


positive_int = number_above(0, int)
count = number_above(0, int, inclusive=True)
positive_float = number_above(0, float)
non_negative_float = number_above(0, float, inclusive=True)
