"""Without an optional package its error names the extra that brings it."""

import re
import sys

import pytest
import torch

import confu
from confu.data.readers import VideoReader
from confu.data.readers.text import tokens_reader
from confu.evaluation.linear_probe import fit_linear_probe
from confu.evaluation.map2d import map_2d
from confu.index import Index
from confu.inference.onnx import export_onnx
from confu.nn.encoders.pretrained import Tuned
from index.conftest import ABOUT
from inference.parts import embedder

STACK = torch.nn.Sequential(torch.nn.Linear(2, 2))
USES = [
    ("transformers", "hf", lambda: confu.build_encoder({"kind": "transformers", "pretrained": "org/model"})),
    ("transformers", "hf", lambda: confu.build_encoder({"kind": "resnet"})),
    ("transformers", "hf", lambda: confu.build_encoder({"kind": "bert"})),
    ("transformers", "hf", lambda: tokens_reader("some/model")),
    ("huggingface_hub", "hf", lambda: confu.load("anna/birds")),
    ("huggingface_hub", "hf", lambda: embedder().push_to_hub("anna/birds")),
    ("peft", "lora", lambda: Tuned(STACK, "lora")),
    ("sklearn.linear_model", "probe", lambda: fit_linear_probe(torch.eye(4), torch.arange(4) % 2)),
    ("sklearn.manifold", "probe", lambda: map_2d(torch.randn(9, 3), "tsne")),
    ("onnxruntime", "onnx", lambda: export_onnx(embedder(), "towers")),
    ("av", "video", lambda: VideoReader(size=8).read(b"bytes")),
    ("faiss", "faiss", lambda: Index.create("index", ABOUT, "faiss")),
    ("qdrant_client", "qdrant", lambda: Index.create("index", ABOUT, "qdrant", url=":memory:")),
    ("psycopg", "postgres", lambda: Index.create("index", ABOUT, "postgres", url="host=a")),
]


@pytest.mark.parametrize(("package", "extra", "use"), USES, ids=[package for package, _, _ in USES])
def test_the_error_says_what_to_install(package, extra, use, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=re.escape(f'pip install "contrastive-fusion[{extra}]"')):
        use()
