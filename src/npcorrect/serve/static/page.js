// The page: sends what was asked for, follows the job's events, and shows what came of it.

const by = (id) => document.getElementById(id);
const WORDS = { true: "accepted", false: "not accepted", null: "unscored" };
const SIGNS = { true: "✓", false: "✗", null: "?" };
const SPOKEN = { true: "holds:", false: "fails:", null: "unscored:" };
const ENDS = {
  accepted: "Done: a picture was accepted.",
  exhausted: "Done: no redrawing was accepted; the best picture is shown.",
  unscored: "Done: the picture could not be checked.",
  budget: "Done: the budget is spent; the best picture is shown.",
  stopped: "Stopped.",
};
const STAGES = {
  checklist: "reading the prompt",
  draw: "drawing",
  look: "looking at the emerging picture",
  verify: "checking",
  caption: "describing what is there",
  propose: "proposing negatives",
  rank: "ranking negatives",
};
const PAGE = 24;

let view = null; // the job that is shown: { id, source, attempts, best, chosen, emerging }

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function ask(path, options) {
  const answer = await fetch(path, options);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error.message);
  return body;
}

// What to draw

function settings(form) {
  const body = {};
  for (const field of form.elements) {
    const value = field.value.trim();
    if (!field.name || value === "") continue;
    const typed = { number: Number, "select-one": choice }[field.type];
    body[field.name] = typed ? typed(value) : value;
  }
  return body;
}

function choice(value) {
  return { true: true, false: false }[value] ?? value;
}

async function submit(event) {
  event.preventDefault();
  by("refusal").textContent = "";
  try {
    const job = await ask("v1/jobs", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(settings(by("form"))),
    });
    location.hash = job.id;
  } catch (error) {
    by("refusal").textContent = error.message;
  }
}

// One job

async function open(id) {
  view?.source?.close();
  view = { id, attempts: [], best: 0, chosen: null, emerging: null };
  const opened = view;
  by("job").hidden = !id;
  if (!id) return;
  let job;
  try {
    job = await ask(`v1/jobs/${encodeURIComponent(id)}`);
  } catch (error) {
    if (opened === view) by("job").hidden = true;
    by("refusal").textContent = error.message;
    return;
  }
  if (opened !== view) return;
  by("title").textContent = job.prompt;
  document.title = `${job.prompt} · npc`;
  by("sheet").href = `v1/jobs/${job.id}/sheet.png`;
  by("result").href = `v1/jobs/${job.id}/result.json`;
  begin();
  if (job.state === "queued") say(job.ahead ? `Waiting; ${job.ahead} before this one.` : "Waiting for the model.");
  listen(job.id);
}

function listen(id) {
  const source = (view.source = new EventSource(`v1/jobs/${id}/events`));
  const on = (kind, act) =>
    source.addEventListener(kind, (event) => event.data && act(JSON.parse(event.data)));
  on("start", begin);
  on("stage", stage);
  on("look", look);
  on("attempt", attempt);
  on("end", end);
  source.onerror = () => say("The server does not answer; trying again.");
}

function begin() {
  Object.assign(view, { attempts: [], best: 0, chosen: null, emerging: null });
  by("job").className = "";
  by("stop").hidden = false;
  by("mark").textContent = "";
  by("progress").value = 0;
  render();
}

function say(text) {
  if (by("live").textContent !== text) by("live").textContent = text;
}

function name(index) {
  return index ? `Redrawing ${index}` : "Original";
}

function stage(event) {
  const negative = event.stage === "draw" && event.detail ? ` without “${event.detail}”` : "";
  say(`${name(event.attempt)}: ${STAGES[event.stage]}${negative}.`);
  if (event.stage === "draw") by("progress").value = event.total ? event.step / event.total : 0;
}

function look(event) {
  view.emerging = event;
  stage(event);
  render();
}

function attempt({ attempt, best }) {
  view.attempts[attempt.index] = attempt;
  Object.assign(view, { best, emerging: null });
  render();
}

function end({ ended, error }) {
  view.source.close();
  view.emerging = null;
  by("job").className = "ended";
  by("stop").hidden = true;
  say(ended === "error" ? error : ENDS[ended]);
  render();
  showGallery();
}

async function stop() {
  by("stop").hidden = true;
  say("Stopping.");
  await ask(`v1/jobs/${view.id}`, { method: "DELETE" });
}

// What is shown of it

function shown() {
  return view.attempts[view.chosen ?? view.best];
}

function source(index) {
  return `v1/jobs/${view.id}/attempts/${index}.png`;
}

function render() {
  const current = shown();
  const emerging = view.chosen === null ? view.emerging : null;
  compare(current, emerging);
  by("downloads").hidden = !current;
  by("attempts").replaceChildren(...thumbnails());
  by("attempts-title").hidden = !view.attempts.length;
  by("checks").replaceChildren(...(current ? checks(current) : []));
  by("checks-title").hidden = !current;
  const acted = current ? negatives(current) : [];
  by("negatives").replaceChildren(...acted.map((text) => element("li", { textContent: text })));
  by("negatives-part").hidden = !acted.length;
  if (!current) return;
  const word = WORDS[current.verdict.accepted];
  by("mark").textContent = `${name(current.index)} ${word}`;
  by("mark").className = `mark ${word.replace(" ", "-")}`;
  by("picture").href = source(current.index);
  by("picture").download = current.file;
}

function compare(current, emerging) {
  const after = emerging ? emerging.preview : current && source(current.index);
  const two = current && (emerging || current.index > 0);
  by("compare").classList.toggle("single", !two);
  put(by("after"), after, emerging ? "The emerging picture" : current && describe(current));
  put(by("before"), two && source(0), two && describe(view.attempts[0]));
  const drawn = current?.generation;
  by("compare").style.aspectRatio = drawn ? `${drawn.width} / ${drawn.height}` : "1";
  by("before-name").textContent = two ? "Original" : "";
  by("after-name").textContent = emerging ? `${name(emerging.attempt)}, emerging` : current ? name(current.index) : "";
}

function put(image, address, text) {
  image.alt = text || "";
  if (!address) image.removeAttribute("src");
  else if (image.getAttribute("src") !== address) image.src = address;
}

function describe(attempt) {
  const failed = attempt.verdict.checks.filter((one) => one.passed === false);
  const words = failed.map((one) => `not: ${one.requirement.text}`).join("; ");
  return `${name(attempt.index)}, ${WORDS[attempt.verdict.accepted]}${words && `; ${words}`}`;
}

// The claims of a picture, those first that fail in it or failed in the original.
function checks(current) {
  const before = new Map(view.attempts[0].verdict.checks.map((one) => [one.requirement.id, one]));
  const rows = current.verdict.checks.map((one) => ({ ...one, original: before.get(one.requirement.id) }));
  const weight = (row) => (row.passed === false ? 0 : row.original?.passed === false ? 1 : 2);
  return rows.sort((one, other) => weight(one) - weight(other)).map(check);
}

function check({ requirement, passed, observed, skipped, original }) {
  const word = passed === null ? "unscored" : passed ? "accepted" : "not-accepted";
  const line = element("li", {},
    element("span", { className: `sign ${word}`, textContent: SIGNS[passed], ariaLabel: SPOKEN[passed], role: "img" }),
    element("span", { textContent: requirement.text }),
  );
  const note = (textContent) => line.append(element("span", { className: "seen", textContent }));
  if (passed === false) note(observed ? `seen instead: ${observed}` : "not so");
  else if (skipped) note("not asked");
  else if (original?.passed === false) note(`in the original: ${original.observed || "not so"}`);
  return line;
}

function negatives({ generation }) {
  const texts = [generation.negative_prompt, ...generation.steering.map(([, text]) => text)];
  return [...new Set(texts.filter(Boolean))];
}

function thumbnails() {
  const made = view.attempts.filter(Boolean).map((one) => {
    const word = WORDS[one.verdict.accepted];
    const button = element("button", { type: "button", onclick: () => choose(one.index) },
      element("img", { src: source(one.index), alt: "" }),
      element("small", { textContent: name(one.index) }),
      element("small", { className: word.replace(" ", "-"), textContent: word }),
    );
    button.ariaPressed = String(one === shown());
    return element("li", {}, button);
  });
  if (view.emerging) {
    made.push(element("li", { className: "emerging" },
      element("img", { src: view.emerging.preview, alt: "" }),
      element("small", { textContent: name(view.emerging.attempt) }),
      element("small", { className: "unscored", textContent: "emerging" })));
  }
  return made;
}

function choose(index) {
  view.chosen = index;
  render();
  by("attempts").querySelector('[aria-pressed="true"]').focus();
}

function slide() {
  by("compare").style.setProperty("--place", `${by("slider").value}%`);
  by("slider").ariaValueText = `${by("slider").value} % original`;
}

// Earlier jobs

async function showGallery(before) {
  const query = before ? `&before=${before}` : "";
  const { jobs } = await ask(`v1/jobs?limit=${PAGE}${query}`);
  const cards = jobs.map(card);
  before ? by("gallery").append(...cards) : by("gallery").replaceChildren(...cards);
  by("gallery-part").hidden = !by("gallery").children.length;
  by("more").hidden = jobs.length < PAGE;
  by("more").onclick = () => showGallery(jobs.at(-1).number);
}

function card(job) {
  const image = job.best === null
    ? element("span", { className: "blank" })
    : element("img", { src: `v1/jobs/${job.id}/attempts/${job.best}.png`, alt: "", loading: "lazy" });
  const word = job.state === "ended" ? { accepted: "accepted", exhausted: "not accepted" }[job.ended] ?? job.ended : job.state;
  const words = element("span", { className: "words", textContent: job.prompt });
  const mark = element("span", { className: `mark ${word.replace(" ", "-")}`, textContent: word });
  return element("li", {}, element("a", { href: `#${job.id}` }, image, words, mark));
}

by("form").addEventListener("submit", submit);
by("form").prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    by("form").requestSubmit();
  }
});
by("dice").addEventListener("click", () => {
  by("form").elements.seed.value = Math.floor(Math.random() * 2 ** 32);
});
by("stop").addEventListener("click", stop);
by("slider").addEventListener("input", slide);
addEventListener("hashchange", () => open(location.hash.slice(1)));
slide();
open(location.hash.slice(1));
showGallery();
