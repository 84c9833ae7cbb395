"""The reference of the run file says each setting with its default."""

from pathlib import Path

from confu.data.manifest import KINDS, ROLES
from confu.runs.run_file import DataSettings, LossSettings, ModelSettings, PlanSettings

PAGE = (Path(__file__).parents[2] / "docs" / "manifest.md").read_text()
SECTIONS = {"plan": PlanSettings, "model": ModelSettings, "loss": LossSettings, "data": DataSettings}


def test_every_setting_stands_on_the_page_with_its_default():
    for section, settings in SECTIONS.items():
        for name, field in settings.model_fields.items():
            assert f"| `{section}.{name}` | `{field.default!r}` |" in PAGE


def test_every_kind_and_role_stands_on_the_page():
    for name in (*KINDS, *ROLES):
        assert f"| `{name}` |" in PAGE
