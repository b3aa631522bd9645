(async () => {
"use strict";
if (!window.DecompressionStream) return; // the static images stay
const find = (id) => document.getElementById(id);
const data = JSON.parse(find("data").textContent);
const LEVELS = 4096;

async function codesOf(picture) {
  const packed = Uint8Array.from(atob(picture.text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const count = planes.length / 2, codes = new Uint16Array(count);
  for (let i = 0, code = 0; i < count; i++) {
    code = (code + planes[i] + 256 * planes[count + i]) & 0xffff;
    codes[i] = code;
  }
  return codes;
}

const colours = {};
for (const [group, hex] of Object.entries(data.colours)) {
  colours[group] = hex.match(/../g).map((pair) => parseInt(pair, 16));
}
const pictures = data.pictures;
await Promise.all(pictures.map(async (picture) => { picture.codes = await codesOf(picture); }));

const first = {}, windows = {}; // of every group, [low, high]
for (const picture of pictures) first[picture.group] ??= picture.window;
for (const group of Object.keys(first)) windows[group] = first[group].slice();
let slice = Math.floor(data.slices.length / 2);

// The colour of every code: 0 to 255 in the window, then through the group's table.
function shadesOf(picture) {
  const [low, high] = windows[picture.group], shades = new Uint8ClampedArray(LEVELS);
  for (let code = 0; code < LEVELS; code++) {
    shades[code] = 255 * (picture.low + picture.step * code - low) / (high - low);
  }
  return shades;
}

function draw(canvas, picture) {
  const { rows, columns, channels, codes } = picture, size = rows * columns;
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  const shades = shadesOf(picture), table = colours[picture.group], start = slice * size * channels;
  for (let i = 0; i < size; i++) {
    for (let c = 0; c < 3; c++) {
      const shade = shades[codes[start + i + (channels === 3 ? c * size : 0)]];
      image.data[4 * i + c] = channels === 3 ? shade : table[3 * shade + c];
    }
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

const short = (value) => Number(value.toPrecision(4)).toString();
const withUnit = (value, picture) => short(value) + (picture.unit ? " " + picture.unit : "");

// Every static image gives way to a canvas that can be windowed.
const panels = pictures.map((picture, number) => {
  const figure = document.querySelector(`[data-picture="${number}"]`);
  const image = figure.querySelector("img"), canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  image.replaceWith(canvas);
  const [low, high] = figure.querySelectorAll(".scale span");
  return { picture, canvas, low, high, value: figure.querySelector(".value") };
});

function drawAll() {
  for (const panel of panels) {
    const { picture, canvas, low, high } = panel, own = windows[picture.group];
    draw(canvas, picture);
    canvas.setAttribute("aria-label", `${picture.title}, slice ${data.slices[slice]}`);
    low.textContent = short(own[0]);
    high.textContent = withUnit(own[1], picture);
  }
  drawComparison();
  showControls();
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; drawAll(); });
}

// Values under the pointer, in all panels at once.
function showValues(row, column) {
  for (const { picture, value } of panels) {
    if (row === null) { value.textContent = ""; continue; }
    const { rows, columns, channels, codes, low, step } = picture, size = rows * columns;
    const at = slice * size * channels + row * columns + column, texts = [];
    for (let c = 0; c < channels; c++) texts.push(short(low + step * codes[at + c * size]));
    value.textContent = texts.join(", ") + (picture.unit ? " " + picture.unit : "");
  }
}

function follow(canvas, picture) {
  let from = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    from = { x: event.clientX, y: event.clientY, window: windows[picture().group].slice() };
  });
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const { rows, columns, group } = picture();
    const column = Math.floor((event.clientX - box.left) / box.width * columns);
    const row = Math.floor((event.clientY - box.top) / box.height * rows);
    const inside = row >= 0 && row < rows && column >= 0 && column < columns;
    showValues(inside ? row : null, column);
    if (!from) return;
    const width = first[group][1] - first[group][0];
    const level = (from.window[0] + from.window[1]) / 2 - (event.clientY - from.y) * width / 400;
    const wide = from.window[1] - from.window[0] + (event.clientX - from.x) * width / 200;
    setWindow(group, level, Math.max(wide, width / 500));
  });
  const end = () => { from = null; };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => showValues(null, 0));
  canvas.addEventListener("dblclick", () => {
    windows[picture().group] = first[picture().group].slice();
    redraw();
  });
}
for (const { picture, canvas } of panels) follow(canvas, () => picture);

function setWindow(group, level, width) {
  windows[group] = [level - width / 2, level + width / 2];
  redraw();
}

// Level and width of the images.
const span = pictures.filter((picture) => picture.group === "image");
const lowest = Math.min(...span.map((p) => Math.min(p.low, p.window[0])));
const highest = Math.max(...span.map((p) => Math.max(p.low + p.step * (LEVELS - 1), p.window[1])));
const level = find("level"), width = find("width");
for (const control of [level, width]) control.step = "any";
[level.min, level.max] = [lowest, highest];
[width.min, width.max] = [(highest - lowest) / 500, highest - lowest];
const apply = () => setWindow("image", Number(level.value), Number(width.value));
level.addEventListener("input", apply);
width.addEventListener("input", apply);

const number = find("slice");
number.max = data.slices.length - 1;
number.addEventListener("input", () => { slice = Number(number.value); redraw(); });
find("slice-label").hidden = data.slices.length < 2;

function showControls() {
  const [low, high] = windows.image;
  level.value = (low + high) / 2;
  width.value = high - low;
  find("level-value").textContent = withUnit((low + high) / 2, span[0]);
  find("width-value").textContent = withUnit(high - low, span[0]);
  number.value = slice;
  find("slice-value").textContent = `${data.slices[slice]} (${slice + 1} of ${data.slices.length})`;
}

for (const [name, [low, high]] of Object.entries(data.presets)) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = name;
  button.addEventListener("click", () => { windows.image = [low, high]; redraw(); });
  find("presets").append(button);
}

// Two images over each other, with a border to move, or in turns.
const left = find("left"), right = find("right"), border = find("border"), blink = find("blink");
pictures.forEach((picture, place) => {
  for (const choice of [left, right]) choice.add(new Option(picture.title, place));
});
// The last baseline, or the first picture, against the mean.
const titles = pictures.map((picture) => picture.title);
const mean = Math.max(titles.indexOf("Posterior mean"), 0);
left.value = mean > titles.indexOf("Truth") + 1 ? mean - 1 : 0;
right.value = mean;
let timer = null, turn = false;

function drawComparison() {
  draw(find("over"), pictures[left.value]);
  draw(find("under"), pictures[right.value]);
  const part = timer === null ? Number(border.value) : turn ? 100 : 0;
  find("over").style.clipPath = `inset(0 ${100 - part}% 0 0)`;
  find("edge").style.left = `${part}%`;
  find("edge").hidden = timer !== null;
  const names = [left, right].map((choice) => pictures[choice.value].title);
  find("shown").textContent = timer === null ? `${names[0]} | ${names[1]}` : names[turn ? 0 : 1];
}
for (const control of [left, right, border]) control.addEventListener("input", drawComparison);
blink.addEventListener("click", () => {
  clearInterval(timer);
  timer = timer === null ? setInterval(() => { turn = !turn; drawComparison(); }, 700) : null;
  blink.setAttribute("aria-pressed", String(timer !== null));
  drawComparison();
});
follow(find("over"), () => pictures[left.value]);

for (const part of ["controls", "compare"]) find(part).hidden = false;
drawAll();
document.documentElement.dataset.ready = "yes";
})();
