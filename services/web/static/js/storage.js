// What the browser keeps for this site; it may keep nothing, and say so by an error.

/** Do something with what the browser keeps; returns null where it keeps nothing. */
export function withStorage(act) {
  try {
    return act(localStorage);
  } catch {
    return null;
  }
}
