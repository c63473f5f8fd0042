"""Edits change modules and classes, and undo leaves every one of their attributes the object that it was."""

import importlib
import sys

import pytest

from patches.library import Edits, Library, crash

SHOP = '''
def price(count):
    """What so many cost."""
    return 2 * count


class Base:
    def weight(self):
        """In kg."""
        return 1.0


class Thing(Base):
    @staticmethod
    def double(x):
        return 2 * x

    @classmethod
    def made(cls):
        return cls.__name__

    @property
    def width(self):
        return 3

    def length(self):
        return 4
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function that imports a module of this name and source."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def make(name, source):
        (tmp_path / f"{name}.py").write_text(source)
        names.append(name)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def shop(module):
    return module("tiny_shop", SHOP)


@pytest.fixture
def edits():
    return Edits()


def stored(*owners):
    """What the owners hold, name and object, in order."""
    return [(name, id(value)) for owner in owners for name, value in vars(owner).items()]


def plus_one(original):
    def changed(*arguments):
        return original(*arguments) + 1

    return changed


def test_a_wrapped_function_keeps_its_name_and_documentation(shop, edits):
    edits.wrap(shop, "price", plus_one)
    assert (shop.price(2), shop.price.__name__, shop.price.__doc__) == (5, "price", "What so many cost.")


def test_an_inherited_method_is_wrapped_where_it_was_asked_for_only(shop, edits):
    edits.wrap(shop.Thing, "weight", plus_one)
    assert (shop.Thing().weight(), shop.Base().weight()) == (2.0, 1.0)
    edits.undo()
    assert "weight" not in vars(shop.Thing)
    assert shop.Thing().weight() == 1.0


def test_a_wrapped_staticmethod_stays_one(shop, edits):
    edits.wrap(shop.Thing, "double", plus_one)
    assert (shop.Thing.double(1), shop.Thing().double(1)) == (3, 3)


def test_a_wrapped_classmethod_is_given_the_class_it_is_called_on(shop, edits):
    class Small(shop.Thing):
        pass

    edits.wrap(shop.Thing, "made", lambda original: lambda cls: f"{original(cls)}!")
    assert (shop.Thing.made(), Small.made(), Small().made()) == ("Thing!", "Small!", "Small!")


def test_undo_leaves_every_attribute_as_it_was(shop, edits):
    owners = (shop, shop.Base, shop.Thing)
    before = stored(*owners)
    for _ in range(2):  # one over the other
        edits.wrap(shop, "price", plus_one)
        for name in ("weight", "double", "length"):
            edits.wrap(shop.Thing, name, plus_one)
        edits.wrap(shop.Thing, "made", lambda original: lambda cls: original(cls) + "+")
        edits.replace(shop.Thing, "width", property(lambda self: 5))
        edits.replace(shop.Thing, "new", 6)
        edits.replace_everywhere(shop, "Base", type("Base", (), {}))
    thing = shop.Thing()
    assert (shop.price(1), thing.weight(), thing.double(1), thing.length()) == (4, 3.0, 4, 6)
    assert (shop.Thing.made(), thing.width, thing.new) == ("Thing++", 5, 6)
    edits.undo()
    assert stored(*owners) == before
    edits.undo()
    assert stored(*owners) == before


def free(count):
    return 0 * count


def dear(count):
    return 9 * count


def test_a_function_is_replaced_wherever_it_was_imported_by_name(shop, module, edits):
    earlier = module("tiny_earlier", "from tiny_shop import price as cost\nimport tiny_shop\nprice = len\n")
    original = shop.price
    edits.replace_everywhere(shop, "price", free)
    assert (shop.price, earlier.cost, earlier.price) == (free, free, len)
    later = module("tiny_later", "from tiny_shop import price\n")
    assert later.price is free
    edits.undo()
    assert (shop.price, earlier.cost, later.price, earlier.price) == (original, original, original, len)


def test_one_replacement_over_another_is_undone_to_the_first(shop, edits):
    first, second = Edits(), edits
    original = shop.price
    first.replace_everywhere(shop, "price", free)
    second.replace_everywhere(shop, "price", dear)
    second.undo()
    assert shop.price is free
    first.undo()
    assert shop.price is original


def test_what_is_not_there_is_not_wrapped(shop, edits):
    before = stored(shop.Thing)
    with pytest.raises(AttributeError, match="absent"):
        edits.wrap(shop.Thing, "absent", plus_one)
    edits.undo()
    assert stored(shop.Thing) == before


def test_a_crash_is_told_in_one_short_line():
    def fail(reason):
        raise ValueError(reason)

    assert crash(fail, "\x1b[1mno such\x1b[0m\n   key") == "ValueError: no such key"
    assert len(crash(fail, "x" * 1000)) == 200
    assert crash(int, "7") == ""


def test_a_crash_is_no_interruption():
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash(interrupt)


def test_a_library_is_found_by_its_distribution():
    assert Library("pytest", "pytest", ("1",)).found() == pytest.__version__
    assert Library("absent", "a-distribution-that-is-not-there", ("1",)).found() is None
    assert Library("anything", "pytest", ("1",), found=lambda: "mine").found() == "mine"


def test_a_registered_patch_belongs_to_its_library():
    library = Library("tiny", "tiny", versions=("1", "2"))

    @library.patch("small", target="tiny:x", sees="fault", remedy="none", probe=str, upstream="url", default=False)
    def install(edits):
        pass

    (patch,) = library.patches
    assert (patch.full_name, patch.versions, patch.install, patch.probe) == ("tiny/small", ("1", "2"), install, str)
    assert (patch.target, patch.sees, patch.remedy, patch.upstream) == ("tiny:x", "fault", "none", "url")
    assert (patch.changes_results, patch.default) == ("", False)
