"""Edits change modules and classes, and undo leaves every one of their attributes the object that it was."""

import importlib
import sys

import pytest

from patches.library import Edits, Library, crash

SHOP = '''
def price(count):
    """Price of that many, in euros."""
    return 2 * count


class Base:
    def weight(self):
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
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """module(name, source): a module of this source, imported."""
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


def plus_one(original, *arguments):
    return original(*arguments) + 1


def test_what_is_wrapped_stays_what_it_was_otherwise(shop, edits):
    class Small(shop.Thing):
        pass

    edits.wrap(shop, "price")(plus_one)
    assert (shop.price(2), shop.price.__name__, shop.price.__doc__) == (5, "price", "Price of that many, in euros.")
    edits.wrap(shop.Thing, "weight")(plus_one)
    assert (shop.Thing().weight(), shop.Base().weight()) == (2.0, 1.0)
    edits.wrap(shop.Thing, "double")(plus_one)
    assert (shop.Thing.double(1), shop.Thing().double(1)) == (3, 3)
    edits.wrap(shop.Thing, "made")(lambda original, cls: f"{original(cls)}!")
    assert (shop.Thing.made(), Small.made(), Small().made()) == ("Thing!", "Small!", "Small!")


def test_undo_leaves_every_attribute_as_it_was(shop, edits):
    def stored():
        return [(name, id(value)) for owner in (shop, shop.Base, shop.Thing) for name, value in vars(owner).items()]

    before = stored()
    for _ in range(2):  # one over the other
        edits.wrap(shop, "price")(plus_one)
        edits.wrap(shop.Thing, "weight")(plus_one)
        edits.wrap(shop.Thing, "double")(plus_one)
        edits.wrap(shop.Thing, "made")(lambda original, cls: original(cls) + "+")
        edits.replace(shop.Thing, "width", property(lambda self: 5))
        edits.replace(shop.Thing, "new", 6)
        edits.replace_everywhere(shop, "Base", type("Base", (), {}))
    thing = shop.Thing()
    assert (shop.price(1), thing.weight(), thing.double(1)) == (4, 3.0, 4)
    assert (shop.Thing.made(), thing.width, thing.new) == ("Thing++", 5, 6)
    with pytest.raises(AttributeError, match="absent"):
        edits.wrap(shop.Thing, "absent")(plus_one)
    edits.undo()
    assert stored() == before


def test_a_function_is_replaced_wherever_it_was_imported_by_name(shop, module, edits):
    earlier = module("tiny_earlier", "from tiny_shop import price as cost\nimport tiny_shop\nprice = len\n")
    original, over = shop.price, Edits()

    def free(count):
        return 0 * count

    edits.replace_everywhere(shop, "price", free)
    assert (shop.price, earlier.cost, earlier.price) == (free, free, len)
    later = module("tiny_later", "from tiny_shop import price\n")
    over.wrap_everywhere(shop, "price")(plus_one)
    assert (shop.price(1), earlier.cost(1), later.price(1)) == (1, 1, 1)
    over.undo()
    assert (shop.price, earlier.cost, later.price) == (free, free, free)
    edits.undo()
    assert (shop.price, earlier.cost, later.price, earlier.price) == (original, original, original, len)


def test_a_crash_is_told_in_one_short_line_and_an_interruption_goes_on():
    def fail(error):
        raise error

    assert crash(fail, ValueError("\x1b[1mno such\x1b[0m\n   key")) == "ValueError: no such key"
    assert len(crash(fail, ValueError("x" * 1000))) == 200
    assert crash(int, "7") == ""
    with pytest.raises(KeyboardInterrupt):
        crash(fail, KeyboardInterrupt())


def test_a_library_is_found_by_its_distribution():
    assert Library("pytest", "pytest", ("1",)).found() == pytest.__version__
    assert Library("absent", "a-distribution-that-is-not-there", ("1",)).found() is None
