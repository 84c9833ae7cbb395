"""Training by a run file, from the first command to the run opened again."""

import json
import shutil
from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import confu
import confu.runs.training
import confu.training.loop
from confu.data.readers import ImageReader, MelReader
from confu.files import write_json
from confu.runs import check, evaluate
from confu.runs.prepare import open_run
from confu.runs.rows import RowTable
from confu.runs.run_yaml import read_run_file
from confu.runs.sweeping import sweep
from confu.runs.training import train
from confu.training.log import read_log
from runs.own_data import WORDS, make_rows, write_run, write_table
from training.parts import stopped


def weights(folder, which="last"):
    return load_file(folder / which / "model.safetensors")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_train_writes_a_run_that_says_all_of_itself(clips):
    run = clips / "runs" / "clips"
    inputs = json.loads((run / "inputs.json").read_text())
    assert inputs["format"] == 1
    assert inputs["kinds"] == {"image": "image", "audio": "audio", "text": "text"}
    assert inputs["readers"]["image"]["size"] == 12
    assert inputs["readers"]["audio"]["rate"] == 8000
    assert inputs["class_names"] == sorted(WORDS)
    assert "three" in inputs["readers"]["text"]["vocabulary"]
    rows = pq.read_table(run / "rows.parquet").to_pydict()
    assert rows["id"] == [f"clip-{number}" for number in range(80)]
    assert [rows["split"].count(part) for part in ("train", "validation", "test")] == [40, 16, 24]
    assert rows["has_audio"] == [number % 5 != 1 for number in range(80)]
    assert read_run_file(run / "run.yaml") == read_run_file(clips / "run.yaml")
    assert not (run / "problems.csv").exists()
    assert len(read_log(run, "validation")) == 2


def test_open_run_gives_the_data_as_they_were_split(clips):
    run = clips / "runs" / "clips"
    opened = open_run(run)
    rows = RowTable.load(run)
    for part in ("train", "validation", "test"):
        data = getattr(opened.splits, part)
        assert list(data.ids) == [rows.ids[row] for row in rows.of(part)]
        assert [opened.manifest.labels[row] for row in rows.of(part)] == [data.class_names[c] for c in data.labels]
    batch = opened.splits.train.batch(torch.arange(40))
    missing = [id for id, there in zip(batch.ids, batch.inputs["audio"].present) if not there]
    assert missing == [id for id in batch.ids if int(id.removeprefix("clip-")) % 5 == 1]
    embeddings = opened.model(batch)
    assert embeddings["image+audio"].shape == (40, 16)
    assert not opened.model.training
    assert opened.skipped == []
    assert opened.run.out == str(run)


def test_a_run_can_be_moved_and_its_data_too(clips, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in ("run.yaml", "inputs.json", "rows.parquet"):
        (moved / path).write_bytes((clips / "runs" / "clips" / path).read_bytes())
    (clips / "runs" / "clips" / "best").rename(moved / "best")
    try:
        with pytest.raises(ValueError, match="no such file"):
            open_run(moved)
        assert len(open_run(moved, manifest=clips / "clips.csv").splits.test) == 24
    finally:
        (moved / "best").rename(clips / "runs" / "clips" / "best")


def test_train_again_is_done_at_once_and_changes_nothing(clips):
    before = weights(clips / "runs" / "clips")
    steps = len(read_log(clips / "runs" / "clips"))
    train(clips / "run.yaml", progress=False)
    assert equal(before, weights(clips / "runs" / "clips"))
    assert len(read_log(clips / "runs" / "clips")) == steps


def test_augmentation_is_for_training_and_survives_a_stop(clips):
    augment = ["modalities.image.augment={rotate: 20, shift: 0.1}", "modalities.text.augment={drop: 0.3}"]
    whole = train(clips / "run.yaml", [*augment, "out=runs/augmented"], progress=False)
    assert not equal(weights(whole), weights(clips / "runs" / "clips"))
    sets = [*augment, "out=runs/augmented-stopped", "train.checkpoint_every=1"]
    stopped(lambda: train(clips / "run.yaml", sets, progress=False), at=4)
    assert equal(weights(train(clips / "run.yaml", sets, progress=False)), weights(whole))
    rows = torch.arange(16)
    one, other = (open_run(folder).splits for folder in (whole, clips / "runs" / "clips"))
    for part in ("train", "validation", "test"):
        images = [getattr(splits, part).batch(rows).inputs["image"].values for splits in (one, other)]
        assert torch.equal(*images)
    with pytest.raises(ValueError, match=r"holds a run with other settings.*augment"):
        train(clips / "run.yaml", ["out=runs/augmented"], progress=False)


def test_train_refuses_augmentations_that_do_not_fit(clips, monkeypatch):
    monkeypatch.setattr(confu.runs.training, "fit", None)  # whoever calls it fails
    for value, words in (
        ("text.augment={rotate: 3}", r"modalities\.text\.augment\.rotate: not known for text; known: noise"),
        (
            "image.augment={rotat: 3}",
            r"augment\.rotat: not known for image; did you mean 'rotate'\? known: rotate 0 to",
        ),
        ("image.augment={shift: 2}", r"modalities\.image\.augment\.shift: expected 0 to 0\.9 \(of the width"),
        ("audio.augment={gain: 3}", r"augment\.gain: not known for audio, of which the encoder gets a spectrogram"),
    ):
        with pytest.raises(ValueError, match=words):
            train(clips / "run.yaml", [f"modalities.{value}", "out=runs/unfit-augment"], progress=False)


def test_train_refuses_the_folder_of_another_run(clips, monkeypatch):
    monkeypatch.setattr("confu.runs.prepare.build_inputs", None)  # whoever calls it fails
    with pytest.raises(ValueError, match=r"holds a run with other settings: train.lr is 0.001 there and 0.01 here"):
        train(clips / "run.yaml", ["train.lr=0.01"], progress=False)


def test_train_in_a_folder_that_was_never_trained_starts_anew(clips):
    sets = ["out=runs/unfit", "train.batch_size=1000"]
    with pytest.raises(ValueError, match=r"train has 40 rows, fewer than train\.batch_size 1000; lower it"):
        train(clips / "run.yaml", sets, progress=False)
    assert not (clips / "runs" / "unfit" / "settings.json").exists()


def test_weights_follow_from_the_seed_alone(clips):
    train(clips / "run.yaml", ["out=runs/seed1", "seed=1"], progress=False)
    train(clips / "run.yaml", ["out=runs/again", "data.workers=2", "data.cache=other"], progress=False)
    assert equal(weights(clips / "runs" / "clips"), weights(clips / "runs" / "again"))
    one = weights(clips / "runs" / "seed1")
    assert not equal(one, weights(clips / "runs" / "clips"))
    assert RowTable.load(clips / "runs" / "seed1").parts != RowTable.load(clips / "runs" / "clips").parts


@pytest.mark.parametrize("method", ["clip", "symile", "gram", "triangle", "confu-bilinear"])
def test_every_method_trains_on_a_table(clips, method):
    folder = train(clips / "run.yaml", [f"method={method}", f"out=runs/{method}", "train.epochs=1"], progress=False)
    assert open_run(folder).model.score == {"symile": "multilinear", "gram": "volume", "triangle": "area"}.get(
        method, "cosine"
    )


def test_gap_baselines_change_training_rows_only(clips):
    def parts(gaps):
        folder = train(clips / "run.yaml", [f"data.gaps={gaps}", f"out=runs/{gaps}", "train.epochs=1"], progress=False)
        return open_run(folder).splits

    masked, dropped, filled = open_run(clips / "runs" / "clips").splits, parts("drop"), parts("zeros")
    complete = torch.stack(list(masked.train.present.values())).all(dim=0)
    assert len(dropped.train) == int(complete.sum()) < len(masked.train)
    assert len(dropped.validation) == len(masked.validation)
    assert all(bool(mask.all()) for mask in filled.train.present.values())
    batch = filled.train.batch(torch.arange(len(filled.train)))
    lacking = (~masked.train.present["audio"]).nonzero().flatten()
    audio = batch.inputs["audio"]
    assert bool(audio.present.all())
    assert not audio.values[audio.rows[lacking]].any()
    assert not bool(filled.test.present["audio"].all())


def test_rows_of_one_text_are_a_group(tmp_path):
    rows = [{**row, "text": row["text"] and f"the {row['label']}"} for row in make_rows(tmp_path)]
    write_table(tmp_path, rows)
    sets = ["data.group=text", "loss.same_group=positives", "train.epochs=1"]
    opened = open_run(train(write_run(tmp_path), sets, progress=False))
    batch = opened.splits.train.batch(torch.arange(48))
    for i in range(0, 48, 7):
        for j in range(48):
            texts = [rows[int(batch.ids[k].removeprefix("clip-"))]["text"] for k in (i, j)]
            assert bool(batch.groups[i] == batch.groups[j]) == (texts[0] == texts[1])
    assert bool((batch.groups[~opened.splits.train.present["text"]] == -1).all())


def test_equal_files_and_texts_are_found_by_content(tmp_path):
    rows = [{**row, "text": row["text"] and f"the {row['label']}"} for row in make_rows(tmp_path)]
    for row in rows[1::2]:  # two files with the same bytes
        (tmp_path / row["image"]).write_bytes((tmp_path / rows[0]["image"]).read_bytes())
    write_table(tmp_path, rows)
    folder = train(write_run(tmp_path), ["loss.equal_inputs=positives", "train.epochs=1"], progress=False)
    dataset = open_run(folder).splits.train
    batch = dataset.batch(torch.arange(len(dataset))).with_contents()
    content = {row["id"]: ((tmp_path / row["image"]).read_bytes(), row["text"]) for row in rows}
    for number, name in enumerate(("image", "text")):
        values, numbers = [content[id][number] for id in batch.ids], batch.contents[name].tolist()
        assert [one < 0 for one in numbers] == [not value for value in values]
        assert [one == numbers[0] for one in numbers] == [value == values[0] for value in values]
    found = {(row.metric, row.query, row.target): row.note for row in evaluate(folder, progress=False).rows}
    for query, target, equal in (("text", "image", True), ("image", "audio", False)):
        chance, gallery = (float(part.split()[1]) for part in found["recall@1", query, target].split(", "))
        assert chance > 1.5 / gallery if equal else chance == pytest.approx(1 / gallery, rel=1e-3)


class FrozenMean(nn.Module):
    """A frozen network of the user's own, that counts how often it is asked."""

    out_dim, feature_dim, frozen, asked = 16, 2, True, 0

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)
        self.output = nn.Linear(2, 16)

    def features(self, values):
        FrozenMean.asked += len(values)
        return self.scale * torch.stack([values.flatten(1).mean(1), values.flatten(1).std(1)], dim=1)

    def forward(self, values=None, features=None):
        return self.output(self.features(values) if features is None else features)


def test_a_file_is_decoded_once_and_not_again_by_the_next_run(clips, monkeypatch):
    read = []
    for reader in (ImageReader, MelReader):
        once = reader.read

        def counted(self, source, once=once):
            read.append(type(self))
            return once(self, source)

        monkeypatch.setattr(reader, "read", counted)
    examples = [ImageReader] * 2 + [MelReader] * 2  # of each, two make the encoder's first batch
    sets = ["data.cache=decoded", "train.epochs=1", "data.workers=1"]
    train(clips / "run.yaml", [*sets, "out=runs/decoded"], progress=False)
    assert Counter(read) == Counter([*examples, *[ImageReader] * 80, *[MelReader] * 64])
    read.clear()
    train(clips / "run.yaml", [*sets, "out=runs/decoded-again", "seed=2"], progress=False)
    assert Counter(read) == Counter(examples)
    read.clear()
    assert check(clips / "run.yaml", clips, progress=False).sound  # the cache of the shared run is full
    open_run(clips / "runs" / "decoded")
    assert Counter(read) == Counter(examples)


def test_features_of_a_frozen_encoder_are_computed_once(clips):
    FrozenMean.asked = 0
    sets = ["modalities.image.encoder=runs.test_train:FrozenMean", "out=runs/frozen"]
    folder = train(clips / "run.yaml", sets, progress=False)
    assert FrozenMean.asked <= 80 + 2  # each row once, and the two of the first try
    asked = FrozenMean.asked
    opened = open_run(folder, encoders={"image": FrozenMean()})
    assert opened.splits.train.batch(torch.arange(3)).inputs["image"].values["features"].shape == (3, 2)
    assert FrozenMean.asked == asked
    assert len(open_run(folder, allow_custom=True).splits.test) == 24
    with pytest.raises(ValueError, match="allow_custom"):  # a run from elsewhere could name any function
        open_run(folder)


def test_open_run_says_what_is_missing_or_changed(clips, tmp_path):
    with pytest.raises(ValueError, match=r"lacks run.yaml, inputs.json, rows.parquet; expected a run folder"):
        open_run(tmp_path)
    rows = make_rows(tmp_path, 80)
    write_table(tmp_path, rows[:-1])
    with pytest.raises(ValueError, match=r"has 79 rows, had 80; .* was trained on other rows"):
        open_run(clips / "runs" / "clips", manifest=tmp_path / "clips.csv")
    rows[3]["id"] = "other"
    write_table(tmp_path, rows)
    with pytest.raises(ValueError, match="row 3 has the id 'other', had 'clip-3'"):
        open_run(clips / "runs" / "clips", manifest=tmp_path / "clips.csv")
    rows[3]["id"], rows[4]["text"] = "clip-3", ""
    write_table(tmp_path, rows)
    with pytest.raises(ValueError, match=r"row 4 \(id clip-4\), column 'text': the cell was filled and is not now"):
        open_run(clips / "runs" / "clips", manifest=tmp_path / "clips.csv")


def test_sweep_trains_the_grid_and_reads_it_the_second_time(clips):
    grid = {"train.lr": [1e-3, 1e-2], "model.dim": [16]}
    found = sweep(clips / "run.yaml", grid, ["train.epochs=1", "out=runs/sweep"], progress=False)
    assert [point.settings["train.lr"] for point in found.points] == ["0.001", "0.01"]
    assert [point.folder.name for point in found.points] == ["sweep-lr0.001-dim16", "sweep-lr0.01-dim16"]
    assert found.best.loss == min(point.loss for point in found.points)
    again = sweep(clips / "run.yaml", grid, ["train.epochs=1", "out=runs/sweep"], progress=False)
    assert again == found
    assert found.to_rich().row_count == 2
    ranked = sweep(clips / "run.yaml", grid, ["train.epochs=1", "out=runs/ranked", "train.select=retrieval"])
    assert ranked.best.mrr == max(point.mrr for point in ranked.points) > 0
    assert [point.loss for point in ranked.points] == [point.loss for point in found.points]
    assert found.points[0].mrr is None
    with pytest.raises(ValueError, match=r"train\.lr: expected greater than 0"):
        sweep(clips / "run.yaml", {"train.lr": [1e-3, -1]}, progress=False)
    with pytest.raises(ValueError, match="each with its values"):
        sweep(clips / "run.yaml", {"train.lr": []}, progress=False)


def test_a_finished_run_has_its_fingerprint(clips):
    parts = confu.load(clips / "runs" / "clips").parts
    recorded = dict(parts._fingerprints)  # loading has read it, and hashed no weights
    parts._fingerprints.clear()
    assert list(recorded.values()) == [parts.fingerprint()]


def test_a_finished_run_goes_on_to_more_epochs(clips):
    def more(name, epochs):
        sets = [f"out=runs/{name}", f"train.epochs={epochs}", "train.log_every=1", "train.checkpoint_every=1"]
        return train(clips / "run.yaml", sets, progress=False)

    folder = more("grown", 1)
    more("grown", 3)
    assert [record["epoch"] for record in read_log(folder, "validation")] == [1, 2, 3]
    rates = [record["lr"] for record in read_log(folder, "train")]
    whole = [record["lr"] for record in read_log(more("whole", 3), "train")]
    assert rates[2:] == whole[2:] and rates[:2] != whole[:2]  # the longer cosine from there, not from the beginning
    assert read_run_file(folder / "run.yaml").train.epochs == 3
    more("cut", 1)
    stopped(lambda: more("cut", 3), at=3)
    more("cut", 3)
    assert equal(weights(folder), weights(clips / "runs" / "cut"))
    with pytest.raises(ValueError, match=r"train\.epochs is 3 there and 2 here"):
        more("grown", 2)


def test_fused_embeddings_are_weighed_after_training(tmp_path, monkeypatch, capsys):
    write_table(tmp_path, make_rows(tmp_path, gaps=False))
    file, shares = write_run(tmp_path), "data.shares=[0.5, 0.4, 0.1]"

    def stack(epochs=1):
        return train(file, [shares, "model.stacking=true", f"train.epochs={epochs}"], progress=False)

    with monkeypatch.context() as patched:  # stopped between the weights and what stands beside them
        patched.setattr("confu.models.checkpoint.write_json", stop_at_stacking)
        with pytest.raises(KeyboardInterrupt):
            stack()
    folder = stack()
    stacking = confu.load(folder).parts.model.settings["stacking"]
    assert sorted(stacking) == ["audio+text", "image+audio", "image+text"]
    assert all(sum(weights) == pytest.approx(1) for weights in stacking.values())
    before = weights(folder, "best")
    assert confu.load(stack()).parts.model.settings["stacking"] == stacking  # once
    assert equal(weights(folder, "best"), before)
    assert confu.load(stack(2)).parts.model.settings["stacking"] != stacking  # the second epoch is better
    train(file, ["out=runs/few", "model.stacking=true", "train.epochs=1"])  # six validation rows
    assert "image+text, audio+text stay as they were trained; weights need 20 validation" in capsys.readouterr().err
    new = train(file, [shares, "out=runs/from", f"start_from={folder}", "train.epochs=1"], progress=False)
    assert "stacking" not in confu.load(new).parts.model.settings


def stop_at_stacking(file, content):
    if "stacking" in content["model"]:
        raise KeyboardInterrupt
    write_json(file, content)


def test_a_run_starts_from_the_weights_of_another(clips, tmp_path):
    other = clips / "runs" / "clips"
    sets = ["train.epochs=1", "train.lr=1e-12", "train.min_lr=0", "train.weight_decay=0", f"start_from={other}"]
    folder = train(clips / "run.yaml", [*sets, "out=runs/from", "loss.temperature=0.2", "seed=1"], progress=False)
    for name, value in weights(other, "best").items():
        if "running" not in name and "tracked" not in name:  # batch norm's statistics go on
            torch.testing.assert_close(weights(folder)[name], value, atol=1e-7, rtol=0)
    rows = [row for row in make_rows(tmp_path, 40) if row["text"]]
    rows[0]["text"] += " with many more words than any text of the first table had" * 3
    write_table(tmp_path, rows)  # other words and longer texts: the first table's vocabulary and sizes stay
    write_run(tmp_path, (clips / "run.yaml").read_text())
    new = train(tmp_path / "run.yaml", [*sets, "train.batch_size=8"], progress=False)
    assert (
        json.loads((new / "inputs.json").read_text())["readers"]
        == json.loads((other / "inputs.json").read_text())["readers"]
    )
    refused = {
        "model.dim=8": r"dim of the model is 16 there and 8 here",
        "modalities.image.encoder={kind: conv, channels: [4, 4], out_dim: 16}": r"channels of the encoder of image is",
        "modalities.image.reader={kind: image, size: 8}": r"reader\.size is 8 here and 12 in .*leave the reader out",
        "plan={kind: pairwise}": r"these weights are of another plan",
        "start_from=nowhere": r"nowhere: no such folder; expected a run folder",
    }
    for change, message in refused.items():
        with pytest.raises(ValueError, match=message):
            train(clips / "run.yaml", [*sets, "out=runs/refused", change], progress=False)


def test_a_setting_that_is_new_to_confu_has_its_default_in_a_run(clips):
    file = clips / "runs" / "clips" / "settings.json"
    before = file.read_text()
    stored = json.loads(before)
    del stored["run"]["model"]["fusion_dropout"], stored["train"]["select"], stored["run"]["start_from"]
    file.write_text(json.dumps(stored))
    train(clips / "run.yaml", progress=False)
    with pytest.raises(ValueError, match=r"run\.model\.fusion_dropout is 0\.0 there and 0\.1 here"):
        train(clips / "run.yaml", ["model.fusion_dropout=0.1"], progress=False)
    file.write_text(before)


@pytest.mark.parametrize("bad", [[0], [39], range(0, 40, 2)], ids=["first", "last", "half"])
def test_rows_keep_their_ids_whatever_rows_are_bad(bad, tmp_path):
    rows = make_rows(tmp_path, 40, gaps=False)
    for row in bad:
        (tmp_path / rows[row]["image"]).write_bytes(b"broken")
    write_table(tmp_path, rows)
    sets = ["train.epochs=1", "train.batch_size=8", "data.on_error=skip", "data.shares=[0.6, 0.2, 0.2]"]
    opened = open_run(train(write_run(tmp_path), sets, progress=False))
    assert sorted({problem.row for problem in opened.skipped}) == list(bad)
    by_id = {row["id"]: row for row in rows}
    seen = []
    for part in (opened.splits.train, opened.splits.validation, opened.splits.test):
        batch = part.batch(torch.arange(len(part)))
        expected = [opened.readers["image"].read(str(tmp_path / by_id[id]["image"])) for id in batch.ids]
        inputs = batch.inputs["image"]
        torch.testing.assert_close(inputs.values[inputs.rows], opened.readers["image"].collate(expected))
        seen += batch.ids
    assert sorted(seen) == sorted(row["id"] for number, row in enumerate(rows) if number not in bad)


def test_a_table_of_bad_rows_alone_is_refused(tmp_path):
    rows = make_rows(tmp_path, 10, gaps=False)
    for row in rows:
        (tmp_path / row["image"]).write_bytes(b"broken")
    write_table(tmp_path, rows)
    with pytest.raises(ValueError, match=r"modalities\.image: none of its cells can be read: .*\.png"):
        train(write_run(tmp_path), ["data.on_error=skip"], progress=False)


def test_a_moved_project_is_evaluated(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, file, **more: file.write("<svg ></svg>"))
    for name in ("clips.csv", "images", "sounds", "runs/clips", "runs/cache"):
        copy = shutil.copytree if (clips / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(clips / name, tmp_path / name)
    (tmp_path / "runs" / "clips" / "report.json").unlink(missing_ok=True)
    report = evaluate(tmp_path / "runs" / "clips", progress=False)
    assert report.rows and str(clips) not in (tmp_path / "runs" / "clips" / "report.json").read_text()
