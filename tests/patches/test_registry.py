"""The registry: what apply, revert and set_applied do, on libraries of the tests' own."""

import warnings

import pytest

import patches
from patches import registry
from patches.library import Library


class Thing:
    """What the patches of these tests change: each adds its name to what `names` says."""

    def names(self):
        return ()


def _version(value):
    return lambda: value


@pytest.fixture
def tiny(monkeypatch):
    """Four libraries, {name: Library}: two that fit, one that is not installed, one of an unknown version; nothing holds."""
    fitting = [Library(name, name, ("1", "2"), _version("2")) for name in ("first", "second_lib")]
    absent = Library("absent", "absent", ("1",), _version(None))
    unknown = Library("unknown", "unknown", ("1", "2"), _version("3"))
    result = {library.name: library for library in (*fitting, absent, unknown)}
    for library in result.values():
        for name in ("common", library.name.upper(), "asked"):
            _register(library, name, default=name != "asked")
    monkeypatch.setattr(registry, "libraries", lambda: result)
    monkeypatch.setattr(registry, "_installed", {})
    before = dict(vars(Thing))
    yield result
    registry._install([])
    assert dict(vars(Thing)) == before


def _register(library, name, default=True):
    def make(original):
        return lambda self: (*original(self), f"{library.name}/{name}")

    @library.patch(name, target="Thing.names", sees="", remedy="", probe=str, default=default)
    def install(edits):
        edits.wrap(Thing, "names", make)


@pytest.fixture
def failing(tiny):
    """A patch of the first library, the last in its order, whose installation changes something and then fails."""

    @tiny["first"].patch("failing", target="Thing.names", sees="", remedy="", probe=str, default=False)
    def install(edits):
        edits.wrap(Thing, "names", lambda original: lambda self: ("half",))
        edits.replace(Thing, "new", 1)
        raise RuntimeError("cannot be installed")

    return "first/failing"


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


ALL = ("first/common", "first/FIRST", "second_lib/common", "second_lib/SECOND_LIB")


@pytest.mark.filterwarnings("ignore:patches. unknown")
def test_apply_installs_all_that_are_on_by_default_where_they_fit(tiny):
    states = {state.patch.full_name: state.state for state in patches.apply()}
    assert Thing().names() == ALL
    assert patches.applied() == tuple(sorted(ALL))
    assert states == dict.fromkeys(ALL, "applied") | {
        "first/asked": "off unless asked",
        "second_lib/asked": "off unless asked",
        **dict.fromkeys(("absent/common", "absent/ABSENT", "absent/asked"), "library not installed"),
        **dict.fromkeys(("unknown/common", "unknown/UNKNOWN", "unknown/asked"), "unknown version"),
    }


@pytest.mark.parametrize("spelling", ["second_lib", "second-lib"])
def test_a_library_is_known_by_either_spelling(tiny, no_warnings, spelling):
    states = patches.apply(spelling)
    assert Thing().names() == ALL[2:]
    assert {state.patch.library for state in states} == {"second_lib"}
    patches.revert(spelling)
    assert Thing().names() == ()


@pytest.mark.parametrize(
    ("libraries", "only", "expected"),
    [
        ((), ["first/asked"], ["first/asked"]),
        ((), ["FIRST", "second_lib/asked"], ["first/FIRST", "second_lib/asked"]),
        (("first",), ["common"], ["first/common"]),
        ((), "FIRST", ["first/FIRST"]),
        ((), [], []),
    ],
)
def test_only_those_named_are_applied(tiny, no_warnings, libraries, only, expected):
    patches.apply(*libraries, only=only)
    assert list(Thing().names()) == expected


@pytest.mark.parametrize("exclude", [["common"], ["first/common", "second_lib/common"]])
@pytest.mark.filterwarnings("ignore:patches. unknown")
def test_those_excluded_are_left_out(tiny, exclude):
    patches.apply(exclude=exclude)
    assert Thing().names() == ("first/FIRST", "second_lib/SECOND_LIB")


def test_what_is_excluded_is_left_out_of_what_is_asked_for(tiny, no_warnings):
    patches.apply("first", only=["common", "asked"], exclude="common")
    assert Thing().names() == ("first/asked",)


def test_twice_is_once(tiny, no_warnings):
    patches.apply("first")
    before = Thing.names
    patches.apply("first")
    assert Thing.names is before
    assert Thing().names() == ALL[:2]


def test_what_was_applied_before_stays_and_the_order_is_the_registrys(tiny, no_warnings):
    patches.apply("second-lib")
    patches.apply("first", only="asked")
    patches.apply("first")
    assert Thing().names() == ("first/common", "first/FIRST", "first/asked", *ALL[2:])


def test_a_patch_is_not_installed_anew_for_one_that_comes_after_it(tiny, no_warnings):
    patches.apply("first")
    edits = dict(registry._installed)
    patches.apply("second_lib")
    assert all(registry._installed[name] is value for name, value in edits.items())


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (["frist"], {}, "patches: unknown library 'frist'; name any of first, second_lib, absent, unknown"),
        ([["first"]], {}, r"patches: unknown library \['first'\]; name any of .*, one by one"),
        ([], {"only": ["frist"]}, "patches: unknown patch 'frist'; .*python -m patches lists them"),
        (["first"], {"only": ["SECOND_LIB"]}, "patches: unknown patch 'SECOND_LIB'; python -m patches lists them"),
        ([], {"exclude": ["first/cmomon"]}, "patches: unknown patch 'first/cmomon'; did you mean first/common"),
    ],
)
def test_an_unknown_name_is_refused_in_one_line_and_changes_nothing(tiny, no_warnings, arguments, keywords, message):
    patches.apply("second_lib")
    with pytest.raises(ValueError, match=f"^{message}") as raised:
        patches.apply(*arguments, **keywords)
    assert "\n" not in str(raised.value)
    assert Thing().names() == ALL[2:]


def test_revert_and_set_applied_refuse_unknown_names_and_change_nothing(tiny, no_warnings):
    patches.apply("first")
    with pytest.raises(ValueError, match="^patches: unknown library 'frist'; name any of first, "):
        patches.revert("frist")
    with pytest.raises(ValueError, match="^patches: unknown patch first/cmomon; python -m patches lists them$"):
        patches.set_applied(["first/asked", "first/cmomon"])
    assert Thing().names() == ALL[:2]


def _said(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [(str(warning.message), warning.filename) for warning in caught]


@pytest.mark.parametrize("arguments", [(), ("unknown",), ("unknown", "first")])
def test_an_unknown_version_is_left_alone_and_named_once_to_the_caller(tiny, arguments):
    message = "patches: unknown 3 is left alone; its patches are for 1 or 2"
    assert _said(lambda: patches.apply(*arguments)) == [(message, __file__)]
    assert not any(name.startswith("unknown/") for name in patches.applied())


def test_a_library_that_is_not_installed_is_named_where_it_was_asked_for(tiny):
    message = ("patches: absent is not installed", __file__)
    assert _said(lambda: patches.apply("first", "absent")) == [message]
    assert Thing().names() == ALL[:2]
    assert _said(lambda: patches.apply(only=["absent/common", "first/asked"])) == [message]
    assert Thing().names() == (*ALL[:2], "first/asked")


def test_revert_takes_back_all_or_one_library(tiny, no_warnings):
    patches.apply("first", "second-lib")
    patches.revert("first")
    assert Thing().names() == ALL[2:]
    patches.revert("first")
    patches.revert()
    assert (Thing().names(), patches.applied()) == ((), ())


def test_what_was_applied_can_be_set_again(tiny, no_warnings):
    patches.apply("first", "second_lib", only=["asked", "SECOND_LIB"])
    held, names = patches.applied(), Thing().names()
    patches.set_applied([])
    assert (Thing().names(), patches.applied()) == ((), ())
    patches.set_applied(reversed(held))
    assert (patches.applied(), Thing().names()) == (held, names)


@pytest.mark.parametrize("before", [[], ["first/common", "second_lib/asked"]])
def test_where_one_cannot_be_installed_nothing_is_half_patched_and_what_held_holds_on(tiny, failing, no_warnings, before):
    patches.set_applied(before)
    with pytest.raises(RuntimeError, match="cannot be installed"):
        patches.apply("first", only=["FIRST", failing])
    assert list(Thing().names()) == before
    assert sorted(patches.applied()) == before
    assert not hasattr(Thing, "new")
    patches.apply("first", only="FIRST")
    assert "first/FIRST" in Thing().names()
