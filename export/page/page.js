// The page: loads the network, measures it, runs pictures, and keeps the figures.

import { measure, mostThreads, openNetwork } from "./measurement.js";
import { decodePicture, preprocess } from "./picture.js";
import { element, show, showPicture } from "./prediction.js";

const at = (id) => document.getElementById(id);
const milliseconds = (value) => `${value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(2) : value.toFixed(3)} ms`;

// For the console, and for tests: everything that the page knows.
const state = { ready: false, facts: null, content: null, network: null, figures: null, predictions: null };
globalThis.auxzoo = state;

function tell(problem) {
  at("problem").textContent = problem ? String(problem.message ?? problem) : "";
  at("problem").hidden = !problem;
}

/** Carries out work that the person waits for: buttons rest meanwhile, and what goes wrong is told. */
async function busy(work) {
  const controls = document.querySelectorAll("button, select, input");
  controls.forEach((control) => (control.disabled = true));
  tell(null);
  try {
    await work();
  } catch (problem) {
    console.warn(problem);
    tell(problem);
  } finally {
    controls.forEach((control) => (control.disabled = false));
    at("save").disabled = !state.figures.latency && !state.figures.predictions.length;
  }
}

async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} cannot be fetched: ${response.status} ${response.statusText}`);
  return response;
}

async function open(threads) {
  if (state.network?.threads === threads) return;
  await state.network?.close();
  state.network = null;
  state.network = await openNetwork(state.content, state.facts.input, threads);
  at("load").textContent = milliseconds(state.network.load_ms);
}

function deviceFigures() {
  return {
    user_agent: navigator.userAgent,
    processors: navigator.hardwareConcurrency ?? null,
    memory_gb: navigator.deviceMemory ?? null,
    screen: `${screen.width}x${screen.height} at ${devicePixelRatio}`,
    secure_context: isSecureContext,
    cross_origin_isolated: Boolean(self.crossOriginIsolated),
    address: location.protocol === "https:" ? "https" : isSecureContext ? "this machine" : "plain HTTP",
  };
}

function showConditions() {
  const several = mostThreads() > 1;
  at("threads").replaceChildren(
    ...[1, 2, 4, 8].filter((count) => count <= mostThreads()).map((count) => element("option", "", String(count))),
  );
  at("conditions").textContent = several
    ? `On the processor, by WebAssembly, with up to ${mostThreads()} threads. WebGPU is not used.`
    : isSecureContext
      ? "On the processor, by WebAssembly, with one thread. WebGPU is not used."
      : "On the processor, by WebAssembly. Over plain HTTP a browser gives a page one thread, no WebGPU and no live " +
        "camera: a native app may be several times faster.";
}

function showFacts() {
  const { facts } = state;
  const rows = {
    File: `${facts.file}, ${facts.bytes.toLocaleString("en")} bytes`,
    "SHA-256": facts.sha256,
    Input: `${facts.input.name} ${facts.input.shape.join(" × ")}`,
    Outputs: facts.outputs.map((output) => `${output.name} ${output.shape.join(" × ")}`).join(", "),
    Runtime: `${facts.runtime.package} ${facts.runtime.version}, WebAssembly`,
    Browser: navigator.userAgent,
    Processors: String(navigator.hardwareConcurrency ?? "unknown"),
    Connection: deviceFigures().address,
  };
  at("facts").replaceChildren(
    ...Object.entries(rows).map(([name, value]) => {
      const row = element("div");
      row.append(element("dt", "", name), element("dd", "", value));
      return row;
    }),
  );
}

async function measureLatency() {
  const bar = at("measure-progress");
  bar.hidden = false;
  bar.value = 0;
  try {
    await open(Number(at("threads").value));
    const found = await measure(state.network, state.facts.input, Number(at("runs").value), (share) => {
      bar.value = share;
    });
    const { threads, load_ms } = state.network;
    state.figures.latency = { ...found, load_ms, threads, backend: "wasm" };
    at("median").textContent = milliseconds(found.median_ms);
    at("p95").textContent = milliseconds(found.p95_ms);
    at("first-run").textContent = milliseconds(found.first_run_ms);
    const together = found.runs_per_sample;
    at("samples").textContent = `${found.samples}, each ${together === 1 ? "one run" : `${together} runs`}`;
    at("latency").hidden = false;
  } finally {
    bar.hidden = true;
  }
}

async function runPicture(file) {
  const { facts } = state;
  const picture = await decodePicture(file);
  const values = preprocess(picture, facts.preprocessing, facts.input.layout);
  await open(Number(at("threads").value));
  const began = performance.now();
  const outputs = await state.network.run(values);
  const run_ms = performance.now() - began;
  const shown = facts.tasks.map((task) => show(task, outputs[task.output], picture, facts));
  at("results").replaceChildren(showPicture(picture, file.name), ...shown.map(({ node }) => node));
  state.predictions = shown.map(({ summary }) => summary);
  // Every pixel of every picture would make the download huge.
  const brief = state.predictions.map(({ classes, values: all, height, width, kind, ...rest }) =>
    kind === "classification" ? { kind, ...rest, values: all } : { kind, ...rest },
  );
  state.figures.predictions.push({ picture: file.name, size: [picture.height, picture.width], run_ms, tasks: brief });
}

function save() {
  state.figures.saved = new Date().toISOString();
  const blob = new Blob([`${JSON.stringify(state.figures, null, 2)}\n`], { type: "application/json" });
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${state.facts.file.replace(/\.onnx$/, "")}_browser.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function start() {
  state.facts = await (await fetched("network.json")).json();
  const { file, sha256, bytes, input, outputs, runtime } = state.facts;
  at("title").textContent = file;
  at("subtitle").textContent = `${(bytes / 1e3).toLocaleString("en", { maximumFractionDigits: 0 })} kB, input ${input.shape.join(" × ")}`;
  state.figures = {
    network: { file, sha256, bytes, input, outputs },
    runtime,
    device: deviceFigures(),
    start: {},
    latency: null,
    predictions: [],
  };
  showConditions();
  showFacts();
  const began = performance.now();
  state.content = new Uint8Array(await (await fetched("network.onnx")).arrayBuffer());
  state.figures.start.download_ms = performance.now() - began;
  at("download").textContent = milliseconds(state.figures.start.download_ms);
  at("picture-section").hidden = !state.facts.tasks.length;
}

at("measure").addEventListener("click", () => busy(measureLatency));
at("save").addEventListener("click", save);
for (const id of ["choose", "photograph"]) {
  at(id).addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    await busy(() => runPicture(file));
    target.value = ""; // so that the same picture can be chosen again
  });
}

try {
  await start();
  await busy(() => open(1));
  state.figures.start.load_ms = state.network?.load_ms ?? null;
} catch (problem) {
  console.warn(problem);
  tell(problem);
}
state.ready = true;
