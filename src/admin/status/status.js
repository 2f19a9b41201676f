// Looks again every ten seconds, for as long as the box is ticked and the page is seen. Without it the page is as it was sent.
"use strict";
const live = document.getElementById("live");
const age = document.getElementById("age");
document.getElementById("liveness").hidden = false;
async function look() {
  if (!live.checked || document.hidden) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const open = document.querySelector("details")?.open;
    document.querySelector("main").replaceWith(page.querySelector("main"));
    const details = document.querySelector("details");
    if (details && open) details.open = true;
    age.textContent = "";
  } catch {
    age.textContent = "The sidecar does not answer; what you see is old.";
  }
}
setInterval(look, 10000);
