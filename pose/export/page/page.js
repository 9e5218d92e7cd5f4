// The page: a camera, a file or `?input=NAME` (a file in the page's folder) to a drawn skeleton.

import { drawPerson } from "./draw.js";
import { loadPredictor, threads } from "./predictor.js";
import { createTracker } from "./tracking.js";

const RECENT = 30; // frames of the median latency

const element = (id) => document.getElementById(id);
const canvas = element("canvas"), context = canvas.getContext("2d", { willReadFrequently: true });
let predictor = null;
let source = 0; // increases with each source, which ends the loop of the one before

function show(text, isError = false) {
  element("status").textContent = text;
  element("status").className = isError ? "error" : "";
}

/** Draw one frame with its person; return the person and the time of the prediction in milliseconds. */
async function process(image, width, height, track) {
  canvas.width = width;
  canvas.height = height;
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  const start = performance.now();
  const person = await track(pixels);
  const milliseconds = performance.now() - start;
  const { skeleton, tracking } = predictor.metadata;
  if (person) drawPerson(context, person, skeleton, tracking.min_keypoint_score);
  const named = person && person.keypoints.map((point, k) => [skeleton.names[k], ...point, person.scores[k]]);
  element("result").textContent = JSON.stringify({ width, height, milliseconds, bbox: person && person.bbox, keypoints: named });
  return { person, milliseconds };
}

async function runImage(blob) {
  begin();
  // Pixels as in Python: turned upright by EXIF, without color management.
  const image = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const { person, milliseconds } = await process(image, image.width, image.height, createTracker(predictor));
  show(`${person ? "1 person" : "Nobody found"}, ${milliseconds.toFixed(0)} ms (search and refinement)`);
}

async function runVideo(video, mirrored) {
  const own = begin(mirrored);
  element("stop").hidden = false;
  const track = createTracker(predictor), recent = []; // milliseconds of the frames with a person
  video.muted = video.playsInline = true;
  await video.play();
  while (own === source && !video.ended) {
    if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) {
      const { person, milliseconds } = await process(video, video.videoWidth, video.videoHeight, track);
      if (person) recent.push(milliseconds);
      const median = recent.slice(-RECENT).sort((a, b) => a - b)[Math.min(recent.length, RECENT) >> 1];
      const latency = `${median?.toFixed(0)} ms per frame on ${threads} thread${threads > 1 ? "s" : ""}`;
      show(person ? `1 person, ${latency}` : "Nobody found");
    }
    await new Promise(requestAnimationFrame);
  }
  video.pause();
  for (const part of video.srcObject ? video.srcObject.getTracks() : []) part.stop();
  if (own === source) element("stop").hidden = true;
}

function begin(mirrored = false) {
  canvas.className = mirrored ? "mirrored" : "";
  element("stop").hidden = true;
  return ++source;
}

async function runBlob(blob) {
  if (!blob.type.startsWith("video/")) return runImage(blob);
  const video = document.createElement("video");
  video.src = URL.createObjectURL(blob);
  return runVideo(video, false);
}

async function runCamera() {
  if (!navigator.mediaDevices) throw new Error("no camera here: open this page at http://localhost or over https");
  const video = document.createElement("video");
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
  return runVideo(video, true);
}

async function runNamed(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  return runBlob(await response.blob());
}

async function attempt(action) {
  try {
    await action();
  } catch (error) {
    show(`${error.name}: ${error.message}`, true);
  }
}

element("camera").onclick = () => attempt(runCamera);
element("file").onchange = ({ target }) => {
  const [file] = target.files;
  target.value = ""; // the same file can be chosen again
  if (file) attempt(() => runBlob(file));
};
element("stop").onclick = () => begin();
document.body.ondragover = (event) => event.preventDefault();
document.body.ondrop = (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file && predictor) attempt(() => runBlob(file));
};

attempt(async () => {
  predictor = await loadPredictor();
  element("licence").textContent = predictor.metadata.licence;
  element("file").disabled = element("camera").disabled = false;
  show("Ready: choose an image, a video or the camera.");
  const name = new URLSearchParams(location.search).get("input");
  if (name) await runNamed(name);
});
