"""What dbt does for each of its nodes and nobody needs, left out: about a third of its time.

It changes parts of dbt and Jinja that are not made to be changed, in the one process that is dbt
here (`dbt_main`). A plain `dbt` does without, and makes the same tables.
"""

import re
from importlib import import_module
from typing import Any

from dbt.adapters.events.logging import AdapterLogger
from dbt.adapters.events.types import CacheAction, ConnectionReused
from dbt.contracts.graph.manifest import Manifest
from dbt.contracts.graph.nodes import GenericTestNode
from dbt.events import types
from dbt_common.clients.jinja import get_template
from dbt_common.events.event_manager import EventManager
from jinja2 import Environment

_UNTOLD = (
    *(types.NodeStart, types.NodeCompiling, types.NodeExecuting, types.WritingInjectedSQLForNode),
    *(types.JinjaLogDebug, CacheAction, ConnectionReused),
)
"""Events for debugging, which go to a log file alone, and none is kept here."""

_LATER = ("dbt.task.build", "dbt.adapters.clickhouse.httpclient", "dbt_common.clients.agate_helper")
"""What dbt imports for the first node and the first statement."""

_OWN_KINDS = {"staged", "view", "test"}
"""How the project's nodes are made, all by macros of its own."""

_OF_OTHER_KINDS = re.compile(
    "/(models|snapshots?|seeds?|functions|incremental|clone|materialized_view|dictionary"
    "|distributed_table|python_model|unit_test_sql)[/.]"
)
"""Where dbt and its adapter have the macros by which nodes of other kinds are made."""


def leave_out_debugging() -> None:
    """Has dbt not word what it would tell for debugging."""
    fire = EventManager.fire_event

    def say_nothing(*_: Any, **__: Any) -> None:
        pass

    def fire_what_is_told(self: EventManager, e: Any, *rest: Any, **more: Any) -> None:
        if not isinstance(e, _UNTOLD):
            fire(self, e, *rest, **more)

    for event in _UNTOLD:
        _replace(event, "__init__", say_nothing)
    _replace(EventManager, "fire_event", fire_what_is_told)
    _replace(AdapterLogger, "debug", say_nothing)


def compile_texts_once() -> None:
    """Has Jinja compile a text once, and not that of a test again for each node that has it."""
    compile_anew = Environment.compile
    compiled: dict[tuple[type[Environment], str], Any] = {}

    def compile_once(self: Environment, source: Any, *rest: Any, **more: Any) -> Any:
        if rest or more or not isinstance(source, str):
            return compile_anew(self, source, *rest, **more)
        key = (type(self), source)
        if key not in compiled:
            compiled[key] = compile_anew(self, source)
        return compiled[key]

    _replace(Environment, "compile", compile_once)


def import_ahead() -> None:
    """Imports what dbt would import once it is told what to make."""
    for module in _LATER:
        import_module(module)


def compile_ahead(manifest: Manifest) -> None:
    """Compiles the project's own texts, before they are needed."""
    for macro in manifest.macros.values():
        if macro.package_name == manifest.metadata.project_name:
            get_template(macro.macro_sql, {})
    for node in manifest.nodes.values():
        get_template(node.raw_code, {})
        if isinstance(node, GenericTestNode):
            for argument in node.test_metadata.kwargs.values():
                if isinstance(argument, str):
                    get_template(argument, {}, native=True)


def forget_other_kinds(manifest: Manifest) -> None:
    """Drops the macros for kinds of nodes that are not there: dbt gives each node all macros."""
    kinds = {node.config.materialized for node in manifest.nodes.values()}
    if kinds <= _OWN_KINDS:
        manifest.macros = {
            name: macro
            for name, macro in manifest.macros.items()
            if not _OF_OTHER_KINDS.search(macro.path)
        }


def _replace(owner: type, name: str, function: Any) -> None:
    setattr(owner, name, function)
