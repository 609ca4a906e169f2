/* Draws; all that is drawn is in the element "data", in the shape of loadgen/output/page/drawing.py. */
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const charts = new Map(); // the element of a chart -> the chart
  const marked = []; // what a test asks: where each mark is drawn

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const tint = (name) => `color-mix(in srgb, ${colour(name)} 55%, ${colour("card")})`;
  const known = (values) => values.filter((value) => value !== null);
  const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);
  const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);

  function time(us) {
    if (us === null || us === undefined) return "";
    const [scale, unit] = us < 1e3 ? [1, "us"] : us < 1e6 ? [1e3, "ms"] : [1e6, "s"];
    return `${Number((us / scale).toPrecision(3))} ${unit}`;
  }
  const count = (n) => (n === null || n === undefined ? "" : Math.round(n).toLocaleString("en"));

  /* From the first bucket's begin to the last one's end, unless somebody looks closer. */
  const whole = (line) => (u, low, high) => {
    const first = line.begin_s + line.width_s / 2;
    const last = line.begin_s + (line.max_us.length - 0.5) * line.width_s;
    return low <= first && high >= last ? [line.begin_s, line.begin_s + line.max_us.length * line.width_s] : [low, high];
  };

  /* Middles of buckets; the last bucket may be cut short by the end of the run. */
  const middles = (line) => line.max_us.map((_, k) => line.begin_s + (k + 0.5) * line.width_s);

  /* 1, 2, 5 or only powers of ten, whichever leaves air between the labels. */
  function steps(u, axis, low, high) {
    const span = Math.log10(high / low);
    const digits = span < 1.2 ? [1, 1.5, 2, 3, 5, 7] : span < 2.2 ? [1, 2, 5] : [1];
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const digit of digits) if (digit * 10 ** e >= low && digit * 10 ** e <= high) found.push(digit * 10 ** e);
    return found;
  }
  function latencyRange(lines) {
    const low = least(lines.flatMap((line) => known(line.p50_us ?? line)));
    const high = most(lines.flatMap((line) => known(line.max_us ?? line)));
    return Number.isFinite(low) ? [Math.max(0.1, low) / 1.4, Math.max(high, 0.2) * 1.6] : [1, 1000];
  }

  const axis = (more) => ({
    stroke: colour("quiet"),
    grid: { stroke: colour("rule"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
    size: 58,
    ...more,
  });
  const seconds = (u, splits) => splits.map((s) => `${Number(s.toFixed(3))} s`);
  const latencyScale = (range) => ({ distr: 3, log: 10, range: () => range });
  const latencyAxis = () => axis({ splits: steps, values: (u, splits) => splits.map(time), filter: (u, splits) => splits });

  /* The marks: a span behind the lines from start to end, a lighter one until the last trace, a line
     before them, a flag above it. */
  function marks(chosen, { flags = false } = {}) {
    let row = null;
    const each = (u, paint) => {
      const { ctx, bbox } = u;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      for (const mark of chosen) {
        const times = [mark.start_s, mark.end_s, mark.over_s];
        paint(ctx, bbox, mark, ...times.map((at) => Math.round(u.valToPos(at, "x", true))));
      }
      ctx.restore();
    };
    const drawAxes = (u) => each(u, (ctx, bbox, mark, from, to, over) => {
      ctx.fillStyle = colour("span");
      ctx.fillRect(from, bbox.top, Math.max(to - from, 1), bbox.height);
      ctx.fillRect(from, bbox.top, Math.max(over - from, 1), bbox.height);
    });
    const draw = (u) => {
      each(u, (ctx, bbox, mark, from) => {
        ctx.fillStyle = colour(mark.failed ? "failed" : "mark");
        ctx.globalAlpha = chosen.length > 30 && !mark.failed ? 0.4 : 1;
        ctx.fillRect(from, bbox.top, Math.max(1, devicePixelRatio), bbox.height);
        marked.push({ chart: u.root.parentElement.id, number: mark.number, x: from });
      });
      if (row) place(u);
    };
    const place = (u) => {
      let free = -Infinity;
      const width = u.over.clientWidth;
      chosen.forEach((mark, k) => {
        const x = u.valToPos(mark.start_s, "x");
        const shown = x >= 0 && x <= width && (mark.failed || x - free > 22);
        row.children[k].style.left = `${x}px`;
        row.children[k].hidden = !shown;
        if (shown) free = x;
      });
    };
    const ready = (u) => {
      row = document.createElement("div");
      row.className = "flags";
      for (const mark of chosen) {
        const flag = document.createElement("a");
        flag.className = mark.failed ? "flag failed" : "flag";
        flag.href = `#event-${mark.number}`;
        flag.textContent = mark.number;
        flag.title = `${mark.what}, at ${mark.start_s.toFixed(2)} s: ${mark.ended}`;
        flag.setAttribute("aria-label", `Event ${mark.number}: ${flag.title}`);
        row.append(flag);
      }
      u.over.append(row);
      place(u);
    };
    return { hooks: { drawAxes, draw, ...(flags && { ready }) } };
  }

  /* What is under the pointer, in the legend before the chart. */
  function legend(values) {
    const setCursor = (u) => {
      const texts = values(u.cursor.idx);
      for (const output of u.root.parentElement.previousElementSibling.querySelectorAll("output"))
        output.textContent = texts[output.dataset.k] ?? "";
    };
    return { hooks: { setCursor } };
  }

  function chart(holder, columns, options) {
    if (!holder) return;
    const chart = new uPlot(
      {
        width: holder.clientWidth,
        height: holder.clientHeight,
        legend: { show: false },
        padding: [options.flags ? 26 : 8, 12, 0, 0],
        cursor: { points: { show: false }, y: false, drag: { x: true, y: false }, ...options.cursor },
        scales: { x: { time: false, range: options.whole, ...options.x }, y: options.y },
        axes: [axis({ size: options.bare ? 6 : 28, values: seconds, ...options.across }), axis(options.up)],
        series: [{}, ...options.series],
        bands: options.bands,
        plugins: options.plugins,
      },
      columns,
      holder,
    );
    charts.set(holder, chart);
  }

  /* With keys: the arrows move the pointer by a bucket, + and - look closer and back, Escape ends it. */
  function steer(event) {
    const chart = charts.get(event.currentTarget);
    const [at, { min, max }] = [chart.data[0], chart.scales.x];
    const last = at.length - 1;
    const here = chart.cursor.idx ?? at.findIndex((x) => x >= min);
    const show = (k) => chart.setCursor({ left: chart.valToPos(at[Math.min(last, Math.max(0, k))], "x"), top: 0 });
    const look = (times) => {
      const half = ((max - min) * times) / 2;
      const middle = Math.min(at[last] - half, Math.max(at[0] + half, at[here]));
      const range = half * 2 < at[last] - at[0] ? [middle - half, middle + half] : [at[0], at[last]];
      for (const each of chart.cursor.sync ? lines() : [chart]) each.setScale("x", { min: range[0], max: range[1] });
      queueMicrotask(() => show(here)); // when the charts have their new scale
    };
    const deeds = {
      ArrowLeft: () => show(here - 1), ArrowRight: () => show(here + 1), Home: () => show(0), End: () => show(last),
      "+": () => look(0.5), "=": () => look(0.5), "-": () => look(2), Escape: () => look(Infinity),
    };
    if (!at.length || !deeds[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    deeds[event.key]();
  }
  const lines = () => [...charts].filter(([holder]) => holder.id && holder.id !== "chart-percentiles").map(([, chart]) => chart);

  const stroke = (name, width = 1.5) => ({ stroke: colour(name), width, points: { show: false }, spanGaps: true });
  const together = { sync: { key: "line" } };

  function note(id, text) {
    const holder = document.getElementById(id);
    if (holder.querySelector(".empty")) return;
    const note = Object.assign(document.createElement("p"), { className: "empty", textContent: text });
    holder.append(note);
  }

  function drawLatency(range) {
    const line = data.line;
    if (!known(line.max_us).length) note("chart-latency", "nothing was answered");
    const p99 = data.p99 ? line.p99_us : line.max_us; // with few operations they are the same
    chart(document.getElementById("chart-latency"), [middles(line), p99, line.max_us, line.p50_us], {
      flags: true,
      whole: whole(line),
      bare: true,
      across: { values: () => [] },
      y: latencyScale(range),
      up: latencyAxis(),
      series: [stroke(data.p99 ? "p99" : "max", data.p99 ? 2 : 1), stroke("max", 1), stroke("p50", 2)],
      bands: [{ series: [2, 3], fill: colour("band") }],
      cursor: together,
      plugins: [
        marks(data.marks, { flags: true }),
        legend((k) => [line.p50_us[k], ...(data.p99 ? [line.p99_us[k]] : []), line.max_us[k]].map(time)),
      ],
    });
  }

  /* Stacked: the first row at the bottom, so the top edge is that of all. */
  function drawStacked(id, rows, options) {
    const holder = document.getElementById(id);
    if (!holder) return;
    const sum = (k, v) => rows.slice(0, v + 1).reduce((total, row) => total + row[k], 0);
    const stacked = rows.map((row, v) => row.map((n, k) => (n === null ? null : sum(k, v))));
    const versions = (v) => ({ ...stroke(`v${v % 6}`, 1), fill: tint(`v${v % 6}`) });
    chart(holder, [middles(data.line), ...stacked.reverse()], {
      whole: whole(data.line),
      bare: true,
      across: { values: () => [] },
      y: { range: (u, low, high) => [0, Math.max(1, high) * 1.12] },
      up: { values: (u, splits) => splits.map((n) => (Number.isInteger(n) ? count(n) : "")), space: 32 },
      series: rows.map((row, v) => (options?.series ?? versions)(v)).reverse(),
      cursor: together,
      plugins: [marks(data.marks), legend((k) => rows.map((row) => count(row[k])))],
      ...options?.more,
    });
  }

  function drawRate() {
    const line = data.line;
    const names = Object.keys(line.by_version);
    const long = (k) => Math.min(line.width_s, data.duration_s - line.begin_s - k * line.width_s);
    const counts = names.length ? names.map((name) => line.by_version[name]) : [line.answered];
    drawStacked("chart-rate", counts.map((row) => row.map((n, k) => (long(k) > 1e-6 ? n / long(k) : null))));
  }

  const faultColour = (name) => (["dropped", "refused", "lost", "unknown"].includes(name) ? name : "other");

  /* Bars, of which the highest is told. */
  function drawBars(id, rows, colours, more) {
    const height = Math.max(1, most(rows[0].map((_, k) => rows.reduce((sum, row) => sum + row[k], 0))));
    const paths = uPlot.paths.bars({ size: [1, 40, 2] });
    const series = (v) => ({ fill: colour(colours[v]), width: 0, points: { show: false }, paths });
    drawStacked(id, rows, {
      series: colours.length ? series : () => stroke("rule", 0),
      more: {
        y: { range: [0, height * 1.15] },
        up: { splits: () => (colours.length ? [0, height] : []), values: (u, splits) => splits.map(count) },
        ...more,
      },
    });
  }

  function drawFaults() {
    const names = Object.keys(data.line.kinds);
    if (!names.length) note("chart-faults", "none");
    const rows = names.length ? Object.values(data.line.kinds) : [data.line.faults];
    drawBars("chart-faults", rows, names.map((name) => `fault-${faultColour(name)}`), { bare: false, across: {} });
  }

  /* Faults around an event stand at the foot of its chart. */
  function faultsBelow(line) {
    const high = Math.max(1, most(line.faults));
    const draw = ({ ctx, bbox, ...u }) => {
      ctx.save();
      ctx.fillStyle = colour("fault-dropped");
      line.faults.forEach((n, k) => {
        if (!n) return;
        const [from, to] = [k, k + 1].map((edge) => u.valToPos(line.begin_s + edge * line.width_s, "x", true));
        const tall = bbox.height * (0.04 + (0.16 * n) / high);
        ctx.fillRect(from, bbox.top + bbox.height - tall, Math.max(to - from, 2 * devicePixelRatio), tall);
      });
      ctx.restore();
    };
    return { hooks: { draw: (u) => draw({ ctx: u.ctx, bbox: u.bbox, valToPos: u.valToPos.bind(u) }) } };
  }

  function drawWindow(mark, range) {
    const line = mark.window;
    const holder = document.querySelector(`[data-event="${mark.number}"]`);
    chart(holder, [middles(line), line.max_us, line.p50_us], {
      whole: whole(line),
      y: latencyScale(range),
      up: { ...latencyAxis(), space: 30 },
      series: [{ ...stroke("max", 1), points: { show: true, size: 3, width: 0, fill: colour("max") } }, stroke("p50", 1.5)],
      bands: [{ series: [1, 2], fill: colour("band") }],
      plugins: [marks([mark]), faultsBelow(line)],
    });
  }

  /* Across: nines. 0 is none, 1 is 90 of 100, 2 is 99 of 100. */
  function drawPercentiles() {
    const nines = ([share]) => -Math.log10(1 - share);
    const curves = [data.latency, data.beside].map((curve) => [curve.map(nines), curve.map((p) => p[1])]);
    const [across, ...columns] = uPlot.join(curves);
    const ticks = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
    chart(document.getElementById("chart-percentiles"), [across, ...columns], {
      x: { range: (u, low, high) => [0, high || 1] },
      across: {
        splits: (u, i, low, high) => ticks.map((share) => -Math.log10(1 - share)).filter((nine) => nine >= low && nine <= high),
        values: (u, splits) => splits.map((nine) => `${Number((100 * (1 - 10 ** -nine)).toPrecision(9))} %`),
      },
      y: latencyScale(latencyRange(curves.map((curve) => curve[1]))),
      up: latencyAxis(),
      series: [stroke("p50", 2), stroke("p99")],
      plugins: [legend((k) => columns.map((column) => (column[k] ? time(column[k]) : "")))],
    });
  }

  function draw() {
    marked.length = 0;
    const shown = data.marks.filter((mark) => mark.window);
    const range = latencyRange([data.line, ...shown.map((mark) => mark.window)]);
    drawLatency(range);
    drawRate();
    drawStacked("chart-connections", Object.values(data.line.connections));
    drawBars("chart-closed", [data.line.closed], ["closed"]);
    drawFaults();
    for (const mark of shown) drawWindow(mark, range);
    drawPercentiles();
  }
  function redraw() {
    for (const chart of charts.values()) chart.destroy();
    charts.clear();
    draw();
  }

  draw();
  window.drawn = { charts, marked };
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", redraw);
  for (const holder of charts.keys()) {
    if (!holder.id) continue; // the small ones have their figures beside them
    holder.tabIndex = 0;
    holder.addEventListener("keydown", steer);
  }
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const chart = charts.get(target);
      if (chart && chart.width !== target.clientWidth) chart.setSize({ width: target.clientWidth, height: target.clientHeight });
    }
  });
  for (const holder of charts.keys()) resized.observe(holder);
})();
