from projects.tags import normalised


def test_tags_are_stripped_and_each_is_kept_once_in_order() -> None:
    assert normalised([" winter ", "", "  ", "launch", "winter", "WINTER"]) == ["winter", "launch"]
