"""What makes the demo searchable: a model folder, an index, examples, and the commands to try."""

import shutil
from pathlib import Path
from shlex import quote

from confu.data import Splits
from confu.evaluation import Report
from confu.files import written_whole
from confu_paper.datasets import digit_sources
from confu_paper.demo.examples import make_examples
from confu_paper.demo.index import make_index
from confu_paper.demo.model import reading_model, save_if_new


def make_searchable(demo: Path, run: Path, seed: int, splits: Splits, report: Report) -> tuple[str, ...]:
    """Write `model`, `index` and `examples` of the demo, as far as they are not there.

    Args:
        demo: folder to write them in.
        run: of the training.
        seed: of the data.
        splits: the data.
        report: what was measured.

    Returns:
        commands that open the page and ask an example, each with what it shows.
    """
    model, index = demo / "model", demo / "index"
    sources = digit_sources(seed)
    embedder = reading_model(run / "best", sources, seed, report)
    save_if_new(embedder, model)
    with written_whole(model / "log.jsonl") as record:  # its temperature turns cosines into probabilities
        shutil.copyfile(run / "log.jsonl", record)
    make_index(index, model, embedder, splits, sources, seed)
    asked = quote(str(index))
    lines = [f"confu serve {asked}  # a page to ask with a picture, a sound, words, or any of them together"]
    for example in make_examples(demo / "examples", index, embedder, splits, sources, seed)[:1]:
        image, audio, both = example.taken_for
        files = f"--image {quote(str(example.picture))} --audio {quote(str(example.sound))}"
        lines.append(
            f"confu search {asked} {files} --target text --singles -k 3  # alone: {image}, {audio}; together: {both}"
        )
    return tuple(lines)
