"""Commands that look at a table import no more than they need."""

import json
import subprocess
import sys

HEAVY = ("torch", "transformers", "accelerate", "scipy", "sklearn", "matplotlib", "PIL", "soundfile")
SCRIPT = """
import json, sys
from typer.testing import CliRunner
from confu.cli import app

heavy = {}
for arguments in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    heavy[" ".join(arguments)] = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
print(json.dumps(heavy))
"""


def test_help_plan_and_init_import_no_torch(tmp_path):
    lines = [f"r{row},a picture of number {row},{row % 90},{row / 2}" for row in range(1000)]
    (tmp_path / "clips.csv").write_text("\n".join(["id,caption,age,mass", *lines]))
    commands = [
        ["--help"],
        ["init", "--help"],
        ["plan", "image", "audio", "text"],
        ["init", str(tmp_path / "clips.csv"), "--out", str(tmp_path / "run.yaml")],
    ]
    arguments = [json.dumps(commands), json.dumps(HEAVY)]
    result = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    heavy = json.loads(result.stdout.splitlines()[-1])
    assert heavy == {" ".join(command): [] for command in commands}
    assert "mass" in (tmp_path / "run.yaml").read_text()
