// Pictures as the input of a network: what auxzoo.data.preprocess does in Python, number for number (but where a picture is
// transparent: a canvas does not keep the colours there).

// A canvas of more pixels is refused by some phones.
const MOST_PIXELS = 16_000_000;
const LONGEST_EDGE_SHOWN = 720;

/** Returns the size at which a picture is shown. */
export function sizeShown(picture) {
  const shrink = Math.min(1, LONGEST_EDGE_SHOWN / Math.max(picture.height, picture.width));
  const shrunk = (size) => Math.max(1, Math.round(size * shrink));
  return { height: shrunk(picture.height), width: shrunk(picture.width) };
}

/**
 * Returns {width, height, data, canvas} of a picture file: red, green, blue, alpha, 0 to 255, and the picture as it is shown;
 * `reduced` where it was too large.
 */
export async function decodePicture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error(`${file.name} is no picture that this browser can read.`);
  }
  const shrink = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  const width = Math.max(1, Math.floor(bitmap.width * shrink));
  const height = Math.max(1, Math.floor(bitmap.height * shrink));
  const whole = drawn(bitmap, { height, width });
  bitmap.close();
  const { data } = whole.getContext("2d").getImageData(0, 0, width, height);
  const canvas = drawn(whole, sizeShown({ height, width }));
  [whole.width, whole.height] = [0, 0]; // phones let a page have so much of them, and no more
  return { width, height, data, canvas, reduced: shrink < 1 };
}

/** Returns a canvas of a size with a picture on it. */
function drawn(picture, { height, width }) {
  const canvas = document.createElement("canvas");
  [canvas.height, canvas.width] = [height, width];
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(picture, 0, 0, width, height);
  return canvas;
}

/**
 * Returns the weights of a bilinear resize of one axis: for each place of the result where its sources begin, and their
 * weights. With `antialias` a smaller result is the mean of all that lies under it, as in tf.image.resize.
 */
export function spans(from, to, antialias) {
  const step = from / to;
  const reach = antialias ? Math.max(step, 1) : 1;
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * step;
    const clamp = (value) => Math.min(Math.max(value, 0), from - 1);
    const first = clamp(Math.ceil(centre - reach - 0.5));
    const last = clamp(Math.floor(centre + reach - 0.5));
    const weights = [];
    for (let source = first; source <= last; source += 1) {
      weights.push(Math.max(0, 1 - Math.abs((source + 0.5 - centre) / reach)));
    }
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

/** Returns values [rows, columns, channels] (of `stride` values a pixel) resized to [height, width, channels], float32. */
export function resize({ data, height, width, channels, stride = channels }, toHeight, toWidth, antialias) {
  const across = spans(width, toWidth, antialias);
  const down = spans(height, toHeight, antialias);
  const narrow = new Float32Array(height * toWidth * channels);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < toWidth; column += 1) {
      const { first, weights } = across[column];
      for (let channel = 0; channel < channels; channel += 1) {
        let sum = 0;
        for (let index = 0; index < weights.length; index += 1) {
          sum += weights[index] * data[(row * width + first + index) * stride + channel];
        }
        narrow[(row * toWidth + column) * channels + channel] = sum;
      }
    }
  }
  const result = new Float32Array(toHeight * toWidth * channels);
  const line = toWidth * channels;
  for (let row = 0; row < toHeight; row += 1) {
    const { first, weights } = down[row];
    for (let place = 0; place < line; place += 1) {
      let sum = 0;
      for (let index = 0; index < weights.length; index += 1) {
        sum += weights[index] * narrow[(first + index) * line + place];
      }
      result[row * line + place] = sum;
    }
  }
  return result;
}

/** Returns where a padded picture lies in the network's input. */
export function margins(picture, { height, width }) {
  return { above: Math.floor((height - picture.height) / 2), left: Math.floor((width - picture.width) / 2) };
}

/** Returns float32 [height, width, 3], or [3, height, width] of the layout NCHW, of a decoded picture. */
export function preprocess(picture, preprocessing, layout) {
  const { height, width, fit, scale, offset } = preprocessing;
  let pixels;
  if (picture.height === height && picture.width === width) {
    pixels = resizeless(picture);
  } else if (fit === "resize") {
    pixels = resize({ ...picture, channels: 3, stride: 4 }, height, width, true);
  } else {
    if (picture.height > height || picture.width > width) {
      throw new Error(
        `The picture is padded to ${height}x${width} pixels (height x width) and must not be larger. ` +
          `Received: ${picture.height}x${picture.width}`,
      );
    }
    pixels = new Float32Array(height * width * 3);
    const { above, left } = margins(picture, preprocessing);
    const own = resizeless(picture);
    for (let row = 0; row < picture.height; row += 1) {
      const line = own.subarray(row * picture.width * 3, (row + 1) * picture.width * 3);
      pixels.set(line, ((row + above) * width + left) * 3);
    }
  }
  const result = new Float32Array(pixels.length);
  const area = height * width;
  for (let place = 0; place < area; place += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      const value = pixels[place * 3 + channel] * scale[channel] + offset[channel];
      result[layout === "NCHW" ? channel * area + place : place * 3 + channel] = value;
    }
  }
  return result;
}

function resizeless(picture) {
  const pixels = new Float32Array(picture.height * picture.width * 3);
  for (let place = 0; place < picture.height * picture.width; place += 1) {
    for (let channel = 0; channel < 3; channel += 1) pixels[place * 3 + channel] = picture.data[place * 4 + channel];
  }
  return pixels;
}
