import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from tokenizers import Tokenizer

from disa.data.vocabulary import (
    VOCABULARIES,
    Category,
    load_vocabulary,
    name_key,
    packed,
    vocabulary_of,
)
from disa.inference.labels import parse_labels

# As published with CAT-Seg; see the README there.
PUBLISHED_LISTS = Path(__file__).with_name("published_lists")
COUNTS = {
    "coco-stuff": 171,
    "a150": 150,
    "a847": 847,
    "pc59": 59,
    "pc459": 459,
    "pas20": 20,
    "pas20b": 59,
}
PUBLISHED = {
    "coco-stuff": "coco",
    "a150": "ade150",
    "a847": "ade847",
    "pc59": "pc59",
    "pc459": "pc459",
    "pas20": "voc20",
    "pas20b": "voc20b",
}


def published(name: str) -> list:
    return json.loads((PUBLISHED_LISTS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", VOCABULARIES)
def test_each_has_the_published_number_of_prompts(name: str):
    vocabulary = load_vocabulary(name)
    assert len(vocabulary.prompts()) == len(vocabulary.prompts(synonyms=True)) == COUNTS[name]
    assert len(vocabulary.categories) == (21 if name == "pas20b" else COUNTS[name])
    assert len(set(vocabulary.source_ids)) == len(vocabulary.categories)
    if name != "pas20b":
        assert vocabulary.prompted == vocabulary.categories
        assert vocabulary.scored == tuple(range(COUNTS[name]))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_prompts_are_the_published_ones(name: str):
    """The first synonym of each; one published name has a space at its end (D60)."""
    names = [entry.split(", ")[0] for entry in published(PUBLISHED[name])]
    assert list(load_vocabulary(name).prompts()) == [entry.strip() for entry in names]
    assert [entry for entry in names if entry != entry.strip()] == (
        ["bed "] if name == "a150" else []
    )


def test_synonyms_of_a847_are_the_published_ones():
    expected = [
        "|".join(word.strip() for word in entry.split(", ")) for entry in published("ade847")
    ]
    assert list(load_vocabulary("a847").prompts(synonyms=True)) == expected


def test_source_ids_are_the_published_ones():
    assert list(load_vocabulary("a847").source_ids) == published("ade847_source_ids")
    assert list(load_vocabulary("pc59").source_ids) == published("pc59_source_ids")[1:]


def test_source_ids_by_rule():
    dropped = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    coco = tuple(pixel + 1 for pixel in range(182) if pixel not in dropped)
    assert load_vocabulary("coco-stuff").source_ids == coco
    for name, count in {"a150": 150, "pc459": 459, "pas20": 20}.items():
        assert load_vocabulary(name).source_ids == tuple(range(1, count + 1))
    assert load_vocabulary("pas20b").source_ids == (*range(1, 21), 0)


def test_pas20b_counts_39_prompts_as_background():
    vocabulary = load_vocabulary("pas20b")
    assert vocabulary.categories[20].name == "background"
    assert "background" not in vocabulary.prompts()
    assert vocabulary.scored == (*range(20), *[20] * 39)
    assert vocabulary.prompts()[:20] == load_vocabulary("pas20").prompts()
    assert set(vocabulary.prompts()) == set(load_vocabulary("pc59").prompts())


def test_things_and_stuff():
    kinds = [category.kind for category in load_vocabulary("coco-stuff").categories]
    assert kinds == ["thing"] * 80 + ["stuff"] * 91
    a150 = [category.kind for category in load_vocabulary("a150").categories]
    assert (a150.count("thing"), a150.count("stuff")) == (
        100,
        50,
    )  # as in ADE20K's instance challenge
    assert all(category.kind == "thing" for category in load_vocabulary("pas20").categories)
    unknown = [
        category.name for category in load_vocabulary("pc59").categories if category.kind is None
    ]
    assert unknown == ["plate", "sign"]


def test_identical_prompts_of_a847():
    vocabulary = load_vocabulary("a847")
    groups = {vocabulary.prompts()[group[0]]: group for group in vocabulary.identical()}
    assert len(groups) == 9
    assert groups["bag"] == (114, 191, 252)
    assert vocabulary.identical(synonyms=True) == ()
    assert not any(load_vocabulary(name).identical() for name in VOCABULARIES if name != "a847")


@pytest.mark.parametrize("synonyms", [False, True])
@pytest.mark.parametrize("name", VOCABULARIES)
def test_any_vocabulary_is_a_list_of_labels(name: str, synonyms: bool):
    """`disa segment` refuses words that are given twice.

    No name may get lost on the way but repeated ones.
    """
    vocabulary = load_vocabulary(name)
    labels = parse_labels(vocabulary.labels(synonyms))
    assert {label.split("|")[0] for label in labels} == set(vocabulary.prompts())
    assert len(labels) == len(set(vocabulary.prompts()))


WORDS = st.sampled_from(["sea", "Sea", "lake", "boat", "ship", " ship", "sky"])


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=3)), min_size=1, max_size=6))
def test_labels_hold_every_word_once(entries: list[tuple[str, list[str]]]):
    vocabulary = vocabulary_of(
        "own", [Category(name.strip(), tuple(more)) for name, more in entries]
    )
    labels = parse_labels(vocabulary.labels(synonyms=True))
    names = {name.strip().casefold() for name, _ in entries}
    assert {label.split("|")[0].strip().casefold() for label in labels} == names
    kept: dict[str, list[str]] = {}  # of a repeated name the synonyms are dropped, too
    for name, more in entries:
        kept.setdefault(name.strip().casefold(), more)
    found = {word.strip().casefold() for label in labels for word in label.split("|")}
    assert found == names | {word.strip().casefold() for more in kept.values() for word in more}


def test_the_space_at_the_end_of_a_published_prompt_changes_no_token():
    """CLIP's tokenizer makes runs of white space one space.

    So does ours, so `bed` and `bed ` are one prompt (D60).
    """
    folder = Path(__file__).resolve().parents[2] / "disa" / "weights" / "mini"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with_space = tokenizer.encode("A photo of a bed  in the scene").ids
    assert with_space == tokenizer.encode("A photo of a bed in the scene").ids
    assert tokenizer.encode("bed ").ids == tokenizer.encode("bed").ids


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_own_lists(tmp_path: Path):
    text = load_vocabulary(
        write(tmp_path / "classes.txt", "\ufeffsky\nboat|ship\n  night   sky \n\n")
    )
    assert text.prompts() == ("sky", "boat", "night sky")
    assert text.prompts(synonyms=True) == ("sky", "boat|ship", "night sky")
    assert text.source_ids == (0, 1, 2)
    rich = [
        {"name": "boat", "synonyms": ["ship"], "kind": "thing", "id": 7},
        "sky",
        {"name": "sea", "color": [1, 2, 3]},
    ]
    for content in (rich, {"categories": rich}):
        vocabulary = load_vocabulary(write(tmp_path / "own.json", content))
        assert vocabulary.name == "own"
        assert vocabulary.categories[0] == Category("boat", ("ship",), "thing", 7)
        assert vocabulary.source_ids == (7, 1, packed([1, 2, 3]))
        assert packed([1, 2, 3]) == 0x010203
    assert load_vocabulary(tmp_path / "own.json").prompts() == ("boat", "sky", "sea")


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("", "JSON"),
        ("[" * 100_000, "JSON"),
        ({}, "categories"),
        ([], "category"),
        ([""], "category 1"),
        (["sky", "boat||ship"], "category 2"),
        ([3], "category 1 is 3"),
        ([{"name": "a", "synonyms": "b"}], '"a" "synonyms"'),
        ([{"name": "a", "kind": "object"}], '"a" "kind" object'),
        ([{"name": "a", "id": -1}], '"id" -1 65535'),
        ([{"name": "a", "id": True}], '"id" True'),
        ([{"name": "a", "color": [0, 0]}], '"color" [0, 0]'),
        ([{"name": "a", "color": [0, 0, 256]}], '"color" 256 255'),
        ([{"name": "a", "id": 1}, "b"], '"a" "b" 1'),
    ],
)
def test_own_lists_that_are_none(tmp_path: Path, content: object, facts: str):
    """The error names the file, and what is wrong in it."""
    path = write(tmp_path / "own.json", content)
    with refused(path, *facts.split(" ")):
        load_vocabulary(path)


def test_files_that_are_no_lists(tmp_path: Path):
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "blank.txt").write_text("sky\n\nsea\n")
    for name in ("bytes.txt", "missing.txt", "missing.json", "blank.txt"):
        with refused(tmp_path / name):
            load_vocabulary(tmp_path / name)
    with refused("category 2"):
        load_vocabulary(tmp_path / "blank.txt")
    with refused("coco", *VOCABULARIES):
        load_vocabulary("coco")


@given(st.text(), st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_the_form_and_the_case_of_a_name_make_no_other_name(name: str, form: str):
    key = name_key(name)
    assert name_key(unicodedata.normalize(form, name)) == key
    assert name_key(name.casefold()) == key
    assert name_key(key) == key
    assert name_key(f"  {name}\t") == key


def test_other_letters_make_another_name():
    words = [
        "cafe",
        "caf\u00e9",
        "boat",
        "boats",
        "\u0421\u043e\u0432\u0430",
        "\u71c8",
        "\u71c8\u7c60",
    ]
    assert len(set(map(name_key, words))) == len(words)


def test_comments_are_no_categories(tmp_path: Path):
    text = "# our classes\nsky\nboat|ship  # of any size\n   # the rest\nC# code\n"
    vocabulary = load_vocabulary(write(tmp_path / "classes.txt", text))
    assert vocabulary.prompts() == ("sky", "boat", "C# code")
    with refused(tmp_path / "empty.txt", "no category"):
        load_vocabulary(write(tmp_path / "empty.txt", "# nothing\n"))


def test_a_numbered_list_gives_ids(tmp_path: Path):
    for text in ("0: sky\n 7: boat|ship\n", "0,sky\n7 = boat|ship", "0\tsky\n7\tboat|ship # big"):
        vocabulary = load_vocabulary(write(tmp_path / "classes.txt", text))
        assert vocabulary.prompts(synonyms=True) == ("sky", "boat|ship")
        assert vocabulary.source_ids == (0, 7)
    plain = load_vocabulary(write(tmp_path / "classes.txt", "1 euro\n2 euro\n"))
    assert plain.prompts() == ("1 euro", "2 euro")
    assert load_vocabulary(write(tmp_path / "classes.txt", "7: boat\nsky")).source_ids == (0, 1)
    with refused("classes.txt", '"sky"', '"boat"', "7"):
        load_vocabulary(write(tmp_path / "classes.txt", "7: sky\n7: boat"))


def test_the_labelmap_of_cvat(tmp_path: Path):
    text = "# label:color_rgb:parts:actions\nsky:0,0,0::\nred: light:1,2,3:lamp,post:shine\n"
    vocabulary = load_vocabulary(write(tmp_path / "classes.txt", text))
    assert vocabulary.prompts() == ("sky", "red: light")
    assert vocabulary.source_ids == (0, packed([1, 2, 3]))
    without = load_vocabulary(write(tmp_path / "labelmap.txt", "sky:::\nsea:::\n"))
    assert without.prompts() == ("sky", "sea")
    assert without.source_ids == (0, 1)
    with refused("labelmap.txt", '"sky"', "256"):
        load_vocabulary(write(tmp_path / "labelmap.txt", "sky:0,0,256::"))
    # Colons alone make no labelmap.
    own = load_vocabulary(write(tmp_path / "own.txt", "sky:0,0,0::\nsea\n"))
    assert own.prompts() == ("sky:0,0,0::", "sea")
