"""The report launcher on a run that was really made, and its page in a real browser."""

import re
import runpy
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from safetensors import safe_open
from safetensors.numpy import save_file

from qi_ext.evaluation.walker import load_subject
from qi_ext.report.page import look_at
from qi_ext.report.page import page as page_of
from qi_ext.report.runs import read_run
from qi_ext.utils.errors import UserError

LAUNCHERS = Path(__file__).parents[2] / "launchers"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TINY = {"n_envs": 4, "n_steps": 256, "batch_size": 64, "policy_hidden": [16], "critic_hidden": [16]}


@pytest.fixture(scope="module")
def tiny():
    """Makes pages in a second or two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qi_ext.report.page.FILM_SECONDS", 0.4)
        for name, fewer in (("PUSHES", (60.0,)), ("NOISES", ()), ("SPEEDS", ())):
            patch.setattr(f"qi_ext.evaluation.robustness.{name}", fewer)
        yield


@pytest.fixture
def no_films(monkeypatch):
    """Where a test does not look at them: they take longest."""
    monkeypatch.setenv("MUJOCO_GL", "off")


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
    unfinished = another(run, "1", ("seed: 0", "seed: 1"))
    other = another(run, "other", ("gamma: 0.97", "gamma: 0.9"))
    (unfinished / "result.json").unlink()
    path = run.with_name("report.html")
    main([*map(str, (unfinished, run, other)), "--episodes", "1", "--robustness", "--output", str(path)])
    return path


def another(run, name, setting):
    """A copy of a run that says another setting, (what it says, what instead)."""
    copy = run.with_name(name)
    shutil.copytree(run, copy)
    text = (copy / "config.yaml").read_text()
    assert setting[0] in text
    (copy / "config.yaml").write_text(text.replace(*setting))
    return copy


def test_a_run_ends_with_a_report_of_it(run):
    text = (run / "report.html").read_text()
    assert "GAIL, simple" in text
    assert "--results_dir" in text
    assert text.count("<video") == 1
    assert "robustness" not in text


def test_a_run_that_was_stopped_before_its_report_gets_it_when_it_goes_on(run, tiny, monkeypatch, capsys):
    experiment = runpy.run_path(str(LAUNCHERS / "run_gail.py"))["experiment"]
    stopped = another(run, "stopped", ("seed: 0", "seed: 0"))
    (stopped / "report.html").unlink()
    (stopped / "result.json").rename(stopped / "result")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qi_ext.report.page.look_at", interrupted)
        with pytest.raises(KeyboardInterrupt):
            experiment(resume=str(stopped))
    assert "stopped before its page was written; --resume" in capsys.readouterr().out
    assert (stopped / "result.json").exists() and not (stopped / "report.html").exists()
    experiment(resume=str(stopped))
    assert "finished already" in capsys.readouterr().out
    assert "<video" in (stopped / "report.html").read_text()


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
    assert "seed 0: 256 steps in" in text
    assert "the rest of what follows is of seed 0" in text


def test_it_says_what_the_agent_was_made_with(run):
    (made,) = re.findall(r"made with (.*)</p>", (run / "report.html").read_text())
    assert made == load_subject(str(run / "agent.safetensors")).metadata["versions"]
    assert "mujoco 2" in made or "mujoco 3" in made or "mujoco 4" in made


def test_returns_are_of_every_seed(run, tiny, no_films):
    """Of those too whose result.json has no evaluation, as where it was left out."""
    first, second = read_run(run), read_run(another(run, "2", ("seed: 0", "seed: 2")))
    del second.result["evaluation"]
    look = look_at([first, second], 1)
    expected, measured = look.evaluations
    assert expected == first.result["evaluation"]
    # The same weights, seed and step: the same episode, but for the deviation of one alone.
    assert measured["deterministic"]["return_mean"] == expected["deterministic"]["return_mean"]
    text = page_of({"a": [first, second]}, {"a": look}, "both")
    assert f"{expected['deterministic']['return_mean']:.1f} ± 0.0" in text


def test_runs_from_other_demonstrations_or_for_other_minutes_are_not_put_together(run):
    names = [
        read_run(another(run, f"other {i}", setting)).title
        for i, setting in enumerate((("demonstrations: trot", "demonstrations: mine.npz"), ("minutes: 0", "minutes: 1")))
    ]
    assert len({read_run(run).title, *names}) == 3


def test_another_recording_can_be_given_where_the_agents_own_is_gone(main, run, no_films, tmp_path):
    gone = another(run, "gone", ("demonstrations: trot", "demonstrations: gone.npz"))
    with safe_open(gone / "agent.safetensors", "numpy") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, gone / "agent.safetensors", metadata | {"demonstrations": "gone.npz"})
    page = tmp_path / "page.html"
    with pytest.raises(UserError, match="gone.npz.*choose others with --demonstrations"):
        main([str(gone), "--output", str(page)])
    main([str(gone), "--output", str(page), "--demonstrations", "trot"])
    assert page.exists()


def test_no_run_is_counted_twice(main, run, tmp_path):
    with pytest.raises(UserError, match="named twice"):
        main([str(run), str(run / ".." / run.name), "--output", str(tmp_path / "page.html")])


def test_the_demonstrations_that_have_changed_are_named(run, tiny, no_films):
    found = read_run(run)
    found.subject.metadata["demonstrations_hash"] = "another"
    assert "trot has changed since the agent was trained on it" in look_at([found], 1).notes[0]


@pytest.fixture(scope="module")
def browser(lacking):
    if BROWSER is None:
        lacking("no Chromium here; on Debian or Ubuntu: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


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

    def test_tables_fit_the_paper(self, opened):
        page, _ = opened(viewport={"width": 718, "height": 1000})  # A4 with margins of 1 cm
        page.emulate_media(media="print")
        widths = "table => [table.scrollWidth, table.clientWidth]"
        for table in page.locator(".wide").all():
            needed, there = table.evaluate(widths)
            assert needed <= there

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
