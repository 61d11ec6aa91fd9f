// Small helpers of the studio's admin pages: each works on data attributes, and the pages work without them.
// htmx would add an inline style for indicators, which no page has, and which the Content-Security-Policy refuses.
if (window.htmx) {
  window.htmx.config.includeIndicatorStyles = false;
}
document.addEventListener("DOMContentLoaded", () => {
  sendOnce();
  watchGeneration();
  keepFresh();
  switchModes();
  findPictures();
  keepFileNames();
});

// A second click on a button that sends a form is not sent; the server would refuse it too.
function sendOnce() {
  for (const form of document.querySelectorAll("form[data-once]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) {
        event.preventDefault();
      }
      form.dataset.sent = "yes";
    });
  }
  // Back in the browser's history, the page may be sent again.
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
    }
  });
}

// Follows what runs: moves the progress bar, and loads the page anew when the state has changed.
function watchGeneration() {
  const page = document.querySelector("[data-watch]");
  if (!page) {
    return;
  }
  const bar = page.querySelector("[data-progress]");
  const percent = page.querySelector("[data-percent]");
  const look = async () => {
    try {
      const response = await fetch(page.dataset.watch, { headers: { Accept: "application/json" } });
      const now = await response.json();
      if (now.status !== page.dataset.status) {
        window.location.reload();
        return;
      }
      if (bar) {
        bar.style.width = `${now.progress}%`;
        percent.textContent = now.progress;
      }
    } catch {
      // Offline, or logged out: the next look tells.
    }
    window.setTimeout(look, 2000);
  };
  window.setTimeout(look, 2000);
}

// A page of figures is loaded again every few seconds while somebody sees it, unless they are about to use something in it.
function keepFresh() {
  const part = document.querySelector("[data-refresh]");
  if (!part) {
    return;
  }
  const wait = 1000 * Number(part.dataset.refresh);
  const look = async () => {
    if (!document.hidden && !part.contains(document.activeElement)) {
      try {
        const response = await fetch(window.location.href);
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const fresh = page.querySelector("[data-refresh]");
        if (response.ok && fresh) {
          part.replaceChildren(...fresh.childNodes);
        }
      } catch {
        // Offline: the next look tells.
      }
    }
    window.setTimeout(look, wait);
  };
  window.setTimeout(look, wait);
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
