// Files that the user drops on a page or pastes into it.

const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

/** Call `onFiles` with the files dropped on the page; `overlay` is shown while files are dragged over it. */
export function watchDrops(overlay, onFiles) {
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
    onFiles([...event.dataTransfer.files]);
  });
}

/** Call `onFiles` with pasted files, `onOther` if something else is pasted outside a text field. */
export function watchPastes(onFiles, onOther) {
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      onFiles(files);
    } else if (!event.target.closest?.("input, textarea")) {
      onOther();
    }
  });
}
