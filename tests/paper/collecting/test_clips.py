import numpy as np
import soundfile

from confu_paper.collecting.clips import clip_name, cut, cut_clips
from confu_paper.collecting.step_log import StepLog
from paper.collecting.faulty_server import sound
from paper.collecting.killing import collection

ABOUT = {
    "taxon_id": "4956", "scientific_name": "Ardea alba", "common_name": "Great Egret", "licence": "cc-by-4.0",
    "tags": {"type": "song", "sex": "", "stage": "adult"}, "attribution": "Ada, XC1", "source_url": "http://a/1",
}  # fmt: skip


def recordings(out, **contents):
    """A log of recordings with these contents; None for one whose file is gone."""
    log = StepLog(out / "recordings.jsonl", {})
    for name, content in contents.items():
        file = f"recordings/Ardea_alba/{name.removeprefix('XC')}.mp3"
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            (out / file).write_bytes(content)
        log.add(name, {"outcome": "kept", "recording": name, "file": file, **ABOUT})
    log.add("XC999", {"outcome": "HTTP 404", "recording": "XC999", **ABOUT})


def test_clips_are_ten_seconds_mono_and_filled_with_zeros(tmp_path):
    recordings(tmp_path, XC1=sound(24.0, 16_000, "WAV"), XC2=sound(3.0, kind="FLAC"), XC3=sound(5.0))
    log = cut_clips(collection(tmp_path))
    assert [record["key"] for record in log] == ["XC1/0", "XC1/1", "XC1/2", "XC2/0", "XC3/0"]
    for record in log:
        samples, rate = soundfile.read(tmp_path / record["file"])
        assert rate == 22_050 and samples.shape == (220_500,)
        filled = round(record["sounding"] * rate)
        assert np.abs(samples[: filled - 100]).max() > 0.2 and not samples[filled + 1 :].any()
        assert {name: record[name] for name in ABOUT} == ABOUT
    assert [(record["start"], round(record["sounding"])) for record in log][:4] == [(0, 10), (10, 10), (20, 4), (0, 3)]
    assert log.get("XC1/2")["file"] == "audio/Ardea_alba/Great_Egret_1_clip2.wav"


def test_what_gives_no_clip_is_named(tmp_path):
    short = sound(0.05, kind="WAV")
    recordings(
        tmp_path, XC1=short, XC2=None, XC3=b"ID3" + bytes(200), XC4=sound(2.0, kind="WAV")[:9000], XC5=sound(1.0)
    )
    log = cut_clips(collection(tmp_path))
    assert log.get("XC1")["outcome"] == "1.mp3: 0.050 s long, shorter than 0.1 s"
    assert log.get("XC2")["outcome"] == "the recording's file is gone"
    assert "not readable as sound" in log.get("XC3")["outcome"] and "cut short" in log.get("XC4")["outcome"]
    assert log.counts["kept"] == 1 and len(list((tmp_path / "audio").rglob("*.wav"))) == 1


def test_a_run_goes_on_where_it_ended(tmp_path):
    recordings(tmp_path, XC1=sound(24.0), XC2=sound(12.0))
    whole = cut_clips(collection(tmp_path))
    lines = whole.file.read_text().splitlines(keepends=True)
    contents = {path: path.read_bytes() for path in (tmp_path / "audio").rglob("*.wav")}
    for stay in range(1, len(lines)):
        whole.file.write_text("".join(lines[:stay]))
        half = tmp_path / "audio" / "Ardea_alba" / ".x.wav.partial"
        half.write_bytes(b"RIFF")
        cut_clips(collection(tmp_path))
        assert whole.file.read_text() == "".join(lines) and not half.exists()
    assert {path: path.read_bytes() for path in (tmp_path / "audio").rglob("*.wav")} == contents


def test_a_rest_is_filled_unless_it_is_next_to_nothing():
    waveform = np.arange(1, 8)
    assert [piece.tolist() for piece in cut(waveform, 3, 1)] == [[1, 2, 3], [4, 5, 6], [7, 0, 0]]
    assert len(cut(waveform, 3, 2)) == 2 and cut(waveform[:1], 3, 2)[0].tolist() == [1, 0, 0]


def test_names_are_safe():
    record = {"scientific_name": "Corvus corone", "common_name": "Bird/../of 'Ada'", "recording": "XC5"}
    assert clip_name(record, 1) == "Corvus_corone/Bird_of_'Ada'_5_clip1.wav"
    assert clip_name({**record, "common_name": None}, 0) == "Corvus_corone/Corvus_corone_5_clip0.wav"
