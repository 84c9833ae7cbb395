from collections import Counter

import pytest

from confu_paper.collecting.captions import (
    MERGE_PROMPT,
    SUMMARY_PROMPT,
    merge_question,
    pair,
    summary_questions,
    tags_text,
)
from confu_paper.collecting.collection import Taxon
from confu_paper.collecting.manifest import write_manifest


def records(taxon, photos=8, recordings=3, clips=2, summaries=4):
    kept = {"outcome": "kept", "taxon_id": taxon}
    return {
        "photos": [{**kept, "key": f"{taxon}/{n}", "file": f"{taxon}/{n}.jpg"} for n in range(photos)],
        "image_captions": [{**kept, "key": f"{taxon}/{n}", "text": f"bird {n}"} for n in range(photos)],
        "clips": [
            {**kept, "key": f"XC{taxon}{n}/{k}", "recording": f"XC{taxon}{n}", "file": f"{taxon}{n}{k}.wav", "tags": {}}
            for n in range(recordings)
            for k in range(clips)
        ],
        "summaries": [{**kept, "key": f"{taxon}/{n}/s", "text": f"It sings {n}."} for n in range(summaries)],
    }


def joined(*parts):
    return {name: [record for part in parts for record in part[name]] for name in parts[0]}


def test_each_species_has_as_many_triplets_as_photos_at_most():
    found = joined(records("1", photos=8), records("2", photos=3))
    assert Counter(t.taxon_id for t in pair(["1", "2"], **found, per_species=5).triplets) == {"1": 5, "2": 3}
    whole = pair(["1", "2"], **found)
    assert Counter(t.taxon_id for t in whole.triplets) == {"1": 8, "2": 3}
    assert len({t.photo["key"] for t in whole.triplets}) == 11
    assert whole.counts["1"] == {
        "photos": 8, "clips": 6, "recordings": 3, "summaries": 4, "triplets": 8, "reused": 2
    }  # fmt: skip


def test_clips_are_reused_evenly_and_only_where_they_lack():
    triplets = pair(["1"], **records("1", photos=14)).triplets
    assert set(Counter(t.clip["key"] for t in triplets).values()) == {2, 3}
    assert [t.reused for t in triplets] == [False] * 6 + [True] * 8
    assert not any(t.reused for t in pair(["1"], **records("1", photos=6)).triplets)


def test_recordings_come_in_turn_and_summaries_by_chance():
    found = records("1", photos=40, recordings=20, clips=2, summaries=10)
    triplets = pair(["1"], **found).triplets
    assert len({t.clip["recording"] for t in triplets[:20]}) == 20
    assert [t.clip["key"] for t in triplets] != sorted(t.clip["key"] for t in triplets)
    assert len({t.summary["key"] for t in triplets}) > 5
    assert [t.key for t in pair(["1"], **found).triplets] == [t.key for t in triplets]
    assert [t.key for t in pair(["1"], **found, seed=1).triplets] != [t.key for t in triplets]


def test_other_species_and_further_photos_change_nothing():
    alone = [t.key for t in pair(["1"], **records("1")).triplets]
    assert [t.key for t in pair(["2", "1"], **joined(records("2"), records("1"))).triplets][-8:] == alone
    assert [t.key for t in pair(["1"], **records("1", photos=12)).triplets][:8] == alone


def test_what_was_not_kept_is_no_part_of_a_triplet():
    found = records("1")
    for part, place in (("photos", 0), ("image_captions", 1), ("clips", 2), ("summaries", 3)):
        found[part][place] = {**found[part][place], "outcome": "broken"}
    pairing = pair(["1"], **found)
    used = {(t.photo["key"], t.clip["key"], t.summary["key"]) for t in pairing.triplets}
    assert len(used) == 6 and not {"1/0", "1/1", "XC11/0", "1/3/s"} & {key for keys in used for key in keys}


@pytest.mark.parametrize("part", ["photos", "clips", "summaries"])
def test_a_species_without_a_part_is_named(part):
    found = joined({**records("1"), part: []}, records("2"))
    pairing = pair(["1", "2"], **found)
    assert pairing.lacking == {"1": [part]} and {t.taxon_id for t in pairing.triplets} == {"2"}


def test_prompts_are_the_papers():
    assert SUMMARY_PROMPT.splitlines() == [
        "You are a naturalist assistant.", "Summarize the following text into one coherent caption.",
        "Be concise and factual.", "{text}", "Caption:",
    ]  # fmt: skip
    assert MERGE_PROMPT.splitlines() == [
        "You are a naturalist assistant.", "Combine the following information into a concise caption (10–20 words).",
        "Include information about the bird's appearance and sound if available.", "Be factual and informative.",
        "Image caption: {image}", "Species caption: {species}", "Sound tags: {tags}", "Caption:",
    ]  # fmt: skip


def test_a_caption_belongs_to_its_prompt():
    triplets = pair(["1"], **records("1")).triplets
    keys = {merge_question(triplet).key for triplet in triplets}
    assert len(keys) == 8
    other = records("1")
    other["image_captions"][0]["text"] = "a {braced} bird"
    changed = [merge_question(triplet) for triplet in pair(["1"], **other).triplets]
    assert len({question.key for question in changed} - keys) == 1
    assert "Image caption: a {braced} bird\n" in changed[0].prompt and "Sound tags: none\n" in changed[0].prompt


def test_tags_are_told_in_words():
    assert tags_text({"tags": {"type": "call, song", "sex": "", "stage": None, "also": ["Pica pica", "Ōo"]}}) == (
        "type: call, song; also: Pica pica, Ōo"
    )
    assert tags_text({}) == ""


def test_sections_are_drawn_and_stubs_are_not():
    long = {"taxon_id": "1", "title": "Ō", "text": "It sings {loudly} all night. " * 200, "licence": "CC BY-SA 4.0"}
    sections = [{**long, "key": f"1/{n}", "section": str(n)} for n in range(5)]
    sections.append({**long, "key": "1/stub", "section": "stub", "text": "A stub."})
    questions = summary_questions(sections, ["1", "2"], per_species=30)
    assert len(questions) == 30 == len({question.key for question in questions})
    assert {question.about["section"] for question in questions} == set("01234")
    assert all(len(question.prompt.split()) < 700 for question in questions)
    assert questions == summary_questions(sections[::-1], ["1"], per_species=40)[:30]


def test_a_table_without_rows_says_why(tmp_path):
    triplets = pair(["1"], **records("1")).triplets
    question = merge_question(triplets[0])
    captions = {question.key: {"key": question.key, "outcome": "too long", "rejected": "bird"}}
    with pytest.raises(ValueError, match=r"no row is left \(1 caption: too long, 7 caption not made yet\)"):
        write_manifest(tmp_path / "manifest.parquet", triplets, {"1": Taxon("Turdus merula")}, captions)
    assert list(tmp_path.iterdir()) == []
