"use strict";
// Learning curves: drawn at the width there is, read by pointer, finger or arrow keys.

const AXES = { tokens: "training tokens", wall_s: "seconds of training" };
const LOOKS = { loss: "loss", difference: "difference to the baseline" };

function escapeText(value) {
  return String(value).replace(/[&<>"']/g, (c) => "&#" + c.charCodeAt(0) + ";");
}

function compact(value) {
  for (const [unit, sign] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= unit) return String(+(value / unit).toPrecision(3)) + sign;
  }
  return String(+value.toPrecision(3)).replace("-", "−");
}

function signed(value, sign) {
  const text = Math.abs(value).toFixed(3);
  return (value < 0 && +text !== 0 ? "−" : sign && +text !== 0 ? "+" : "") + text;
}

function roundTicks(low, high, about) {
  const raw = (high - low) / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((f) => f * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(+(i * step).toPrecision(12));
  return found;
}

// The value of a curve at x on the line between its points; null outside of it.
function interpolate(points, x) {
  if (!points.length || x < points[0][0] || x > points[points.length - 1][0]) return null;
  const next = points.findIndex((p) => p[0] >= x);
  if (points[next][0] === x || next === 0) return points[next][1];
  const [x0, y0] = points[next - 1], [x1, y1] = points[next];
  return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}

// Label places at least `gap` apart, in order, as near to the wanted ones as the range lets them be.
function spreadLabels(wanted, gap, low, high) {
  const order = wanted.map((_, i) => i).sort((a, b) => wanted[a] - wanted[b]);
  const blocks = [];
  const start = (members) => {
    const mean = members.reduce((sum, i, rank) => sum + wanted[i] - rank * gap, 0) / members.length;
    return Math.max(Math.min(mean, high - gap * (members.length - 1)), low);
  };
  for (const i of order) {
    blocks.push({ members: [i], at: Math.min(Math.max(wanted[i], low), high) });
    while (blocks.length > 1) {
      const last = blocks[blocks.length - 1], before = blocks[blocks.length - 2];
      if (last.at >= before.at + gap * before.members.length) break;
      const members = before.members.concat(last.members);
      blocks.splice(-2, 2, { members, at: start(members) });
    }
  }
  const placed = [];
  for (const block of blocks) block.members.forEach((i, rank) => { placed[i] = block.at + rank * gap; });
  return placed;
}

function markerPath(data, arm, x, y) {
  return `<path d="${data.markers[arm.marker]}" transform="translate(${x.toFixed(1)},${y.toFixed(1)})" fill="var(--s${arm.colour})"/>`;
}

// Where a curve broke off: a large cross.
function breakMark(x, y) {
  return `<path d="M${(x - 6).toFixed(1)},${(y - 6).toFixed(1)}l12,12m0,-12l-12,12" stroke="var(--bad)" stroke-width="2" fill="none"/>`;
}

function swatchOf(data, arm) {
  return `<svg class="swatch" viewBox="0 0 30 12" aria-hidden="true"><path d="M0,6H30" fill="none" stroke="var(--s${arm.colour})"` +
    ` stroke-width="2" stroke-dasharray="${arm.dash}"/>${markerPath(data, arm, 15, 6)}</svg>`;
}

// A row of radio buttons in a fieldset; calls back with the chosen key.
function choice(name, title, options, chosen, onChange) {
  const field = document.createElement("fieldset");
  const buttons = options.map(([key, text]) =>
    `<input type="radio" name="${name}" id="${name}-${key}" value="${key}"${String(key) === String(chosen) ? " checked" : ""}>` +
    `<label for="${name}-${key}">${escapeText(text)}</label>`);
  field.innerHTML = `<legend>${title}</legend><div class="choice">${buttons.join("")}</div>`;
  field.addEventListener("change", (event) => onChange(event.target.value));
  return field;
}

class Curves {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.depth = data.depths[data.depths.length - 1];
    this.axis = "tokens";
    this.look = "loss";
    // Of several learning rates each scheme's best is shown at first.
    this.hidden = new Set(data.arms.filter((arm) => arm.another_rate).map((arm) => `${arm.layers} ${arm.label}`));
    this.cursor = null;
    root.hidden = false;
    root.innerHTML = '<div class="controls"></div><fieldset class="toggle-set"></fieldset>' +
      '<div class="with-readout"><div class="plot" tabindex="0" role="slider" aria-label="Read the curves at"></div><div class="readout"></div></div><p class="lead" style="font-size:.875rem;margin-top:.5rem">Thin lines are single seeds. To read the curves, point or tap, or focus the chart and use the arrow keys.</p>';
    this.plot = root.querySelector(".plot");
    this.readout = root.querySelector(".readout");
    this.controls();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  controls() {
    const bar = this.root.querySelector(".controls");
    const set = (name) => (value) => { this[name] = name === "depth" ? +value : value; this.cursor = null; this.toggles(); this.draw(); };
    if (this.data.depths.length > 1) bar.append(choice("curve-depth", "Depth", this.data.depths.map((n) => [n, n + (n > 1 ? " layers" : " layer")]), this.depth, set("depth")));
    bar.append(choice("curve-axis", "Against", [["tokens", "tokens"], ["wall_s", "time"]], this.axis, set("axis")));
    bar.append(choice("curve-look", "Show", Object.entries(LOOKS), this.look, set("look")));
    this.toggles();
  }

  toggles() {
    const set = this.root.querySelector(".toggle-set");
    const boxes = this.arms().map((arm, i) => `<label><input type="checkbox" data-index="${i}"${this.hidden.has(this.key(arm)) ? "" : " checked"}>${swatchOf(this.data, arm)}${escapeText(arm.label)}</label>`);
    set.innerHTML = `<legend class="lead" style="font-size:.8125rem;padding:0">Schemes</legend><div class="toggles">${boxes.join("")}</div>`;
    set.onchange = (event) => {
      const arm = this.arms()[+event.target.dataset.index];
      this.hidden[event.target.checked ? "delete" : "add"](this.key(arm));
      this.draw();
    };
  }

  arms() { return this.data.arms.filter((arm) => arm.layers === this.depth); }

  key(arm) { return `${arm.layers} ${arm.label}`; }

  // The drawn arms with their points, as losses or as differences to the baseline.
  shown() {
    const reference = (arm) => this.arms().find((other) => other.baseline && other.rate === arm.rate) || this.arms().find((other) => other.baseline);
    return this.arms().filter((arm) => !this.hidden.has(this.key(arm))).map((arm) => {
      let points = arm.mean[this.axis], seeds = arm.seeds[this.axis];
      if (this.look === "difference") {
        const base = reference(arm);
        points = !base ? [] : points.map(([x, y]) => [x, interpolate(base.mean[this.axis], x), y]).filter((p) => p[1] !== null).map(([x, b, y]) => [x, y - b]);
        seeds = [];
      }
      return { arm, points, seeds };
    });
  }

  range(shown) {
    if (this.look === "loss") return this.data.ranges[this.depth];
    const late = [];
    for (const { arm, points } of shown) {
      if (arm.verdict === "does not train" || !points.length) continue;
      const from = points[points.length - 1][0] * 0.3;
      for (const [x, y] of points) if (x >= from) late.push(y);
    }
    const reach = Math.max(0.01, ...late.map(Math.abs)) * 1.15;
    return [-reach, reach];
  }

  draw() {
    const width = Math.max(this.plot.clientWidth, 240), labelled = width >= 560;
    const shown = this.shown(), longest = Math.max(0, ...shown.map(({ arm }) => arm.label.length + (arm.diverges || this.look === "difference" ? 11 : 0)));
    const box = { left: 48, top: 26, bottom: 44, right: labelled ? Math.min(45 + longest * 7.2, width * 0.4) : 10, width, height: Math.round(Math.min(Math.max(width * 0.52, 280), 460)) };
    const [low, high] = this.range(shown);
    const end = Math.max(1e-9, ...this.arms().map((arm) => (arm.mean[this.axis].at(-1) || [0])[0]));
    const x = (value) => box.left + (box.width - box.left - box.right) * value / end;
    const y = (value) => box.top + (box.height - box.top - box.bottom) * (high - value) / (high - low);
    this.frame = { box, x, y, low, high, end, shown };
    const label = `Validation loss against ${AXES[this.axis]}, ${this.depth} layers`;
    this.plot.innerHTML = `<svg class="chart" viewBox="0 0 ${width} ${box.height}" height="${box.height}" role="img" aria-label="${label}">` +
      `<clipPath id="live-clip"><rect x="${box.left}" y="${box.top}" width="${width - box.left - box.right + 6}" height="${box.height - box.top - box.bottom}"/></clipPath>` +
      this.grid() + this.lines() + (labelled ? this.labels() : "") + '<g class="cursor-layer"></g></svg>';
    const start = this.axis === "wall_s" && this.data.equal_time_s[this.depth] || end;
    this.point(this.cursor === null ? start : this.cursor);
  }

  grid() {
    const { box, x, y, low, high, end } = this.frame, right = box.width - box.right, bottom = box.height - box.bottom;
    const name = this.look === "loss" ? "nats per token" : "nats per token above (+) or below (−) the baseline";
    let out = `<text class="axis" x="0" y="12">${name}</text><text class="axis" x="${right}" y="${bottom + 36}" text-anchor="end">${AXES[this.axis]}</text>`;
    for (const v of roundTicks(low, high, 5)) out += `<path class="grid" d="M${box.left},${y(v).toFixed(1)}H${right}"/><text class="tick" x="${box.left - 8}" y="${(y(v) + 4).toFixed(1)}" text-anchor="end">${compact(v)}</text>`;
    for (const v of roundTicks(0, end, box.width < 480 ? 3 : 5)) out += `<text class="tick" x="${x(v).toFixed(1)}" y="${bottom + 18}" text-anchor="middle">${compact(v)}</text>`;
    const unigram = this.data.unigram_entropy;
    if (this.look === "loss" && unigram !== null && unigram > low && unigram < high) {
      out += `<path class="reference" d="M${box.left},${y(unigram).toFixed(1)}H${right}"/><text class="tick halo" x="${box.left + 4}" y="${(y(unigram) + 15).toFixed(1)}">unigram entropy ${unigram.toFixed(2)}</text>`;
    }
    const equal = this.data.equal_time_s[this.depth];
    if (this.axis === "wall_s" && equal) out += `<path class="reference" d="M${x(equal).toFixed(1)},${box.top}V${bottom}"/><text class="tick halo" x="${(x(equal) + 4).toFixed(1)}" y="${box.top + 10}">equal time ${equal.toFixed(1)} s</text>`;
    return out;
  }

  lines() {
    const { x, y, high, low, shown } = this.frame;
    const path = (points) => "M" + points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join("L");
    let lines = "", marks = "";
    for (const { arm, points, seeds } of shown) {
      if (!points.length) continue;
      const stroke = `stroke="var(--s${arm.colour})"`;
      if (seeds.length > 1) for (const seed of seeds) if (seed.length) lines += `<path class="seed" ${stroke} d="${path(seed)}"/>`;
      lines += `<path class="mean" ${stroke} stroke-dasharray="${arm.dash}" d="${path(points)}"/>`;
      for (const [a, b] of points) if (b <= high && b >= low) marks += markerPath(this.data, arm, x(a), y(b));
      if (arm.diverges) marks += breakMark(x(points.at(-1)[0]), Math.max(y(points.at(-1)[1]), this.frame.box.top + 6));
    }
    return `<g clip-path="url(#live-clip)">${lines}</g>${marks}`;
  }

  labels() {
    const { box, x, y, shown, low, high } = this.frame, known = shown.filter(({ points }) => points.length);
    const bottom = box.height - box.bottom;
    const wanted = known.map(({ points }) => Math.min(Math.max(y(points.at(-1)[1]), box.top), bottom));
    const placed = spreadLabels(wanted, 16, box.top, bottom), column = box.width - box.right + 26;
    return known.map(({ arm, points }, i) => {
      const value = points.at(-1)[1], off = value > high ? " ↑ off scale" : value < low ? " ↓ off scale" : "";
      const name = arm.label + (arm.diverges ? " (diverged)" : off);
      // A curve that ends early has its name at its height, without a line that would look like its continuation.
      const end = points.at(-1)[0];
      const leader = arm.diverges || end < 0.9 * this.frame.end ? "" : `<path class="leader" d="M${(x(points.at(-1)[0]) + 7).toFixed(1)},${wanted[i].toFixed(1)}L${column - 8},${placed[i].toFixed(1)}"/>`;
      return leader +
        markerPath(this.data, arm, column, placed[i]) + `<text x="${column + 10}" y="${(placed[i] + 4).toFixed(1)}">${escapeText(name)}</text>`;
    }).join("");
  }

  // All places where a shown curve was measured.
  places() {
    const all = this.frame.shown.flatMap(({ points }) => points.map((p) => p[0])), equal = this.data.equal_time_s[this.depth];
    if (all.length && this.axis === "wall_s" && equal) all.push(equal);
    return [...new Set(all)].sort((a, b) => a - b);
  }

  point(value) {
    const { box, x, y, high, low, shown, end } = this.frame;
    const at = this.places().reduce((best, p) => (best === null || Math.abs(p - value) < Math.abs(best - value) ? p : best), null);
    if (at === null) { this.readout.textContent = "No scheme is shown."; return; }
    this.cursor = at;
    const values = shown.map(({ arm, points }) => ({ arm, value: interpolate(points, at) }));
    values.sort((a, b) => (a.value === null) - (b.value === null) || a.value - b.value);
    const dots = values.filter(({ value: v }) => v !== null && v <= high && v >= low).map(({ arm, value: v }) => `<circle cx="${x(at).toFixed(1)}" cy="${y(v).toFixed(1)}" r="6" fill="none" stroke="var(--s${arm.colour})" stroke-width="1.5"/>`);
    this.plot.querySelector(".cursor-layer").innerHTML = `<path class="cursor" d="M${x(at).toFixed(1)},${box.top}V${box.height - box.bottom}"/>${dots.join("")}`;
    const place = this.axis === "tokens" ? `${Math.round(at).toLocaleString("en")} tokens` : `${at.toFixed(1)} s`;
    const text = ({ arm, value: v }) => (v === null ? (arm.diverges ? "diverged" : "–") : signed(v, this.look === "difference"));
    this.readout.innerHTML = `<p>At ${place}</p><table aria-label="${this.look === "loss" ? "Losses" : "Differences"} there, lowest first"><tbody>` +
      values.map((item) => `<tr><td>${swatchOf(this.data, item.arm)}</td><td>${escapeText(item.arm.label)}</td><td>${text(item)}</td></tr>`).join("") + "</tbody></table>";
    for (const [key, v] of [["valuemin", 0], ["valuemax", end], ["valuenow", at]]) this.plot.setAttribute("aria-" + key, v);
    this.plot.setAttribute("aria-valuetext", place + ": " + values.map((item) => `${item.arm.label} ${text(item)}`).join(", "));
  }

  listen() {
    const follow = (event) => {
      const { box, end } = this.frame, edge = this.plot.getBoundingClientRect();
      this.point((event.clientX - edge.left - box.left) / (box.width - box.left - box.right) * end);
    };
    this.plot.addEventListener("pointermove", follow);
    this.plot.addEventListener("pointerdown", follow);
    this.plot.addEventListener("keydown", (event) => {
      const places = this.places(), i = places.indexOf(this.cursor);
      const to = { ArrowLeft: i - 1, ArrowDown: i - 1, ArrowRight: i + 1, ArrowUp: i + 1, Home: 0, End: places.length - 1 }[event.key];
      if (to === undefined || !places.length) return;
      event.preventDefault();
      this.point(places[Math.min(Math.max(to, 0), places.length - 1)]);
    });
  }
}
