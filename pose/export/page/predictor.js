// Crops and keypoints as in pose/geometry.py, pose/images.py and pose/inference/exported.py.
//
// Images are ImageData (RGBA), boxes [left, top, width, height] in image pixels, keypoints [x, y] in image pixels. A
// person is {keypoints: K x [x, y], scores: K numbers, bbox: [left, top, width, height]}.

import * as ort from "./ort.wasm.bundle.min.mjs";

export const threads = crossOriginIsolated ? Math.min(4, Math.ceil(navigator.hardwareConcurrency / 2)) : 1;

/** Load model.json, which has the metadata of the exported file, and model.onnx. */
export async function loadPredictor() {
  ort.env.wasm.numThreads = threads;
  const metadata = await (await load("model.json")).json();
  const content = new Uint8Array(await (await load("model.onnx")).arrayBuffer());
  return { metadata, session: await ort.InferenceSession.create(content) };
}

async function load(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  return response;
}

/** Predict the person in each of the boxes. */
export async function predict({ metadata, session }, image, boxes) {
  const [height, width] = metadata.input.size_hw;
  const views = boxes.map((box) => boxToView(box, width / height, metadata.input.padding));
  const crops = new Uint8Array(boxes.length * height * width * 3);
  views.forEach((view, index) => {
    cropInto(crops.subarray(index * height * width * 3), image, view, width, height);
  });
  const outputs = await session.run({ crops: new ort.Tensor("uint8", crops, [boxes.length, height, width, 3]) });
  const count = metadata.skeleton.names.length;
  return views.map((view, person) => ({
    keypoints: Array.from({ length: count }, (_, k) => {
      const at = 2 * (person * count + k);
      return inputToImage(outputs.keypoints.data.subarray(at, at + 2), view, width, height);
    }),
    scores: Array.from(outputs.scores.data.subarray(person * count, (person + 1) * count)),
    bbox: boxes[person],
  }));
}

/** The region that a crop shows: center and size in image pixels; see box_to_view in pose/geometry.py. */
function boxToView([left, top, width, height], aspectRatio, padding) {
  return {
    center: [left + width / 2, top + height / 2],
    scale: [Math.max(width, height * aspectRatio) * padding, Math.max(height, width / aspectRatio) * padding],
  };
}

function inputToImage([x, y], { center, scale }, width, height) {
  const step = scale[0] / width; // image pixels per input pixel
  return [center[0] + (x - width / 2) * step, center[1] + (y - height / 2) * step];
}

/** Warp a view to RGB pixels: bilinear, black outside of the image, as cv2.warpAffine does. */
function cropInto(crop, { data, width: imageWidth, height: imageHeight }, view, width, height) {
  const [left, top] = inputToImage([0, 0], view, width, height);
  const step = view.scale[0] / width;
  let at = 0;
  for (let row = 0; row < height; row++) {
    const y = top + row * step, y0 = Math.floor(y), fy = y - y0;
    for (let column = 0; column < width; column++, at += 3) {
      const x = left + column * step, x0 = Math.floor(x), fx = x - x0;
      let red = 0, green = 0, blue = 0;
      for (let tap = 0; tap < 4; tap++) {
        const px = x0 + (tap & 1), py = y0 + (tap >> 1);
        if (px < 0 || py < 0 || px >= imageWidth || py >= imageHeight) continue;
        const weight = (tap & 1 ? fx : 1 - fx) * (tap >> 1 ? fy : 1 - fy), pixel = 4 * (py * imageWidth + px);
        red += weight * data[pixel], green += weight * data[pixel + 1], blue += weight * data[pixel + 2];
      }
      crop[at] = Math.round(red), crop[at + 1] = Math.round(green), crop[at + 2] = Math.round(blue);
    }
  }
}
