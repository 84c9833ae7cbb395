"""Everything shown in the documentation works: Python blocks run, commands parse, links resolve.

A block of text right after a Python block is what that block prints.
"""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.main import get_command

import confu
from confu.cli import app

ROOT = Path(__file__).parents[1]
# Their commands and their Python belong together: `test_tutorials.py` runs both.
TUTORIALS = ("own-data-in-ten-minutes.md", "pretrained-encoders.md", "four-modalities.md", "data-with-gaps.md")
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FILES = [*PAGES, *(path for name in ("README.md", "CONTRIBUTING.md") if (path := ROOT / name).is_file())]
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str) -> list[tuple[str, str, bool]]:
    """(language, content, whether only blank lines stand between it and the block before)."""
    found, end = [], None
    for match in _FENCE.finditer(text):
        found.append((match[1], match[2], end is not None and not text[end : match.start()].strip()))
        end = match.end()
    return found


def commands(text: str) -> list[str]:
    shell = [content for language, content, _ in blocks(text) if language in ("bash", "console", "sh")]
    lines = [line.strip() for content in shell for line in content.replace("\\\n", " ").splitlines()]
    return [line for line in lines if re.match(r"(\S*/)?confu( |$)", line)]


def parse(command: str) -> None:
    """Parse a command line with the real commands, and run nothing."""
    words = shlex.split(command, comments=True)[1:]
    current, context = get_command(app), None
    while True:
        context = current.make_context(current.name, words, parent=context)
        if not hasattr(current, "resolve_command"):
            return
        _, current, words = current.resolve_command(context, [*context._protected_args, *context.args])


@pytest.mark.parametrize("path", [path for path in FILES if path.name not in TUTORIALS], ids=by_name)
def test_python_blocks_run_and_print_what_is_shown(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for language, content, follows in blocks(path.read_text()):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
                exec(compile(content, by_name(path), "exec"), namespace)
            printed = out.getvalue()
        elif language == "text" and follows and printed:
            assert [line.rstrip() for line in printed.splitlines()] == content.splitlines()
            printed = ""


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_commands_parse(path):
    for command in commands(path.read_text()):
        try:
            parse(command)
        except (typer.Exit, SystemExit):  # --help and --version end by themselves
            pass
        except Exception as error:
            pytest.fail(f"{by_name(path)}: {command}\n{error}")


def test_a_wrong_option_is_noticed():
    with pytest.raises(Exception, match="--sizes"):
        parse("confu reproduce xor --sizes small")


@pytest.mark.parametrize("path", FILES, ids=by_name)
def test_relative_links_resolve(path):
    text = _FENCE.sub("", path.read_text())
    for target in _LINK.findall(text):
        file, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{by_name(path)} links to {target}"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked.read_text()), f"{by_name(path)} links to {target}: no such heading"


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_page_is_in_the_navigation_once():
    # The settings name classes by a tag that a plain reader does not know; the navigation does not.
    nav = re.findall(r"^  - .*?([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(nav) == sorted(by_name(path).removeprefix("docs/") for path in PAGES)


def test_the_citation_file_holds_what_the_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "version", "license"} <= citation.keys()
    assert [len(paper["authors"]) for paper in citation["references"]] == [6]
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_table_of_training_settings_is_complete():
    page = (ROOT / "docs" / "training.md").read_text()
    for name, field in confu.TrainSettings.model_fields.items():
        assert f"| `{name}` | `{field.default!r}` |" in page


def test_every_public_name_is_on_the_api_page():
    named = set(re.findall(r"^::: confu\.(?:\w+\.)*(\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    assert set(confu.__all__) <= named
