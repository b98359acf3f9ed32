"""Upload a folder to the Hugging Face Hub."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
        raise HubError(f"{what}: {error}") from error


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


def upload(folder: Path, repo_id: str) -> None:
    """Upload a folder; started again, it goes on where it was.

    Raises
    ------
    HubError
        If it fails.
    """
    api = _api()
    # Since huggingface-hub 2, uploading a folder goes on where it was by itself.
    send = getattr(api, "upload_large_folder", api.upload_folder)
    with _hub_errors("The upload ended; the same command goes on with it"):
        send(
            repo_id=repo_id,
            folder_path=str(folder),
            repo_type="dataset",
            allow_patterns=["README.md", "data/*.parquet"],  # nothing else that may lie there
        )


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi()
