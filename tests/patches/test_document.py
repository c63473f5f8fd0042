from patches import libraries
from patches.document import README, table, written_anew


def test_the_readme_has_every_patch_as_the_registry_has_it():
    text = README.read_text()
    assert written_anew(text) == text, "write it anew: python -m patches.document"


def test_a_table_has_a_row_a_patch():
    for library in libraries().values():
        head, rule, *rows = table(library).splitlines()
        assert len(rows) == len(library.patches)
        assert {row.count(" | ") for row in (head, rule, *rows)} == {4}
