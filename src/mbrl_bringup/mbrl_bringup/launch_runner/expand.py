# SPDX-License-Identifier: Apache-2.0
"""Read a launch file with everything it includes, and work out what it comes to.

Nothing in the supported subset depends on what happens while the nodes run, so the whole graph is known
before the first process starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from . import values
from .description import Argument, LaunchDescription, Node
from .packages import PackageError, find_executable
from .source import Attributes, LaunchFileError, Located, read
from .substitutions import Scope, SubstitutionError, split_words, substitute, truth

_CONDITIONS = frozenset({"if", "unless"})
_NAMESPACE = "ros_namespace"  # the variable that the real launch keeps it in; a group ends its effect
_NODE = frozenset(
    {"pkg", "exec", "name", "namespace", "args", "output", "respawn", "respawn_delay", "param", "remap", "on_exit"}
)
_NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OUTPUTS = ("screen", "log", "both")


def expand(file: Path, arguments: Mapping[str, str], log_directory: Path) -> LaunchDescription:
    """Expand a launch file for a set of arguments.

    Raises:
        LaunchFileError: the file has something that is not supported or wrong, an argument has a value that is
            not among its choices or is required and missing, or one is given that no file declares.
    """
    expansion = _Expansion(Scope(dict(arguments), file.parent, log_directory))
    expansion.file(file)
    description = expansion.description
    declared = {argument.name for argument in description.arguments}
    for name in arguments:
        if name not in declared:
            raise LaunchFileError(
                f"{file}: there is no launch argument {name!r}; there are {', '.join(sorted(declared)) or 'none'}"
            )
    return description


def declared_arguments(file: Path, log_directory: Path) -> list[Argument]:
    """The arguments that a file itself declares, in order. Raises: LaunchFileError."""
    found = []
    for kind, body in _elements(_actions(file)):
        if kind == "arg":
            found.append(_argument(body))
    return found


class _Expansion:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.description = LaunchDescription()
        self._open: list[Path] = []
        self._environment: dict[str, str] = {}
        self._handlers: dict[str, Callable[[Located], None]] = {
            "arg": self._declare,
            "let": self._let,
            "set_env": self._set_environment,
            "node": self._node,
            "group": self._group,
            "push_ros_namespace": self._push_namespace,
            "include": self._include,
        }

    def file(self, file: Path) -> None:
        outer, self.scope.directory = self.scope.directory, file.parent
        self._open.append(file.resolve())
        self._run(_actions(file))
        self._open.pop()
        self.scope.directory = outer

    def _run(self, actions: Located) -> None:
        for kind, body in _elements(actions):
            handler = self._handlers.get(kind)
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise body.error(f"the element {kind!r} is not supported here; these are: {known}")
            handler(body)

    def _declare(self, body: Located) -> None:
        argument = _argument(body)
        given = self.scope.configurations
        if argument.name not in given:
            if argument.default is None:
                raise body.error(f"the launch argument {argument.name!r} is required: {argument.name}:=VALUE")
            given[argument.name] = self._substitute(body, argument.default)
        if argument.choices and given[argument.name] not in argument.choices:
            raise body.error(
                f"launch argument {argument.name!r}: got {given[argument.name]!r}, expected one of "
                f"{', '.join(argument.choices)}"
            )
        self.description.arguments.append(argument)

    def _let(self, body: Located) -> None:
        attributes = body.attributes("let", frozenset({"name", "value"}) | _CONDITIONS, frozenset({"name", "value"}))
        if self._holds(body, attributes):
            self.scope.configurations[self._text(attributes["name"], "name")] = self._text(attributes["value"], "value")

    def _set_environment(self, body: Located) -> None:
        known = frozenset({"name", "value"})
        attributes = body.attributes("set_env", known | _CONDITIONS, known)
        if self._holds(body, attributes):
            name, value = self._text(attributes["name"], "name"), self._text(attributes["value"], "value")
            self._environment[name] = self.scope.environment[name] = value

    def _group(self, body: Located) -> None:
        children = body
        if isinstance(body.value, dict):
            attributes = body.attributes("group", frozenset({"children"}) | _CONDITIONS, frozenset({"children"}))
            if not self._holds(body, attributes):
                return
            children = attributes["children"]
        # What a group sets ends with it.
        kept = (self.scope.configurations, self.scope.environment, self._environment)
        outer = [dict(table) for table in kept]
        self._run(children)
        for table, before in zip(kept, outer, strict=True):
            table.clear()
            table.update(before)

    def _push_namespace(self, body: Located) -> None:
        known = frozenset({"namespace"})
        attributes = body.attributes("push_ros_namespace", known | _CONDITIONS, known)
        if not self._holds(body, attributes):
            return
        pushed = self._text(attributes["namespace"], "namespace")
        namespace = values.absolute(values.join(self.scope.configurations.get(_NAMESPACE), pushed))
        assert namespace is not None
        values.check_namespace(attributes["namespace"], namespace)
        self.scope.configurations[_NAMESPACE] = namespace

    def _include(self, body: Located) -> None:
        attributes = body.attributes("include", frozenset({"file", "arg"}) | _CONDITIONS, frozenset({"file"}))
        if not self._holds(body, attributes):
            return
        file = Path(self._text(attributes["file"], "file"))
        if not file.name.endswith((".yaml", ".yml")):
            raise attributes["file"].error(f"{file}: only YAML launch files can be included here; use `ros2 launch`")
        if file.resolve() in self._open:
            raise attributes["file"].error(f"{file} includes itself")
        for entry in self._list(attributes.get("arg"), "arg"):
            given = entry.attributes("arg", frozenset({"name", "value"}), frozenset({"name", "value"}))
            # As in the real launch these stay set after the include, unless a group ends them.
            self.scope.configurations[self._text(given["name"], "name")] = self._text(given["value"], "value")
        if not file.is_file():
            raise attributes["file"].error(f"there is no launch file {file}")
        self.file(file)

    def _node(self, body: Located) -> None:
        attributes = body.attributes("node", _NODE | _CONDITIONS, frozenset({"pkg", "exec"}))
        if not self._holds(body, attributes):
            return
        name = self._optional(attributes, "name")
        if name is not None and not _NODE_NAME.fullmatch(name):
            raise attributes["name"].error(f"{name!r} is not a node name")
        namespace = values.absolute(
            values.join(self.scope.configurations.get(_NAMESPACE), self._optional(attributes, "namespace"))
        )
        if namespace is not None:
            values.check_namespace(body, namespace)
        package, executable = self._text(attributes["pkg"], "pkg"), self._text(attributes["exec"], "exec")
        try:
            find_executable(package, executable)
        except PackageError as error:
            raise body.error(str(error)) from error
        self.description.nodes.append(
            Node(
                package=package,
                executable=executable,
                name=name,
                namespace=namespace,
                parameters=tuple(self._parameters(attributes.get("param"), name, namespace)),
                remappings=tuple(self._remappings(attributes.get("remap"))),
                output=self._output(attributes),
                respawn=self._flag(attributes, "respawn"),
                respawn_delay=values.seconds(attributes.get("respawn_delay")),
                ends_launch=self._ends_launch(attributes),
                environment=dict(self._environment),
                place=f"{body.file}:{body.line}",
                arguments=tuple(self._words(attributes.get("args"))),
            )
        )

    def _words(self, given: Located | None) -> Iterable[str]:
        """What a substitution gives stays one word, whatever it has in it."""
        if given is None:
            return
        try:
            words = split_words(given.text("args"))
        except SubstitutionError as error:
            raise given.error(str(error)) from error
        for word in words:
            yield self._substitute(given, word)

    def _parameters(
        self, given: Located | None, name: str | None, namespace: str | None
    ) -> Iterable[Path | dict[str, dict[str, Any]]]:
        owner = "/**"
        if name is not None and namespace is not None:
            owner = f"/{name}" if namespace == "/" else f"{namespace}/{name}"
        for entry in self._list(given, "param"):
            if isinstance(entry.value, dict) and "from" in entry.value:
                attributes = entry.attributes("param", frozenset({"from"}))
                file = Path(self._text(attributes["from"], "from"))
                if not file.is_file():
                    others = ", ".join(sorted(other.name for other in file.parent.glob("*.yaml"))) or "none"
                    raise attributes["from"].error(f"there is no parameter file {file}; in its folder: {others}")
                yield file
                continue
            attributes = entry.attributes("param", frozenset({"name", "value", "type"}), frozenset({"name", "value"}))
            value = self._parameter_value(attributes["value"], attributes.get("type"))
            yield {owner: {self._text(attributes["name"], "name"): value}}

    def _parameter_value(self, given: Located, kind: Located | None) -> Any:
        wanted = None if kind is None else kind.text("type")
        if kind is not None and wanted not in values.TYPES:
            raise kind.error(f"the type {wanted!r} is not supported here; these are: {', '.join(values.TYPES)}")
        # The real launch takes a text as it stands, and converts only what a substitution has given.
        if isinstance(given.value, str) and "$(" in given.value:
            return values.typed(given, self._text(given, "value"), wanted)
        return values.plain(given, wanted)

    def _remappings(self, given: Located | None) -> Iterable[tuple[str, str]]:
        both = frozenset({"from", "to"})
        for entry in self._list(given, "remap"):
            attributes = entry.attributes("remap", both, both)
            yield self._text(attributes["from"], "from"), self._text(attributes["to"], "to")

    def _output(self, attributes: Attributes) -> str:
        output = self._optional(attributes, "output") or "log"
        if output not in _OUTPUTS:
            raise attributes["output"].error(f"output: got {output!r}, expected one of {', '.join(_OUTPUTS)}")
        return output

    def _ends_launch(self, attributes: Attributes) -> bool:
        given = attributes.get("on_exit")
        if given is None:
            return False
        if given.value != "shutdown":
            raise given.error(f"on_exit: got {given.value!r}, expected 'shutdown'")
        return True

    def _flag(self, attributes: Attributes, name: str) -> bool:
        text = self._optional(attributes, name)
        return False if text is None else self._truth(attributes[name], text)

    def _holds(self, body: Located, attributes: Attributes) -> bool:
        positive, negative = attributes.get("if"), attributes.get("unless")
        if positive is not None and negative is not None:
            raise body.error("if and unless exclude each other")
        if positive is not None:
            return self._truth(positive, self._text(positive, "if"))
        if negative is not None:
            return not self._truth(negative, self._text(negative, "unless"))
        return True

    def _truth(self, place: Located, text: str) -> bool:
        try:
            return truth(text)
        except SubstitutionError as error:
            raise place.error(str(error)) from error

    def _list(self, given: Located | None, what: str) -> list[Located]:
        return [] if given is None else given.items(what)

    def _optional(self, attributes: Attributes, name: str) -> str | None:
        given = attributes.get(name)
        return None if given is None else self._text(given, name)

    def _text(self, given: Located, what: str) -> str:
        return self._substitute(given, given.text(what))

    def _substitute(self, place: Located, text: str) -> str:
        try:
            return substitute(text, self.scope)
        except SubstitutionError as error:
            raise place.error(str(error)) from error


def _actions(file: Path) -> Located:
    top = read(file).attributes("a launch file", frozenset({"launch"}), frozenset({"launch"}))
    return top["launch"]


def _elements(actions: Located) -> Iterable[tuple[str, Located]]:
    for entry in actions.items("a list of actions"):
        if not isinstance(entry.value, dict) or len(entry.value) != 1:
            raise entry.error("expected one action, `- kind: ...`")
        yield next(iter(entry.value.items()))


def _argument(body: Located) -> Argument:
    attributes = body.attributes("arg", frozenset({"name", "default", "choice", "description"}), frozenset({"name"}))
    default, choice = attributes.get("default"), attributes.get("choice")
    description = attributes.get("description")
    value = frozenset({"value"})
    return Argument(
        name=attributes["name"].text("name"),
        default=None if default is None else default.text("default"),
        choices=tuple(
            entry.attributes("choice", value, value)["value"].text("value")
            for entry in ([] if choice is None else choice.items("choice"))
        ),
        description="" if description is None else description.text("description"),
        file=body.file,
    )
