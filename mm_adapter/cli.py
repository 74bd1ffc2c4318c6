"""The ``mm-adapter`` command: parse, call, print."""

import os
import sys
from collections.abc import Sequence

from mm_adapter.errors import Stopped, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: 0, also after a SIGTERM that left the state of a run; 2 for bad input; 130 after Ctrl-C.
    """
    from mm_adapter.options import build_parser, parse

    try:
        parser = build_parser()
        options = parse(parser, sys.argv[1:] if arguments is None else list(arguments))
        options.run(options)
    except UserError as error:
        rank = os.environ.get("RANK", "0")
        print(f"mm-adapter: {error}" if rank == "0" else f"mm-adapter, rank {rank}: {error}", file=sys.stderr)
        return 2
    except Stopped:
        # The machine was wanted back, and everything is kept: what was asked for was done.
        return 0
    except KeyboardInterrupt:
        print("mm-adapter: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"mm-adapter: {error.filename or 'file system'}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
