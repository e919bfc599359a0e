// Files, folders and pictures of other pages that the user drops on a page or pastes into it.

/** Take the files that are chosen, at once those that were chosen before this script was there. */
export function watchChoice(input, take) {
  const look = () => input.files.length && take([...input.files]);
  input.addEventListener("change", look);
  look();
}

const types = (event) => [...(event.dataTransfer?.types ?? [])];

/** Return the address of the picture that was dragged, or else of the link; empty if there is none. */
function draggedAddress(data) {
  const page = new DOMParser().parseFromString(data.getData("text/html"), "text/html"); // which loads nothing
  const picture = page.querySelector("img[src]")?.getAttribute("src");
  const link = data.getData("text/uri-list").split(/[\r\n]+/).find((line) => line && !line.startsWith("#"));
  return (picture && URL.canParse(picture) ? picture : link) ?? "";
}

/** Return the file that a `data:` address holds; null if it holds no picture that can be read. */
export function fileOfAddress(address) {
  const [, kind, content] = address.match(/^data:(image\/[\w.+-]+)[^,]*;base64,(.*)$/s) ?? [];
  try {
    return kind ? new File([Uint8Array.from(atob(decodeURIComponent(content)), (letter) => letter.charCodeAt(0))], "picture", { type: kind }) : null;
  } catch {
    return null;
  }
}

/**
 * Return why a file of a folder is no image to take, as `artseek ingest` has it; empty if it may be one. The `rules` are
 * those of shared/passed_over.py. XMP files are sent with their images.
 */
export function kindPassedOver(path, rules) {
  const names = path.split("/");
  const file = names.pop();
  const hidden = (name) => (name.startsWith(".") && !name.startsWith("..") ? "hidden" : "");
  for (const folder of names) {
    const kind = rules.folders[folder.toLowerCase()] ?? hidden(folder);
    if (kind) return kind;
  }
  const known = rules.files[file.toLowerCase()];
  if (known) return known;
  if (file.startsWith("._")) return "._*";
  if (hidden(file)) return "hidden";
  const suffix = file.toLowerCase().match(/[^.]\.[^.]+$/)?.[0].slice(1) ?? "";
  return suffix === ".xmp" ? "" : (rules.suffixes[suffix] ?? "");
}

/** Return the files below an entry of a drop, each with its path; `all`: hidden ones too. */
async function filesBelow(entry, all) {
  if (entry.isFile) {
    const file = await new Promise((resolve) => { entry.file(resolve, () => resolve(null)); });
    if (file) file.path = entry.fullPath.replace(/^\//, "");
    return file ? [file] : [];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a reader gives some at a time
    const some = await new Promise((resolve) => { reader.readEntries(resolve, () => resolve([])); });
    if (!some.length) break;
    for (const inner of some) if (all || !inner.name.startsWith(".")) found.push(...await filesBelow(inner, all));
  }
  return found;
}

/** Return what was dropped: files, those of folders with their paths, and whether there was a folder. */
async function droppedFiles(data, all) {
  const files = [...data.files];
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return { files, hasFolder: false };
  return { files: (await Promise.all(entries.map((entry) => filesBelow(entry, all)))).flat(), hasFolder: true };
}

/**
 * Call `onFiles` with the files dropped on the page, and whether a folder was among them; `onAddress`, if it is given,
 * with the address of a picture dragged from another page. `overlay` is shown while either is dragged over it.
 * `all`: hidden files of folders are given too.
 */
export function watchDrops(overlay, onFiles, onAddress = null, { all = false } = {}) {
  const carriesFiles = (event) => types(event).includes("Files") || (onAddress && types(event).includes("text/uri-list") && !event.target.closest?.("input, textarea"));
  let depth = 0;
  const show = (shown) => { overlay.hidden = !shown; };
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    show(true);
  });
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth = Math.max(0, depth - 1);
    show(depth > 0);
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    show(false);
    const address = onAddress ? draggedAddress(event.dataTransfer) : "";
    if (address && (!event.dataTransfer.files.length || address.startsWith(location.origin))) onAddress(address);
    else droppedFiles(event.dataTransfer, all).then(({ files, hasFolder }) => onFiles(files, hasFolder));
  });
}

/** Call `onFiles` with pasted files, `onOther` with the text if something else is pasted outside a text field. */
export function watchPastes(onFiles, onOther) {
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      onFiles(files);
    } else if (!event.target.closest?.("input, textarea")) {
      onOther(event.clipboardData?.getData("text/plain") ?? "");
    }
  });
}
