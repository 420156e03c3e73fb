// What a network's outputs say, and how it is shown: classes, a mask over the picture, or heights in colours.

import { margins, resize, sizeShown } from "./picture.js";

const OPACITY = 0.55;
const VOID = 255; // where a mask tells no class

const numbersOf = (tensor) => (tensor.data instanceof BigInt64Array ? Float32Array.from(tensor.data, Number) : tensor.data);

const nameOf = (task, index) => task.labels[index] ?? `class ${index}`;

const percent = (share) => `${(100 * share).toFixed(2)} %`;

/** Returns an element with a class and a text. */
export function element(kind, className = "", text = "") {
  const made = document.createElement(kind);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/**
 * Returns {summary, node}: what is predicted for a task as plain numbers, and an element that shows it. `facts` tells the
 * preprocessing, and by the layout of the input that of dense outputs.
 */
export function show(task, tensor, picture, facts) {
  const of = { classification: classification, segmentation: segmentation, regression: regression }[task.kind];
  const node = element("div", "task");
  node.append(element("h3", "", task.name.replaceAll("_", " ")));
  const summary = of(task, tensor, picture, facts, node);
  return { summary: { task: task.name, kind: task.kind, ...summary }, node };
}

function classification(task, tensor, picture, facts, node) {
  const values = Array.from(numbersOf(tensor));
  if (values.length === 1 && task.labels.length !== 1) {
    node.append(element("p", "", nameOf(task, values[0]))); // a file that gives classes
    return { class: nameOf(task, values[0]), index: values[0] };
  }
  const shares = sharesOf(values, task.gives);
  const order = shares.map((_, index) => index).sort((one, other) => shares[other] - shares[one] || one - other);
  const top = order.slice(0, 5).map((index) => ({ class: nameOf(task, index), index, share: shares[index] }));
  const list = element("ol", "classes");
  for (const one of top) {
    const item = element("li");
    const meter = element("meter");
    meter.value = one.share;
    meter.setAttribute("aria-label", `${one.class}, ${percent(one.share)}`);
    item.append(element("span", "name", one.class), element("span", "share", percent(one.share)), meter);
    list.append(item);
  }
  node.append(list);
  return { top, values };
}

/**
 * Returns probabilities: the values themselves where the file gives some already, else their soft-max. Where the file does
 * not tell, values that add up to about 1 are probabilities; those of int8 are steps of 1/255.
 */
function sharesOf(values, gives) {
  const sum = values.reduce((total, value) => total + value, 0);
  const looksSo = values.every((value) => value >= 0) && Math.abs(sum - 1) < Math.max(1e-3, values.length / 510);
  if (gives ? gives === "softmax" : looksSo) return values;
  const highest = Math.max(...values);
  const exponentials = values.map((value) => Math.exp(value - highest));
  const total = exponentials.reduce((one, other) => one + other, 0);
  return exponentials.map((value) => value / total);
}

function segmentation(task, tensor, picture, facts, node) {
  const { classes, height, width } = classesOf(tensor, picture, facts);
  const context = canvasOf(picture, height, width, node, "Mask over the picture");
  const image = context.getImageData(0, 0, width, height);
  const counts = new Array(task.colours.length).fill(0);
  classes.forEach((index, place) => {
    image.data[place * 4 + 3] = 255; // a picture may be transparent, what is predicted is not
    if (index === VOID) return;
    if (index < 0 || index >= counts.length) throw new Error(`The file gives class ${index}, of ${counts.length}.`);
    counts[index] += 1;
    for (let channel = 0; channel < 3; channel += 1) {
      const below = image.data[place * 4 + channel];
      image.data[place * 4 + channel] = Math.round(below + (task.colours[index][channel] - below) * OPACITY);
    }
  });
  context.putImageData(image, 0, 0);
  const legend = element("ul", "legend");
  const order = counts.map((_, index) => index).filter((index) => counts[index] > 0);
  order.sort((one, other) => counts[other] - counts[one]);
  const shares = order.map((index) => ({ class: nameOf(task, index), index, share: counts[index] / classes.length }));
  for (const { class: name, index, share } of shares) {
    const item = element("li");
    item.append(swatch([task.colours[index]]), element("span", "", `${name} ${percent(share)}`));
    legend.append(item);
  }
  node.append(legend);
  return { shares, height, width, classes: Array.from(classes) };
}

function regression(task, tensor, picture, facts, node) {
  const { values, height, width } = atSizeShown(tensor, picture, facts);
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const context = canvasOf(picture, height, width, node, "Predicted values");
  const image = context.getImageData(0, 0, width, height);
  const steps = task.colour_map.length;
  values.forEach((value, place) => {
    const step = high > low ? Math.min(steps - 1, Math.floor(((value - low) / (high - low)) * steps)) : 0;
    image.data.set([...(Number.isFinite(value) ? task.colour_map[step] : task.no_number), 255], place * 4);
  });
  context.putImageData(image, 0, 0);
  const unit = task.unit ? ` ${task.unit}` : "";
  const scale = element("div", "scale");
  const said = (value) => element("span", "", `${Number(value.toPrecision(4))}${unit}`);
  scale.append(said(low), swatch(task.colour_map), said(high));
  node.append(scale);
  return { minimum: low, maximum: high, unit: task.unit ?? "", height, width, values: Array.from(values) };
}

/** Returns the class of every pixel that is shown. */
function classesOf(tensor, picture, facts) {
  if (tensor.dims.length === 3) return nearestClasses(tensor, picture, facts); // a file that gives classes
  const { values, height, width } = atSizeShown(tensor, picture, facts);
  const count = values.length / (height * width);
  const classes = new Uint16Array(height * width);
  for (let place = 0; place < classes.length; place += 1) {
    let best = 0;
    for (let index = 1; index < count; index += 1) {
      if (values[place * count + index] > values[place * count + best]) best = index;
    }
    classes[place] = best;
  }
  return { classes, height, width };
}

/** Classes must not be mixed: each pixel takes that of the nearest one. */
function nearestClasses(tensor, picture, facts) {
  const own = withoutPadding(channelsLast(tensor, facts.input.layout), picture, facts.preprocessing);
  const { height, width } = sizeShown(picture);
  const classes = new Int32Array(height * width);
  for (let row = 0; row < height; row += 1) {
    const from = Math.min(own.height - 1, Math.floor(((row + 0.5) * own.height) / height));
    for (let column = 0; column < width; column += 1) {
      const source = Math.min(own.width - 1, Math.floor(((column + 0.5) * own.width) / width));
      classes[row * width + column] = own.data[from * own.width + source];
    }
  }
  return { classes, height, width };
}

/** Returns a dense output, without what was put round the picture, at the size in which it is shown. */
function atSizeShown(tensor, picture, facts) {
  const own = withoutPadding(channelsLast(tensor, facts.input.layout), picture, facts.preprocessing);
  const { height, width } = sizeShown(picture);
  const same = own.height === height && own.width === width;
  return { values: same ? own.data : resize(own, height, width, false), height, width };
}

/** Returns {data, height, width, channels} of an output [1, rows, columns, channels], [1, channels, ...] or [1, ...]. */
function channelsLast(tensor, layout) {
  const data = numbersOf(tensor);
  if (layout !== "NCHW" || tensor.dims.length === 3) {
    const [, height, width, channels = 1] = tensor.dims;
    return { data, height, width, channels };
  }
  const [, count, height, width] = tensor.dims;
  const turned = new Float32Array(data.length);
  for (let channel = 0; channel < count; channel += 1) {
    for (let place = 0; place < height * width; place += 1) {
      turned[place * count + channel] = data[channel * height * width + place];
    }
  }
  return { data: turned, height, width, channels: count };
}

function withoutPadding(output, picture, preprocessing) {
  if (preprocessing.fit !== "pad") return output;
  const { above, left } = margins(picture, preprocessing);
  const data = new Float32Array(picture.height * picture.width * output.channels);
  const line = picture.width * output.channels;
  for (let row = 0; row < picture.height; row += 1) {
    const begin = ((row + above) * output.width + left) * output.channels;
    data.set(output.data.subarray(begin, begin + line), row * line);
  }
  return { data, height: picture.height, width: picture.width, channels: output.channels };
}

/** Puts a canvas with the picture into a node, and returns its context. */
function canvasOf(picture, height, width, node, label) {
  const canvas = element("canvas", Math.max(height, width) < 200 ? "small" : "");
  [canvas.height, canvas.width] = [height, width];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture.canvas, 0, 0, width, height);
  node.append(canvas);
  return context;
}

function swatch(colours) {
  const canvas = element("canvas");
  [canvas.height, canvas.width] = [1, colours.length];
  const context = canvas.getContext("2d");
  colours.forEach((colour, place) => {
    context.fillStyle = `rgb(${colour.join(" ")})`;
    context.fillRect(place, 0, 1, 1);
  });
  return canvas;
}

/** Returns an element that shows the picture itself. */
export function showPicture(picture, name) {
  const node = element("figure");
  const { height, width } = sizeShown(picture);
  canvasOf(picture, height, width, node, "The picture");
  const reduced = picture.reduced ? ", reduced: it is larger than a page may hold" : "";
  node.append(element("figcaption", "", `${name}, ${picture.width} × ${picture.height}${reduced}`));
  return node;
}
