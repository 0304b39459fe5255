"""The documentation: its pages agree with the code, its code is right, and it becomes a site without a warning."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ark.cli import parser
from ark.config_file import load_config
from ark.models.backend_selection import select_by_files
from ark_backends.bge.options import BgeOptions
from ark_backends.exllama.options import ExLlamaV2Options, ExLlamaV3Options
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.whisper.options import WhisperOptions

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


OPTIONS: dict[str, type] = {
    "torch_chat": TorchChatOptions,
    "exllamav2": ExLlamaV2Options,
    "exllamav3": ExLlamaV3Options,
    "bge": BgeOptions,
    "whisper": WhisperOptions,
}


def fences(language: str) -> Iterator[tuple[str, str]]:
    """Each block of code of a language: where it is, and its text."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.finditer(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, block.start()) + 1
            yield f"{page.relative_to(ROOT)}:{line}", textwrap.dedent(block[2])


def test_every_page_that_is_made_from_the_code_is_up_to_date() -> None:
    write = importlib.import_module("write")
    pages, made = write.PAGES, (*write.PAGES, *write.DATA)
    assert [module.PAGE.name for module in made if module.PAGE.read_text("utf-8") != module.page()] == [], "make pages"
    marked = {page.name for page in PAGES if "<!-- Made by `make pages`" in page.read_text("utf-8")}
    assert marked == {module.PAGE.name for module in pages}


def test_every_field_is_there_with_its_values_its_default_and_a_text() -> None:
    script = importlib.import_module("configuration_page")

    class Example(msgspec.Struct):
        """Stands for a table that has just got a field."""

        size: int = 2**21
        """Bytes; `a|b`.

        More."""
        on: bool = True
        """Whether."""

    assert script.rows(Example)[2:] == [
        "| `size` | integer | `2097152` (2 MiB) | Bytes; `a\\|b`. More. |",
        "| `on` | true, false | `true` | Whether. |",
    ]
    for _, kind in script.TABLES:
        for field, row in zip(msgspec.structs.fields(kind), script.rows(kind)[2:], strict=True):
            assert re.fullmatch(rf"\| `{field.name}` \| \S.* \| \S.* \| \S.* \|", row)


def test_every_limit_is_a_field() -> None:
    script = importlib.import_module("limits_page")
    for title, kind, limits in script.TABLES:
        assert set(limits or ()) <= {field.name for field in msgspec.structs.fields(kind)}, title


def test_every_code_of_an_error_has_its_line() -> None:
    codes: set[str] = set()
    for folder in (ROOT / "ark", ROOT / "backends" / "ark_backends"):
        for source in folder.rglob("*.py"):
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                match node:
                    case ast.keyword(arg="code", value=value) | ast.Assign(targets=[ast.Name(id="code")], value=value):
                        codes |= set(texts(value))
    _, _, table = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition("## What an error says")
    told = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| [45]", table, re.MULTILINE)
    assert {code for row in told for code in re.findall(r"\w+", row)} == codes


def texts(value: ast.expr) -> Iterator[str]:
    """The texts that an expression may be."""
    match value:
        case ast.Constant(value=str(text)):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from texts(one)
            yield from texts(other)


def test_every_toml_block_can_be_served(tmp_path: Path) -> None:
    for place, block in fences("toml"):
        if "[project" in block or "conformance" in place:
            # Of a pyproject.toml, or a call file of the conformance suite.
            continue
        (tmp_path / "ark.toml").write_text(re.sub(r'sha256 = "\.\.\."', f'sha256 = "{"0" * 64}"', block))
        for model in load_config(tmp_path / "ark.toml", {}).models:
            backend = select_by_files(model, None).name
            if backend in OPTIONS:
                assert model.engine_options(OPTIONS[backend]), place


def test_every_python_block_is_python() -> None:
    for place, block in fences("python"):
        try:
            compile(block, place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError:
            # A part of a function.
            compile("async def part():\n" + textwrap.indent(block, "    "), place, "exec")


def test_every_excerpt_of_a_program_is_in_it() -> None:
    found = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for path, block in re.findall(r"<!-- from (\S+) -->\n\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            assert block in (ROOT / path).read_text(encoding="utf-8"), f"{page.name}: {path} has changed"
            found += 1
    assert found > 4


def test_every_ark_command_can_be_given() -> None:
    found = 0
    for place, block in fences("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            if not re.search(r"\bark ", line):
                # No command of ours, and maybe a quoted semicolon.
                continue
            for command in re.split(r"[|;&]+|<\(|\$\(", line):
                words = [word for word in shlex.split(command, comments=True) if not re.match(r"[A-Z_]+=", word)]
                if words[:1] == ["ark"]:
                    arguments = [word for word in words[1:] if word != "..."]
                    cut = next((i for i, word in enumerate(arguments) if word.startswith((">", "<"))), None)
                    try:
                        parser().parse_args(arguments[:cut])
                    except SystemExit:
                        pytest.fail(f"{place}: {line}")
                    found += 1
    assert found > 10


def test_every_link_of_the_readme_goes_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        text = page.read_text(encoding="utf-8")
        headings = {
            re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.M)
        }
        for link in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', text):
            target, _, anchor = "".join(link).partition("#")
            if not target.startswith("http"):
                assert (ROOT / target).exists(), target
                assert target or anchor in headings, anchor


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole documentation as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def build(pages: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    command += ["-c", str(ROOT / "docs"), "-d", str(folder / ".doctrees"), str(pages), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_site_has_every_page_and_every_file_that_is_linked(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / f"{page.stem}.html").is_file()
    for path in ("mount_starlette.py", "grafana.json", "deploy/Containerfile"):
        (copy,) = site.glob(f"_downloads/*/{Path(path).name}")
        assert copy.read_bytes() == (ROOT / "examples" / path).read_bytes()
        assert any(str(copy.relative_to(site)) in page.read_text(encoding="utf-8") for page in site.glob("*.html"))


def test_every_page_is_beside_every_other(site: Path) -> None:
    beside = (site / "limits.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "limits" or f'href="{page.stem}.html"' in beside


def test_the_site_has_the_figures(site: Path) -> None:
    for name in ("sessions", "performance"):
        page = (site / f"{name}.html").read_text(encoding="utf-8")
        assert "At turn 12" in page
        assert 'src="_images/twelve_turns.png"' in page


def test_the_site_needs_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*src="([^"]+)"', text)
        loaded += re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="([^"]+)"', text)
        assert [one for one in loaded if re.match(r"(https?:)?//", one)] == [], page


def test_what_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "start.md").write_text("# Start\n")
    (pages / "index.md").write_text(
        "# Index\n\n[a](none-1.md) [b](start.md#none-2) [c](../none-3.py) ![d](none-4.png)\n"
    )
    done = build(pages, tmp_path / "site")
    assert done.returncode != 0
    for number in range(1, 5):
        assert f"none-{number}" in done.stderr


def test_the_architecture_names_what_there_is() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:ark|backends|tests|tools|conformance)/[\w/]+(?:\.py)?)`", text):
        assert (ROOT / path).exists(), path
    found = 0
    # A symbol, or several, before the file that defines them.
    for symbols, path in re.findall(r"((?:`[\w.]+`(?:,\s|\sor\s|\s))+)\(?`((?:ark|backends)/[\w/]+\.py)`\)?", text):
        source = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"\w+", symbols.replace(" or ", " ")):
            assert re.search(rf"^ *(?:(?:async )?def|class) {name}\b|^{name}\b.*=", source, re.MULTILINE), (name, path)
            found += 1
    assert found > 40
