"""The bodies of Opsgenie's Alert API. What a client sends beyond them is kept and passed on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictStr

from outlast.relay.alert import instant

Priority = Literal["P1", "P2", "P3", "P4", "P5"]
_TEXT_MAX = 100_000


def _time(value: str) -> str:
    try:
        instant(value)
    except (ValueError, OverflowError):
        raise ValueError("must be a date and time, such as 2026-01-31T08:00:00Z") from None
    return value


def _storable(value: str) -> str:
    # PostgreSQL's text has no zero byte, and UTF-8 no half of a surrogate pair.
    if "\x00" in value:
        raise ValueError("must not have a zero byte")
    value.encode("utf-8")
    return value


Text = Annotated[StrictStr, Field(max_length=_TEXT_MAX), AfterValidator(_storable)]
Words = Annotated[StrictStr, Field(min_length=1, max_length=_TEXT_MAX), AfterValidator(_storable)]
Time = Annotated[StrictStr, Field(json_schema_extra={"format": "date-time"}), AfterValidator(_time)]


class Body(BaseModel):
    model_config = ConfigDict(extra="allow")


class Recipient(Body):
    """A team, user, escalation or schedule."""

    type: Literal["all", "none", "user", "escalation", "schedule", "team", "group"] | None = None
    id: Text | None = None
    name: Text | None = None
    username: Text | None = None


class ActionBody(Body):
    """What every change may carry."""

    user: Text | None = None
    source: Text | None = None
    note: Text | None = None

    def fields(self) -> Mapping[str, Any]:
        """In the words of relay/event."""
        return self.model_dump(exclude_none=True, include=set(type(self).model_fields))


class CreateBody(ActionBody):
    message: Words
    alias: Annotated[Text, Field(max_length=512)] | None = None
    description: Text | None = None
    responders: Annotated[list[Recipient], Field(max_length=200)] | None = None
    visibleTo: Annotated[list[Recipient], Field(max_length=200)] | None = None  # noqa: N815 - the vendor's name
    actions: Annotated[list[Text], Field(max_length=100)] | None = None
    tags: Annotated[list[Text], Field(max_length=500)] | None = None
    details: dict[str, Text] | None = None
    entity: Text | None = None
    priority: Priority | None = None


class NoteBody(ActionBody):
    note: Words


class SnoozeBody(ActionBody):
    endTime: Time  # noqa: N815 - the vendor's name


class AssignBody(ActionBody):
    owner: Recipient

    def fields(self) -> Mapping[str, Any]:
        owner = self.owner.username or self.owner.id or ""
        return {**super().fields(), "owner": owner}


class TagsBody(ActionBody):
    tags: Annotated[list[Words], Field(min_length=1, max_length=500)]


class DetailsBody(ActionBody):
    details: dict[str, Text]


class RespondersBody(ActionBody):
    responder: Recipient


class PriorityBody(ActionBody):
    priority: Priority


class MessageBody(ActionBody):
    message: Words


class DescriptionBody(ActionBody):
    description: Text


class Error(BaseModel):
    """How Opsgenie tells that something is wrong."""

    message: str
    requestId: str  # noqa: N815 - the vendor's name
    took: float
    code: int | None = None


class Success(BaseModel):
    result: str
    requestId: str  # noqa: N815 - the vendor's name
    took: float
    data: dict[str, str] | None = None


class RequestStatus(BaseModel):
    success: bool
    isSuccess: bool  # noqa: N815 - the vendor's name
    action: str
    processedAt: str  # noqa: N815 - the vendor's name
    integrationId: str  # noqa: N815 - the vendor's name
    status: str
    alertId: str | None = None  # noqa: N815 - the vendor's name
    alias: str | None = None


class RequestAnswer(BaseModel):
    requestId: str  # noqa: N815 - the vendor's name
    took: float
    data: RequestStatus
