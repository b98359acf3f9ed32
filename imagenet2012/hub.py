"""Upload a folder to the Hugging Face Hub."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi

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
    api = HfApi()
    with _hub_errors(f"The repository {repo_id} cannot be had"):
        api.create_repo(repo_id, repo_type="dataset", private=not public, exist_ok=True)
        if not public and not api.repo_info(repo_id, repo_type="dataset").private:
            raise HubError(f"{repo_id} is there and public: pass --public if that is intended.")


def upload(folder: Path, files: list[Path], repo_id: str) -> None:
    """Upload files of a folder; started again, it sends only what has not arrived.

    Afterwards ``data/`` of the repository holds these files and nothing else: what an export with
    other shards left there would be read together with them.

    Raises
    ------
    HubError
        If it fails.
    """
    with _hub_errors(f"The upload to {repo_id} ended"):
        # Not `upload_large_folder` of huggingface-hub before 2: it removes nothing, and tries for
        # ever what the Hub refuses.
        HfApi().upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=str(folder),
            allow_patterns=[file.relative_to(folder).as_posix() for file in files],
            delete_patterns="data/*",
        )
