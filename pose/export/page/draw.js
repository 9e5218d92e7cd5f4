// Draws a person as pose/inference/visualize.py does: left blue, right orange, middle white, on a dark outline.

const LEFT = "rgb(50, 165, 240)", RIGHT = "rgb(250, 130, 20)", MIDDLE = "rgb(245, 245, 245)", OUTLINE = "rgb(30, 30, 35)";

/** Draw the limbs and keypoints whose score reaches the threshold. */
export function drawPerson(context, { keypoints, scores }, { limbs, flip_pairs }, threshold) {
  const visible = keypoints.map((_, k) => scores[k] >= threshold);
  const points = keypoints.filter((_, k) => visible[k]);
  if (!points.length) return;
  const extent = Math.max(...[0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return Math.max(...values) - Math.min(...values);
  }));
  const limb = Math.min(6, Math.max(0.7, 0.009 * extent)), dot = 1.55 * limb + 0.4;
  const rim = Math.min(1.6, Math.max(0.5, 0.3 * limb));
  const colors = keypoints.map(() => MIDDLE);
  for (const [left, right] of flip_pairs) colors[left] = LEFT, colors[right] = RIGHT;

  const drawn = limbs.filter(([a, b]) => visible[a] && visible[b]);
  context.lineCap = "round";
  for (const [radius, outlined] of [[limb + rim, true], [limb, false]]) {
    for (const [a, b] of drawn) {
      context.beginPath();
      context.lineWidth = 2 * radius;
      context.strokeStyle = outlined ? OUTLINE : limbColor(colors[a], colors[b]);
      context.moveTo(...keypoints[a].map(center));
      context.lineTo(...keypoints[b].map(center));
      context.stroke();
    }
  }
  keypoints.forEach(([x, y], k) => {
    if (!visible[k]) return;
    for (const [radius, color] of [[dot + rim, OUTLINE], [dot, colors[k]]]) {
      context.beginPath();
      context.fillStyle = color;
      context.arc(center(x), center(y), radius, 0, 2 * Math.PI);
      context.fill();
    }
  });
}

// The color of its side; the middle color where a limb connects left and right.
const limbColor = (a, b) => (a === MIDDLE || a === b ? b : b === MIDDLE ? a : MIDDLE);

// A keypoint's integer coordinates are the center of a pixel, a canvas's its corner.
const center = (value) => value + 0.5;
