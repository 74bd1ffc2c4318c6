"""``mm-adapter publish``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.options import Several, Value
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import HUB, check_place, read_json

EXAMPLES = (
    "mm-adapter publish runs/first --repo USER/NAME --dry-run",
    "mm-adapter publish runs/first --repo USER/NAME --private --license cc-by-nc-4.0",
)
NOTES = ("It is uploaded by huggingface_hub, as the user that is logged in there.",)


def publish(
    run: Annotated[Path, Parameter(help="Publish the adapter in this run folder."), Value("RUN")],
    /,
    *,
    repo: Annotated[str, Parameter(help="Publish it under this name."), Value("USER/NAME")],
    private: Annotated[bool, Parameter(help="Let nobody else read it.")] = False,
    dry_run: Annotated[bool, Parameter(help="Print the card and what would be uploaded, and send nothing.")] = False,
    out: Annotated[
        Path | None,
        Parameter(help="Write the files into this folder and send nothing; by default they are uploaded."),
        Value("FOLDER"),
    ] = None,
    results: Annotated[
        tuple[Path, ...],
        Several,
        Parameter(help="Put the figures of these folders of evaluate on the card; by default of all within RUN."),
        Value("FOLDER"),
    ] = (),
    license: Annotated[
        str | None,
        Parameter(
            help="Give the adapter this licence, as the hub calls it; by default that of the base model, where it is "
            "known."
        ),
        Value("LICENCE"),
    ] = None,
    base: Annotated[
        str | None,
        Parameter(help="Call the base model this, where the run names a file or folder; by default what the run says."),
        Value("hub:OWNER/NAME"),
    ] = None,
    data: Annotated[
        str | None,
        Parameter(help="Say that it was trained on this, such as hub:owner/name; by default what the run says."),
        Value("DATA"),
    ] = None,
) -> None:
    """Write a model card from a run, and publish both on the Hugging Face hub."""
    # Before torch is imported: a typing error costs no time.
    check_place(f"{HUB}{repo}")
    read_json(run / "adapter_config.json", "adapter configuration")
    if out is not None and dry_run:
        raise UserError("--dry-run writes nothing; leave out it or --out.")
    from mm_adapter.publishing import prepare

    publication = prepare(run, repo, results, license, base, data)
    if dry_run:
        print(publication.texts["README.md"])
        print(publication.to_text())
        print("nothing was sent or written")
    elif out is not None:
        publication.write(out)
        print(publication.to_text())
        print(f"wrote {out}; nothing was sent")
    else:
        address = publication.upload(private)
        print(publication.to_text())
        print(f"published {address}")
