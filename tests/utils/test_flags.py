import argparse

import pytest

from swinsf.utils import flags


def test_truth_and_numbers():
    assert [flags.truth(word) for word in ("True", "false", "1", "no")] == [True, False, True, False]
    assert flags.positive_int("3") == 3 and flags.count("0") == 0
    for parse, text in (
        (flags.truth, "maybe"),
        (flags.positive_int, "0"),
        (flags.count, "-1"),
        (flags.number(float, 0, 1), "nan"),
        (flags.positive_int, "2.5"),
    ):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


def test_assignments():
    assert flags.assignment("channels=64") == ["channels", 64]
    assert flags.assignment("depths=6,6") == ["depths", (6, 6)] and flags.assignment("depths=8,") == [
        "depths",
        (8,),
    ]
    assert flags.assignment("mlp_ratio=2.5") == ["mlp_ratio", 2.5] and flags.assignment("tsa=paper") == [
        "tsa",
        "paper",
    ]
    for text in ("channels", "channels=", "=3", "a b=3"):
        with pytest.raises(argparse.ArgumentTypeError, match="not NAME=VALUE"):
            flags.assignment(text)
