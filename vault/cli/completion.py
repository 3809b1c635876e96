"""`datavault completion SHELL`: the completion script, to be evaluated by the shell."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL.

    \b
      bash:  eval "$(datavault completion bash)"          in ~/.bashrc
      zsh:   eval "$(datavault completion zsh)"           in ~/.zshrc
      fish:  datavault completion fish > ~/.config/fish/completions/datavault.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(ctx.find_root().command, {}, "datavault", "_DATAVAULT_COMPLETE").source())
