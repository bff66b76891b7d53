"""Lists in messages."""

from pipelines.util import text


def test_a_short_list_is_whole() -> None:
    assert (text.listed([]), text.listed(["a", "b", "c"])) == ("", "a, b, c")


def test_of_a_long_list_the_first_are_named_and_the_rest_is_counted() -> None:
    assert text.listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert text.listed(["a b", "c d", "e f"], 2, "; ") == "a b; c d; and 1 more"
