"""`unspool completion`: what a shell loads to complete commands, options and record ids."""

from __future__ import annotations

import click

from unspool.cli.options import Command
from unspool.cli.terminal import put

__all__ = ["completion"]


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script for shell completion.

    Completes commands, options and the ids of recordings.

    \b
        eval "$(unspool completion bash)"     # a line for ~/.bashrc
        eval "$(unspool completion zsh)"      # a line for ~/.zshrc
        unspool completion fish > ~/.config/fish/completions/unspool.fish
    """
    from click.shell_completion import get_completion_class

    from unspool.cli.main import COMPLETE_VARIABLE

    shell_class = get_completion_class(shell)
    assert shell_class is not None, "click knows these three"
    put(shell_class(context.find_root().command, {}, "unspool", COMPLETE_VARIABLE).source())
