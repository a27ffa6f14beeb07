// Keys, copying and live refresh. Everything works without this file, by links and forms.
"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  // Whatever is not pressed, ticked or dragged is typed into, kinds of fields that come later too.
  const pressed = ["button", "submit", "reset", "image", "checkbox", "radio", "file", "color", "range", "hidden"];
  const written = `input${pressed.map((kind) => `:not([type=${kind}])`).join("")}, textarea, select`;
  const typing = (target) => target.isContentEditable || target.closest?.(written);
  let pending = "";

  // --- rows ---
  const visible = (row) => row.offsetParent !== null;
  const rows = () => all("[data-row]").filter(visible);
  const current = () => document.querySelector("[data-row].selected");
  function select(row) {
    if (!row) return;
    current()?.classList.remove("selected");
    row.classList.add("selected");
    row.scrollIntoView({ block: "nearest" });
  }
  function move(by, wanted = () => true) {
    const list = rows().filter((row) => wanted(row) || row === current());
    const at = list.indexOf(current());
    const next = at < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(Math.max(at + by, 0), list.length - 1);
    select(list[next]);
  }
  function open(row) {
    const href = row?.dataset.href;
    if (href) location.assign(href);
  }
  function follow(selector) {
    const link = document.querySelector(selector);
    if (link) link.click();
    return Boolean(link);
  }

  // --- choosing two runs ---
  const boxes = () => all("input[name=pick]");
  function chosen(box) {
    const on = boxes().filter((one) => one.checked);
    if (on.length > 2) on.find((one) => one !== box).checked = false;
    const button = document.getElementById("compare");
    if (on.length >= 2 && button?.dataset.says) button.textContent = button.dataset.says;
  }

  const help = document.getElementById("help");
  function unfold() {
    const list = all("main details");
    const shut = list.some((one) => !one.open);
    for (const one of list) one.open = shut;
  }

  const keys = {
    j: () => move(1), k: () => move(-1), ArrowDown: null, ArrowUp: null,
    Enter: () => open(current()), o: () => open(current()),
    e: () => move(1, (row) => "error" in row.dataset),
    x: () => { const box = current()?.querySelector("input[name=pick]"); if (box) { box.checked = !box.checked; chosen(box); } },
    c: () => follow("[data-key=c]") || document.getElementById("compare")?.click(),
    n: () => follow("[data-key=n]"), p: () => follow("[data-key=p]"),
    f: () => follow("[data-key=f]"),
    "/": () => { const field = document.getElementById("search"); field?.focus(); field?.select(); },
    u: () => follow("[data-key=u]") || follow(".brand"),
    a: unfold, G: () => select(rows().at(-1)),
    "+": () => follow('[data-key="+"]'), "=": () => follow('[data-key="+"]'), "-": () => follow('[data-key="-"]'),
    "0": () => follow('[data-key="0"]'), "[": () => follow('[data-key="["]'), "]": () => follow('[data-key="]"]'),
    "?": () => (help?.open ? help.close() : help?.showModal()),
  };
  const going = { r: () => follow(".brand"), g: () => select(rows()[0]) };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { document.activeElement?.blur(); pending = ""; return; }
    if (typing(event.target)) return;
    if (event.key === "Enter" && event.target.closest("a, button, summary, input")) return;
    let action;
    if (pending === "g") {
      pending = "";
      action = going[event.key] ?? (() => follow(`[data-go="${CSS.escape(event.key)}"]`));
    } else if (event.key === "g") {
      pending = "g";
      event.preventDefault();
      return;
    } else {
      action = Object.hasOwn(keys, event.key) ? keys[event.key] : undefined;
    }
    if (action) { event.preventDefault(); action(); }
  });

  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      const text = document.getElementById(copy.dataset.copy)?.textContent ?? "";
      navigator.clipboard?.writeText(text).then(() => { copy.textContent = "Copied"; }, () => { copy.textContent = "Select and copy by hand"; });
      return;
    }
    const fetched = event.target.closest("[data-fetch]");
    if (fetched) {
      fetch(fetched.dataset.fetch).then((answer) => (answer.ok ? answer.text() : Promise.reject()))
        .then((text) => navigator.clipboard.writeText(text))
        .then(() => { fetched.textContent = "Copied"; }, () => location.assign(fetched.dataset.fetch));
      return;
    }
    if (event.target.closest("#helpbutton")) { help?.showModal(); return; }
    const row = event.target.closest("tr[data-row]");
    if (row && !event.target.closest("a, button, input, summary, label") && !String(getSelection())) { select(row); open(row); }
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("input[name=pick]")) chosen(event.target);
    else if (event.target.matches(".filters select, .filters input[type=checkbox]")) event.target.form.requestSubmit();
  });
  document.addEventListener("submit", (event) => {
    if (event.target.id === "pick" && boxes().filter((one) => one.checked).length !== 2) {
      event.preventDefault();
      const button = document.getElementById("compare");
      button.dataset.says ??= button.textContent;
      button.textContent = "Choose two runs first (x), then compare (c)";
    }
  });

  // --- a stretch of the timeline, dragged over with mouse or pen, fills it ---
  let drag = null;
  function instant(svg, clientX) {
    const box = svg.getBoundingClientRect();
    const { left, width, right, from, to } = svg.dataset;
    const x = ((clientX - box.left) / box.width) * width;
    const part = Math.min(Math.max((x - left) / (width - left - right), 0), 1);
    return Number(from) + part * (Number(to) - Number(from));
  }
  function pixel(svg, clientX) { return ((clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width) * svg.dataset.width; }
  document.addEventListener("pointerdown", (event) => {
    const svg = event.target.closest("svg.timeline");
    if (!svg || event.button !== 0 || event.pointerType === "touch" || location.protocol === "file:") return;
    if (pixel(svg, event.clientX) < Number(svg.dataset.left)) return;
    drag = { svg, at: event.clientX, mark: null };
  });
  document.addEventListener("pointermove", (event) => {
    if (!drag || Math.abs(event.clientX - drag.at) < 5) return;
    if (!drag.mark) {
      drag.mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [name, value] of [["class", "mark"], ["y", 0], ["height", "100%"]]) drag.mark.setAttribute(name, value);
      drag.svg.append(drag.mark);
      getSelection()?.removeAllRanges();
    }
    const ends = [pixel(drag.svg, drag.at), pixel(drag.svg, event.clientX)].map((x) => Math.max(x, Number(drag.svg.dataset.left)));
    drag.mark.setAttribute("x", Math.min(...ends));
    drag.mark.setAttribute("width", Math.abs(ends[0] - ends[1]));
  });
  document.addEventListener("pointerup", (event) => {
    const done = drag;
    drag = null;
    if (!done?.mark) return;
    done.mark.remove();
    document.addEventListener("click", (click) => { click.preventDefault(); click.stopPropagation(); }, { capture: true, once: true });
    setTimeout(() => document.dispatchEvent(new Event("click")), 0); // where the browser sends none after a drag
    const ends = [instant(done.svg, done.at), instant(done.svg, event.clientX)].sort((a, b) => a - b);
    const address = new URL(location.href);
    address.searchParams.delete("page");
    address.searchParams.set("from", ends[0].toFixed(6));
    address.searchParams.set("to", ends[1].toFixed(6));
    location.assign(address);
  });
  document.addEventListener("dragstart", (event) => { if (event.target.closest?.("svg.timeline")) event.preventDefault(); });

  // A link to a message inside a folded one opens it.
  function reveal() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    for (let one = target; one; one = one.parentElement?.closest("details")) if (one.tagName === "DETAILS") one.open = true;
    target?.scrollIntoView({ block: "start" });
  }
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();

  // --- live: when the files have grown, fetch this page again and put its parts in place ---
  const badge = document.getElementById("livebadge");
  const notice = document.getElementById("unreached");
  const served = location.protocol !== "file:";
  let address = served && "EventSource" in window ? document.body.dataset.live : "";
  let source = null;
  let later = 0; // the timer of the next try to follow
  let busy = false;
  let again = false;
  let kept = false; // a refresh waits for the field to be left that somebody types into
  let cost = 0; // milliseconds the last refresh took: a page that is slow to make is asked for less often
  let fresh = new Date(); // what is shown is from then
  function say(text) {
    if (!notice || notice.textContent === text) return;
    notice.textContent = text;
    notice.hidden = !text;
  }
  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    const began = performance.now();
    let why = "";
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok) put(new DOMParser().parseFromString(await answer.text(), "text/html"));
      else if (answer.status === 401) why = "The server was started anew and does not know this window: open the address that unspool web printed.";
      else if (answer.status === 404) why = "What this page shows is not in the store any more.";
      else why = `The server cannot make this page (${answer.status}).`;
    } catch { why = "The server is not reachable any more; it is tried again."; }
    if (why) say(`${why} What is shown here is from ${fresh.toLocaleTimeString()} and may be old.`);
    else { fresh = new Date(); say(""); }
    if (why && !address) setTimeout(refresh, 5000);
    cost = performance.now() - began;
    setTimeout(() => { busy = false; if (again) { again = false; refresh(); } }, Math.min(Math.max(4 * cost, 100), 10_000));
  }
  // A row that is new goes to the end, one that is known is replaced: the whole page follows when it is made.
  function append(markup) {
    const body = document.querySelector("table[data-tail] tbody");
    if (!body) return;
    for (const one of markup) {
      const holder = document.createElement("template");
      holder.innerHTML = one;
      const row = holder.content.querySelector("tr");
      if (!row) continue;
      const old = body.querySelector(`tr[data-href="${CSS.escape(row.dataset.href ?? "")}"]`);
      if (old?.classList.contains("selected")) row.classList.add("selected");
      if (old) old.replaceWith(row); else body.append(row);
    }
  }
  // What was typed into the parts, by field, and what has the focus there.
  const fields = () => all("[data-swap] [name]").filter((one) => one.matches(written));
  const place = (field) => JSON.stringify([field.form?.getAttribute("action"), field.name]);
  const traits = (one) => JSON.stringify([one.tagName, ...["id", "href", "name", "value"].map((name) => one.getAttribute(name))]);
  function put(page) {
    const active = document.activeElement?.closest("[data-swap] *");
    if (active && typing(active)) { kept = true; return; }
    const at = rows().indexOf(current());
    const chosen = current()?.dataset.href; // rows may have come in above it
    const picked = new Set(boxes().filter((one) => one.checked).map((one) => one.value));
    const typed = new Map(fields().filter((one) => one.value !== one.defaultValue).map((one) => [place(one), one.value]));
    const focused = active && traits(active);
    for (const part of all("[data-swap]")) {
      const fresh = page.getElementById(part.id);
      if (fresh) part.replaceWith(fresh);
    }
    for (const box of boxes()) box.checked = picked.has(box.value);
    for (const field of fields()) {
      const text = typed.get(place(field));
      if (text !== undefined && [...(field.options ?? [{ value: text }])].some((one) => one.value === text)) field.value = text;
    }
    if (focused) all(`[data-swap] ${active.tagName}`).find((one) => traits(one) === focused)?.focus({ preventScroll: true });
    if (at >= 0) {
      const same = chosen === undefined ? undefined : rows().find((row) => row.dataset.href === chosen);
      (same ?? rows()[at])?.classList.add("selected");
    }
    if (address && !page.body.dataset.live) { address = ""; deafen(); badge.hidden = true; }
    if ("stale" in page.body.dataset) setTimeout(refresh, 1000);
  }
  document.addEventListener("focusout", () => setTimeout(() => { if (kept) { kept = false; refresh(); } }, 0));
  // A browser opens six connections to a server: a page that nobody sees keeps none of them.
  function deafen() {
    clearTimeout(later);
    source?.close();
    source = null;
  }
  function listen() {
    if (source || !address || document.hidden) return;
    clearTimeout(later);
    source = new EventSource(address);
    // What was written between the making of the page and now is in no event.
    source.addEventListener("ready", () => { badge.hidden = false; refresh(); });
    // So many pages follow already that one more would leave no connection to load any: this one looks now and then.
    source.addEventListener("full", () => { deafen(); badge.hidden = false; refresh(); later = setTimeout(listen, 3000); });
    source.addEventListener("rows", (event) => append(JSON.parse(event.data)));
    source.addEventListener("grew", refresh);
    source.addEventListener("error", () => {
      badge.hidden = true;
      if (source?.readyState === EventSource.CLOSED) { deafen(); later = setTimeout(listen, 3000); } // else it tries by itself
      refresh(); // and says what is wrong
    });
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? deafen() : listen()));
  if (served && "stale" in document.body.dataset) setTimeout(refresh, 1000);
  listen();
})();
