"""What goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .models import Job


class TransloadError(Exception):
    """Everything that this package raises on its own behalf."""


class ConnectionFailed(TransloadError):
    """The service was not reached, or the connection broke off."""


class ProtocolError(TransloadError):
    """The answer is not what the service is described to answer."""


class WaitTimeout(TransloadError):
    """A job had not ended when the time was over. It goes on."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} is still {job.state}")
        self.job = job


class ApiError(TransloadError):
    """The service refused a request, or failed at it.

    `kind` is what to match on; `remedy` is what a person can do about it.
    """

    def __init__(
        self, status: int, kind: str, message: str, causes: tuple[str, ...] = (), remedy: str | None = None
    ) -> None:
        text = f"{message} ({remedy})" if remedy else message
        super().__init__(text)
        self.status = status
        self.kind = kind
        self.message = message
        self.causes = causes
        self.remedy = remedy


class InvalidInput(ApiError):
    """The request makes no sense, or contradicts itself."""


class Unauthorized(ApiError):
    """A token is needed, or the token is not known."""


class Denied(ApiError):
    """A policy of the service forbids it."""


class NotFound(ApiError):
    """There is no such thing."""


class Conflict(ApiError):
    """Something of that name is there already, or is in another state."""


class Corrupt(ApiError):
    """A rule of the image's format is broken."""


class Unsupported(ApiError):
    """The image is sound, and needs something that the service does not have."""


class Busy(ApiError):
    """The service has too much to do; `retry_after` seconds later it may have less."""

    retry_after: float | None = None


KINDS: dict[str, type[ApiError]] = {
    "invalid-input": InvalidInput,
    "unauthorized": Unauthorized,
    "denied": Denied,
    "not-found": NotFound,
    "conflict": Conflict,
    "corrupt": Corrupt,
    "unsupported": Unsupported,
    "busy": Busy,
}


class JobFailed(TransloadError):
    """A job that was waited for failed. `job.error` says why."""

    def __init__(self, job: Job) -> None:
        message = job.error.message if job.error else "no reason was given"
        super().__init__(f"job {job.id} failed: {message}")
        self.job = job


class JobCancelled(TransloadError):
    """A job that was waited for was cancelled."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.id} was cancelled")
        self.job = job
