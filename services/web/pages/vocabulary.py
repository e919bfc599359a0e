"""The words of the program that pages show: states, roles, standard fields and the like, so that catalogues have them.

The program knows them in English, and templates look them up by `translated`.
"""

from typing import Final

from services.web.languages import marked, saying, translated

FIELDS: Final = {
    "label": marked("label"),
    "title": marked("title"),
    "caption": marked("caption"),
    "creator": marked("creator"),
    "date": marked("date"),
    "credit": marked("credit"),
    "rights": marked("rights"),
    "keywords": marked("keywords"),
    "place": marked("place"),
    "source": marked("source"),
    "identifier": marked("identifier"),
    "url": marked("url"),
}
JOB_STATES: Final = (
    marked("open"),
    marked("running"),
    marked("done"),
    marked("cancelled"),
)
ROLES: Final = (marked("viewer"), marked("curator"), marked("admin"))
VISIBILITIES: Final = {
    marked("private"): marked("only those with a role in it"),
    marked("shared"): marked("everybody who is logged in"),
    marked("public"): marked("everybody"),
}
MODES: Final = {
    marked("Auto"): marked("Exact for small collections, the index for large ones"),
    "Lsh": marked("Ranks the images in the same buckets of the index"),
    marked("Exact"): marked("Ranks every image"),
}
METRICS: Final = {"cosine": marked("Cosine"), "euclidean": marked("Euclidean")}
METRICS_IN_TITLES: Final = (marked("cosine"), marked("euclidean"))
STAGES: Final = (
    marked("decode"),
    marked("embed"),
    marked("probe"),
    marked("fetch"),
    marked("rank"),
    marked("total"),
)
PARAMETERS: Final = (
    marked("tables"),
    marked("hashes"),
    marked("width"),
    marked("cells"),
    marked("probes"),
)
WAYS: Final = (
    marked("identical"),
    marked("re-encoded"),
    marked("resized"),
    marked("cropped"),
    marked("mirrored"),
    marked("retouched"),
)

REASONS: Final = (
    marked("the same in all that counts, and the first that was added"),
    marked("the same in all that counts"),
)
COPIES: Final = (marked("near"),)

DAMAGE: Final = (
    marked("the collection's manifest cannot be read; restore it from a backup"),
    marked("there are segments of a collection that has no manifest"),
    marked("a segment cannot be read, so its images are not found; restore it from a backup"),
    marked("a segment is gone; restore it from a backup, or its images from the trash after a rebuild"),
    marked("the images of a segment are in no index"),
    marked("an image is in two segments"),
    marked("Redis does not know that an image is in the collection"),
    marked("Redis has an image in another segment than the object store"),
    marked("Redis counts an image as added that the object store does not have"),
    marked("Redis and the object store name different generations of the index"),
    marked("the generation in use cannot be read"),
    marked("an image is not in all of its buckets"),
    marked("buckets hold images that are gone"),
    marked("tombstones of segments that are gone"),
    marked("a list of deleted rows cannot be read; restore it from a backup"),
    marked("a merge of segments was begun and not finished"),
    marked("the original of an image is gone; add the file again"),
    marked("an original is not what its name says; add the file again, or restore it from a backup"),
    marked("an original that no collection, trash or upload holds"),
    marked(
        "the file of a linked original cannot be read: mount its folder, name it in ARTSEEK_LINK_ROOTS "
        "here, or sync the folder that the file is in now"
    ),
    marked("the file of a linked original has other content: put the old one back, or sync its folder"),
    marked("the original of an image in the trash is gone, so that it cannot be restored"),
    marked("a list of deleted images cannot be read; restore it from a backup"),
    marked("the query service does not serve what the object store has"),
    marked("an evaluation cannot be read; delete it"),
    marked("parts of an evaluation, or a search for duplicates, that is not under way"),
    marked("a query set cannot be read"),
    marked("the original of a query is gone; send the query set again"),
)

REFUSALS: Final = (
    marked("Bad Request"),
    marked("Unauthorized"),
    marked("Forbidden"),
    marked("Method Not Allowed"),
    marked("Conflict"),
    marked("Request Entity Too Large"),
    marked("Unsupported Media Type"),
    marked("Misdirected Request"),
    marked("Unprocessable Entity"),
    marked("Too Many Requests"),
)

SAYINGS: Final = (
    saying("most pixels: %(size)s"),
    saying("as many pixels, and the better format: %(format)s"),
    saying("as many pixels, and the fullest record: %(count)s values, labels and paths"),
    saying("as many pixels and as full a record, and the largest file: %(size)s bytes"),
    saying("there is no collection %(name)s"),
    saying("the collection %(name)s has no image %(id)s"),
    saying("there is no image %(id)s in any of the collections that are searched: %(names)s"),
    saying(
        "the images searched for are of collections with different models, whose embeddings do not compare; leave "
        "those of one: %(places)s"
    ),
    saying("the trash of the collection %(name)s has no image %(id)s"),
    saying(
        "its model is %(model)s, version %(version)s, and the search is by %(other)s, version %(other_version)s: "
        "their embeddings do not compare"
    ),
    marked("it has just changed to another model, or was renamed: search again"),
    marked("the job was cancelled before it was added"),
    marked("it is too small for windows of it"),
    saying("there is no job %(job)s; jobs are kept for a week"),
    saying("there is no evaluation %(id)s"),
    saying("the collection %(name)s has no evaluation %(id)s"),
    saying("there is no account %(name)s; `artseek users list` lists them"),
    saying("there is no API key %(key)s; `artseek keys list` lists them"),
    marked("you have too many requests in progress; wait for some of them"),
    saying("the account %(name)s is somebody else's here: an administrator can remove it, or give it another name"),
    saying("the account %(name)s has %(count)s API keys, at most %(most)s: revoke some first"),
    saying("the collection %(name)s has %(count)s share links, at most %(most)s: revoke some first"),
    saying("the account %(name)s is shut out: an administrator can let it in again"),
    saying("the password has %(count)s characters: use %(least)s to %(most)s"),
    marked("the password is the name of the account: use another"),
    saying("the index (Redis or Valkey) does not answer at %(place)s"),
    saying("the %(part)s at %(target)s does not answer: %(reason)s"),
)


def field_name(field: str) -> str:
    """Return what a field of records is called: a standard one in the language of whoever asks, any other as it is."""
    return translated(FIELDS[field]) if field in FIELDS else field.replace("_", " ")
