// Single-person tracking without a detector, as in pose/video/tracking.py and pose/inference/search.py; their constants are in model.json.

import { predict } from "./predictor.js";

/** Return a function from an image to the tracked person or null. Call it with each frame of one video. */
export function createTracker(predictor) {
  const options = predictor.metadata.tracking;
  let box = null, frame = 0;

  return async (image) => {
    let person = box && bestPerson(await predict(predictor, image, [box]), options);
    if (!person && (box || frame % options.search_interval === 0)) person = await search(predictor, image, options);
    box = person && person.bbox;
    frame++;
    return person;
  };
}

/** The most visible person of all search windows, refined by further forward passes, or null. */
async function search(predictor, image, options) {
  const [height, width] = predictor.metadata.input.size_hw;
  let person = null;
  let boxes = searchWindows(image.width, image.height, width / height);
  for (let pass = 0; pass <= options.refinements + 1; pass++) {
    person = bestPerson(await predict(predictor, image, boxes), options);
    if (!person) return null;
    boxes = [person.bbox];
  }
  return person;
}

/** The whole frame, and upright windows of maximum size, half a window apart. */
function searchWindows(width, height, aspectRatio) {
  const windowWidth = Math.min(width, height * aspectRatio), windowHeight = Math.min(height, width / aspectRatio);
  const boxes = [[0, 0, width, height]];
  for (const top of positions(height - windowHeight, windowHeight)) {
    for (const left of positions(width - windowWidth, windowWidth)) boxes.push([left, top, windowWidth, windowHeight]);
  }
  return boxes;
}

function positions(room, size) {
  const count = 1 + Math.ceil((2 * room) / size);
  return Array.from({ length: count }, (_, index) => (count > 1 ? (index * room) / (count - 1) : 0));
}

/** The person with the highest mean score, in the box around its keypoints, or null if the score is too low. */
function bestPerson(persons, options) {
  const mean = ({ scores }) => scores.reduce((sum, score) => sum + score, 0) / scores.length;
  const best = persons.reduce((a, b) => (mean(b) > mean(a) ? b : a));
  const bbox = keypointBox(best, options);
  return bbox && mean(best) >= options.min_keypoint_score ? { ...best, bbox } : null;
}

/** The box around the visible keypoints, with a margin, or null if too few are visible. */
function keypointBox({ keypoints, scores }, { min_keypoint_score, min_keypoints, margin }) {
  const visible = keypoints.filter((_, k) => scores[k] > min_keypoint_score);
  if (visible.length < min_keypoints) return null;
  const [low, high] = [Math.min, Math.max].map((f) => [0, 1].map((axis) => f(...visible.map((point) => point[axis]))));
  const [width, height] = [high[0] - low[0], high[1] - low[1]];
  const space = margin * Math.max(width, height);
  return [low[0] - space, low[1] - space, width + 2 * space, height + 2 * space];
}
