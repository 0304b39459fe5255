"""Take the screenshot of the page at ``/`` for the documentation: ``python tools/docs/page_picture.py URL``.

The server has the default models, as ``ark serve`` without a configuration. It needs playwright and a Chromium.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

PICTURE = Path(__file__).parents[2] / "docs" / "figures" / "page.png"
RECORDING = Path(__file__).parents[2] / "tests" / "data" / "audio" / "talk.wav"

TALK = (
    "Hello! My name is Ada.",
    "My favourite colour is teal.",
    "Think of a secret code word. Do not tell me yet.",
    "What is my name?",
    "What was the code word?",
)

WIDTH = 900


def main(url: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        page.goto(url)
        expect(page.get_by_role("status").first).to_have_text("Ready", timeout=60_000)
        for number, message in enumerate(TALK):
            page.get_by_label("Message").fill(message)
            page.get_by_role("button", name="Send").click()
            expect(page.get_by_role("log").locator(".turn-note").nth(number)).to_contain_text("first token after")
        end = page.locator("#cost")
        if page.locator("#speech").is_visible():
            page.get_by_label("A recording").set_input_files(RECORDING)
            expect(page.locator("#segments li").first).to_be_visible(timeout=60_000)
            end = page.locator("#speech")
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        box = end.bounding_box()
        assert box is not None
        height = box["y"] + box["height"] + 24
        page.screenshot(path=PICTURE, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
