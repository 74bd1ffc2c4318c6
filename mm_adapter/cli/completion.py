"""``mm-adapter completion``."""

from typing import Annotated, Literal

from cyclopts import Parameter

from mm_adapter.cli.options import Value

EXAMPLES = (
    "source <(mm-adapter completion bash)",
    "mm-adapter completion zsh > ~/.zfunc/_mm-adapter",
    "mm-adapter completion fish > ~/.config/fish/completions/mm-adapter.fish",
)


def completion(
    shell: Annotated[Literal["bash", "zsh", "fish"], Parameter(help="Print the script of this shell."), Value("SHELL")],
    /,
) -> None:
    """Print a script that completes commands and options in a shell."""
    from mm_adapter.cli import build_app

    script = build_app().generate_completion(shell=shell)
    if shell == "bash":
        # Where nothing of ours fits, bash completes names of files.
        script = script.replace("complete -F ", "complete -o bashdefault -o default -F ")
    print(script)
