# SPDX-License-Identifier: Apache-2.0
"""`xacro FILE name:=value ...`: arguments, includes and conditions, as far as the exported files have them."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

NAMESPACE = "{http://www.ros.org/wiki/xacro}"
ARGUMENT = re.compile(r"\$\(arg (\w+)\)")


def main() -> int:
    """Prints the URDF; returns the exit status."""
    file, *given = sys.argv[1:]
    values = dict(word.split(":=", 1) for word in given)
    if not Path(file).is_file():
        print(f"No such file or directory: {file}", file=sys.stderr)
        return 2
    root = ElementTree.parse(file).getroot()
    _expand(root, Path(file).parent, values)
    print('<?xml version="1.0" ?>')
    print(ElementTree.tostring(root, encoding="unicode"))
    return 0


def _expand(element: ElementTree.Element, folder: Path, values: dict[str, str]) -> None:
    children = []
    for child in list(element):
        element.remove(child)
        if child.tag == f"{NAMESPACE}arg":
            values.setdefault(child.attrib["name"], child.attrib["default"])
        elif child.tag == f"{NAMESPACE}include":
            included = ElementTree.parse(folder / child.attrib["filename"]).getroot()
            _expand(included, folder, values)
            children += list(included)
        elif child.tag == f"{NAMESPACE}if":
            if _replace(child.attrib["value"], values) in ("true", "1"):
                _expand(child, folder, values)
                children += list(child)
        else:
            _expand(child, folder, values)
            children.append(child)
    element.extend(children)
    element.text = _replace(element.text or "", values)
    for name, value in element.attrib.items():
        element.set(name, _replace(value, values))


def _replace(text: str, values: dict[str, str]) -> str:
    return ARGUMENT.sub(lambda found: values[found[1]], text)
