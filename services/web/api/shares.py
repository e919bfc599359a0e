"""Share links: whoever has the address of one may look at a collection, or at some of its images, until it ends."""

from typing import Annotated

from flask.typing import ResponseReturnValue
from pydantic import Field

from services.web.access import of_path
from services.web.access.sharing import end_share, make_share, share_url, shares_of
from services.web.api.inputs import READ_INTEGER, CollectionPath, ImageId, Input, checked
from services.web.api.openapi import Answer, Body, flat_schema
from services.web.api.operations import api, json_body, reply
from services.web.clients import web_clients
from shared.access.links import MOST_DAYS, MOST_IMAGES
from shared.schemas.access import ShareAnswer, SharesAnswer, share_answer


class SharePath(CollectionPath):
    """Path of a share link."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$", description="Id of the share link.")]


class NewShare(Input):
    """What a share link is to show, and for how long."""

    days: Annotated[int, Field(ge=1, le=MOST_DAYS, description="Days after which the link ends."), READ_INTEGER] = 14
    images: Annotated[
        list[ImageId],
        Field(
            default_factory=list,
            max_length=MOST_IMAGES,
            description="The images that it shows, in this order; none: the collection.",
        ),
    ]
    query: Annotated[ImageId | None, Field(description="The image that these were found by; null: none.")] = None


@api.operation(
    "GET",
    "/collections/{name}/shares",
    rule=of_path("change"),
    path_model=CollectionPath,
    answers={200: Answer("The share links.", SharesAnswer)},
    problems=(404, 503),
)
def list_shares(path: CollectionPath) -> ResponseReturnValue:
    """List the share links of a collection that have not ended, the newest first."""
    web_clients().query.collection(path.name)
    return reply(SharesAnswer(shares=[share_answer(link, share_url(link)) for link in shares_of(path.name)]))


@api.operation(
    "POST",
    "/collections/{name}/shares",
    rule=of_path("change"),
    path_model=CollectionPath,
    bodies={"application/json": Body(flat_schema(NewShare))},
    answers={201: Answer("The share link.", ShareAnswer)},
    problems=(404, 503),
)
def make_share_link(path: CollectionPath) -> ResponseReturnValue:
    """Make a share link, of a whole collection or of some of its images.

    Whoever has its address may look at the collection and search it, or look at small pictures of these images. It
    ends after its days, when it is revoked, and when the account or key that made it may not change the collection any
    more.
    """
    web_clients().query.collection(path.name)
    wanted = checked(NewShare, json_body(), "body", texts=False)
    link = make_share(path.name, images=wanted.images, query=wanted.query or 0, days=wanted.days)
    return reply(share_answer(link, share_url(link)), 201)


@api.operation(
    "DELETE",
    "/collections/{name}/shares/{id}",
    rule=of_path("change"),
    path_model=SharePath,
    answers={204: Answer("The link leads nowhere any more.")},
    problems=(404, 503),
)
def revoke_share(path: SharePath) -> ResponseReturnValue:
    """End a share link at once."""
    end_share(path.name, path.id)
    return "", 204
