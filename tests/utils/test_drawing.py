import pytest

from qi_ext.utils.drawing import rendering_backend
from qi_ext.utils.errors import UserError


@pytest.fixture
def refusal(monkeypatch):
    """refusal(): the line that drawing is refused with, on a machine without a screen."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)

    def refused():
        with pytest.raises(UserError) as caught:
            rendering_backend()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    rendering_backend.cache_clear()
    yield refused
    rendering_backend.cache_clear()


def test_where_nothing_draws_it_says_what_to_install(refusal, monkeypatch):
    monkeypatch.setattr("qi_ext.utils.drawing.PROBE", "raise ImportError('no library')")
    text = refusal()
    for words in ("egl: ImportError: no library", "osmesa: ImportError: no library", "make setup-video"):
        assert words in text


def test_glfw_is_refused_without_a_screen(refusal, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert "glfw: " in refusal()
