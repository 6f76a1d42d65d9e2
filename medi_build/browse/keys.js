"use strict";
// Keys for those who read many records; everything works without them.
const wide = matchMedia("(min-width: 50rem)").matches;
if (!wide) for (const facet of document.querySelectorAll("details.facet")) facet.open = false;

const back = document.querySelector("[data-back]");
if (back) {
  const last = sessionStorage.getItem("search");
  if (last) back.href = last;
} else if (location.pathname === "/") {
  sessionStorage.setItem("search", location.pathname + location.search);
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) link.click();
}

function step(by) {
  const links = [...document.querySelectorAll("a.open")];
  const at = links.indexOf(document.activeElement);
  const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by];
  if (next) next.focus();
}

const keys = {
  "/": () => document.querySelector("input[type=search]")?.focus(),
  j: () => step(1),
  k: () => step(-1),
  n: () => follow("a[rel=next]"),
  p: () => follow("a[rel=prev]"),
  u: () => follow("[data-back]"),
  x: () => document.querySelector("[data-mark]")?.focus(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
