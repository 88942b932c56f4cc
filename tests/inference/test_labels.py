import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disa.data.vocabulary import name_key
from disa.errors import DisaError
from disa.inference.appearance import appearance, doubts
from disa.inference.labels import (
    check_templates,
    parse_background,
    parse_labels,
    synonyms,
    template_sets,
)
from disa.recipes import vit_b16
from disa.running.lists import CLOSING

WORD = st.text(
    st.characters(exclude_characters=[*',|"', *CLOSING], exclude_categories=["Cs"]), min_size=1
).filter(appearance)
WORDS = st.lists(WORD, min_size=1, max_size=8, unique_by=appearance)


@given(WORDS)
def test_words_are_kept_as_given(words: list[str]):
    assert parse_labels(words) == tuple(words)
    spaced = [word.translate(dict.fromkeys(map(ord, "\r\n\t"), " ")).strip() for word in words]
    assert parse_labels(",".join(words)) == tuple(spaced)


@given(st.lists(WORD, min_size=2, max_size=4, unique_by=appearance))
def test_quotes_keep_commas_and_doubled_quotes(words: list[str]):
    label = ', "'.join(" ".join(word.split()) for word in words)
    quoted = label.replace('"', '""')
    assert parse_labels(f' "{quoted}", zebra') == (label, "zebra")


def test_quotes_within_a_label_are_plain_and_stray_ones_are_refused():
    assert parse_labels('5" pipe, car') == ('5" pipe', "car")
    assert parse_background('"wall, white", floor', ("car",)) == ("wall, white", "floor")
    for word in ("rock 'n' roll", "'n'", "dogs'", "\u201cSea\u201d", "'"):
        assert parse_labels(f"{word}, sea") == (word, "sea")
    others = ("'car, red', sea", "sea, \u201ccar, very, red\u201d", "\u201ecar, red\u201c", "', '")
    for text in ('"car, sea', '"car" red, sea', *others):
        with pytest.raises(DisaError, match="quote"):
            parse_labels(text)


@given(WORDS, st.data())
def test_a_word_given_twice_is_refused_however_spelt(words: list[str], data: st.DataObject):
    word = data.draw(st.sampled_from(words))
    again = data.draw(
        st.sampled_from(
            [word, f"  {word} ", word.replace(" ", "   "), f"{word}|something else entirely"]
        )
    )
    position = data.draw(st.integers(0, len(words)))
    with pytest.raises(DisaError, match="given twice"):
        parse_labels([*words[:position], again, *words[position:]])


@given(st.text())
def test_any_text_gives_words_or_one_line_of_error(text: str):
    try:
        words = parse_labels(text)
    except DisaError:
        return
    names = [name for word in words for name in synonyms(word)]
    assert all(names)
    assert len(names) == len(set(map(name_key, names)))


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("", "no label given"),
        ("  ", "no label given"),
        ([], "no label given"),
        ("house,", "label 2 is empty"),
        ("house,,sea", "label 2 is empty"),
        (["house", "\t"], "label 2 is empty"),
        ("boat||ship", "label 1 is empty"),
        ("sea, Sea", '"Sea" is given twice'),
        ("night  sky, Night sky", "given twice"),
        ("boat|ship, ship", '"ship" is given twice'),
        ("boat|Boat", "given twice"),
        ("Straße, STRASSE", "given twice"),
        ("caf\u00e9, sea, CAFE\u0301", "given twice"),  # an accent of its own
        ("\uff42\uff4f\uff41\uff54, boat", "given twice"),  # of the width of Chinese
        ("\ud55c, \u1112\u1161\u11ab", "given twice"),  # a syllable by its letters
        ("sea, \u200b", "label 2 is empty"),
        ("sea, sea\u200b", "given twice.*U\\+200B ZERO WIDTH SPACE"),
        ("s\u0435a, sea", "given twice.*U\\+0435 CYRILLIC"),
        (
            "sea, b\udcfcsch",
            "label 2.*UTF-8",
        ),  # a Latin-1 byte, as Python passes it on from the command line
    ],
)
def test_bad_labels_are_refused(labels: str | list[str], reason: str):
    with pytest.raises(DisaError, match=reason):
        parse_labels(labels)


@pytest.mark.parametrize(
    ("label", "fact"),
    [
        ("se\u00ada", "U+00AD SOFT HYPHEN"),
        ("\ufeffsky", "U+FEFF"),
        ("\u0455\u0435\u0430", "U+0455 CYRILLIC"),  # all letters look Latin
        ("bo\u0430t house", "U+0430 CYRILLIC"),
        ("b\u043eat", "U+043E CYRILLIC"),
        ("\u039fcean", "U+03BF GREEK"),
    ],
)
def test_labels_that_are_not_what_they_look_like_are_named(label: str, fact: str):
    (doubt,) = doubts(["house", label, "grass"])
    assert fact in doubt
    assert appearance(label).isascii()


@pytest.mark.parametrize(
    "label",
    [
        "na\u00efve caf\u00e9",
        "\u043c\u043e\u0440\u0435",  # Russian for sea
        "\u0434\u043e\u043c \u0443 \u043c\u043e\u0440\u044f",  # one word is a letter
        "\u65e5\u672c\u8a9e",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a joiner
        "\U0001f469\u200d\U0001f692",  # an emoji of two
        "\u2764\ufe0f",
    ],
)
def test_other_scripts_are_no_doubt(label: str):
    assert not list(doubts([label]))


WRONG_KINDS = """
import numpy as np
from disa.data.vocabulary import name_key
from disa.errors import DisaError
from disa.inference.appearance import appearance, doubts
from disa.inference.labels import check_templates, parse_background, parse_labels

print(parse_background(np.float32(0.5), ("sea",)))
for call in (parse_labels, check_templates, lambda value: parse_background(value, ("sea",))):
    for value in (5j, {"a": 1}.values, [5]):
        try:
            print("taken:", call(value))
        except DisaError as error:
            print("refused" if "\\n" not in str(error) else error)
"""


@pytest.mark.slow
def test_values_of_other_kinds_are_refused_or_understood():
    """In a process of its own: the checker of types in this one would raise first."""
    done = subprocess.run([sys.executable, "-c", WRONG_KINDS], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["0.5", *["refused"] * 9], done.stderr


def test_synonyms_are_separated_by_bars():
    assert parse_labels("boat | sailing  ship, sea") == ("boat | sailing  ship", "sea")
    assert synonyms("boat | sailing  ship") == ("boat", "sailing ship")


@pytest.mark.parametrize(
    "templates", [[], ["a picture"], ["{} {}"], [""], "a picture of a {0}", "{} \udcfc"]
)
def test_templates_need_one_place_for_the_word(templates: str | list[str]):
    with pytest.raises(DisaError):
        check_templates(templates)
    assert check_templates("a {}") == ("a {}",)


def test_background_policies():
    words = ("house", "sea")
    assert parse_background(None, words) is None
    assert parse_background("none", words) is None
    assert parse_background("0.3", words) == parse_background(0.3, words) == 0.3
    assert parse_background(1, words) == 1.0
    assert parse_background("Foreground", words) == "foreground"
    assert (
        parse_background("wall, floor", words)
        == parse_background(["wall", "floor"], words)
        == ("wall", "floor")
    )
    assert parse_background(["foreground"], words) == ("foreground",)


@pytest.mark.parametrize(
    "background",
    [1.5, -0.1, "2", "nan", True, "wall, Sea", ["house"], [], "", "wall,,floor", "0,5"],
)
def test_bad_background_is_refused(background: object):
    with pytest.raises(DisaError):
        parse_background(background, ("house", "sea"))


def test_published_sets_of_templates_go_by_name():
    sets = template_sets()
    assert {name: len(prompts) for name, prompts in sets.items()} == {
        "cat-seg": 1, "clip": 1, "imagenet": 80, "imagenet-7": 7,
    }  # fmt: skip
    for name, prompts in sets.items():
        assert check_templates(name) == check_templates(list(prompts)) == prompts
        assert len(set(prompts)) == len(prompts)
    assert sets["cat-seg"] == vit_b16().backbone_templates
    assert set(sets["imagenet-7"]) < set(sets["imagenet"])
    assert check_templates(["clip", "my {}"]) == ("a photo of a {}.", "my {}")
    with pytest.raises(DisaError, match=r"'image-net'.*published set: cat-seg, clip, imagenet"):
        check_templates("image-net")
