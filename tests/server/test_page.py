"""The page at ``/``, in headless Chromium."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixture_models import real_model
from process import ECHO_TOML, EXAMPLES, launch
from written_speech import recording

KEY = "ark-page-key"
CONFIG = f"""
{ECHO_TOML}
engine = {{tokens_per_second = 100}}

[[models]]
name = "words"
task = "embedding"
backend = "hash_embeddings:HashEmbeddings"

[[keys]]
name = "page"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
"""

SPEECH = """
[[models]]
name = "written"
task = "transcription"
backend = "written_speech:WrittenSpeech"
"""

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with launch(tmp_path_factory.mktemp("page"), CONFIG) as server:
        server.listening()
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    with sync_api.sync_playwright() as playwright:
        # Without its sandbox, which root may not have; the page is ARK's own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: sync_api.Browser, url: str) -> Iterator[sync_api.Page]:
    """The page, past its door. What the browser complains of fails the test."""
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    elsewhere: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on(
        "request", lambda request: None if request.url.startswith((url, "blob:")) else elsewhere.append(request.url)
    )
    page.goto(url)
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Use it").click()
    sync_api.expect(page.get_by_role("status").first).to_have_text("Ready")
    yield page
    # Before the key was given the first look was refused, which the browser tells too.
    assert [line for line in complaints if "401" not in line] == []
    assert elsewhere == []
    context.close()


def test_it_is_one_document_that_lets_nothing_else_run(url: str) -> None:
    reply = httpx.get(url, timeout=60)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#)""", reply.text) == []
    assert "/*" + "SCRIPT" not in reply.text
    assert httpx.head(url).status_code == 200
    assert httpx.get(f"{url}/v1/models").status_code == 401


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with launch(tmp_path, f"[server]\npage = false\n{ECHO_TOML}") as server:
        server.listening()
        root, api = (httpx.get(f"http://127.0.0.1:{server.port}{path}") for path in ("/", "/v1"))
    assert root.status_code == 200
    assert root.json() == api.json()


def test_a_wrong_key_is_asked_for_again(browser: sync_api.Browser, url: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    sync_api.expect(page.get_by_role("alert")).not_to_be_empty()
    page.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    sync_api.expect(page.get_by_role("status").first).to_have_text("Ready")
    context.close()


def test_a_conversation_in_a_session(page: sync_api.Page) -> None:
    message = page.get_by_label("Message")
    message.fill("hello <b>there</b>")
    message.press("Enter")
    log = page.get_by_role("log")
    sync_api.expect(log.locator(".turn-note")).to_contain_text("prompt tokens were there already; first token after")
    # Asked and answered, as text and never as HTML.
    assert log.locator(".said").all_inner_texts() == ["hello <b>there</b>", "hello <b>there</b>"]
    message.fill("and again")
    page.get_by_role("button", name="Send").click()
    sync_api.expect(log.locator(".turn-note").nth(1)).to_contain_text("first token after")
    chart = page.get_by_role("img")
    described = chart.get_attribute("aria-label") or ""
    first, second = (int(found) for found in re.findall(r"(\d+) without a session", described))
    assert second > first
    session = page.locator("#session").inner_text()
    page.get_by_role("button", name="New session").click()
    assert page.locator("#session").inner_text() != session
    sync_api.expect(log).to_be_empty()


def test_a_reply_can_be_stopped(page: sync_api.Page) -> None:
    page.get_by_label("Message").fill("a long message " * 60)
    page.get_by_role("button", name="Send").click()
    sync_api.expect(page.get_by_role("log").locator(".said").nth(1)).to_contain_text("a long")
    page.get_by_role("button", name="Stop").click()
    sync_api.expect(page.get_by_role("log").locator(".turn-note")).to_have_text(
        "Stopped: the session forgets this turn."
    )
    sync_api.expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_texts_are_compared(page: sync_api.Page) -> None:
    page.get_by_label("One text in each line").fill("one two\n\none two\nthree")
    page.get_by_role("button", name="Compare").click()
    table = page.locator("#matrix")
    sync_api.expect(table).to_be_visible()
    cells = [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]
    assert [row[:2] for row in cells[:2]] == [["1.00", "1.00"], ["1.00", "1.00"]]
    assert float(cells[2][0]) < 0.5


@pytest.fixture
def speech(browser: sync_api.Browser, tmp_path: Path) -> Iterator[sync_api.Page]:
    """The page of a server with a speech model, which reads what is written in a file."""
    paths = os.pathsep.join([str(EXAMPLES), str(Path(__file__).parents[1] / "support")])
    with launch(tmp_path, ECHO_TOML + SPEECH, environment={"PYTHONPATH": paths}) as server:
        server.listening()
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}")
        sync_api.expect(page.locator("#speech")).to_be_visible()
        yield page
        context.close()


def file_of(*lines: str) -> dict[str, Any]:
    return {"name": "talk.wav", "mimeType": "audio/wav", "buffer": recording(*lines)}


def test_a_recording_that_is_chosen_is_written_down(speech: sync_api.Page) -> None:
    speech.get_by_label("A recording").set_input_files(file_of("0 1.5 Hello <b>there</b>.", "61.5 63 And again."))
    said = speech.locator("#segments li")
    sync_api.expect(said).to_have_count(2)
    assert said.all_inner_texts() == ["0:00.00 to 0:01.50Hello <b>there</b>.", "1:01.50 to 1:03.00And again."]
    sync_api.expect(speech.locator("#speech-note")).to_contain_text("63.0 s of sound, written down in")
    # Each time is a button that plays the recording from there.
    sync_api.expect(said.get_by_role("button")).to_have_count(2)
    sync_api.expect(speech.locator("#player")).to_be_visible()


def test_a_recording_that_is_dropped_is_written_down_too(speech: sync_api.Page) -> None:
    speech.evaluate(
        """(text) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([text], "dropped.wav"));
            for (const kind of ["dragenter", "dragover", "drop"]) {
                const event = new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
                document.getElementById("drop").dispatchEvent(event);
            }
        }""",
        recording("0 1 Dropped.").decode(),
    )
    sync_api.expect(speech.locator("#segments")).to_contain_text("Dropped.")


def test_what_is_not_heard_is_told(speech: sync_api.Page) -> None:
    chosen = speech.get_by_label("A recording")
    chosen.set_input_files({"name": "talk.txt", "mimeType": "text/plain", "buffer": b"no sound"})
    note = speech.locator("#speech-note")
    sync_api.expect(note).to_have_class("error")
    sync_api.expect(note).not_to_contain_text("Listening")
    chosen.set_input_files(file_of("0 2  "))
    sync_api.expect(note).to_contain_text("nothing was said")
    sync_api.expect(note).not_to_have_class("error")


def test_the_default_model_hears_a_recording(browser: sync_api.Browser, tmp_path: Path) -> None:
    pytest.importorskip("faster_whisper")
    model = f'[[models]]\nname = "small"\ntask = "transcription"\npath = "{real_model("transcription")}"'
    audio = Path(__file__).parents[1] / "data" / "audio"
    spoken = json.loads((audio / "spoken.json").read_text())["talk"]
    with launch(tmp_path, model) as server:
        server.listening()
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.port}")
        sync_api.expect(page.get_by_role("status").first).to_have_text("Ready", timeout=120_000)
        page.get_by_label("A recording").set_input_files(audio / "talk.wav")
        said = page.locator("#segments li")
        sync_api.expect(said).to_have_count(len(spoken), timeout=120_000)
        sync_api.expect(said.first).to_contain_text(spoken[0]["text"])
        # The time of a sentence plays it.
        said.nth(1).get_by_role("button").click()
        assert page.locator("#player").evaluate("(player) => player.currentTime") > 1
        context.close()


def test_the_state_is_live(page: sync_api.Page) -> None:
    rows = page.locator("#models tbody tr")
    assert [row.locator("th").inner_text() for row in rows.all()] == ["echo", "words"]
    figure = page.locator("#figures").filter(has_text="Tokens written")
    sync_api.expect(figure).to_be_visible()
    # There is no speech model, so there is no place for speech.
    sync_api.expect(page.locator("#speech")).to_be_hidden()
    sync_api.expect(page.get_by_role("link", name="Speech")).to_be_hidden()
    sync_api.expect(page.get_by_role("link", name="Texts")).to_be_visible()


def test_it_can_be_used_by_keyboard_alone(page: sync_api.Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id || location.hash") in ("message", "#message")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea")].filter(
            (one) => !one.labels?.length && !one.innerText.trim() && !one.getAttribute("aria-label")
        ).map((one) => one.id)"""
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_text_can_be_read(scheme: str, browser: sync_api.Browser, url: str) -> None:
    """Ink on paper has the contrast that WCAG's AA asks of text, 4.5 to 1."""
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    ratios = page.evaluate(
        """() => {
            const style = getComputedStyle(document.documentElement);
            const light = (name) => {
                const hex = style.getPropertyValue(name).trim().slice(1);
                const parts = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
                    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
                return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
            };
            return [["--ink", "--panel"], ["--ink", "--paper"], ["--quiet", "--panel"], ["--quiet", "--paper"],
                    ["--accent", "--panel"], ["--on-accent", "--accent"], ["--bad", "--panel"]].map(([a, b]) => {
                const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
                return (high + 0.05) / (low + 0.05);
            });
        }"""
    )
    assert min(ratios) >= 4.5
    context.close()
