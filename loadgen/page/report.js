/* Draws; all that is drawn is in the element "data", in the shape of loadgen/page/drawing.py. */
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

  /* Middles of buckets; the last bucket may be cut short by the end of the run. */
  const middles = (line) => line.answered.map((_, k) => line.begin_s + (k + 0.5) * line.width_s);

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
    const low = least(lines.flatMap((line) => known(line.min_us ?? line)));
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

  /* The marks: a span behind the lines from start to end, a line before them, a flag above it. */
  function marks(chosen, { flags = false } = {}) {
    let row = null;
    const each = (u, paint) => {
      const { ctx, bbox } = u;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      for (const mark of chosen) {
        const [from, to] = [mark.start_s, mark.end_s].map((at) => Math.round(u.valToPos(at, "x", true)));
        paint(ctx, bbox, mark, from, to);
      }
      ctx.restore();
    };
    const drawAxes = (u) => each(u, (ctx, bbox, mark, from, to) => {
      ctx.fillStyle = colour("span");
      ctx.fillRect(from, bbox.top, Math.max(to - from, 1), bbox.height);
    });
    const draw = (u) => {
      each(u, (ctx, bbox, mark, from) => {
        ctx.fillStyle = colour(mark.failed ? "failed" : "mark");
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
      const outputs = u.root.parentElement.previousElementSibling.querySelectorAll("output");
      values(u.cursor.idx).forEach((text, k) => { if (outputs[k]) outputs[k].textContent = text; });
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
        scales: { x: { time: false, ...options.x }, y: options.y },
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

  const stroke = (name, width = 1.5) => ({ stroke: colour(name), width, points: { show: false }, spanGaps: true });
  const together = { sync: { key: "line" } };

  function drawLatency(range) {
    const line = data.line;
    chart(document.getElementById("chart-latency"), [middles(line), line.p99_us, line.max_us, line.p50_us], {
      flags: true,
      bare: true,
      across: { values: () => [] },
      y: latencyScale(range),
      up: latencyAxis(),
      series: [stroke("p99", 2), stroke("max", 1), stroke("p50", 2)],
      bands: [{ series: [2, 3], fill: colour("band") }],
      cursor: together,
      plugins: [
        marks(data.marks, { flags: true }),
        legend((k) => [line.p50_us[k], line.p99_us[k], line.max_us[k]].map(time)),
      ],
    });
  }

  /* Stacked: the first version at the bottom, so the top edge is that of all. */
  function drawStacked(id, rows, paths) {
    const holder = document.getElementById(id);
    if (!holder) return;
    const sum = (k, v) => rows.slice(0, v + 1).reduce((total, row) => total + row[k], 0);
    const stacked = rows.map((row, v) => row.map((n, k) => (n === null ? null : sum(k, v))));
    const series = stacked.map((_, v) => ({ ...stroke(`v${v % 6}`, 1), fill: tint(`v${v % 6}`), paths })).reverse();
    chart(holder, [middles(data.line), ...stacked.reverse()], {
      bare: true,
      across: { values: () => [] },
      y: { range: (u, low, high) => [0, Math.max(1, high) * 1.12] },
      up: { values: (u, splits) => splits.map(count), space: 32 },
      series,
      cursor: together,
      plugins: [marks(data.marks), legend((k) => rows.map((row) => count(row[k])))],
    });
  }

  function drawRate() {
    const line = data.line;
    const names = Object.keys(line.by_version);
    const long = (k) => Math.min(line.width_s, data.duration_s - line.begin_s - k * line.width_s);
    const counts = names.length ? names.map((name) => line.by_version[name]) : [line.answered];
    drawStacked("chart-rate", counts.map((row) => row.map((n, k) => (long(k) > 1e-6 ? n / long(k) : null))));
  }

  function drawFaults() {
    const line = data.line;
    const holder = document.getElementById("chart-faults");
    const height = most(line.faults);
    if (!height && !holder.querySelector(".empty")) {
      const none = document.createElement("p");
      none.className = "empty";
      none.textContent = "none";
      holder.append(none);
    }
    chart(holder, [middles(line), line.faults], {
      y: { range: [0, Math.max(1, height) * 1.1] },
      up: { splits: (u) => [0, Math.max(1, height)], values: (u, splits) => splits.map((n) => (height ? count(n) : "")) },
      series: [{ stroke: colour("fault"), fill: colour("fault"), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [1, 40, 2] }) }],
      cursor: together,
      plugins: [marks(data.marks), legend((k) => [count(line.faults[k])])],
    });
  }

  function drawWindow(mark, range) {
    const line = mark.window;
    const holder = document.querySelector(`[data-event="${mark.number}"]`);
    chart(holder, [middles(line), line.max_us, line.p50_us], {
      y: latencyScale(range),
      up: { ...latencyAxis(), space: 30 },
      series: [{ ...stroke("max", 1), points: { show: true, size: 3, width: 0, fill: colour("max") } }, stroke("p50", 1.5)],
      bands: [{ series: [1, 2], fill: colour("band") }],
      plugins: [marks([mark])],
    });
  }

  /* Across: nines. 0 is none, 1 is 90 of 100, 2 is 99 of 100. */
  function drawPercentiles() {
    const nines = ([share]) => -Math.log10(1 - share);
    const columns = data.service.length > data.latency.length ? data.service : data.latency;
    const across = columns.map(nines);
    const ticks = [0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
    chart(document.getElementById("chart-percentiles"), [across, data.latency.map((p) => p[1]), data.service.map((p) => p[1])], {
      x: { range: (u, low, high) => [0, high || 1] },
      across: {
        splits: (u, i, low, high) => ticks.map((share) => -Math.log10(1 - share)).filter((nine) => nine >= low && nine <= high),
        values: (u, splits) => splits.map((nine) => `${Number((100 * (1 - 10 ** -nine)).toPrecision(9))} %`),
      },
      y: latencyScale(latencyRange([data.latency.map((p) => p[1]), data.service.map((p) => p[1])])),
      up: latencyAxis(),
      series: [stroke("p50", 2), stroke("p99")],
      plugins: [legend((k) => [data.latency[k], data.service[k]].map((p) => (p ? time(p[1]) : "")))],
    });
  }

  function draw() {
    marked.length = 0;
    const range = latencyRange([data.line, ...data.marks.map((mark) => mark.window)]);
    drawLatency(range);
    drawRate();
    drawStacked("chart-connections", Object.values(data.line.connections));
    drawFaults();
    for (const mark of data.marks) drawWindow(mark, range);
    drawPercentiles();
  }
  function redraw() {
    for (const chart of charts.values()) chart.destroy();
    charts.clear();
    draw();
  }

  draw();
  window.drawn = { charts, marked };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  const resized = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const chart = charts.get(target);
      if (chart && chart.width !== target.clientWidth) chart.setSize({ width: target.clientWidth, height: target.clientHeight });
    }
  });
  for (const holder of charts.keys()) resized.observe(holder);
})();
