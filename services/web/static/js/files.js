// Files that reach a page: chosen, dropped anywhere on it, or pasted.

const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

/** Call `take` with the files that are dropped on the page; `overlay` shows where they go. */
export function watchDrops(overlay, take) {
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
    take([...event.dataTransfer.files]);
  });
}

/** Call `take` with the files that are pasted, `none` if what is pasted outside a text field is no file. */
export function watchPastes(take, none) {
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      take(files);
    } else if (!event.target.closest?.("input, textarea")) {
      none();
    }
  });
}
