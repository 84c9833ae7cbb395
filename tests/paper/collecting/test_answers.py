import pytest

from confu_paper.collecting.captions import cleaned, problem_of


@pytest.mark.parametrize(
    ("written", "caption"),
    [
        ("A black bird sings.", "A black bird sings."),
        ("  Caption: A black\n bird   sings.\n", "A black bird sings."),
        ('"A black bird sings."', "A black bird sings."),
        ("**Caption:** A black bird sings.", "A black bird sings."),
        ("Here's a caption:\n\nA black bird sings.\n\nLet me know!", "A black bird sings."),
        ('Its call is "see-saw".', 'Its call is "see-saw".'),
        ("“Ōkārito brown kiwi — żółty dziób.”", "Ōkārito brown kiwi — żółty dziób."),
        ("", ""),
        (" \n\n ", ""),
        ("Caption:", ""),
    ],
)
def test_cleaned_keeps_the_caption_alone(written, caption):
    assert cleaned(written) == caption


@pytest.mark.parametrize(
    ("text", "ended", "wrong"),
    [
        ("A small bird with a red tail.", True, None),
        ("Żółty ptak śpiewa głośno.", True, None),
        ("黒い鳥が鳴く 朝に 森で 大きな 声で", True, None),
        ("", True, "empty"),
        ("...", True, "empty"),
        ("A small bird with a", False, "no end"),
        ("A bird.", True, "too short"),
        ("bird one two three " * 12, True, "too long"),
        ("red bird " * 10, True, "repeats itself"),
    ],
)
def test_what_is_wrong_says_why(text, ended, wrong):
    assert problem_of(text, ended, 4, 40) == wrong
