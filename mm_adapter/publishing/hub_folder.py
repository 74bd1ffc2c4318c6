"""From a run folder to the files that others get, and from there to a repository of the Hugging Face hub."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mm_adapter.adapter.checkpoint import CONFIG_FILE, WEIGHTS_FILE, read_weights
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import HUB, check_place, write_atomically, write_text
from mm_adapter.publishing.card import card_text
from mm_adapter.publishing.figures import Evaluation, find_evaluations
from mm_adapter.publishing.run_facts import SETTINGS_FILE, read_run
from mm_adapter.training.folder import RUN_FILE

CARD_FILE = "README.md"


@dataclass(frozen=True)
class Publication:
    """What is to be published.

    Attributes:
        repo: ``owner/name``.
        texts: file name -> content, the card among them.
        weights: file of the weights, which is published as it is.
        evaluations: whose figures the card has.
    """

    repo: str
    texts: dict[str, str]
    weights: Path
    evaluations: tuple[Evaluation, ...]

    def to_text(self) -> str:
        """Return a line for each file, for people."""
        sizes = {name: len(text.encode()) for name, text in self.texts.items()}
        sizes[WEIGHTS_FILE] = self.weights.stat().st_size
        count = sum(len(evaluation.figures) for evaluation in self.evaluations)
        lines = [f"{name:<26} {size:>13,} bytes" for name, size in sizes.items()]
        folders = ", ".join(str(evaluation.folder) for evaluation in self.evaluations)
        return "\n".join([*lines, f"{count} figures of {folders}" if count else "no figures: evaluate the run first"])

    def write(self, folder: Path) -> None:
        """Write the files into a folder, the card last.

        Raises:
            UserError: the folder cannot be written, or is that of the run.
        """
        if folder.resolve() == self.weights.parent.resolve():
            raise UserError(f"{folder}: is the folder of the run itself; choose another --out.")
        content = self.weights.read_bytes()
        write_atomically(folder / WEIGHTS_FILE, lambda path: _fill(path, content))
        for name, text in self.texts.items():
            write_text(folder / name, text)

    def upload(self, private: bool = False) -> str:
        """Make the repository where there is none, and put all files there in one commit; return its address.

        Args:
            private: for its owner alone.

        Raises:
            UserError: the hub refuses the card or the files, cannot be reached, or has the repository for everybody
                where it was to be private; nothing is uploaded then.
        """
        from huggingface_hub import CommitOperationAdd, HfApi, ModelCard

        operations = [CommitOperationAdd(name, text.encode()) for name, text in self.texts.items()]
        operations.append(CommitOperationAdd(WEIGHTS_FILE, str(self.weights)))
        api = HfApi(library_name="mm-adapter")
        try:
            ModelCard(self.texts[CARD_FILE]).validate()
            api.create_repo(self.repo, private=private, exist_ok=True)
            if private and not api.model_info(self.repo).private:
                raise UserError(
                    f"{self.repo}: is there already, for everybody to read. Make it private in its settings on the "
                    "hub, or choose another --repo; nothing was uploaded."
                )
            done = api.create_commit(self.repo, operations, commit_message="Publish adapter of mm-adapter")
        except UserError:
            raise
        except Exception as error:  # the library's, the network's and the hub's, all for the user
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(
                f"{self.repo}: cannot be published on the hub ({reason}). Log in with hf auth login, and check the "
                "name and the network."
            ) from error
        return str(done.commit_url)


def _fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def prepare(
    run: str | Path,
    repo: str,
    results: Sequence[Path] = (),
    licence: str | None = None,
    base: str | None = None,
    data: str | None = None,
) -> Publication:
    """Return the files of a run for the hub; nothing is written or sent.

    Args:
        run: folder of a trained or converted adapter.
        repo: ``owner/name``.
        results: folders of ``mm-adapter evaluate``; by default those within the run.
        licence: of the adapter, an identifier of the hub such as ``apache-2.0``; by default that of the base model,
            where it is known.
        base: ``hub:owner/name`` of the base model, where the run names a file or folder of this machine.
        data: what it was trained on, where the run does not say it.

    Raises:
        UserError: the name is none of the hub, or something of the run is missing or damaged.
    """
    check_place(f"{HUB}{repo}")
    folder = Path(run)
    facts = read_run(folder, base, data)
    read_weights(folder / WEIGHTS_FILE)  # what nobody could load is not published
    found = tuple(find_evaluations(folder, facts.parameters, results))
    values = {CONFIG_FILE: facts.description, SETTINGS_FILE: facts.settings, RUN_FILE: facts.result}
    texts = {name: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for name, value in values.items() if value}
    texts[CARD_FILE] = card_text(facts, repo, licence, found)
    return Publication(repo, texts, folder / WEIGHTS_FILE, found)


def push_to_hub(
    run: str | Path,
    repo: str,
    private: bool = False,
    results: Sequence[Path] = (),
    licence: str | None = None,
    base: str | None = None,
    data: str | None = None,
) -> str:
    """Publish a run on the Hugging Face hub, with a model card made from it; return the address of the commit.

    Args:
        run, repo, results, licence, base, data: as for `prepare`.
        private: for the repository's owner alone.

    Raises:
        UserError: as `prepare` and `Publication.upload`.
    """
    return prepare(run, repo, results, licence, base, data).upload(private)
