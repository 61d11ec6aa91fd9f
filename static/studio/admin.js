// Small helpers of the studio's admin pages: each works on data attributes, and the pages work without them.
// htmx would add an inline style for indicators, which no page has, and which the Content-Security-Policy refuses.
if (window.htmx) {
  window.htmx.config.includeIndicatorStyles = false;
}
document.addEventListener("DOMContentLoaded", () => {
  sendOnce(document);
  sendOnceMore();
  watchGeneration();
  keepFresh();
  switchModes();
  findPictures();
  keepFileNames();
  reachByKeyboard();
});

// Unfold's filters, user menu and themes are opened by links without an address and by plain boxes, which the keyboard does not
// reach. What they open gets the focus.
function reachByKeyboard() {
  for (const opener of document.querySelectorAll("[x-on\\:click]:not(a[href], button, input, label, #changelist-filter-close)")) {
    opener.tabIndex = 0;
    opener.setAttribute("role", "button");
    for (const icon of opener.querySelectorAll(".material-symbols-outlined")) {
      icon.setAttribute("aria-hidden", "true");
    }
    opener.addEventListener("keydown", (event) => {
      if (event.target !== opener || (event.key !== "Enter" && event.key !== " ")) {
        return;
      }
      event.preventDefault();
      opener.click();
      const opened = opener.closest("#changelist") ? document.querySelector("#changelist-filter") : opener.parentElement.querySelector("nav");
      window.setTimeout(() => {
        const reached = [...(opened?.querySelectorAll("a[href], button, input, select, [tabindex='0']") ?? [])];
        reached.find((each) => each.checkVisibility())?.focus();
      }, 200);
    });
  }
}

// A second click on a button that sends a form is not sent; the server would refuse it too.
function sendOnce(part) {
  for (const form of part.querySelectorAll("form[data-once]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) {
        event.preventDefault();
      }
      form.dataset.sent = "yes";
    });
  }
}

// Back in the browser's history, the page may be sent again.
function sendOnceMore() {
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
    }
  });
}

// --- Pages that follow what happens -------------------------------------------------------------------------------------
//
// No page loads itself anew: that would drop the page that somebody is on the way to, and what they have typed. Parts of it
// (`data-part`) are put in place of the old ones, except those that somebody is using.

let leaving = false;
let pressed = false;
window.addEventListener("beforeunload", () => {
  leaving = true;
  // What they went to may have been a download, which leaves them here.
  window.setTimeout(() => (leaving = false), 10_000);
});
window.addEventListener("pageshow", () => (leaving = false));
// Between these two, the part with what is clicked may not go away.
window.addEventListener("pointerdown", () => (pressed = true), true);
for (const end of ["pointerup", "pointercancel"]) {
  window.addEventListener(end, () => window.setTimeout(() => (pressed = false), 0), true);
}

// Looks again and again, until `look` returns true: it is over.
function again(look, seconds) {
  const next = async () => {
    let isOver = false;
    if (!document.hidden && !leaving) {
      try {
        isOver = await look();
      } catch {
        // Offline: the next look tells.
      }
    }
    if (!isOver) {
      window.setTimeout(next, 1000 * seconds);
    }
  };
  window.setTimeout(next, 1000 * seconds);
}

// The answer; null when nobody may ask any more, which is told.
async function ask(url, accept) {
  const response = await fetch(url, { headers: { Accept: accept } });
  if (response.redirected && new URL(response.url).pathname.endsWith("/login/")) {
    const here = encodeURIComponent(window.location.pathname + window.location.search);
    tell("You are logged out, so that this page stands still:", "log in", `/admin/login/?next=${here}`);
    return null;
  }
  if (response.status === 403 || response.status === 404) {
    tell("This is gone, or you may not see it any more.", "To the studio", "/admin/");
    return null;
  }
  if (!response.ok) {
    throw new Error(`HTTP ${response.status}`);
  }
  return response;
}

// A sentence with a link above the page, once.
function tell(sentence, words, url) {
  let notice = document.querySelector("[data-notice]");
  if (!notice) {
    notice = document.createElement("p");
    notice.dataset.notice = "";
    notice.className = "studio-card studio-card-warn studio-above";
    notice.setAttribute("role", "status");
    document.querySelector("[data-watch], [data-refresh]").before(notice);
  }
  const link = document.createElement("a");
  link.className = "text-link";
  link.href = url;
  link.textContent = words;
  notice.replaceChildren(`${sentence} `, link);
}

function isChanged(field) {
  if (field.type === "hidden") {
    return false;
  }
  if (field.options) {
    const first = Math.max(0, [...field.options].findIndex((option) => option.defaultSelected));
    return field.selectedIndex !== first;
  }
  return field.checked !== field.defaultChecked || field.value !== field.defaultValue;
}

function isInUse(part) {
  const fields = [...part.querySelectorAll("input, textarea, select")];
  return pressed || fields.some((field) => field === document.activeElement || isChanged(field));
}

// Puts the fresh part in place of the old one; what is open stays open, and what has the focus keeps it.
function swap(old, fresh) {
  const open = [...old.querySelectorAll("details")].map((details) => details.open);
  const focused = old.contains(document.activeElement) ? document.activeElement.textContent.trim() : null;
  old.replaceChildren(...fresh.childNodes);
  [...old.querySelectorAll("details")].forEach((details, index) => (details.open ||= open[index]));
  if (focused !== null) {
    [...old.querySelectorAll("a, button, summary")].find((each) => each.textContent.trim() === focused)?.focus();
  }
  sendOnce(old);
}

// Swaps all parts that are not in use; true when none was left.
function swapParts(fresh) {
  let isWhole = true;
  for (const old of document.querySelectorAll("[data-part]")) {
    const part = fresh.querySelector(`[data-part="${old.dataset.part}"]`);
    if (part && isInUse(old)) {
      isWhole = false;
    } else if (part) {
      swap(old, part);
    }
  }
  return isWhole;
}

async function freshPage() {
  const response = await ask(window.location.href, "text/html");
  return response && new DOMParser().parseFromString(await response.text(), "text/html");
}

// Follows a generation: moves the progress bar, and swaps the parts of the page when the state has changed.
function watchGeneration() {
  const page = document.querySelector("[data-watch]");
  if (!page) {
    return;
  }
  again(async () => {
    const response = await ask(page.dataset.watch, "application/json");
    if (!response) {
      return true;
    }
    const now = await response.json();
    if (now.status === page.dataset.status) {
      const bar = page.querySelector("[data-progress]");
      if (bar) {
        bar.style.width = `${now.progress}%`;
        page.querySelector("[data-percent]").textContent = now.progress;
      }
      return false;
    }
    const fresh = await freshPage();
    const there = fresh?.querySelector("[data-status]");
    if (fresh && !there) {
      tell(`It is now: ${now.label}.`, "Open it again", window.location.href);
    }
    if (!there || leaving) {
      return !leaving;
    }
    if (!swapParts(fresh)) {
      tell(`It is now: ${now.label}. What you have typed is kept.`, "Load the page anew", window.location.href);
      return false;
    }
    document.querySelector("[data-notice]")?.remove();
    page.dataset.status = there.dataset.status;
    return !there.dataset.watch;
  }, 2);
}

// A page of figures is fetched again every few seconds while somebody sees it.
function keepFresh() {
  const part = document.querySelector("[data-refresh]");
  if (!part) {
    return;
  }
  again(async () => {
    const fresh = await freshPage();
    const there = fresh?.querySelector("[data-refresh]");
    if (there && !leaving && !isInUse(part)) {
      swap(part, there);
    }
    return !fresh;
  }, Number(part.dataset.refresh));
}

// One prompt or several shots: what is not chosen is not sent.
function switchModes() {
  for (const card of document.querySelectorAll("[data-modes]")) {
    const radios = card.querySelectorAll("input[name=mode]");
    const show = () => {
      const mode = card.querySelector("input[name=mode]:checked")?.value ?? "prompt";
      for (const part of card.querySelectorAll("[data-mode]")) {
        part.hidden = part.dataset.mode !== mode;
        for (const input of part.querySelectorAll("input, textarea, select")) {
          input.disabled = part.hidden;
        }
      }
    };
    radios.forEach((radio) => radio.addEventListener("change", show));
    if (radios.length) {
      show();
    }
    card.addEventListener("input", () => addUpShots(card));
    addUpShots(card);
  }
}

function addUpShots(card) {
  const told = card.querySelector("[data-shots-total]");
  if (told) {
    const seconds = [...card.querySelectorAll("input[name$=-duration]")].map((input) => Number(input.value) || 0);
    const total = seconds.reduce((sum, each) => sum + each, 0);
    told.textContent = total ? `Now ${total} seconds of ${card.querySelector("[name=duration]").value}.` : "";
  }
}

// Unfold writes a chosen file's name into the nearest text field, which would be the title here; this tells it not to.
function keepFileNames() {
  for (const input of document.querySelectorAll("input.studio-files")) {
    input.hasChangeListener = true;
  }
}

function findPictures() {
  for (const input of document.querySelectorAll("[data-find]")) {
    input.addEventListener("input", () => {
      for (const label of input.parentElement.querySelectorAll("label[data-words]")) {
        label.hidden = !label.dataset.words.includes(input.value.trim().toLowerCase());
      }
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
      }
    });
  }
}
