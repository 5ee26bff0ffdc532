// Comfort for people with scripts: live updates wait while somebody uses the page, and times can
// be shown in local time. Every page works without it.
"use strict";
(() => {
  const status = document.getElementById("live-status");
  const live = () => document.getElementById("live");

  // say shows whether updates come. It writes only what has changed, because the place is read
  // aloud.
  const say = (what) => {
    if (status && live()?.hasAttribute("hx-get") && status.dataset.now !== what) {
      status.dataset.now = what;
      status.textContent = status.dataset[what];
    }
  };

  // inUse reports whether an update would take something from under a person: a form that is
  // open or has the focus, a selected text.
  const inUse = () => {
    const part = live();
    if (!part) return false;
    const focus = document.activeElement;
    if (focus && part.contains(focus) && focus.closest("form, summary")) return true;
    if (part.querySelector("details.act[open]")) return true;
    if ([...part.querySelectorAll("textarea")].some((t) => t.value)) return true;
    const chosen = document.getSelection();
    return !!chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode);
  };

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target !== live()) return;
    if (document.hidden || inUse()) {
      event.preventDefault();
      say(document.hidden ? "hidden" : "paused");
    }
  });

  // An update must not close what a person has opened.
  let open = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.target !== live()) return;
    if (inUse()) { // somebody has begun meanwhile
      event.detail.shouldSwap = false;
      say("paused");
      return;
    }
    open = [...live().querySelectorAll("details[id][open]")].map((d) => d.id);
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.target !== live()) return;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    showTimes();
    say("live");
  });
  for (const failed of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.addEventListener(failed, () => say("stale"));
  }

  // Times: the server writes UTC. Local time is shown if the person has chosen it here.
  const key = "tccsaga-console-times";
  const stored = () => { try { return localStorage.getItem(key); } catch { return null; } };
  const store = (value) => { try { localStorage.setItem(key, value); } catch { /* it is not remembered */ } };
  const two = (n) => String(n).padStart(2, "0");
  const localTime = (t) => `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`;
  const localClock = (t) => `${localTime(t)}.${String(t.getMilliseconds()).padStart(3, "0")}`;
  const shown = (time, at) => (time.hasAttribute("data-clock") ? localClock : localTime)(at);
  let zone = stored() === "local" ? "local" : "utc";
  const showTimes = () => {
    for (const time of document.querySelectorAll("time[datetime]:not([data-keep])")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      time.dataset.utcText ??= time.textContent;
      time.textContent = zone === "local" ? shown(time, at) : time.dataset.utcText;
    }
    const place = document.getElementById("zone");
    if (!place) return;
    place.hidden = false;
    if (!place.firstChild) {
      const button = document.createElement("button");
      button.type = "button";
      button.addEventListener("click", () => {
        zone = zone === "local" ? "utc" : "local";
        store(zone);
        showTimes();
      });
      place.append(button);
    }
    place.firstChild.textContent = zone === "local" ? place.dataset.local : place.dataset.utc;
  };
  showTimes();
  say("live");
})();
