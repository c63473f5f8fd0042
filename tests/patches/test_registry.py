"""apply, revert and set_applied, on libraries of the tests' own."""

import warnings

import pytest

import patches
from patches import registry
from patches.library import Library


class Thing:
    """The class that the patches of these tests change: each adds its name to the result of `names`."""

    def names(self):
        return ()


@pytest.fixture
def tiny(monkeypatch):
    """Four libraries, {name: Library}: two that fit, one not installed, one of an unknown version; nothing is applied."""
    found = {"first": "2", "second_lib": "2", "absent": None, "unknown": "3"}
    result = {name: Library(name, name, ("1", "2"), lambda version=version: version) for name, version in found.items()}
    for library in result.values():
        for name in ("common", library.name.upper(), "asked"):
            _register(library, name)
    monkeypatch.setattr(registry, "libraries", lambda: result)
    monkeypatch.setattr(registry, "_installed", {})
    before = dict(vars(Thing))
    yield result
    registry._install([])
    assert dict(vars(Thing)) == before


def _register(library, name):
    @library.patch(name, target="Thing.names", sees="", remedy="", probe=str, default=name != "asked")
    def install(edits):
        edits.wrap(Thing, "names")(lambda original, self: (*original(self), f"{library.name}/{name}"))


@pytest.fixture
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


ALL = ("first/common", "first/FIRST", "second_lib/common", "second_lib/SECOND_LIB")


def test_apply_installs_all_defaults_that_fit_and_names_an_unknown_version_to_the_caller(tiny):
    with pytest.warns(UserWarning) as caught:
        states = {state.patch.full_name: state.state for state in patches.apply()}
    assert [(str(warning.message), warning.filename) for warning in caught] == [
        ("patches: unknown 3 is left alone; its patches are for 1 or 2", __file__)
    ]
    assert Thing().names() == ALL
    assert patches.applied() == tuple(sorted(ALL))
    assert states == dict.fromkeys(ALL, "applied") | {
        "first/asked": "off unless asked",
        "second_lib/asked": "off unless asked",
        **dict.fromkeys(("absent/common", "absent/ABSENT", "absent/asked"), "library not installed"),
        **dict.fromkeys(("unknown/common", "unknown/UNKNOWN", "unknown/asked"), "unknown version"),
    }


@pytest.mark.parametrize(
    ("libraries", "keywords", "expected"),
    [
        (("second-lib",), {}, ALL[2:]),
        (("second_lib",), {"exclude": ["common"]}, ALL[3:]),
        ((), {"only": ["FIRST", "second_lib/asked"]}, ("first/FIRST", "second_lib/asked")),
        (("first",), {"only": ["common", "asked"], "exclude": "common"}, ("first/asked",)),
        ((), {"only": []}, ()),
    ],
)
def test_libraries_and_patches_are_chosen_by_name(tiny, no_warnings, libraries, keywords, expected):
    patches.apply(*libraries, **keywords)
    assert Thing().names() == expected


def test_applying_again_changes_nothing_and_adds_in_the_registrys_order(tiny, no_warnings):
    patches.apply("second-lib")
    before = Thing.names
    patches.apply("second-lib")
    assert Thing.names is before
    patches.apply("first", only="asked")
    patches.apply("first", exclude=["asked"])
    assert Thing().names() == (*ALL[:2], "first/asked", *ALL[2:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: patches.apply("frist"), "unknown library 'frist'; name any of first, second_lib, absent, unknown, one by one"),
        (lambda: patches.apply(["first"]), r"unknown library \['first'\]; name any of "),
        (lambda: patches.apply("first", only=["SECOND_LIB"]), "unknown patch 'SECOND_LIB'; python -m patches lists them"),
        (lambda: patches.apply(exclude=["first/cmomon"]), "unknown patch 'first/cmomon'; did you mean first/common"),
        (lambda: patches.revert("frist"), "unknown library 'frist'; name any of "),
        (lambda: patches.set_applied(["first/asked", "first/cmomon"]), "unknown patch first/cmomon; python -m patches lists"),
    ],
)
def test_an_unknown_name_is_refused_in_one_line_and_changes_nothing(tiny, no_warnings, call, message):
    patches.apply("second_lib")
    with pytest.raises(ValueError, match=f"^patches: {message}") as raised:
        call()
    assert "\n" not in str(raised.value)
    assert Thing().names() == ALL[2:]


def test_a_library_that_is_not_installed_is_named_where_it_was_asked_for(tiny):
    for call in (lambda: patches.apply("first", "absent"), lambda: patches.apply(only=["absent/common"])):
        with pytest.warns(UserWarning, match="^patches: absent is not installed$"):
            call()
    assert Thing().names() == ALL[:2]


def test_revert_takes_back_one_library_or_all(tiny, no_warnings):
    patches.apply("first", "second-lib")
    patches.revert("first")
    assert Thing().names() == ALL[2:]
    patches.revert()
    assert (Thing().names(), patches.applied()) == ((), ())


def test_what_was_applied_can_be_set_again_in_any_order(tiny, no_warnings):
    patches.apply("first", "second_lib", only=["asked", "SECOND_LIB"])
    held, names = patches.applied(), Thing().names()
    patches.set_applied([])
    assert (Thing().names(), patches.applied()) == ((), ())
    patches.set_applied(reversed(held))
    assert (patches.applied(), Thing().names()) == (held, names)


def test_a_failed_installation_leaves_nothing_half_patched_and_keeps_what_was_applied(tiny, no_warnings):
    @tiny["first"].patch("failing", target="Thing.names", sees="", remedy="", probe=str, default=False)
    def install(edits):
        edits.wrap(Thing, "names")(lambda original, self: ("half",))
        edits.replace(Thing, "new", 1)
        raise RuntimeError("cannot be installed")

    before = ("first/common", "second_lib/asked")
    patches.set_applied(before)
    with pytest.raises(RuntimeError, match="cannot be installed"):
        patches.apply("first", only=["FIRST", "failing"])
    assert Thing().names() == patches.applied() == before
    assert not hasattr(Thing, "new")
