"""Upload a folder to the Hugging Face Hub."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

AGAIN = "The same command goes on where it was."
# By the status of the Hub's answer: what to do. Without one, the Hub was not reached.
ADVICE = {
    401: "Log in with `hf auth login`, or set HF_TOKEN. " + AGAIN,
    402: "The account has no storage left for it: free some or buy some. " + AGAIN,
    403: "Doing it again will not help: the token needs the right to write to this repository, "
    "or the account has no storage left for it. Once that is mended, the same command goes on.",
    404: "It was removed or renamed, or is not for you to see: check its name and your login.",
    413: "The account has no storage left for it: free some or buy some. " + AGAIN,
    429: "The Hub takes no more requests for now: wait some minutes. " + AGAIN,
}


class HubError(RuntimeError):
    """The Hub refused, or could not be reached."""


@contextlib.contextmanager
def _hub_errors(what: str) -> Iterator[None]:
    # What is raised without a network depends on the HTTP library: requests, httpx or httpx2.
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        raise HubError(f"{what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return what an error and its causes say, and the advice that fits."""
    said: list[str] = []
    status = None
    cause: BaseException | None = error
    while cause:
        words = " ".join(str(cause).split()) or type(cause).__name__
        if not any(words in one for one in said):
            said.append(words)
        status = status or getattr(getattr(cause, "response", None), "status_code", None)
        cause = cause.__cause__
    if status is None or status >= 500:
        advice = f"Check the network and https://status.huggingface.co. {AGAIN}"
    else:
        advice = ADVICE.get(status, "Doing it again will not help.")
    return f"{' ('.join(said)}{')' * (len(said) - 1)}\n{advice}"


def get_repository(repo_id: str, public: bool) -> None:
    """Make a dataset repository, private unless `public`, or see that it is there and as wanted.

    Raises
    ------
    HubError
        If nobody is logged in, the Hub is out of reach, or the repository is there but public.
    """
    api = _api()
    with _hub_errors(f"The repository {repo_id} cannot be had"):
        api.create_repo(repo_id, repo_type="dataset", private=not public, exist_ok=True)
        if not public and not api.repo_info(repo_id, repo_type="dataset").private:
            raise HubError(f"{repo_id} is there and public: pass --public if that is intended.")


def upload(folder: Path, files: list[Path], repo_id: str) -> None:
    """Upload files of a folder; started again, it goes on where it was.

    Afterwards ``data/`` of the repository holds these files and nothing else: what an export with
    other shards left there would be read together with them.

    Raises
    ------
    HubError
        If it fails.
    """
    api, repository = _api(), {"repo_id": repo_id, "repo_type": "dataset"}
    names = [file.relative_to(folder).as_posix() for file in files]
    sent: dict[str, Any] = {**repository, "folder_path": str(folder), "allow_patterns": names}
    with _hub_errors(f"The upload to {repo_id} ended"):
        if hasattr(api, "upload_large_folder"):  # goes on where it was, but removes nothing
            api.upload_large_folder(**sent)
            _remove_others(api, repository, names)
        else:  # since huggingface-hub 2 this does both
            api.upload_folder(**sent, delete_patterns="data/*")


def _remove_others(api: Any, repository: dict[str, str], names: list[str]) -> None:
    from huggingface_hub import CommitOperationDelete

    there = api.list_repo_files(**repository)
    others = [name for name in there if name.startswith("data/") and name not in names]
    if others:
        operations = [CommitOperationDelete(name) for name in others]
        message = "Remove what is not of this export"
        api.create_commit(**repository, operations=operations, commit_message=message)


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi()
