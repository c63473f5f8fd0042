"""Makes docs/reference.md of docstrings and type hints: `python docs/reference.py` writes it anew.

The public modules are the `files` of mypy in pyproject.toml; public is what their `__all__` lists, or else what has no
underscore. Nothing is imported: griffe reads the source.
"""

import tomllib
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
HEAD = """# Reference

The public names. Shapes are as in numpy: (N, 37) is N rows of 37 numbers, (..., 37) has any axes before. The environment's
observation and action are in [the task](task.md#observation). Made of the docstrings by `python docs/reference.py`.
"""
WIDTH = 110  # of a signature in one line


def public_modules():
    """Return the public modules, as griffe has them, in the order of the page."""
    files = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    loader = griffe.GriffeLoader(search_paths=[ROOT], allow_inspection=False)
    for package in ("qi_ext", "patches"):
        loader.load(package)
    loader.resolve_aliases()
    names = [file.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for file in files]
    return [loader.modules_collection[name] for name in names]


def public_members(parent):
    """Return the public members that are defined in a module or class, in the order of the source."""
    own = (m for m in parent.members.values() if not (m.name.startswith("_") or m.is_alias or m.is_module))
    return [m for m in own if parent.is_class or not parent.exports or m.name in parent.exports]


def documentation(member):
    return member.docstring.value if member.docstring else ""


def signature(member, name):
    """Return a signature in one line, or a parameter a line where it is long; of a class without a constructor, its name."""
    line = member.signature(name=name) or name
    if len(line) <= WIDTH:
        return line
    shown = []
    for parameter in member.parameters:
        alone = griffe.Function("f", parameters=griffe.Parameters(parameter)).signature()[2:-1]
        if parameter.kind is griffe.ParameterKind.keyword_only:
            alone = alone.removeprefix("*, ")
            if not any(each.startswith("*") for each in shown):
                shown.append("*")
        if alone != "self":
            shown.append(alone)
    return f"{name}(\n    " + ",\n    ".join(shown) + ",\n)" + line[line.rindex(")") + 1 :]


def entry(member, path):
    """Return the section of a class or function that is imported as `path`."""
    lines = [f"### {member.name}", "", "```text", signature(member, path), "```", "", documentation(member)]
    if member.is_class:
        constructor = member.members.get("__init__")
        if constructor and constructor.docstring:
            lines += ["", documentation(constructor)]
        methods = [m for m in public_members(member) if m.docstring]
        lines += [""] if methods else []
        for method in methods:
            shown = method.signature() if method.is_function else f"{method.name}: {method.annotation}"
            lines += [f"- `{shown}`:"] + [f"  {line}".rstrip() for line in documentation(method).splitlines()]
    return "\n".join(lines).rstrip() + "\n"


def page():
    """Return the text of the page: a section a room, in it its modules' constants, classes and functions."""
    modules, parts, room = public_modules(), [HEAD], None
    # A name is imported from the room that imports it, where one does.
    aliases = [m for module in modules if module.is_init_module for m in module.members.values() if m.is_alias]
    imported = {alias.target_path: alias.path for alias in aliases}
    for module in modules:
        members = public_members(module)
        if (new := ".".join(module.path.split(".")[: 2 if module.package.name == "qi_ext" else 1])) != room:
            room = new
            parts.append(f"## {room}\n\n{documentation(module.package[room.split('.')[1]] if '.' in room else module)}\n")
        constants = [member for member in members if member.is_attribute]
        if constants:
            source = "\n".join(constant.source for constant in constants)
            parts.append(f"```text\n# {module.path}\n{source}\n```\n")
        parts += [entry(member, imported.get(member.path, member.path)) for member in members if not member.is_attribute]
    return "\n".join(parts)


def undocumented():
    """Return the paths of public classes, functions and methods without a docstring of their own or of a base class of ours."""
    found = []
    for parent in public_modules():
        for member in public_members(parent):
            methods = [m for m in public_members(member) if m.is_function] if member.is_class else []
            inherited = {m.name for base in member.mro() for m in base.members.values() if m.docstring} if methods else set()
            found += [m.path for m in methods if not m.docstring and m.name not in inherited]
            if not (member.is_attribute or member.docstring):
                found.append(member.path)
    return found


if __name__ == "__main__":
    PAGE.write_text(page())
