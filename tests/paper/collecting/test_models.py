"""The tiny models through the real code of transformers."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from confu_paper.collecting.captions import ATTEMPTS, Question, ask, caption_photos, cleaned
from confu_paper.collecting.collection import Models
from confu_paper.collecting.models import Answer, Captioner, LanguageModel, Sampling
from confu_paper.collecting.step_log import StepLog, read_records
from paper.collecting.killing import collection
from paper.collecting.tiny_models import save_language_model

PROMPTS = ["a bird sings", "the long song of a black bird at dawn in the forest", "what is it"]


@pytest.fixture(scope="module")
def language(models):
    return models / "gemma"


@pytest.fixture(scope="module")
def instruct(models):
    return models / "blip"


def test_answers_do_not_depend_on_the_batch(language):
    model = LanguageModel(str(language), "cpu", Sampling(60))
    together = model.answer(PROMPTS, [1, 2, 3])
    assert together == [model.answer([prompt], [seed])[0] for prompt, seed in zip(PROMPTS, [1, 2, 3])]
    assert [answer.text for answer in model.answer(PROMPTS, [4, 5, 6])] != [answer.text for answer in together]
    assert all(answer.text and "<" not in answer.text for answer in together if answer.ended)
    assert model.name == "gemma"


def test_an_answer_that_is_cut_says_so(language):
    answers = LanguageModel(str(language), "cpu", Sampling(1)).answer(PROMPTS * 5, range(15))
    assert {answer.ended for answer in answers} == {False, True}
    assert all(not answer.text for answer in answers if answer.ended)


def test_prompts_that_are_too_long_are_refused(language):
    with pytest.raises(ValueError, match="gemma reads at most 1024 tokens; the longest prompt has 2"):
        LanguageModel(str(language), "cpu").answer(["bird " * 2000], [0])


def test_models_that_cannot_be_had_are_named(tmp_path, language, instruct):
    with pytest.raises(ValueError, match="cannot be loaded"):
        LanguageModel(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="expected an InstructBLIP; got 'gemma2'"):
        Captioner(str(language))


def test_pickled_weights_and_code_of_the_hub_are_refused(tmp_path, language):
    folder = save_language_model(tmp_path / "pickled")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="safetensors"):
        LanguageModel(str(folder), "cpu")
    folder = save_language_model(tmp_path / "coded")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "foreign", "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('the code of a model was run')")
    with pytest.raises(ValueError, match="cannot be loaded"):
        LanguageModel(str(folder), "cpu")


def test_photos_are_captioned_and_broken_ones_named(tmp_path, instruct, monkeypatch):
    log = StepLog(tmp_path / "photos.jsonl", {})
    for name, colour in {"a": (255, 0, 0), "ö": (0, 0, 255), "c": (9, 9, 9), "broken": None, "gone": None}.items():
        if colour is not None:
            Image.new("RGB", (40, 30), colour).save(tmp_path / f"{name}.jpg")
        log.add(name, {"outcome": "kept", "taxon_id": "4956", "file": f"{name}.jpg"})
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xffhalf a photo")
    job = collection(tmp_path, models=Models(str(instruct), device="cpu", batch_size=2))
    caption_photos(job)
    assert job.outcomes["image_captions"] == {"kept": 3, "photo cannot be read": 1, "photo is gone": 1}
    texts = {record["key"]: record.get("text") for record in job.kept("image_captions")}
    assert len(set(texts.values())) > 1 and all(texts.values())
    alone = Captioner(str(instruct), "cpu")
    assert cleaned(alone.describe([Image.open(tmp_path / "ö.jpg")])[0]) == texts["ö"]
    monkeypatch.setattr("confu_paper.collecting.captions.Captioner", None)
    caption_photos(job)  # loads no model, as all is done


def test_weights_that_are_not_there_are_named(tmp_path):
    folder = save_language_model(tmp_path / "holes")
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of its weights, e\.g\. model\.norm\.weight"):
        LanguageModel(str(folder), "cpu")


class Scripted:
    """Answers by a script: prompt -> what it writes at the first, second... attempt."""

    name = "scripted"

    def __init__(self, script):
        self.script = script
        self.asked = []

    def answer(self, prompts, seeds):
        assert len(prompts) == len(seeds) <= 2
        found = []
        for prompt, seed in zip(prompts, seeds):
            attempt = sum(one == prompt for one, _ in self.asked)
            self.asked.append((prompt, seed))
            found.append(Answer(self.script[prompt][attempt], True))
        return found


def test_bad_answers_are_asked_for_again_and_then_named(tmp_path):
    good = "A good caption of five."
    model = Scripted({"one": [good], "two": ["", good], "three": ["", "bird " * 99, "", "bird"], "four": [good]})
    questions = [Question(name, name, {"taxon_id": "8"}) for name in ("one", "two", "three", "four")]
    job = collection(tmp_path, models=Models(batch_size=2))
    job.__dict__["language"] = model  # in place of one that is loaded
    ask(job, "captions", questions, "{}", (4, 40))
    records = {record["key"]: record for record in read_records(tmp_path / "captions.jsonl")}
    assert {key: (record["outcome"], record["attempts"]) for key, record in records.items()} == {
        "one": ("kept", 1), "two": ("kept", 2), "three": ("too short", ATTEMPTS), "four": ("kept", 1),
    }  # fmt: skip
    assert records["three"]["rejected"] == "bird" and "text" not in records["three"]
    assert records["one"] == {
        "key": "one", "taxon_id": "8", "text": good, "outcome": "kept", "attempts": 1, "model": "scripted"
    }  # fmt: skip
    seeds = [seed for prompt, seed in model.asked if prompt == "three"]
    assert len(set(seeds)) == ATTEMPTS


def test_bad_numbers_are_named(tmp_path):
    with pytest.raises(ValueError, match="batch_size: expected 1 or more; got 0"):
        collection(tmp_path, models=Models(batch_size=0))
