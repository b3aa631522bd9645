"""The page in a real browser: what is seen and what can be done, with and without code."""

from pathlib import Path

import numpy as np
import pytest
from browser import PROGRAM, open_browser
from PIL import Image
from report_helpers import report

from invdiff.report import write_report

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium is installed")
READY = "document.documentElement.dataset.ready === 'yes'"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def shown():
    return report()


@pytest.fixture(scope="module")
def path(tmp_path_factory, shown) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    write_report(file, shown)
    return file


@pytest.fixture
def opened(page, path):
    page.told.clear()
    page.open(path)
    page.wait(READY)
    return page


def canvas(page, number: int) -> np.ndarray:
    """The pixels of a picture as the browser holds them, (rows, columns, 3)."""
    place = f"document.querySelector('[data-picture=\"{number}\"] canvas')"
    code = f"""(() => {{ const c = {place};
      return [c.height, c.width,
        [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]]; }})()"""
    rows, columns, values = page.value(code)
    return np.array(values).reshape(rows, columns, 4)[..., :3]


def set_slider(page, name: str, value: float) -> None:
    page.value(
        f"(() => {{ const s = document.getElementById('{name}'); s.value = {value};"
        "s.dispatchEvent(new Event('input')); })()"
    )
    settle(page)


def settle(page) -> None:
    page.value("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 20)))")


def grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(255 * (values - low) / (high - low), 0, 255)


def test_nothing_is_complained_of_and_nothing_is_loaded(opened):
    assert opened.complaints() == []


def test_pictures_are_windowed_as_declared(opened, shown):
    for number, picture in enumerate(shown.pictures):
        if picture.group.value == "image":
            expected = grey(picture.values[1], *picture.window)
            step = 255 * np.ptp(picture.values) / 4095 / np.ptp(picture.window)
            # Half a level of the screen, and half a step of the packed codes.
            assert np.abs(canvas(opened, number)[..., 0] - expected).max() <= 0.5 + step


def test_slices_and_windows_can_be_chosen(opened, shown):
    values = shown.pictures[0].values
    set_slider(opened, "slice", 2)
    assert np.abs(canvas(opened, 0)[..., 0] - grey(values[2], -200, 300)).max() < 1
    opened.value("[...document.querySelectorAll('#presets button')][1].click()")
    settle(opened)
    step = 255 * np.ptp(values) / 4095 / 50
    assert np.abs(canvas(opened, 0)[..., 0] - grey(values[2], 0, 50)).max() <= 0.5 + step
    set_slider(opened, "level", 100)
    set_slider(opened, "width", 400)
    assert np.abs(canvas(opened, 0)[..., 0] - grey(values[2], -100, 300)).max() < 1.5
    assert opened.value("document.getElementById('slice-value').textContent") == "3 (3 of 3)"


def test_dragging_changes_the_window_and_double_clicking_undoes_it(opened):
    code = """(() => { const c = document.querySelector('[data-picture="0"] canvas');
      c.scrollIntoView({block: 'center'}); const b = c.getBoundingClientRect();
      return [b.x + b.width / 2, b.y + b.height / 2]; })()"""
    x, y = opened.value(code)
    before = canvas(opened, 0)
    opened.drag(x, y, 40, 20)
    settle(opened)
    width = float(opened.value("document.getElementById('width').value"))
    level = float(opened.value("document.getElementById('level').value"))
    assert width == pytest.approx(500 + 40 * 500 / 200)
    assert level == pytest.approx(50 - 20 * 500 / 400)
    assert (canvas(opened, 0) != before).any()
    opened.value(
        "document.querySelector('[data-picture=\"0\"] canvas')"
        ".dispatchEvent(new MouseEvent('dblclick'))"
    )
    settle(opened)
    assert (canvas(opened, 0) == before).all()


def test_values_are_read_under_the_pointer(opened, shown):
    code = """(() => { const c = document.querySelector('[data-picture="0"] canvas');
      c.scrollIntoView({block: 'center'}); const b = c.getBoundingClientRect();
      return [b.x, b.y, b.width, b.height]; })()"""
    x, y, width, height = opened.value(code)
    opened.hover(x + width * 3.5 / 10, y + height * 7.5 / 12)
    texts = opened.value("[...document.querySelectorAll('.value')].map((p) => p.textContent)")
    for picture, text in zip(shown.pictures, texts, strict=True):
        number, *unit = text.split(" ")
        span = float(np.ptp(picture.values)) / 4095
        wanted = float(picture.values[1, 7, 3])
        assert float(number) == pytest.approx(wanted, abs=span + 1e-3 * abs(wanted))
        assert unit == ([picture.unit] if picture.unit else [])


def test_comparison_moves_and_blinks(opened):
    names = "['left', 'right'].map((n) => document.getElementById(n).selectedOptions[0].text)"
    assert opened.value(names) == ["Zero-filled", "Posterior mean"]
    clip = "document.getElementById('over').style.clipPath"
    set_slider(opened, "border", 20)
    assert "80%" in opened.value(clip)
    opened.value("document.getElementById('blink').click()")
    assert opened.value("document.getElementById('blink').ariaPressed") == "true"
    opened.wait(f"{clip}.includes('100%')")
    opened.wait("document.getElementById('shown').textContent === 'Zero-filled'")
    opened.value("document.getElementById('blink').click()")
    assert "80%" in opened.value(clip)


def test_everything_operable_has_a_name(opened):
    missing = opened.value("""[...document.querySelectorAll('input, select, button, canvas, img')]
      .filter((e) => !(e.labels?.length || e.textContent.trim() || e.ariaLabel || e.alt
                       || e.closest('#stage'))).map((e) => e.outerHTML)""")
    assert missing == []
    assert opened.value("document.documentElement.lang") == "en"
    levels = opened.value("[...document.querySelectorAll('h1, h2')].map((h) => h.tagName)")
    assert levels.count("H1") == 1


@pytest.mark.parametrize("width", [360, 768, 1280, 2200])
def test_nothing_hangs_over_the_side(page, path, width):
    page.told.clear()
    page.open(path, width=width)
    page.wait(READY)
    assert page.value("document.documentElement.scrollWidth") <= width


def test_the_network_is_closed(opened):
    blocked = opened.value(
        "fetch('http://127.0.0.1:9/x').then(() => 'open', (e) => String(e.name))"
    )
    assert blocked == "TypeError"
    assert any("Content Security Policy" in one for one in opened.complaints())


def test_code_that_is_put_into_the_page_does_not_run(opened):
    opened.value("""(() => { const s = document.createElement('script');
      s.textContent = 'window.injected = 1'; document.body.append(s); })()""")
    assert opened.value("window.injected") is None


def test_images_stay_without_code(page, path, shown, tmp_path):
    page.told.clear()
    page.open(path, code=False)
    page.screenshot(tmp_path / "still.png")
    page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert page.value("document.querySelectorAll('canvas').length") == 2
    assert page.value("document.getElementById('controls').hidden")
    assert page.value("document.getElementById('compare').hidden")
    loaded = page.value(
        "[...document.images].filter((i) => i.complete && i.naturalWidth === 10).length"
    )
    assert loaded == len(shown.pictures)
    colours = np.asarray(Image.open(tmp_path / "still.png").convert("L"))
    assert colours.std() > 5


def test_it_prints(opened, tmp_path):
    opened.pdf(tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(content) > 20_000
