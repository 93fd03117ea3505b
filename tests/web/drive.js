// Uses the page of examples/browser as a visitor does, and posts each line that it shows to /result.

let posted = Promise.resolve();
const post = (line) => (posted = posted.then(() => fetch("/result", { method: "POST", body: line.textContent })));
const watch = new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach(post)));
watch.observe(document.getElementById("events"), { childList: true });

const form = document.getElementById("append");
form.elements.text.value = "Grüße";
form.requestSubmit();
