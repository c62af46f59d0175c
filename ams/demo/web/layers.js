// A camera picture with a label map over it, on a canvas of any size.

/** Gives the canvas as many pixels as the screen shows of it. Returns whether there is anything to draw on. */
function fit(canvas) {
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  return width > 0 && height > 0;
}

/** Draws camera (smooth) and labels (crisp) as large as fits; `opacity` is 0..1. */
export function paint(canvas, camera, labels, opacity) {
  if (!fit(canvas)) return;
  const context = canvas.getContext("2d");
  const scale = Math.min(canvas.width / camera.width, canvas.height / camera.height);
  const width = Math.round(camera.width * scale);
  const height = Math.round(camera.height * scale);
  const place = [Math.round((canvas.width - width) / 2), Math.round((canvas.height - height) / 2), width, height];
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.globalAlpha = 1;
  context.drawImage(camera, ...place);
  if (!labels || opacity <= 0) return;
  context.imageSmoothingEnabled = false;
  context.globalAlpha = opacity;
  context.drawImage(labels, ...place);
  context.globalAlpha = 1;
}

/** The pixels of `labels` where it differs from `reference`; elsewhere, and where the reference is empty, nothing. */
export function difference(labels, reference) {
  const { width, height } = reference;
  const read = (image) => {
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, width, height);
  };
  const ours = read(labels);
  const theirs = new Uint32Array(read(reference).data.buffer);
  const pixels = new Uint32Array(ours.data.buffer);
  for (let i = 0; i < pixels.length; i += 1) {
    if (pixels[i] === theirs[i] || theirs[i] === 0) pixels[i] = 0;
  }
  const result = new OffscreenCanvas(width, height);
  result.getContext("2d").putImageData(ours, 0, 0);
  return result;
}
