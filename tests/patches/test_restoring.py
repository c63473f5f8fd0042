"""The real libraries, in fresh processes: looking imports none of them, and revert leaves them as they were."""

import json
import subprocess
import sys

import pytest

import patches
from patches import registry

HEAVY = ("torch", "mujoco", "wandb", "gymnasium", *registry.MODULES)
IMPORTED = "import sys; print([name for name in {heavy} if name in sys.modules], __import__('patches').applied())"


def _python(script, *arguments):
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "code",
    ["import patches", "import patches; patches.libraries()", "import patches.__main__; patches.__main__.main([])"],
    ids=["import", "libraries", "listing"],
)
def test_looking_imports_none_of_the_libraries_and_patches_nothing(code):
    printed = _python(f"{code}\n{IMPORTED.format(heavy=HEAVY)}")
    assert printed.splitlines()[-1] == "[] ()"


def test_what_is_imported_before_the_probes_is_none_of_the_libraries():
    modules = sorted({module for library in patches.libraries().values() for module in library.imports})
    assert modules
    printed = _python(
        f"""
import contextlib, importlib
for module in {modules}:
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
{IMPORTED.format(heavy=registry.MODULES)}"""
    )
    assert printed == "[] ()\n"


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

def snapshot():
    modules = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    owners = {{id(owner): owner for module in modules for owner in [module, *vars(module).values()]
              if isinstance(owner, (type, ModuleType)) and owner is not sys.modules["__main__"]}}
    return {{(owner, name): value for owner in owners.values() for name, value in list(vars(owner).items())
            if name != "__warningregistry__"}}

nothing = object()

def changed():
    now = snapshot()
    return sorted(f"{{owner.__name__}}.{{name}}" for owner, name in original.keys() | now.keys()
                  if original.get((owner, name), nothing) is not now.get((owner, name), nothing))

def expect(what, found, expected):
    if found != expected:
        different = set(found) ^ set(expected)
        faults.append(f"{{what}}: {{sorted(different)[:10]}}")

original = snapshot()
faults = []
of = {{}}  # what is changed by the patches of all libraries but this one
for name in ["", *(library.name for library in fitting)]:
    patches.set_applied([patch for patch in every if patch.split("/")[0] != name])
    of[name] = changed()
    patches.revert()
    expect(f"left after all but those of {{name or 'none'}}", changed(), [])
for seed in range(3):
    generator = random.Random(seed)
    shuffled = generator.sample(every, len(every))
    for i in range(0, len(shuffled), 7):
        patches.apply(only=shuffled[i : i + 7])
        if i == 7:
            patches.revert(fitting[0].name)
    patches.apply(only=every)
    expect(f"applied in order {{seed}}", changed(), of[""])
    one = generator.choice(fitting).name
    patches.revert(one)
    expect(f"order {{seed}}, without {{one}}", changed(), of[one])
    for library in generator.sample(fitting, len(fitting)):
        patches.revert(library.name)
    expect(f"left after order {{seed}}", changed(), [])
print(json.dumps({{"patches": every, "changed": of[""], "faults": faults}}))
"""


@pytest.fixture(scope="module")
def to_and_fro():
    """What came of applying all patches of what is installed in many orders, compared with the libraries as they were."""
    loaded = _python(_LOADED).splitlines()[-1]
    return json.loads(_python(_TO_AND_FRO, loaded).splitlines()[-1])


def test_libraries_are_as_they_were_after_revert_whatever_the_order(to_and_fro):
    assert to_and_fro["faults"] == []


def test_the_patches_of_all_libraries_hold_together(to_and_fro):
    assert len(to_and_fro["patches"]) >= 6
    assert "TRPO._conjugate_gradient" in to_and_fro["changed"]


def test_the_names_of_patches_are_unique():
    names = [patch.full_name for library in patches.libraries().values() for patch in library.patches]
    assert len(names) == len(set(names))


def test_one_library_is_patched_and_left_again_without_the_others():
    printed = _python(
        """
import patches
from mushroom_rl.utils import value_functions
from mushroom_rl.algorithms.actor_critic import TRPO
before = value_functions.compute_gae, vars(TRPO)["_conjugate_gradient"]
patches.apply("mushroom-rl", only=["cg-aliasing", "mushroom_rl/gae-boundaries"])
from mushroom_rl.utils.value_functions import compute_gae
from mushroom_rl.algorithms.actor_critic.deep_actor_critic import trpo
print(compute_gae is trpo.compute_gae is not before[0], vars(TRPO)["_conjugate_gradient"] is not before[1])
patches.revert("mushroom_rl")
print(compute_gae is trpo.compute_gae is before[0], vars(TRPO)["_conjugate_gradient"] is before[1], patches.applied())
"""
    )
    assert printed.splitlines() == ["True True", "True True ()"]
