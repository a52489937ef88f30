"""What the scripts share on the command line: errors as one clear line, and values that argparse does not know."""

import argparse
import sys


class UserError(Exception):
    """Something that the user can put right; its text names the file or flag, the value and the remedy."""


def run(main):
    """Call `main()` as a script: a UserError ends in one line on stderr and exit status 2, Ctrl-C in 130."""
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `python test.py | head`
        sys.stderr.close()
        sys.exit(0)


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
