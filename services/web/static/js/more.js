// Further hits of a search: they come when the end of those shown comes near, or when they are asked for.

import { gettext } from "./texts.js";

const NEAR = "300px"; // of the end
const BEYOND = 8; // pixels: the page itself scrolls to where the results begin

/** Return where an image is: one that is in several collections is a hit in each of them. */
const placeOf = (work) => work.querySelector("a.mount").getAttribute("href");

/**
 * Watch the end of the hits in `results`. `ask` returns the section of the results with so many hits, null if it does not
 * come; `took` is called with what the page shows of it then.
 */
export function watchMore(results, ask, took) {
  let loading = false;
  let isAwaited = false; // by somebody who asked, and goes on at the first of them
  let scrolled = false; // since these results came: whoever has not looked at them wants no more

  /** Whether another search is on its way: its results take the place of these, and more of these would stop it. */
  const isReplaced = () => results.getAttribute("aria-busy") === "true";

  async function load(asked, isAsked) {
    if (isReplaced()) return;
    isAwaited ||= isAsked; // also of those that just come by themselves
    if (loading) return;
    loading = true;
    asked.setAttribute("aria-disabled", "true");
    asked.textContent = gettext("Loading…");
    const before = results.firstElementChild;
    const section = await ask(asked.dataset.k);
    loading = false;
    if (results.firstElementChild !== before || !asked.isConnected || isReplaced()) return;
    if (!section) {
      asked.removeAttribute("aria-disabled");
      asked.textContent = gettext("Show more: the last try failed");
      scrolled = isAwaited = false;
      return;
    }
    const known = new Set([...results.querySelectorAll(".work")].map(placeOf));
    const shown = asked.dataset.moreHits === "append" ? append(before, section, known) : replace(section);
    took(shown);
    if (isAwaited) [...results.querySelectorAll(".work")].find((work) => !known.has(placeOf(work)))?.querySelector("a")?.focus();
    isAwaited = false;
    observe();
  }

  /** Put the hits that are new behind those shown, and what says how many there are in place of what did. */
  function append(before, section, known) {
    before.querySelector("ol.grid").append(...[...section.querySelectorAll(".work")].filter((work) => !known.has(placeOf(work))));
    for (const part of [".more-hits", ".share", ".facts"]) {
      const now = section.querySelector(part);
      if (now) before.querySelector(part)?.replaceWith(now);
    }
    before.dataset.summary = section.dataset.summary;
    before.dataset.address = section.dataset.address;
    return before;
  }

  function replace(section) {
    section.removeAttribute("data-picture"); // which the page shows already
    results.replaceChildren(section);
    return section;
  }

  const end = new IntersectionObserver((entries) => {
    if (scrolled && entries.some((entry) => entry.isIntersecting)) load(entries.at(-1).target, false);
  }, { rootMargin: NEAR });

  function observe() {
    end.disconnect();
    const link = results.querySelector("[data-more-hits=append]");
    if (link) end.observe(link);
  }

  new MutationObserver(() => {
    scrolled = isAwaited = false;
    observe();
  }).observe(results, { childList: true });
  addEventListener("scroll", () => {
    if (scrolled || results.getBoundingClientRect().top > -BEYOND) return;
    scrolled = true;
    observe();
  }, { passive: true });
  results.addEventListener("click", (event) => {
    const asked = event.target.closest("[data-more-hits]");
    if (!asked || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    load(asked, true);
  });
  observe();
}
