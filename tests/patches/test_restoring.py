"""The real libraries, in fresh processes: looking imports none of them, nothing is applied unasked, and revert undoes all."""

import json
import subprocess
import sys

import pytest

import patches
from patches import registry

HEAVY = ("torch", "mujoco", "wandb", "gymnasium", "joblib", "git", *registry.MODULES)


def _python(script, *arguments):
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_looking_imports_none_of_the_libraries_and_applies_nothing():
    look = "import sys, patches.__main__, patches.safe_torch; patches.__main__.main([])"
    assert _python(f"{look}; print([name for name in {HEAVY} if name in sys.modules], patches.applied())") == "[] ()"


def test_importing_qi_ext_applies_nothing():
    script = """
import importlib, pkgutil, qi_ext
for module in pkgutil.iter_modules(qi_ext.__path__, "qi_ext."):
    importlib.import_module(module.name)
import patches
print(patches.applied())
"""
    assert _python(script) == "()"


@pytest.mark.extensive
def test_what_is_imported_before_the_probes_is_none_of_the_libraries():
    modules = sorted({module for library in patches.libraries().values() for module in library.imports})
    assert modules
    script = f"""
import contextlib, importlib, sys
for module in {modules}:
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
print([name for name in {registry.MODULES} if name in sys.modules])
"""
    assert _python(script) == "[]"


_ALL_PATCHES = """
import importlib, json, random, sys, warnings
from types import ModuleType
import patches

warnings.simplefilter("ignore")
fitting = [library for library in patches.libraries().values() if library.found() in library.versions]
every = [patch.full_name for library in fitting for patch in library.patches]
"""

_LOADED = f"{_ALL_PATCHES}\npatches.set_applied(every)\nprint(json.dumps(list(sys.modules)))"

_TO_AND_FRO = f"""{_ALL_PATCHES}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # some modules are made by others

def everything():
    modules = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    return {{owner for module in modules for owner in [module, *vars(module).values()]
             if isinstance(owner, (type, ModuleType)) and owner is not sys.modules["__main__"]}}

def content(owner):
    return {{name: value for name, value in list(vars(owner).items()) if name != "__warningregistry__"}}

nothing = object()

def changed(owners):
    found = set()
    for owner in owners:
        before, now = original.get(owner, {{}}), content(owner)
        differs = [name for name in before.keys() | now.keys() if before.get(name, nothing) is not now.get(name, nothing)]
        found |= {{(owner, name) for name in differs}}
    return found

def names(found):
    return sorted(f"{{owner.__name__}}.{{name}}" for owner, name in found)

def expect(what, found, expected):
    if found != expected:
        different = set(found) ^ set(expected)
        faults.append(f"{{what}}: {{sorted(different)[:10]}}")

original = {{owner: content(owner) for owner in everything()}}
faults = []
patches.set_applied(every)
by_all = changed(everything() | original.keys())
owners = {{owner for owner, _ in by_all}}  # to look at all others again at the end is enough
of = {{"": names(by_all)}}  # changes made by the patches of all libraries but this one
patches.revert()
for name in [library.name for library in fitting]:
    patches.set_applied([patch for patch in every if patch.split("/")[0] != name])
    of[name] = names(changed(owners))
    patches.revert()
    expect(f"left after all but those of {{name}}", names(changed(owners)), [])
generator = random.Random(0)
shuffled = generator.sample(every, len(every))
for i in range(0, len(shuffled), 7):
    patches.apply(only=shuffled[i : i + 7])
    if i == 7:
        patches.revert(fitting[0].name)
patches.apply(only=every)
expect("applied in a random order", names(changed(owners)), of[""])
first, *others = generator.sample(fitting, len(fitting))
patches.revert(first.name)
expect(f"without {{first.name}}", names(changed(owners)), of[first.name])
for library in others:
    patches.revert(library.name)
expect("left in the end", names(changed(everything() | original.keys())), [])
print(json.dumps({{"changed": of[""], "faults": faults}}))
"""


@pytest.mark.extensive
def test_libraries_are_as_they_were_after_revert_whatever_the_order():
    found = json.loads(_python(_TO_AND_FRO, _python(_LOADED)))
    assert found["faults"] == []
    assert {"TRPO._conjugate_gradient", "UnitreeA1._interpolate_remap"} <= set(found["changed"])
