from pathlib import Path

import pytest

pytest.importorskip("griffe")


@pytest.fixture(scope="module")
def reference(load_module):
    """docs/reference.py, as a module."""
    return load_module(Path(__file__).parents[1] / "docs" / "reference.py")


def test_the_page_is_that_of_the_code(reference):
    assert reference.page() == reference.PAGE.read_text(), "write it anew: python docs/reference.py"


def test_every_public_name_has_a_docstring(reference):
    assert reference.undocumented() == []
