"""Pictures of the local Slack's page, as a phone and a laptop show it."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import async_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (390, 1280)


async def photograph(page_url: str, *words: str, name: str, folder: Path) -> None:
    """Take the newest message with all these words at both widths: FOLDER/NAME-390.png and NAME-1280.png."""
    folder.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as tools:
        browser = await tools.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            for width in WIDTHS:
                page = await browser.new_page(viewport={"width": width, "height": 2600})
                await page.goto(f"{page_url}?once&as=bob")
                card = page.get_by_role("article")
                for word in words:
                    card = card.filter(has_text=word)
                await card.last.screenshot(path=folder / f"{name}-{width}.png")
                await page.close()
        finally:
            await browser.close()
