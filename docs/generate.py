"""Write docs/cli.md and docs/api.md from the code; with --check, only say whether they are current."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

import click

DOCS = Path(__file__).parent
MODULES = (
    "unspool",
    "unspool.events",
    "unspool.recording",
    "unspool.strace",
    "unspool.replay",
    "unspool.trace",
    "unspool.context",
    "unspool.errors",
)


def cli_reference() -> str:
    """Every command's --help, also of those inside another, in the order of the table of commands."""
    from unspool.cli.main import cli

    out = ["# Command line", "", "Generated from the code by `make docs`. Do not edit.", ""]
    root = click.Context(cli, info_name="unspool", terminal_width=100, max_content_width=100)
    out += ["```text", cli.get_help(root).rstrip(), "```", ""]
    out += _commands(cli, root, 2)
    return "\n".join(out)


def _commands(group: click.Group, parent: click.Context, level: int) -> list[str]:
    """The --help of each command of a group; the commands of a group in it follow it, a heading deeper."""
    out = []
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
        out += [f"{'#' * level} {context.command_path}", "", "```text", command.get_help(context).rstrip(), "```", ""]
        if isinstance(command, click.Group):
            out += _commands(command, context, level + 1)
    return out


def api_reference() -> str:
    """Signatures and docstrings of every public name."""
    out = ["# Python API", "", "Generated from the code by `make docs`. Do not edit.", ""]
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        out += [f"## {module_name}", "", inspect.getdoc(module) or "", ""]
        for name in sorted(module.__all__):
            if name.startswith("__"):
                continue
            value = getattr(module, name)
            if inspect.isclass(value) and value.__module__.split(".")[0] != "unspool":
                continue
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            if inspect.isclass(value) and module_name == "unspool.recording" and value.__module__ == "unspool.events":
                continue  # described where it is defined
            out += [f"### {name}{_signature(value)}", "", _doc(value), ""]
            if inspect.isclass(value):
                out += _members(value)
    return "\n".join(out).rstrip() + "\n"


def _signature(value: object) -> str:
    try:
        text = str(inspect.signature(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    # Defaults that print their address would differ in every run.
    return text if "0x" not in text and len(text) < 600 else "(…)"


def _doc(value: object) -> str:
    own = value.__dict__.get("__doc__") if inspect.isclass(value) else inspect.getdoc(value)
    return inspect.cleandoc(own) if own else ""


def _members(cls: type) -> list[str]:
    out = []
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function) and (doc := inspect.getdoc(function)):
            shown = "" if isinstance(member, property) else _signature(function)
            text = doc.replace("\n", "\n  ")
            out.append(f"- **`{name}{shown}`** {text}")
    return [*out, ""] if out else []


def main() -> int:
    pages = {DOCS / "cli.md": cli_reference(), DOCS / "api.md": api_reference()}
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path} is not what the code says. Write it again with: make docs", file=sys.stderr)
        return 1 if stale else 0
    for path, text in pages.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
