// The form of a fork: the text of a message is fetched when it is opened. Everything works without this, by buttons.
"use strict";
(() => {
  const form = document.getElementById("fork-form");
  if (!form) return;

  async function load(box) {
    const which = box.dataset.field;
    const slot = box.querySelector(".slot");
    if (!which || !slot || slot.dataset.busy) return;
    slot.dataset.busy = "1";
    let text = "";
    try {
      const query = form.dataset.state ? "?keep-state=1" : "";
      const answer = await fetch(form.dataset.texts + which + query);
      if (!answer.ok) throw new Error("not there");
      text = (await answer.json()).text;
    } catch {
      delete slot.dataset.busy; // the button in it still works
      return;
    }
    const name = which === "answer" ? "response" : which === "system" ? "system" : `text-${which}`;
    const old = slot.querySelector("textarea");
    if (old && old.value) return; // something was typed meanwhile
    const field = document.createElement("textarea");
    field.id = name;
    field.name = name;
    field.value = text;
    field.rows = Math.min(Math.max(text.split("\n").length + 1, 4), 24);
    field.setAttribute("aria-label", which === "answer" ? "The model's answer" : which === "system" ? "System prompt" : `Text of message ${which}`);
    slot.replaceWith(field);
    delete box.dataset.field;
    if (box.contains(document.activeElement)) field.focus();
  }

  // `toggle` does not bubble.
  form.addEventListener("toggle", (event) => { if (event.target.open && event.target.dataset.field) load(event.target); }, true);
  for (const box of form.querySelectorAll("details[open][data-field]")) load(box);

  // Enter or o opens the message that j and k have chosen; Ctrl+Enter, also in a text, is a dry run.
  document.addEventListener("keydown", (event) => {
    const row = form.querySelector("details[data-row].selected");
    const away = event.target === document.body;
    if (away && row && (event.key === "Enter" || event.key === "o") && !event.ctrlKey && !event.metaKey && !event.altKey) {
      row.open = !row.open;
      row.querySelector("summary").focus();
      event.preventDefault();
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit(document.getElementById("dry-run"));
    }
  });
  // One press starts one fork.
  form.addEventListener("submit", (event) => {
    if (!["run", "send"].includes(event.submitter?.value)) return;
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "1";
  });
  addEventListener("pageshow", () => { delete form.dataset.sent; });

  const told = document.getElementById("fork-error") ?? document.getElementById("plan");
  if (told) {
    told.scrollIntoView({ block: "start" });
    document.getElementById("plan")?.focus({ preventScroll: true });
  } else if (/^#m\d+$/.test(location.hash)) {
    const fresh = [...form.querySelectorAll(".added textarea")].find((one) => !one.value);
    (fresh ?? document.getElementById(`text-${location.hash.slice(2)}`))?.focus();
  }
})();
