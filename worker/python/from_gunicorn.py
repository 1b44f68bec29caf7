"""Print gunicorn's configuration file, which is Python, as one of greenicorn's.

Arguments: the file (or python:MODULE), and each setting as NAME=KIND. The file is run, as gunicorn
runs it; what it computes becomes a plain value, with the expression in a comment.
"""

import ast
import importlib
import json
import os
import re
import runpy
import sys

MODULE = "python:"


def read(path):
    """The file's names with their values, and its text."""
    if path.startswith(MODULE):
        module = importlib.import_module(path[len(MODULE) :])
        path = module.__file__
        names = vars(module)
    else:
        path = path.removeprefix("file:")
        names = runpy.run_path(path, run_name="__config__")
    with open(path, encoding="utf-8") as f:
        return names, f.read()


def expressions(text):
    """What is assigned to each name, where that is no plain value."""
    found = {}
    for node in ast.parse(text).body:
        if not isinstance(node, ast.Assign):
            continue
        try:
            ast.literal_eval(node.value)
        except (ValueError, TypeError):
            source = " ".join((ast.get_source_segment(text, node.value) or "").split())
            found.update((target.id, source) for target in node.targets if isinstance(target, ast.Name))
    return found


def quoted(text):
    """As libconfig has it; it knows bytes, not code points."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"%s"' % re.sub("[\x00-\x1f\x7f]", lambda c: "\\x%02x" % ord(c.group()), escaped)


def written(value, kind):
    """The value as greenicorn.conf has it; None: it cannot be written down."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return '"0%o"' % value if kind == "mode" else "%d" % value
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return "[ %s ]" % ", ".join(map(quoted, value)) if value else "[ ]"
    if isinstance(value, dict):
        if kind == "dictionary" and all(isinstance(item, str) for item in [*value, *value.values()]):
            return "[ %s ]" % ", ".join(quoted("%s: %s" % item) for item in value.items())
        return quoted(json.dumps(value))
    return None


def named(name, value, path):
    """A server hook (or a class): what is imported by its own name, else by the file's, which stays."""
    module, inside = getattr(value, "__module__", None), getattr(value, "__qualname__", "<")
    if module not in (None, "__config__", "__main__") and "<" not in inside:
        return "%s.%s" % (module, inside)
    return "%s:%s" % (path.removeprefix(MODULE).removeprefix("file:"), name)


def line(name, value, kind, expression, path):
    """The file's line for one setting."""
    if callable(value):
        value, expression = named(name, value, path), None
    if value is None:
        return None
    try:
        text = written(value, kind)
    except (TypeError, ValueError):  # json
        text = None
    if text is None:
        return "# %s cannot be written down here: %s" % (name, " ".join(repr(value).split()))
    return "%s = %s;%s" % (name, text, " # %s" % expression if expression else "")


def main(path, *settings):
    kinds = dict(item.split("=") for item in settings)
    names, text = read(path)
    computed = expressions(text)
    if names.get("chdir") and not path.startswith(MODULE):
        path = os.path.abspath(path.removeprefix("file:"))  # greenicorn looks for hooks from there
    print("# From %s. Afterwards: greenicorn --check-config" % path)
    for name, value in names.items():
        if name in kinds:
            out = line(name, value, kinds[name], computed.get(name), path)
            if out is not None:
                print(out)


main(*sys.argv[1:])
