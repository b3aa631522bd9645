"""The page and the figures: complete, reproducible, closed to the network, and without names."""

import base64
import hashlib
import io
import json
import re
import xml.etree.ElementTree as ElementTree
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from report_helpers import DISPLAY, PLANTED, SHAPE, make, planted, report, run, weighted

from invdiff import ShapeError
from invdiff.report import (
    Calibration,
    Chart,
    Curve,
    Group,
    Notice,
    Picture,
    Report,
    clipped_notice,
    joined,
    starved_notice,
    write_report,
    write_result,
)
from invdiff.report.notices import notices_of
from invdiff.report.page import page
from invdiff.report.pixels import pack, static_png
from invdiff.report.result import plain
from invdiff.report.svg import draw_chart
from invdiff.report.trends import charts_of

DOCS = Path(__file__).parents[2] / "docs" / "report.md"


@pytest.fixture(scope="module")
def whole() -> Report:
    return report()


class Elements(HTMLParser):
    """Every element with its attributes, and what the scripts and styles hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "": []}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.found.append((tag, dict(attributes)))
        if tag in self.texts:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts[self.open[-1] if self.open else ""].append(data)


def test_nothing_is_loaded_and_no_other_code_runs(whole: Report) -> None:
    elements = Elements(page(whole))
    addresses = [
        value
        for _, attributes in elements.found
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "style")
    ]
    assert len(addresses) == len(whole.pictures)
    assert all(value.startswith("data:image/png;base64,") for value in addresses)
    assert not [a for _, a in elements.found for name in a if name.startswith("on")]
    (style,), (data, code) = elements.texts["style"], elements.texts["script"]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for tag, a in elements.found if "http-equiv" in a)
    for kind, text in (("style", style), ("script", code)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert json.loads(data)["slices"] == [1, 2, 3]


def test_texts_are_escaped(whole: Report) -> None:
    text = page(whole)
    assert "<b>title" not in text
    assert "A &lt;b&gt;title&lt;/b&gt; &amp; more" in text
    assert "alert(1)</script>" not in text
    picture = replace(whole.pictures[0], title="</script><img src=x>")
    assert "<img src=x>" not in page(replace(whole, pictures=(picture,)))


def test_page_says_what_matters(whole: Report) -> None:
    words = " ".join(Elements(page(whole)).texts[""])
    for wanted in ("Not for diagnostic use", "Simulated measurement", "not calibrated", "chi2",
                   "PSNR", "Residuals", "Misfit along the ladder", "Coverage", "prior sha256",
                   "versions", "seed", "ladder", "sampler", "operator", "seconds",
                   "Standard deviation", "Added by the prior", "Share of the data"):  # fmt: skip
        assert wanted in words, wanted
    assert "Simulated" not in page(make(*run()[:2], None))
    assert "Effective sample size" in page(weighted())


def test_images_have_words_and_sizes(whole: Report) -> None:
    images = [a for tag, a in Elements(page(whole)).found if tag == "img"]
    assert [a["alt"] for a in images] == [f"{p.title}, slice 2" for p in whole.pictures]
    assert {(a["width"], a["height"]) for a in images} == {("10", "12")}


def test_static_images_are_windowed_exactly() -> None:
    values = np.array([[-300.0, -200.0, 50.0], [175.0, 300.0, 1000.0]])
    text = static_png(values, (-200.0, 300.0), Group.IMAGE).split(",")[1]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert pixels.tolist() == [[0, 0, 128], [191, 255, 255]]
    colour = static_png(np.ones((3, 2, 2)) * [[[0.0]], [[0.5]], [[1.0]]], (0.0, 1.0), Group.IMAGE)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(colour.split(",")[1]))))
    assert pixels[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_packed_values_come_back(scale: float) -> None:
    values = scale * np.random.default_rng(0).normal(size=(3, 7, 5))
    packed = pack(values)
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed.text)), np.uint8).reshape(2, -1)
    codes = np.cumsum(planes[0] + 256 * planes[1].astype(np.uint16), dtype=np.uint16)
    back = packed.low + packed.step * codes.reshape(values.shape)
    assert codes.max() == 4095
    assert np.abs(back - values).max() <= 0.5001 * packed.step


def test_packing_of_nothing_and_of_broken_values() -> None:
    assert pack(np.zeros((1, 2, 2))).step == 1.0
    assert pack(np.full((1, 2, 2), np.nan)).low == 0.0
    assert pack(np.array([[[np.nan, 2.0, np.inf, 3.0]]])).low == 2.0


def test_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_result(tmp_path / name / "result.json", make(*run(seed=seed)))
    a, b, c = ((tmp_path / name / "result.json").read_bytes() for name in "abc")
    assert a == b
    assert a != c
    assert json.loads((tmp_path / "a" / "timings.json").read_text())["seconds"] > 0
    assert b"seconds" not in a
    assert b"memory" not in a


def test_page_differs_in_timings_only() -> None:
    one, two = (replace(make(*run()), timings={"seconds": 1.0}) for _ in range(2))
    assert page(one) == page(two)


def test_no_name_is_told(tmp_path: Path) -> None:
    posterior, problem, truth = run()
    filled = make(planted(posterior), problem, truth)
    write_report(tmp_path / "report.html", filled)
    write_result(tmp_path / "result.json", filled)
    written = list(tmp_path.iterdir())
    assert len(written) == 3
    everything = b"".join(path.read_bytes() for path in written) + repr(filled).encode()
    for secret in (*PLANTED, "ward7/", "jane.dcm"):
        assert secret.encode() not in everything
        coded = base64.b64encode(secret.encode())[:-4]
        assert len(coded) < 6 or coded not in everything
    with pytest.raises(ShapeError) as caught:
        make(planted(posterior), problem, truth[:, :, :5])
    assert not any(secret in str(caught.value) for secret in PLANTED)


def test_every_entry_of_the_result_is_documented(whole: Report) -> None:
    if not DOCS.exists():
        pytest.skip("this run is of the wheel, without docs")
    documented = set(re.findall(r"`([a-z_0-9]+)`", DOCS.read_text(encoding="utf-8")))
    result = whole.result
    entries = set(result) | set(result["items"][0]) | set(result["items"][0]["residuals"])
    entries |= (
        set(result["items"][0]["split"]) | set(result["provenance"]) | set(result["runs"][0])
    )
    entries |= set(result["pictures"][0]) | set(result["methods"]["Posterior mean"])
    assert entries <= documented


def test_figures_agree_with_the_posterior() -> None:
    posterior, problem, truth = run()
    result = make(posterior, problem, truth).result
    for i, item in enumerate(result["items"]):
        assert np.allclose(item["chi2"], posterior.chi2[i], rtol=1e-5)
        assert item["number"] == i
        assert item["identity"] == "withheld"
        # The mean square of whitened residuals is the misfit, by another way.
        found = item["residuals"]
        square = found["deviation"] ** 2 + found["mean"] ** 2
        assert np.isclose(square, posterior.chi2[i].mean(), rtol=1e-4)
    chi2 = problem.chi2(posterior.mean)
    assert np.allclose(result["methods"]["Posterior mean"]["chi2"], chi2, rtol=1e-5)
    assert result["provenance"]["prior_sha256"] == posterior.provenance["prior_sha256"]


def test_copies_are_not_counted_twice() -> None:
    posterior, problem, truth = run()
    posterior.x[2, 3] = posterior.x[2, 0]
    items = make(posterior, problem, truth).result["items"]
    assert [item["distinct_samples"] for item in items] == [4, 4, 3]


def test_runs_of_single_items_join_to_the_run_of_all() -> None:
    posterior, problem, truth = run()
    together = make(posterior, problem, truth)

    def parts():
        for i in range(3):
            own = replace(
                posterior,
                **{n: getattr(posterior, n)[i : i + 1] for n in ("x", "log_w", "chi2", "ok")},
                suspect=posterior.suspect[i : i + 1],
                ids=posterior.ids[i : i + 1],
                trace={name: value[:, i : i + 1] for name, value in posterior.trace.items()},
                provenance=posterior.provenance | {"measurement_sha256": str(i), "seconds": 2.0},
            )
            yield make(own, problem.rows(torch.tensor([i])), truth[i : i + 1])

    found = joined(parts(), 3)
    for name in ("number", "chi2", "trace", "residuals"):
        expected = [item[name] for item in together.result["items"]]
        assert [item[name] for item in found.result["items"]] == expected
    assert found.result["methods"] == together.result["methods"]
    assert np.allclose(found.result["coverage"], together.result["coverage"], rtol=1e-5)
    assert found.result["provenance"] == together.result["provenance"]
    assert [one["measurement_sha256"] for one in found.result["runs"]] == ["0", "1", "2"]
    assert [item["run"] for item in found.result["items"]] == [0, 1, 2]
    assert found.timings["seconds"] == 6.0
    for one, other in zip(found.pictures, together.pictures, strict=True):
        assert np.allclose(one.values, other.values, atol=1e-3)
    few = joined(parts(), 3, most=1)
    assert few.slices == (1,)
    assert len(few.result["items"]) == 3
    with pytest.raises(ValueError, match="expected 5"):
        joined(parts(), 5)
    small = replace(found.pictures[0], values=found.pictures[0].values[:, :4])
    with pytest.raises(ShapeError, match="one size"):
        joined([found, replace(found, pictures=(small,))], 2)


def test_large_volumes_are_thinned(tmp_path: Path, whole: Report) -> None:
    each = len(whole.pictures) * 120
    write_report(tmp_path / "few.html", whole, numbers=2 * each + 5)
    data = json.loads(Elements((tmp_path / "few.html").read_text()).texts["script"][0])
    assert data["slices"] == [1, 3]
    assert whole.thinned(7) is whole
    assert whole.thinned(1).slices == (1,)


def test_diverged_items_are_shown_as_such() -> None:
    posterior, problem, truth = run()
    posterior.x[1, 2] = torch.nan
    broken = replace(posterior, ok=torch.tensor([True, False, True]))
    found = make(broken, problem, truth, split=None)
    assert found.result["items"][1]["residuals"] is None
    first = notices_of(found.result)[0]
    assert first.serious
    assert "1 of 3 items diverged" in first.text
    json.dumps(found.result, allow_nan=False)
    assert "diverged" in page(found)


def notices(**others) -> list[Notice]:
    return list(notices_of({**report().result, **others}))


def test_warnings_follow_from_the_figures() -> None:
    def about(word: str, found: list[Notice]) -> Notice:
        (notice,) = (one for one in found if word in one.text)
        return notice

    items = report().result["items"]
    bad = [{**items[0], "suspect": True, "starved_rays": 0.02, "effective_samples": 0.5}]
    bad[0]["residuals"] = items[0]["residuals"] | {"correlation": [[1, 0.3]]}
    bad[0]["split"] = items[0]["split"] | {"residual": 0.2}
    found = notices(items=bad, coverage=[[0.2, 0.2], [0.6, 0.4]])
    for word in ("SUSPECT", "no photon", "effective samples"):
        assert about(word, found).serious, word
    for word in (
        "correlate along axis 1",
        "20.0% only",
        "not calibrated",
        "approximate",
        "Only 4",
    ):
        assert not about(word, found).serious, word
    assert [one.serious for one in found] == sorted((n.serious for n in found), reverse=True)
    assert not [one for one in notices(coverage=[[0.6, 0.55]]) if "too alike" in one.text]
    copies = [{**items[0], "distinct_samples": 1}]
    assert about("1 different samples of 4", notices(items=copies)).serious
    assert about("point estimate", notices(kind="point"))
    assert clipped_notice(0, 10) == starved_notice(0.0) == ()
    assert clipped_notice(5, 10)[0].serious
    given = report(notices=clipped_notice(5, 10_000))
    assert about("clipped", list(notices_of(given.result)))


def test_calibration_is_told() -> None:
    before, after = ((0.5, 0.33), (0.9, 0.71)), ((0.5, 0.48), (0.9, 0.91))
    calibration = Calibration(before, "90 % of pixels", 1.1, 40, after)
    found = report(calibration=calibration)
    assert not [n for n in notices_of(found.result) if "calibrated" in n.text]
    text = page(found)
    assert "40 cases: 90 % of pixels" in text
    assert "the mean ± 1.10 of these" in text and "not calibrated" in page(report())
    chart = next(one for one in charts_of(found.result) if one.title.startswith("Coverage"))
    curves = {curve.label: curve.y for curve in chart.marks}
    assert curves["held-out patients, before"] == (0.33, 0.71)
    assert curves["held-out patients, calibrated"] == (0.48, 0.91)
    assert all(f">{label}</text>" in draw_chart(chart) for label in curves if label != "ideal")
    assert "ideal</text>" not in draw_chart(chart)


def test_points_have_no_uncertainty() -> None:
    posterior, problem, truth = run()
    found = make(replace(posterior, kind="point"), problem, truth)
    assert "Standard deviation" not in [picture.title for picture in found.pictures]
    assert found.result["coverage"] == []


def test_charts_are_drawn_where_the_numbers_are(whole: Report) -> None:
    for chart in charts_of(whole.result):
        root = ElementTree.fromstring(draw_chart(chart))
        assert root.find("title").text == chart.title
    line = Curve("l", (0.0, 1.0, 2.0, 3.0), (1.0, 10.0, float("nan"), 100.0))
    root = ElementTree.fromstring(draw_chart(Chart("t", "x", "y", (line,), logarithmic=True)))
    points = [tuple(map(float, p.split(","))) for p in root.find("polyline").get("points").split()]
    assert len(points) == 3  # what is not finite is left out
    (x0, y0), (x1, y1), (x3, y3) = points
    assert x3 - x0 == pytest.approx(3 * (x1 - x0), abs=0.2)
    assert y1 - y3 == pytest.approx(y0 - y1, abs=0.2)


@pytest.mark.parametrize("values", [(), (0.0, 0.0), (float("nan"),) * 2, (5.0, 5.0), (-1e9, 1e-9)])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_charts_of_odd_numbers(values: tuple[float, ...], logarithmic: bool) -> None:
    line = Curve("l", tuple(float(i) for i in range(len(values))), values)
    chart = draw_chart(Chart("<&>", "x", "y", (line,), logarithmic=logarithmic))
    ElementTree.fromstring(chart)
    assert "nan" not in chart


def test_pictures_must_fit_together() -> None:
    flat = np.zeros((2, 4, 5))
    with pytest.raises(ShapeError, match="expected"):
        Picture("p", np.zeros((4, 5)), "", (0.0, 1.0))
    with pytest.raises(ValueError, match="increasing"):
        Picture("p", flat, "", (1.0, 1.0))
    one, other = Picture("p", flat, "", (0.0, 1.0)), Picture("q", flat[:1], "", (0.0, 1.0))
    with pytest.raises(ShapeError, match="one size"):
        Report("t", "c", (one, other), {})
    with pytest.raises(ShapeError, match="one for each"):
        Report("t", "c", (one,), {}, slices=(1,))
    assert DISPLAY.show(torch.ones(1, *SHAPE)).shape == (1, *SHAPE)


def test_numbers_are_plain() -> None:
    value = {"a": (np.float64(1 / 3), np.int64(2), torch.tensor([1.5, torch.inf])), 2: True}
    assert plain(value) == {"a": [0.333333, 2, [1.5, None]], "2": True}
