// Loading the network and timing it.

import * as ort from "./ort.wasm.min.mjs";

const SAMPLE_MILLISECONDS = 5; // clocks in browsers are coarse: shorter runs are timed several together
const MOST_MILLISECONDS = 30_000;
const WARM_UP = 10;

const pause = () => new Promise((resolve) => setTimeout(resolve));

ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;

/** Returns how many threads the browser lets the page have. */
export const mostThreads = () => (self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1);

export const tensorOf = (values, shape) => new ort.Tensor("float32", values, shape);

/** Returns {session, load_ms} of a network. */
export async function openNetwork(content, threads) {
  ort.env.wasm.numThreads = threads;
  const began = performance.now();
  const session = await ort.InferenceSession.create(content, {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
  });
  return { session, load_ms: performance.now() - began };
}

/** Returns noise from -1 to 1 in the shape of the network's input. */
export function noise(input) {
  const count = input.shape.reduce((product, size) => product * size, 1);
  return { [input.name]: tensorOf(Float32Array.from({ length: count }, () => 2 * Math.random() - 1), input.shape) };
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
export async function measure(session, input, runs, progress) {
  const feeds = noise(input);
  const timed = async (count) => {
    const began = performance.now();
    for (let run = 0; run < count; run += 1) await session.run(feeds);
    return performance.now() - began;
  };
  const began = performance.now();
  const first = await timed(1);
  const warmUp = await timed(WARM_UP - 1);
  const together = Math.max(1, Math.ceil(SAMPLE_MILLISECONDS / Math.max(warmUp / (WARM_UP - 1), 0.01)));
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
    first_run_ms: first,
    warm_up: WARM_UP,
    samples: samples.length,
    runs_per_sample: together,
    samples_ms: samples,
    input: "uniform noise from -1 to 1",
  };
}
