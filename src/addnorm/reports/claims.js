"use strict";
(() => {
  const claims = [...document.querySelectorAll(".claim")], form = document.getElementById("filter");
  const scheme = document.getElementById("scheme"), text = document.getElementById("text");
  const verdicts = [...form.querySelectorAll("[name=verdict]")], fold = document.getElementById("fold");
  const words = new Map(claims.map((claim) => [claim, claim.textContent.toLowerCase()]));
  let current = "";

  // What is asked for, whatever the verdict: its counts stand beside the verdicts.
  const fits = (claim) =>
    (!scheme.value || claim.dataset.schemes.split(" ").includes(scheme.value)) &&
    text.value.toLowerCase().split(/\s+/).every((word) => words.get(claim).includes(word));
  const verdict = () => form.elements.verdict.value;
  const seen = () => claims.filter((claim) => !claim.classList.contains("out"));

  const name = () => {
    const all = seen();
    fold.textContent = all.length && all.every((claim) => claim.open) ? "Close all" : "Open all";
  };
  const show = () => {
    const fitting = claims.filter(fits);
    for (const choice of verdicts) {
      const count = fitting.filter((claim) => !choice.value || claim.dataset.verdict === choice.value).length;
      form.querySelector(`label[for="${choice.id}"] .count`).textContent = count;
    }
    for (const claim of claims)
      claim.classList.toggle("out", !(fits(claim) && (!verdict() || claim.dataset.verdict === verdict())));
    const count = seen().length;
    document.getElementById("shown").textContent = `${count} of ${claims.length} claims`;
    document.getElementById("none").hidden = count > 0;
    name();
  };

  // The address keeps the filter and the claim that was opened last: #verdict=...&scheme=...&text=...&claim=...
  const remember = () => {
    const kept = new URLSearchParams();
    for (const [key, value] of [["verdict", verdict()], ["scheme", scheme.value], ["text", text.value.trim()], ["claim", current]])
      if (value) kept.set(key, value);
    try { history.replaceState(null, "", `#${kept}`); } catch { /* a page in a frame may have no address of its own */ }
  };
  const plain = (hash) => { try { return hash.includes("=") ? hash : decodeURIComponent(hash); } catch { return ""; } };
  // Also a claim's name alone, as links of other pages have it.
  const recall = () => {
    const hash = plain(location.hash.slice(1)), kept = new URLSearchParams(hash.includes("=") ? hash : "");
    const wanted = claims.find((claim) => claim.id === (kept.get("claim") ?? hash));
    if (hash && !hash.includes("=") && !wanted) return; // a place on the page
    for (const choice of verdicts) choice.checked = choice.value === (kept.get("verdict") ?? "");
    if (!verdicts.some((choice) => choice.checked)) verdicts[0].checked = true;
    scheme.value = kept.get("scheme") ?? "";
    if (scheme.selectedIndex < 0) scheme.value = "";
    text.value = kept.get("text") ?? "";
    current = wanted ? wanted.id : "";
    show();
    if (wanted) {
      wanted.open = true;
      wanted.scrollIntoView();
    }
  };

  for (const claim of claims) {
    claim.open = false;
    claim.addEventListener("toggle", name);
    claim.querySelector("summary").addEventListener("click", () => {
      current = claim.open ? (current === claim.id ? "" : current) : claim.id; // before it turns
      remember();
    });
  }
  form.hidden = false;
  form.addEventListener("input", () => { show(); remember(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { current = ""; show(); remember(); }));
  fold.addEventListener("click", () => {
    const open = fold.textContent === "Open all";
    for (const claim of seen()) claim.open = open;
    name();
  });
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = claims.filter((claim) => !claim.open);
    for (const claim of folded) claim.open = true;
  });
  addEventListener("afterprint", () => { for (const claim of folded) claim.open = false; });
  addEventListener("hashchange", recall);
  recall();
  show();
})();
