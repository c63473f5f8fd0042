"""The report launcher on a run that was really made, and its page in a real browser."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from qi_ext.errors import UserError

LAUNCHERS = Path(__file__).parents[2] / "launchers"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TINY = {"n_envs": 4, "n_steps": 256, "batch_size": 64, "policy_hidden": [16], "critic_hidden": [16]}


@pytest.fixture(scope="module")
def tiny():
    """Makes pages in a second or two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qi_ext.evaluation.page.FILM_SECONDS", 0.4)
        for name, fewer in (("PUSHES", (60.0,)), ("NOISES", ()), ("SPEEDS", ())):
            patch.setattr(f"qi_ext.evaluation.robustness.{name}", fewer)
        yield


@pytest.fixture(scope="module")
def run(tiny, drawing, tmp_path_factory):
    """The directory of a finished run, which holds a report of its own."""
    experiment = runpy.run_path(str(LAUNCHERS / "run_gail.py"))["experiment"]
    folder = tmp_path_factory.mktemp("runs")
    experiment(task="simple", evaluation_episodes=1, pool="serial", results_dir=str(folder / "a <b>&"), **TINY)
    return folder / "a <b>&" / "0"


@pytest.fixture(scope="module")
def main(tiny):
    return runpy.run_path(str(LAUNCHERS / "report.py"))["main"]


@pytest.fixture(scope="module")
def report(main, run):
    """A page of two groups, one of them of two seeds, one of which is not finished, with robustness."""
    unfinished, other = (run.with_name(name) for name in ("1", "other"))
    for copy, setting in ((unfinished, ("seed: 0", "seed: 1")), (other, ("gamma: 0.97", "gamma: 0.9"))):
        shutil.copytree(run, copy)
        (copy / "config.yaml").write_text((copy / "config.yaml").read_text().replace(*setting))
    (unfinished / "result.json").unlink()
    path = run.with_name("report.html")
    main([*map(str, (run, unfinished, other)), "--episodes", "1", "--robustness", "--output", str(path)])
    return path


def test_a_run_ends_with_a_report_of_it(run):
    text = (run / "report.html").read_text()
    assert "GAIL, simple" in text
    assert "--results_dir" in text
    assert text.count("<video") == 1
    assert "robustness" not in text


def test_nothing_is_fetched_and_names_are_no_markup(report):
    text = report.read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "<b>" not in text
    assert "a &lt;b&gt;" in text


def test_it_says_what_is_not_finished_and_what_differs(report):
    text = report.read_text()
    assert "is not finished: as of step 256" in text
    first, second, curves = re.findall(r"<h2>(.*)</h2>", text)
    assert first.startswith("GAIL, simple, n_steps 256, ")
    assert set(second.split(", ")) - set(first.split(", ")) == {"gamma 0.9"}
    assert curves == "Learning curves"
    assert "pushes of 60 N" in text


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here; on Debian or Ubuntu: apt-get install chromium")
class TestInABrowser:
    @pytest.fixture
    def opened(self, browser, report):
        """Opens the page as a given device would; what went wrong is in the list."""
        pages = []

        def open_page(**settings):
            page = browser.new_page(**settings)
            pages.append(page)
            wrong = []
            page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
            page.goto(report.as_uri())
            page.wait_for_load_state("networkidle")
            return page, wrong

        yield open_page
        for page in pages:
            page.close()

    def test_nothing_goes_wrong_and_every_drawing_is_seen(self, opened):
        page, wrong = opened()
        boxes = [drawing.bounding_box() for drawing in page.locator("svg").all()]
        assert len(boxes) > 10
        assert all(box["width"] > 200 and box["height"] > 80 for box in boxes)
        assert wrong == []

    def test_the_films_play(self, opened):
        page, wrong = opened()
        films = page.locator("video").all()
        assert len(films) == 2
        for film in films:
            film.evaluate("video => video.play()")
            page.wait_for_function("video => video.currentTime > 0.1", arg=film.element_handle(), timeout=20_000)
            assert film.evaluate("video => video.videoWidth") == 960
            assert film.evaluate("video => video.error") is None
        assert wrong == []

    def test_it_fits_a_phone(self, opened):
        page, _ = opened(viewport={"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

    def test_it_is_dark_where_the_reader_is(self, opened):
        ink = "getComputedStyle(document.querySelector('svg text')).fill"
        paper = "getComputedStyle(document.body).backgroundColor"
        found = {scheme: opened(color_scheme=scheme)[0] for scheme in ("light", "dark")}
        (light, light_ink), (dark, dark_ink) = (
            [sum(map(int, re.findall(r"\d+", page.evaluate(what))[:3])) for what in (paper, ink)] for page in found.values()
        )
        assert light > 700 > 300 > light_ink
        assert dark < 150 < 500 < dark_ink


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["missing"], "missing is not the directory of a run"),
        ([], "RUN_DIR"),
        (["missing", "--episodes", "0"], "--episodes: must be at least 1"),
        (["missing", "--output", "nowhere/report.html"], "--output: nowhere cannot be written to"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(main, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        main(options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
