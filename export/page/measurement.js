// Loading the network and timing it.

// Clocks in browsers are coarse, those of some by a millisecond: short runs are timed several together.
const SAMPLE_MILLISECONDS = 5;
const STEPS_OF_CLOCK = 50;
const MOST_MILLISECONDS = 30_000;
const WARM_UP = 10;

const pause = () => new Promise((resolve) => setTimeout(resolve));

// The runtime takes its number of threads once, when its module starts: so there is an instance for every number.
const runtimes = new Map();

async function runtimeOf(threads) {
  if (!runtimes.has(threads)) {
    const runtime = await import(`./ort.wasm.min.mjs?threads=${threads}`);
    runtime.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
    runtime.env.wasm.numThreads = threads;
    runtimes.set(threads, runtime);
  }
  return runtimes.get(threads);
}

/** Returns how many threads the browser lets the page have. */
export const mostThreads = () => (self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1);

/**
 * Returns a network that is ready: `run(values)` gives its outputs for a Float32Array of the input's shape, `close()` lets
 * it go. `load_ms` is what it took, with the runtime's own start where that was the first of its number of threads, and
 * `first_run_ms` the first run, on noise.
 */
export async function openNetwork(content, input, threads) {
  const began = performance.now();
  const runtime = await runtimeOf(threads);
  const session = await runtime.InferenceSession.create(content, {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
  });
  const load_ms = performance.now() - began;
  const run = (values) => session.run({ [input.name]: new runtime.Tensor("float32", values, input.shape) });
  const values = noise(input);
  const running = performance.now();
  await run(values);
  return { run, close: () => session.release(), threads, load_ms, first_run_ms: performance.now() - running };
}

/** Returns noise from -1 to 1, as many values as the network's input has. */
function noise(input) {
  const count = input.shape.reduce((product, size) => product * size, 1);
  return Float32Array.from({ length: count }, () => 2 * Math.random() - 1);
}

/** Returns the milliseconds by which the clock moves. */
function clockStep() {
  const steps = [];
  for (let turn = 0; turn < 5; turn += 1) {
    const began = performance.now();
    let now = began;
    while (now === began) now = performance.now();
    steps.push(now - began);
  }
  return Math.min(...steps);
}

/** Returns a share of sorted values, between two of them where it falls there. */
export function quantile(values, share) {
  const sorted = [...values].sort((one, other) => one - other);
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

/** Runs a network on noise and returns what was measured; `progress` is told the share that is done. */
export async function measure(network, input, runs, progress) {
  const values = noise(input);
  const timed = async (count) => {
    const began = performance.now();
    for (let run = 0; run < count; run += 1) await network.run(values);
    return performance.now() - began;
  };
  const began = performance.now();
  const clock = clockStep();
  const warmUp = await timed(WARM_UP);
  const sample = Math.max(SAMPLE_MILLISECONDS, STEPS_OF_CLOCK * clock);
  const together = Math.max(1, Math.ceil(sample / Math.max(warmUp / WARM_UP, 0.01)));
  const samples = [];
  while (samples.length < runs && (samples.length < 3 || performance.now() - began < MOST_MILLISECONDS)) {
    samples.push((await timed(together)) / together);
    progress(samples.length / runs);
    await pause();
  }
  return {
    median_ms: quantile(samples, 0.5),
    p95_ms: quantile(samples, 0.95),
    mean_ms: samples.reduce((sum, value) => sum + value, 0) / samples.length,
    minimum_ms: Math.min(...samples),
    first_run_ms: network.first_run_ms,
    clock_step_ms: clock,
    warm_up: WARM_UP,
    samples: samples.length,
    runs_per_sample: together,
    samples_ms: samples,
    input: "uniform noise from -1 to 1",
  };
}
