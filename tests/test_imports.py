"""What is imported, and when: a training on arrays needs torch and numpy, and nothing that it does not use."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
# What only data sets, plots, encoders, indexes, pages and the command line need.
HEAVY = ["IPython", "PIL", "av", "fastapi", "faiss", "jinja2", "matplotlib", "pandas", "peft", "pyarrow", "rich"]
HEAVY += ["scipy", "sklearn", "soundfile", "soxr", "tokenizers", "transformers", "typer"]
TRAIN = """
import sys, torch
sys.modules["torch.utils.tensorboard.writer"] = None  # which mirrors the log wherever it is installed
import confu
from confu.data import ArrayDataset, TensorColumn

names = ("image", "audio", "text")
data = ArrayDataset({name: TensorColumn(torch.randn(16, 6)) for name in names})
plan = confu.confu_plan(names)
encoders = {
    name: confu.build_encoder({"kind": "mlp", "in_dim": 6, "hidden_dims": [8], "out_dim": 8}) for name in names
}
objective = confu.ContrastiveObjective(confu.MultimodalModel(plan, encoders, dim=8), confu.ConFuLoss(plan))
confu.fit(objective, data, data, confu.TrainSettings(epochs=1, batch_size=8), sys.argv[1], progress=True)
print(*(name for name in sys.argv[2:] if name in sys.modules))
"""
METHODS = """
import sys
from confu.methods import DOMAINS, METHODS, VARIANTS, tweaked
from confu.training import TrainSettings
from confu.training.settings import TrainSettings as same

assert TrainSettings is same and "confu" in METHODS and METHODS["gram"].score == "volume"
tweaked(TrainSettings(), "gram", {"lr": 0.01})
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


def imported(code, *arguments):
    """Which of some modules a program has imported in the end."""
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_training_on_arrays_imports_only_what_it_needs(tmp_path):
    assert imported(TRAIN, str(tmp_path / "run"), *HEAVY) == []


def test_methods_and_settings_are_imported_without_torch():
    assert imported(METHODS, "torch", "numpy", "accelerate", "transformers", "scipy") == []


def test_public_names_are_there_and_loaded_when_used():
    listed = imported("import sys, confu; print(*dir(confu), *(name for name in sys.modules if name == 'torch'))")
    assert "torch" not in listed and {"fit", "Plan", "ConFuLoss", "load", "Index"} <= set(listed)
