// What errors of the API say in the language of the page, by their codes: the API itself tells them in English, and more exactly.

import { LANGUAGE, gettext } from "./texts.js";

const WORDS = {
  address: gettext("This address is none that pictures are fetched from."),
  cancelled: gettext("It was cancelled."),
  conflict: gettext("This is not possible in the present state."),
  corrupt: gettext("The file is damaged. Save or copy it again."),
  "decoder-died": gettext("The file could not be read. Save it in another format."),
  empty: gettext("The file is empty."),
  error: gettext("This is a fault of Artseek; its log says more."),
  "fetch-off": gettext("Pictures are not fetched by their addresses here: save the picture, and choose the file."),
  forbidden: gettext("You may not do this."),
  format: gettext("Files of this format are not taken: save it as JPEG, PNG or TIFF."),
  gone: gettext("The file cannot be had any more."),
  "insufficient-storage": gettext("There is no room for it. Delete something, or try again later."),
  lost: gettext("What was under way was lost. Try again."),
  "not-an-image": gettext("The file is no image."),
  "not-deleted": gettext("Some of it could not be deleted. Try again."),
  "not-fetched": gettext("There is no picture at this address, or it did not come in time."),
  "not-found": gettext("It is not there, or not any more."),
  "not-renamed": gettext("The collection cannot be renamed at the moment."),
  rebuilding: gettext("The index is being rebuilt. Try again in a while."),
  sidecar: gettext("There is no image that this file says something of."),
  taken: gettext("The name is taken."),
  "too-complex": gettext("The file takes too much to be read. Save it in another format."),
  "too-large": gettext("The file is too large."),
  "too-many-pages": gettext("The document has too many pages."),
  "too-many-pixels": gettext("The picture has too many pixels."),
  "too-many-requests": gettext("You sent too much in a short time. Go on in a while."),
  "too-small": gettext("The picture is too small."),
  truncated: gettext("The end of the file is missing. Copy it again."),
  unavailable: gettext("A part of Artseek does not answer. Try again in a while."),
};

/** Return what an error of the API says, or a file that was not taken; undefined if that is nothing. */
export const saidOf = ({ code, detail, reason }) => (LANGUAGE === "en" ? undefined : WORDS[code]) ?? detail ?? reason;
