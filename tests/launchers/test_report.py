"""The report launcher on a run that was really trained, and its page in a real browser."""

import re
import shlex
import shutil
import subprocess
from functools import partialmethod
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright
from safetensors import safe_open
from safetensors.numpy import save_file

from qi_ext.evaluation import load_evaluated_agent
from qi_ext.report.html import render_page
from qi_ext.report.page import gather_content
from qi_ext.report.runs import read_run
from qi_ext.robot.courses import COURSES
from qi_ext.tasks import QuadrupedDirection
from qi_ext.utils.drawing import rendering_backend
from qi_ext.utils.errors import UserError

ROOT = Path(__file__).parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module", autouse=True)
def short():
    """Make pages in a second or two: short films and episodes, one disturbance."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QuadrupedDirection, "__init__", partialmethod(QuadrupedDirection.__init__, horizon=200))
        patch.setattr("qi_ext.report.page.FILM_SECONDS", 0.4)
        for name, fewer in (("PUSHES", (60.0,)), ("NOISES", ()), ("SPEEDS", ())):
            patch.setattr(f"qi_ext.evaluation.robustness.{name}", fewer)
        yield


@pytest.fixture
def no_films(monkeypatch):
    """Nothing draws, because films take longest."""
    rendering_backend.cache_clear()
    monkeypatch.setenv("MUJOCO_GL", "off")


@pytest.fixture(scope="module")
def main(main_of):
    return main_of("report.py")


@pytest.fixture(scope="module")
def copied(trained_run):
    """copied(name, old="", new=""): a copy of the run, with a setting of its config.yaml replaced."""

    def copy(name, old="", new=""):
        path = trained_run.with_name(name)
        shutil.copytree(trained_run, path)
        text = (path / "config.yaml").read_text()
        assert old in text
        (path / "config.yaml").write_text(text.replace(old, new) if old else text)
        return path

    return copy


def test_a_page_needs_no_other_file_and_its_names_are_no_markup(main, trained_run, no_films, tmp_path):
    main([str(trained_run), "--episodes", "1", "--output", str(tmp_path / "page.html")])
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "<b>" not in text
    assert "a &lt;b&gt;" in text
    assert "--results_dir" in text
    assert "seed 0: 128 steps in" in text
    assert "There is no film here" in text
    (made_with,) = re.findall(r"made with (.*)</p>", text)
    assert made_with == load_evaluated_agent(str(trained_run / "agent.safetensors")).metadata["versions"]


@pytest.mark.parametrize("started", [ROOT / "launchers" / "report.py", "qi-ext"], ids=["script", "package"])
def test_the_command_of_a_page_repeats_the_run_however_the_page_was_made(trained_run, started, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(started)])
    words = shlex.split(read_run(trained_run).command)
    printed = subprocess.run([*words, "--print_config"], capture_output=True, text=True, check=True).stdout
    assert printed == (trained_run / "config.yaml").read_text()


def test_runs_from_other_demonstrations_or_for_other_minutes_are_other_experiments(trained_run, copied):
    settings = {"demonstrations: trot": "demonstrations: mine.npz", "minutes: 0": "minutes: 1"}
    titles = [read_run(copied(f"other {new}".replace(":", ""), old, new)).title for old, new in settings.items()]
    assert len({read_run(trained_run).title, *titles}) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["missing"], "missing is not the directory of a run: it is not there"),
        (["."], "it has no config.yaml"),
        ([], "RUN_DIR"),
        (["missing", "--episodes", "0"], "--episodes: must be at least 1"),
        (["missing", "--output", "nowhere/report.html"], "--output: nowhere cannot be written to"),
        (["missing", "../{here}/missing"], "named twice"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(main, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        main([option.format(here=tmp_path.name) for option in options])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_not_there_is_told_before_libraries_that_are_not(run_python):
    program = "import sys; sys.modules['loco_mujoco'] = None; from qi_ext.__main__ import main; main(['report', 'missing'])"
    done = run_python(program)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "missing is not the directory of a run: it is not there" in done.stderr


@pytest.mark.extensive
def test_a_run_that_was_stopped_before_its_report_gets_it_when_it_goes_on(experiment, copied, drawing, monkeypatch, capsys):
    stopped = copied("stopped", "evaluation_episodes: 0", "evaluation_episodes: 1")
    (stopped / "result.json").unlink()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qi_ext.report.page.gather_content", interrupted)
        with pytest.raises(KeyboardInterrupt):
            experiment(resume=str(stopped))
    assert "run_gail.py --resume" in capsys.readouterr().out.partition("stopped before its page was written; ")[2]
    assert (stopped / "result.json").exists() and not (stopped / "report.html").exists()
    experiment(resume=str(stopped))
    assert "finished already" in capsys.readouterr().out
    assert (stopped / "report.html").read_text().count("<video") == 1


@pytest.mark.extensive
def test_returns_are_of_every_seed(copied, no_films):
    """Of one whose result.json has an evaluation, and of one whose has none."""
    first, second = read_run(copied("with")), read_run(copied("without", "seed: 0", "seed: 2"))
    first.result["evaluation"] = gather_content([first], 1).evaluations[0]
    content = gather_content([first, second], 1)
    expected, measured = content.evaluations
    assert expected == first.result["evaluation"]
    # The same weights, seed and step: the same episode, but for the deviation of one alone.
    assert measured["deterministic"]["return_mean"] == expected["deterministic"]["return_mean"]
    text = render_page({"a": [first, second]}, {"a": content}, "both")
    assert f"{expected['deterministic']['return_mean']:.1f} ± 0.0" in text


@pytest.mark.extensive
def test_a_page_of_courses_has_their_paths_and_no_directions(experiment, drawing, tmp_path, monkeypatch):
    two = {name: COURSES[name] for name in ("figure-eight", "stop-and-go")}
    monkeypatch.setattr("qi_ext.tasks.directions.COURSES", two)  # in place of leaving some out: their order counts elsewhere
    monkeypatch.setattr("qi_ext.report.page.COURSE_SECONDS", 0.4)
    small = {"n_envs": 4, "n_steps": 64, "batch_size": 64, "policy_hidden": [16], "critic_hidden": [16]}
    small |= {"discriminator_hidden": [16], "discriminator_batch_size": 32}
    experiment(task="follow", evaluation_episodes=1, results_dir=str(tmp_path), pool="serial", **small)
    text = (tmp_path / "0" / "report.html").read_text()
    assert text.count("<video") == 2
    for shown in (
        "figure-eight, from above",
        "stop-and-go, from above",
        "<th>course</th>",
        "lowest course",
        "along each course",
    ):
        assert shown in text
    for other in ("<th>direction</th>", "lowest direction", "in each direction", "mean velocity, m/s"):
        assert other not in text


@pytest.mark.extensive
def test_another_recording_can_be_given_where_the_agents_own_is_gone_and_changes_are_named(main, copied, no_films, tmp_path):
    gone, page = copied("gone"), tmp_path / "page.html"
    with safe_open(gone / "agent.safetensors", "numpy") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file(tensors, gone / "agent.safetensors", metadata | {"demonstrations": "gone.npz"})
    with pytest.raises(UserError, match="gone.npz.*choose others with --demonstrations"):
        main([str(gone), "--output", str(page)])
    main([str(gone), "--output", str(page), "--demonstrations", "trot", "--episodes", "1"])
    assert page.exists()
    save_file(tensors, gone / "agent.safetensors", metadata | {"demonstrations_hash": "another"})
    main([str(gone), "--output", str(page), "--episodes", "1"])
    assert "trot has changed since the agent was trained on it" in page.read_text()


@pytest.fixture(scope="module")
def full_page(main, trained_run, copied, drawing):
    """A page with films and robustness of two experiments; of the first, one seed is finished and one is not."""
    path = trained_run.with_name("page.html")
    unfinished, other = copied("1", "seed: 0", "seed: 1"), copied("other", "gamma: 0.97", "gamma: 0.9")
    (unfinished / "result.json").unlink()
    runs = map(str, (unfinished, trained_run, other))
    main([*runs, "--episodes", "1", "--robustness", "--output", str(path)])
    return path


@pytest.mark.extensive
def test_it_says_what_is_not_finished_and_how_experiments_differ(full_page):
    text = full_page.read_text()
    first, second, curves = re.findall(r"<h2>(.*)</h2>", text)
    assert first.startswith("GAIL, simple, n_steps 128, ")
    assert set(second.split(", ")) - set(first.split(", ")) == {"gamma 0.9"}
    assert curves == "Learning curves"
    assert "is not finished: as of step 128" in text
    assert "the rest of what follows is of seed 0" in text
    assert "pushes of 60 N" in text


@pytest.fixture(scope="module")
def browser(lacking):
    if BROWSER is None:
        lacking("no Chromium here; on Debian or Ubuntu: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.extensive
class TestInABrowser:
    @pytest.fixture
    def opened(self, browser, full_page):
        """opened(**device): the page as such a device shows it, and the list of what went wrong."""
        pages = []

        def open_page(**settings):
            page = browser.new_page(**settings)
            pages.append(page)
            wrong = []
            page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
            page.goto(full_page.as_uri())
            page.wait_for_load_state("networkidle")
            return page, wrong

        yield open_page
        for page in pages:
            page.close()

    def test_on_a_phone_a_table_that_is_cut_scrolls_and_says_so(self, opened):
        page, wrong = opened(viewport={"width": 390, "height": 800})
        tables = page.locator(".wide:visible").evaluate_all(
            "all => all.map(each => [each.scrollWidth > each.clientWidth, getComputedStyle(each, '::before').content])"
        )
        assert any(cut for cut, _ in tables)
        assert [("scroll" in said) for _, said in tables] == [cut for cut, _ in tables]
        assert page.evaluate("document.documentElement.scrollWidth") == 390  # the page itself does not
        assert wrong == []

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
