from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from disa.errors import DisaError
from disa.inference import text
from disa.inference.labels import template_sets
from disa.inference.text import TextEncoder
from disa.model.disa import Disa
from disa.weights.model_folder import load_disa
from disa.weights.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def encoder(model_folder: Path) -> TextEncoder:
    return TextEncoder(
        load_disa(model_folder), load_tokenizer(model_folder / "tokenizer.json", 1, 758)
    )


def test_embeddings_are_normalised_and_in_order(encoder: TextEncoder):
    both, sea = encoder(["house", "sea"]), encoder(["sea"])
    assert both.shape == (2, 1, 128)
    torch.testing.assert_close(both.norm(dim=-1), torch.ones(2, 1))
    torch.testing.assert_close(both[1], sea[0])
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_a_word_is_embedded_as_the_model_does_it(encoder: TextEncoder):
    ids = encoder.tokenize(["house"], ["a picture of a {}"])[0]
    expected = encoder.model.encode_text(ids).detach()
    torch.testing.assert_close(encoder(["house"])[0], expected)
    row = encoder.tokenizer.encode("a picture of a house").ids
    assert ids.tolist() == [row]


def test_texts_are_padded_to_the_longest_which_changes_none(encoder: TextEncoder):
    short, long = encoder.tokenize(["sea", "a house by the sea"], ["{}"])[:, 0]
    assert len(short) == len(long) == len(encoder.tokenizer.encode("a house by the sea").ids)
    padded = torch.nn.functional.pad(short, (0, encoder.context_length - len(short)))
    torch.testing.assert_close(
        encoder.model.encode_text(padded[None]), encoder.model.encode_text(short[None])
    )


def test_synonyms_are_averaged_and_normalised(encoder: TextEncoder):
    boat, ship, both = encoder(["boat", "sailing ship", "boat | sailing  ship"])
    expected = torch.nn.functional.normalize(boat + ship, dim=-1)
    torch.testing.assert_close(both, expected)


def test_other_templates_than_the_models_are_averaged(encoder: TextEncoder):
    one, two = encoder(["house"], ["my {}"]), encoder(["house"], "the {} there")
    mean = encoder(["house"], ["my {}", "the {} there"])
    torch.testing.assert_close(mean, torch.nn.functional.normalize(one + two, dim=-1))
    assert (one - encoder(["house"])).abs().max() > 1e-3


def test_as_many_templates_as_the_model_has_take_one_place_each(encoder: TextEncoder):
    model = Disa(encoder.model.config.replace(backbone_templates=("a {}", "the {}")))
    model.backbone.load_state_dict(encoder.model.backbone.state_dict())
    double = TextEncoder(model.eval(), encoder.tokenizer)
    torch.testing.assert_close(double(["sea"])[0, 0], encoder(["sea"], "a {}")[0, 0])
    torch.testing.assert_close(double(["sea"])[0, 1], encoder(["sea"], "the {}")[0, 0])


def test_known_words_are_not_embedded_again(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch):
    fresh = TextEncoder(encoder.model, encoder.tokenizer, cache_size=2)
    asked: list[int] = []
    encode = encoder.model.encode_text
    monkeypatch.setattr(
        encoder.model, "encode_text", lambda ids: asked.append(len(ids)) or encode(ids)
    )
    fresh(["house", "sea"])
    fresh(["sea", "house"])
    assert asked == [2]
    fresh(["sea"], ["my {}"])  # other templates, other embedding; "sea" was asked for longest ago
    assert asked == [2, 1]
    fresh(["house"])
    assert asked == [2, 1]
    fresh(["sea"])
    assert asked == [2, 1, 1]
    fresh.clear()
    fresh(["sea"])
    assert asked == [2, 1, 1, 1]


def test_batches_do_not_change_embeddings(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch):
    words = [f"house {number}" for number in range(7)]
    whole = TextEncoder(encoder.model, encoder.tokenizer)(words)
    monkeypatch.setattr(text, "TEXTS_PER_BATCH", 3)
    torch.testing.assert_close(TextEncoder(encoder.model, encoder.tokenizer)(words), whole)


def test_too_long_a_label_is_named_with_the_limit(encoder: TextEncoder):
    with pytest.raises(DisaError, match=r'label "house house .*reads 40') as caught:
        encoder(["sea", "house " * 400])
    assert len(str(caught.value)) < 250
    with pytest.raises(DisaError, match=r'"ship ship'):
        encoder(["boat|" + "ship " * 40])


def test_missing_damaged_and_foreign_tokenizers_are_refused(tmp_path: Path, model_folder: Path):
    path, own = tmp_path / "tokenizer.json", model_folder / "tokenizer.json"
    with pytest.raises(DisaError, match=r"tokenizer.json: no such file"):
        load_tokenizer(path, 1, 758)
    path.write_text('{"model": 3}')
    with pytest.raises(DisaError, match="is not a tokenizer"):
        load_tokenizer(path, 1, 758)
    with pytest.raises(DisaError, match=r"ends texts with token \[1\], the model expects 5"):
        load_tokenizer(own, 5, 758)
    with pytest.raises(DisaError, match=r"expects 757"):
        load_tokenizer(own, 2, 758)  # how OpenAI's configs name the highest id
    tokenizer = Tokenizer.from_file(str(own))
    most = tokenizer.get_vocab_size()
    assert load_tokenizer(own, 1, most).get_vocab_size() == most
    with pytest.raises(
        DisaError, match=rf"has token {most - 1}, the model knows {most - 1} tokens"
    ):
        load_tokenizer(own, 1, most - 1)
    tokenizer.enable_truncation(3)  # would hide that a label is too long
    tokenizer.save(str(path))
    assert len(load_tokenizer(path, 1, 758).encode("a house by the sea").ids) > 3


def test_a_published_set_is_the_average_of_its_prompts(encoder: TextEncoder):
    whole = encoder(["sea"], "imagenet-7")
    single = [encoder(["sea"], [prompt]) for prompt in template_sets()["imagenet-7"]]
    torch.testing.assert_close(
        whole, torch.nn.functional.normalize(torch.cat(single).mean(0, keepdim=True), dim=-1)
    )
