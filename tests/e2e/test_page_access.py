"""The page for everybody: by keyboard alone, by ear, on a phone, in daylight and at night."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import pytest
from playwright.async_api import Page, ViewportSize, expect

from tests.browser import needs_chromium
from tests.e2e.two_panes import box_of, messages, opened, pane_of, send, send_to
from tests.stack import Stack

pytestmark = [pytest.mark.anyio, needs_chromium]

PHONE: Final[ViewportSize] = {"width": 375, "height": 700}

CONTRAST_MIN: Final = 4.5
"""WCAG 2.2, 1.4.3 (AA), for text of any size."""

TAB_ORDER: Final = (
    *("user", "edge", "Disconnect", "Messages", "to", "content", "Send", "The same from a shell, in the folder of up"),
    *("Copy the line with XADD", "Copy the lines with curl"),
)

_FOCUSED: Final = """
() => {
    const { activeElement: focused } = document;
    const { outlineStyle, outlineWidth } = getComputedStyle(focused);
    const says = focused.name || focused.ariaLabel || focused.textContent.trim();
    const more = focused.getAttribute("aria-description");
    return { says: more ? `${says} ${more}` : says, ring: outlineStyle === "none" ? 0 : parseFloat(outlineWidth) };
}
"""

# What is transparent shows what is behind it.
_CONTRASTS: Final = """
() => {
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => {
        const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        const [red, green, blue] = channels(color).map((channel) => linear(channel / 255));
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const ground = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return (channels(color)[3] ?? 1) === 0 ? ground(element.parentElement) : color;
    };
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const holdsText = (element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    const seen = [...document.querySelectorAll("body *")].filter((element) => element.checkVisibility());
    return seen.filter(holdsText).map((element) => ({
        what: `${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 30)}`,
        ratio: ratio(light(getComputedStyle(element).color), light(ground(element))),
    }));
}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the root of the API of a whole system."""
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        yield f"http://127.0.0.1:{stack.settings.api_port}"


async def test_it_is_used_by_keyboard_alone(address: str) -> None:
    """Tab goes through each pane from top to bottom, what has the focus shows it, and Enter sends and stays."""
    async with opened(address) as page:
        for _pane in (1, 2):
            for name in TAB_ORDER:
                await page.keyboard.press("Tab")
                focused = await page.evaluate(_FOCUSED)
                assert focused["says"] == name
                assert focused["ring"] >= 2
        for _step in range(len(TAB_ORDER) - TAB_ORDER.index("content") - 1):
            await page.keyboard.press("Shift+Tab")
        for text in ("one", "two"):
            await page.keyboard.type(text)
            await page.keyboard.press("Enter")
        await expect(messages(pane_of(page, 1))).to_have_text(["one", "two"])


async def test_it_makes_sense_by_ear(address: str) -> None:
    """The accessibility tree has a name for all that can be used, and what changes is in a region that is read out."""
    async with opened(address) as page:
        await send_to(pane_of(page, 2), "user:alice", "hello")
        await expect(messages(pane_of(page, 1))).to_have_text(["hello"])
        await expect(page.locator("body")).to_match_aria_snapshot(
            """
            - banner:
              - heading "Pushway" [level=1]
            - main:
              - region "Pane 1":
                - text: User
                - textbox "User": alice
                - text: Edge
                - combobox "Edge":
                  - option /edge-1/ [selected]
                  - option /edge-2/
                - button "Disconnect"
                - status:
                  - text: connected as alice to
                  - code: /edge-1/
                - log "Messages":
                  - list:
                    - listitem: /alice is on edge-1/
                    - listitem: /hello/
                - text: To
                - textbox "To": user:bob
                - text: Message
                - textbox "Message"
                - button "Send"
                - group:
                  - code: /XADD/
                  - button "Copy"
                  - code: /curl/
                  - button "Copy"
              - region "Pane 2"
            - log "What the page says"
            """
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_read_by_day_and_by_night(address: str, scheme: Literal["light", "dark"]) -> None:
    """Every text stands out from what is behind it, refusals included."""
    async with opened(address, color_scheme=scheme) as page:
        await send(pane_of(page, 1), "hello")
        await send_to(pane_of(page, 2), "nobody", "hello")
        await expect(pane_of(page, 2).get_by_role("alert")).to_be_visible()
        await expect(messages(pane_of(page, 2))).to_have_text(["hello"])
        contrasts = await page.evaluate(_CONTRASTS)
        assert len(contrasts) > 20
        assert [contrast for contrast in contrasts if contrast["ratio"] < CONTRAST_MIN] == []


async def test_it_fits_a_phone(address: str) -> None:
    """At 375 pixels nothing has to be scrolled sideways, and the panes stand one above the other."""
    async with opened(address, viewport=PHONE) as page:
        await send_to(pane_of(page, 1), "user:alice", "long" * 60)
        await expect(messages(pane_of(page, 1))).to_have_count(1)
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        first, second = await _edges(page, 1), await _edges(page, 2)
        assert first[1] <= second[0]


async def test_the_end_of_a_long_log_stays_in_sight(address: str) -> None:
    """What comes is shown at once, unless somebody is reading further up."""
    async with opened(address, viewport=PHONE) as page:
        alice, bob = pane_of(page, 1), pane_of(page, 2)
        for number in range(12):
            await send(bob, f"message {number}")
        await expect(messages(alice).last).to_have_text("message 11")
        await expect(messages(alice).last).to_be_visible()
        log = alice.get_by_role("log")
        away = "log => log.scrollHeight - log.scrollTop - log.clientHeight"
        assert await log.evaluate(away) <= 1
        await log.focus()
        await page.keyboard.press("Home")
        await expect(log).to_have_js_property("scrollTop", 0)
        await send(bob, "message 12")
        await expect(messages(alice)).to_have_count(13)
        await expect(log).to_have_js_property("scrollTop", 0)
        await expect(box_of(bob)).to_be_focused()


async def _edges(page: Page, number: int) -> tuple[float, float]:
    """Return where a pane begins and ends, from the top."""
    box = await pane_of(page, number).bounding_box()
    assert box is not None
    return box["y"], box["y"] + box["height"]
